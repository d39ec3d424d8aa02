"""Load a Qwen2.5-VL or Qwen3-VL from weights in any form: transformers folders, single files, 8-bit floats and packed.

transformers reads the names of all its versions (`model.layers`, `model.language_model.layers`) and folders that
bitsandbytes packed into 4 or 8 bits. A single file has neither config nor tokenizer: they are taken from next to it or
from the checkpoint. A config found in neither is derived from tensor shapes and the values that all of Qwen's published
sizes share; a tokenizer cannot be derived.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from .. import bounded
from ..errors import CheckpointError
from ..words import quoted_path
from .build import fill_reader, read_tensors
from .compare import count_layers, first_difference, shape_of, shapes_of
from .detect import Form
from .files import read_json, read_one_by_one
from .library_load import load_or_explain, load_weights, quietly
from .part_configs import check_mllm_config
from .parts import bare_mllm, published_mllm
from .quantised import check_readable, unpadded, without_filling
from .qwen3_vl import sizes_from_shapes as qwen3_sizes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

QWEN2, QWEN3 = "qwen2_5_vl", "qwen3_vl"  # `model_type` in configs
CONFIGS = ("config.json", "qwen_config.json")  # the second in Kiwi-Edit's folders
TOKENIZERS = ("tokenizer.json", "vocab.json")
WORDS = {".json", ".txt", ".jinja", ".model"}  # suffixes of a tokenizer's files
WORDS_BYTES = 64 << 20  # of one of them; Qwen's tokenizer.json has 11 MB
# what a config may not choose: code, and the attention implementation
OF_CODE = {"auto_map", "_attn_implementation", "attn_implementation", "_attn_implementation_internal",
           "_experts_implementation", "experts_implementation"}  # fmt: skip
# values that are in no shape, the same in Qwen2.5-VL 3B, 7B and 32B (their config.json on the hub)
TEXT_HEAD, VISION_HEAD = 128, 80
TEXT = {
    "max_position_embeddings": 128000,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1000000.0,
    "rope_scaling": {"type": "mrope", "rope_type": "default", "rope_theta": 1000000.0, "mrope_section": [16, 24, 24]},
}
VISION = {"tokens_per_second": 2, "window_size": 112}
SIZED = {"layers.0.mlp.gate_proj.weight", "layers.0.self_attn.k_proj.weight", "visual.blocks.0.norm1.weight"}
FULL_ATTENTION = 8  # every eighth layer of the vision tower uses full attention


def load_mllm(
    form: Form,
    checkpoint: Path,
    dtype: torch.dtype,
    progress: Callable[[int], None] | None = None,
    packed: bool = False,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load an MLLM onto the CPU, and its tokenizer.

    Args:
        checkpoint: the model folder that it is used with, which may have a config and a tokenizer.
        dtype: of the weights.
        progress: called after each tensor with its size in bytes; an exception that it raises ends the loading.
        packed: keep quantised weights of linear layers as stored.

    Raises:
        CheckpointError: an MLLM that is incomplete or damaged, or has no tokenizer.
    """
    words = find_tokenizer(form, checkpoint)
    tokenizer = load_tokenizer(words)
    config = mllm_config(form, checkpoint)
    _check_tokens(tokenizer, words, config)
    if packed and form.is_scaled and not is_packed(config):
        checked_mllm(form, config)
        return fill_reader(_model_class(config), config, form, dtype, bare_mllm), tokenizer
    if form.is_library_folder:
        state = None if progress is None else read_one_by_one(form.files, progress)
    else:
        state = _widened(form, config, dtype, progress)
    return load_weights(form.path, _model_class(config), state, config=config, dtype=dtype), tokenizer


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Load the tokenizer in `folder`.

    Raises:
        CheckpointError: missing or damaged.
    """
    from transformers import AutoTokenizer

    if not any((folder / name).is_file() for name in TOKENIZERS):
        # transformers would create an empty one
        raise CheckpointError(f"{str(folder)!r} has no tokenizer.json; the model is incomplete, get it again.")
    _check_words(folder)

    def load() -> PreTrainedTokenizerBase:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        tokenizer("a", add_special_tokens=False)  # settings of a wrong type, such as a maximum length, fail only now
        return tokenizer

    with quietly():
        return load_or_explain(folder, load)


def load_mllm_config(path: Path) -> PreTrainedConfig:
    """Read a transformers config file, ignoring code and the attention implementation that it names.

    Raises:
        CheckpointError: missing or damaged, or a value out of range.
    """
    plain = data_alone(read_json(path))
    with quietly():
        made = _config_class(plain.get("model_type") == QWEN3)
        config = load_or_explain(path, lambda: portable_rope(made.from_dict(plain)))
    load_or_explain(path, lambda: check_mllm_config(config, path))
    return config


def portable_rope(config: PreTrainedConfig) -> PreTrainedConfig:
    """Translate, in place, the rotary embedding settings that transformers 5.x wrote into those of 4.57."""
    text = config.text_config
    written = getattr(text, "rope_parameters", None)
    if written and getattr(text, "rope_scaling", None) is None:
        text.rope_theta = written["rope_theta"]
        text.rope_scaling = {name: value for name, value in written.items() if name != "rope_theta"}
    return config


def find_tokenizer(form: Form, checkpoint: Path) -> Path:
    """The folder of the MLLM's tokenizer.

    Raises:
        CheckpointError: there is none next to the weights or in the checkpoint.
    """
    for folder in _places(form, checkpoint):
        if any((folder / name).is_file() for name in TOKENIZERS):
            return folder
    raise CheckpointError(
        f"{str(form.path)!r} has no tokenizer next to it; put tokenizer.json and tokenizer_config.json of the "
        f"{form.title} that it comes from into its folder."
    )


def mllm_config(form: Form, checkpoint: Path) -> PreTrainedConfig:
    """The config of the MLLM in `form`, from wherever it is stored, else from tensor shapes.

    Raises:
        CheckpointError: as `find_tokenizer` and `config_from_shapes`.
    """
    config = find_config(form, checkpoint)
    if config is None:
        config = config_from_shapes(form, load_tokenizer(find_tokenizer(form, checkpoint)))
    if "lm_head.weight" not in map(bare_mllm, form.tensors):  # some files omit it, as hidden states do not need it
        config.tie_word_embeddings = config.text_config.tie_word_embeddings = True
    return config


def checked_mllm(form: Form, config: PreTrainedConfig) -> PreTrainedModel:
    """An MLLM on the meta device in the sizes of `config`, after checking that `form` has all of its tensors.

    Raises:
        CheckpointError: tensors are missing or in an unsupported form.
    """

    def build() -> PreTrainedModel:
        with torch.device("meta"):
            return _model_class(config)(config)

    model = load_or_explain(form.path, build)
    if is_packed(config):  # only its own library knows the shapes of the packed bytes
        return model
    check_readable(form.stored, form.path)
    wanted, found = (
        {bare_mllm(name): value for name, value in held.items()} for held in (model.state_dict(), form.tensors)
    )
    if config.tie_word_embeddings:
        wanted.pop("lm_head.weight")
        found.pop("lm_head.weight", None)
    shapes = shapes_of(wanted)
    if odd := first_difference(shapes, unpadded(found, shapes)):
        raise CheckpointError(f"{str(form.path)!r} does not fit its config: {odd}; get it again.")
    return model


def is_packed(config: PreTrainedConfig) -> bool:
    """Whether the weights are packed into fewer bits by a quantisation library that transformers calls."""
    return getattr(config, "quantization_config", None) is not None


def find_config(form: Form, checkpoint: Path) -> PreTrainedConfig | None:
    """The MLLM's config, from next to the weights or from the checkpoint; None if neither has one of its width."""
    width = mllm_width(form)
    for folder in _places(form, checkpoint):
        for path in (folder / name for name in CONFIGS):
            if path.is_file() and read_json(path).get("model_type") == (QWEN3 if form.is_qwen3 else QWEN2):
                config = load_mllm_config(path)
                if config.text_config.hidden_size == width:
                    return config
    return None


def config_from_shapes(form: Form, tokenizer: PreTrainedTokenizerBase) -> PreTrainedConfig:
    """Derive the config of one of Qwen's own Qwen-VLs from the shapes of its tensors.

    Raises:
        CheckpointError: widths that are not multiples of Qwen's head sizes, or a missing tensor.
    """
    from ..guidance.prompt import IMAGE, VIDEO, VISION_END, VISION_START

    shapes = {bare_mllm(name): stored.shape for name, stored in form.tensors.items()}
    if missing := sorted(SIZED - shapes.keys()):
        raise CheckpointError(
            f"{str(form.path)!r} is not a complete {form.title}: it has no {missing[0]}; get it again."
        )

    def side(name: str, dimensions: int = 2, which: int = 0) -> int:
        return shape_of(shapes, name, dimensions, form.path)[which]

    def count(pattern: str) -> int:
        return count_layers(shapes, pattern)

    text, tower = (qwen3_sizes if form.is_qwen3 else _qwen2_sizes)(side, count, form.path)
    tokens = {"image_token_id": IMAGE, "video_token_id": VIDEO, "vision_start_token_id": VISION_START,
              "vision_end_token_id": VISION_END}  # fmt: skip
    ids = {name: tokenizer.convert_tokens_to_ids(token) for name, token in tokens.items()}
    options = {"text_config": text, "vision_config": tower, **ids}
    config = load_or_explain(form.path, lambda: portable_rope(_config_class(form.is_qwen3)(**options)))
    load_or_explain(form.path, lambda: check_mllm_config(config, form.path))
    return config


def _qwen2_sizes(
    side: Callable[..., int], count: Callable[[str], int], path: Path
) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Like `qwen3_vl.sizes_from_shapes`, for a Qwen2.5-VL."""
    width, vision = side("embed_tokens.weight", 2, 1), side("visual.blocks.0.norm1.weight", 1)
    if width % TEXT_HEAD or vision % VISION_HEAD:
        raise CheckpointError(
            f"{str(path)!r} is not a Qwen2.5-VL of a published size (widths {width} and {vision}); put its "
            "config.json next to it (Kiwi-Edit's is processor/qwen_config.json)."
        )
    depth = count("visual.blocks.{}.norm1.weight")
    text = TEXT | {
        "vocab_size": side("embed_tokens.weight"),
        "hidden_size": width,
        "intermediate_size": side("layers.0.mlp.gate_proj.weight"),
        "num_hidden_layers": count("layers.{}.input_layernorm.weight"),
        "num_attention_heads": side("layers.0.self_attn.q_proj.weight") // TEXT_HEAD,
        "num_key_value_heads": side("layers.0.self_attn.k_proj.weight") // TEXT_HEAD,
    }
    tower = VISION | {
        "depth": depth,
        "hidden_size": vision,
        "intermediate_size": side("visual.blocks.0.mlp.gate_proj.weight"),
        "num_heads": vision // VISION_HEAD,
        "out_hidden_size": width,
        "fullatt_block_indexes": list(range(FULL_ATTENTION - 1, depth, FULL_ATTENTION)),
    }
    return text, tower


def _config_class(is_qwen3: bool) -> type[PreTrainedConfig]:
    from transformers import Qwen2_5_VLConfig, Qwen3VLConfig

    return Qwen3VLConfig if is_qwen3 else Qwen2_5_VLConfig


def _model_class(config: PreTrainedConfig) -> type[PreTrainedModel]:
    from transformers import Qwen2_5_VLForConditionalGeneration, Qwen3VLForConditionalGeneration

    return Qwen3VLForConditionalGeneration if config.model_type == QWEN3 else Qwen2_5_VLForConditionalGeneration


def mllm_width(form: Form) -> int:
    """The width of the hidden states, from the embedding table."""
    shapes = {bare_mllm(name): stored.shape for name, stored in form.tensors.items()}
    return shape_of(shapes, "embed_tokens.weight", 2, form.path)[1]


def data_alone(plain: Any) -> Any:
    """A config without the keys that choose code, at every depth."""
    if isinstance(plain, dict):
        return {name: data_alone(value) for name, value in plain.items() if name not in OF_CODE}
    return [data_alone(value) for value in plain] if isinstance(plain, list) else plain


def _check_words(folder: Path) -> None:
    """Raise CheckpointError if a tokenizer's folder holds files that its library would block on or read forever."""
    for path in folder.iterdir():
        if path.suffix in WORDS and not path.name.startswith(".") and not path.is_dir():
            read = bounded.read_json if path.suffix == ".json" else bounded.read_bytes
            try:
                read(path, WORDS_BYTES)
            except bounded.UnreadableError as error:
                raise CheckpointError(
                    f"{quoted_path(path)} cannot be read ({error.reason}); the model is incomplete, get it again."
                ) from error


def _check_tokens(tokenizer: PreTrainedTokenizerBase, folder: Path, config: PreTrainedConfig) -> None:
    """Raise CheckpointError unless a tokenizer's ids fit the MLLM's table and its image and video ids the config."""
    from ..guidance.prompt import IMAGE, VIDEO

    highest = max(load_or_explain(folder, tokenizer.get_vocab).values(), default=-1)
    if not 0 <= highest < config.text_config.vocab_size:
        raise CheckpointError(
            f"the tokenizer in {quoted_path(folder)} has ids up to {highest}, but the MLLM's embedding table has only "
            f"{config.text_config.vocab_size} rows; give the tokenizer that it was trained with."
        )
    for name, token in (("image_token_id", IMAGE), ("video_token_id", VIDEO)):
        own = tokenizer.convert_tokens_to_ids(token)
        if own != getattr(config, name):
            raise CheckpointError(
                f"the tokenizer in {quoted_path(folder)} has {own} for {token}, but the MLLM's config says {name} is "
                f"{getattr(config, name)}; give the tokenizer that it was trained with."
            )


def _widened(
    form: Form, config: PreTrainedConfig, dtype: torch.dtype, progress: Callable[[int], None] | None
) -> dict[str, torch.Tensor]:
    """All tensors in `dtype`, for `load_mllm`."""
    state, shapes = {}, {}
    if form.is_padded:
        shapes = {bare_mllm(name): value.shape for name, value in checked_mllm(form, config).state_dict().items()}
    for name, value in read_tensors(form):
        own = shapes.get(bare_mllm(name), value.shape)
        state[published_mllm(name, form.is_qwen3)] = without_filling(value, own).to(dtype)
        if progress is not None:
            progress(value.nbytes)
    return state


def _places(form: Form, checkpoint: Path) -> list[Path]:
    """Folders that may hold config and tokenizer: near the weights, as in Kiwi-Edit or Wan, or in the checkpoint."""
    own = form.path if form.path.is_dir() else form.path.parent
    further = [checkpoint / name for name in ("mllm", "processor", "tokenizer")]
    return [own, own.parent / "processor", own.parent / "tokenizer", *further]
