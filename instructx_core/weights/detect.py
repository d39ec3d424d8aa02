"""What weights a path holds, found in their headers: by the names of tensors, never of files.

Each part is known by a few tensors that nothing else has, and their spelling tells whose layout it is:
diffusers' and transformers', or the names of the models' first code, which ComfyUI's and most single files carry.
Shards are read as one, and a folder that lacks one of its shards is refused here, before anything is loaded.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from pathlib import Path

from ..bounded import is_dir, read_json
from ..errors import CheckpointError
from ..words import listed, quoted, quoted_path
from .files import naming
from .gguf_header import is_gguf
from .marks import ADAPTER
from .pickles import PICKLES, is_pickle
from .quantised import beside, is_beside
from .stored import EIGHT_BITS, Stored, read_stored
from .wan_keys import DIT_LIBRARY, DIT_ORIGINAL, VAE_LIBRARY, VAE_ORIGINAL
from .wrapped_names import NameLayout


class Part(str, Enum):
    """The parts of a model that are published by themselves, called as the arguments that take one from elsewhere."""

    DIT = "transformer"
    VAE = "vae"
    MLLM = "mllm"
    DIT_2 = "transformer_2"  # of a pair, the one for low noise

    @property
    def kind(self) -> Part:
        """Which part its weights are: both of a pair are DiTs."""
        return Part.DIT if self is Part.DIT_2 else self

    @property
    def option(self) -> str:
        """The command line's option that takes one from elsewhere."""
        return f"--{self.value.replace('_', '-')}"

    @property
    def title(self) -> str:
        """What it is, for people."""
        return {Part.DIT: "Wan DiT", Part.VAE: "Wan VAE", Part.MLLM: "Qwen2.5-VL"}[self.kind]


class Names(str, Enum):
    """Whose names the tensors carry."""

    LIBRARY = "library"  # diffusers' or transformers'
    ORIGINAL = "original"  # of the code that the model was published with
    QWEN3 = "qwen3"  # transformers', of a Qwen3-VL
    TEXT = "text"  # transformers', of a umT5 that takes the place of an MLLM
    LLAVA = "llava"  # transformers', of a LLaVA
    UNET = "unet"  # diffusers', of Stable Diffusion's UNet
    KL = "kl"  # diffusers', of Stable Diffusion's VAE


# tensors that only one part has, under either's names; those of the MLLM without the prefixes that came with time
_MARKS = {
    (Part.DIT, Names.ORIGINAL): {"patch_embedding.weight", "head.modulation", "blocks.0.self_attn.q.weight"},
    (Part.DIT, Names.LIBRARY): {
        "patch_embedding.weight",
        "condition_embedder.time_proj.weight",
        "blocks.0.attn1.to_q.weight",
    },
    (Part.VAE, Names.ORIGINAL): {"encoder.conv1.weight", "decoder.middle.0.residual.0.gamma", "conv2.weight"},
    (Part.VAE, Names.LIBRARY): {"encoder.conv_in.weight", "decoder.norm_out.gamma", "post_quant_conv.weight"},
    (Part.MLLM, Names.LIBRARY): {
        "embed_tokens.weight",
        "layers.0.self_attn.q_proj.weight",
        "visual.blocks.0.mlp.gate_proj.weight",
    },
    (Part.MLLM, Names.QWEN3): {
        "embed_tokens.weight",
        "layers.0.self_attn.q_norm.weight",
        "visual.deepstack_merger_list.0.norm.weight",
    },
    (Part.DIT, Names.UNET): {
        "conv_in.weight",
        "time_embedding.linear_1.weight",
        "down_blocks.0.resnets.0.conv1.weight",
    },
    (Part.VAE, Names.KL): {"encoder.conv_in.weight", "decoder.conv_norm_out.weight", "post_quant_conv.weight"},
    (Part.MLLM, Names.LLAVA): {
        "language_model.embed_tokens.weight",
        "vision_tower.embeddings.class_embedding",
        "multi_modal_projector.linear_1.weight",
    },
    (Part.MLLM, Names.TEXT): {
        "shared.weight",
        "encoder.block.0.layer.0.SelfAttention.q.weight",
        "encoder.block.0.layer.1.DenseReluDense.wi_0.weight",
    },
}
_MLLM_LAYERS = {
    "": ("embed_tokens", "norm", "lm_head"),
    "layers.0.": ("input_layernorm", "post_attention_layernorm"),
    "layers.0.self_attn.": ("q_proj", "k_proj", "v_proj", "o_proj"),
    "layers.0.mlp.": ("gate_proj", "up_proj", "down_proj"),
    "visual.": ("patch_embed.proj", "merger.ln_q", "merger.mlp.0", "merger.mlp.2"),
    "visual.blocks.0.": ("norm1", "norm2", "attn.qkv", "attn.proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"),
}
_QWEN3_LAYERS = {
    "": ("embed_tokens", "norm", "lm_head"),
    "layers.0.": ("input_layernorm", "post_attention_layernorm"),
    "layers.0.self_attn.": ("q_proj", "k_proj", "v_proj", "o_proj", "q_norm", "k_norm"),
    "layers.0.mlp.": ("gate_proj", "up_proj", "down_proj"),
    "visual.": ("patch_embed.proj", "pos_embed"),
    "visual.merger.": ("norm", "linear_fc1", "linear_fc2"),
    "visual.deepstack_merger_list.0.": ("norm", "linear_fc1", "linear_fc2"),
    "visual.blocks.0.": ("norm1", "norm2", "attn.qkv", "attn.proj", "mlp.linear_fc1", "mlp.linear_fc2"),
}
# of both: a name says by itself which layer it is, and the marks which of the two has it
_MLLM = NameLayout(
    f"{before}{layer}.{leaf}"
    for known in (_MLLM_LAYERS, _QWEN3_LAYERS)
    for before, layers in known.items()
    for layer in layers
    for leaf in ("weight", "bias")
)
_TEXT_LAYERS = {
    "": ("shared", "encoder.embed_tokens", "encoder.final_layer_norm"),
    "encoder.block.0.layer.0.": ("layer_norm", "SelfAttention.relative_attention_bias"),
    "encoder.block.0.layer.0.SelfAttention.": ("q", "k", "v", "o"),
    "encoder.block.0.layer.1.": ("layer_norm", "DenseReluDense.wi_0", "DenseReluDense.wi_1", "DenseReluDense.wo"),
}
_TEXT = NameLayout(f"{before}{layer}.weight" for before, layers in _TEXT_LAYERS.items() for layer in layers)
_LLAVA_LAYERS = {
    "language_model.": ("embed_tokens", "norm", "lm_head"),
    "language_model.layers.0.": ("input_layernorm", "post_attention_layernorm"),
    "language_model.layers.0.self_attn.": ("q_proj", "k_proj", "v_proj", "o_proj"),
    "language_model.layers.0.mlp.": ("gate_proj", "up_proj", "down_proj"),
    "vision_tower.": ("pre_layrnorm", "post_layernorm"),
    "vision_tower.embeddings.": ("patch_embedding", "position_embedding"),
    "vision_tower.encoder.layers.0.": ("layer_norm1", "layer_norm2", "mlp.fc1", "mlp.fc2"),
    "vision_tower.encoder.layers.0.self_attn.": ("q_proj", "k_proj", "v_proj", "out_proj"),
    "multi_modal_projector.": ("linear_1", "linear_2"),
    "": ("lm_head",),
}
_LLAVA = NameLayout(
    [
        "vision_tower.embeddings.class_embedding",
        *(
            f"{before}{layer}.{leaf}"
            for before, layers in _LLAVA_LAYERS.items()
            for layer in layers
            for leaf in ("weight", "bias")
        ),
    ]
)
_LAYOUTS = {
    (Part.DIT, Names.ORIGINAL): DIT_ORIGINAL,
    (Part.DIT, Names.LIBRARY): DIT_LIBRARY,
    (Part.VAE, Names.ORIGINAL): VAE_ORIGINAL,
    (Part.VAE, Names.LIBRARY): VAE_LIBRARY,
    (Part.MLLM, Names.LIBRARY): _MLLM,
    (Part.MLLM, Names.QWEN3): _MLLM,
    (Part.MLLM, Names.TEXT): _TEXT,
    (Part.MLLM, Names.LLAVA): _LLAVA,
    # known by their marks alone: diffusers has had no other names for them
    (Part.DIT, Names.UNET): NameLayout(_MARKS[Part.DIT, Names.UNET]),
    (Part.VAE, Names.KL): NameLayout(_MARKS[Part.VAE, Names.KL]),
}
# what transformers' versions put before names of their own accord
_MLLM_PREFIXES = ("", "model.", "language_model.", "language_model.model.", "model.language_model.")
# what stands in the place of a Qwen2.5-VL, of Wan's DiT and of its VAE
_TITLES = {
    Names.TEXT: "umT5",
    Names.QWEN3: "Qwen3-VL",
    Names.LLAVA: "LLaVA",
    Names.UNET: "Stable Diffusion UNet",
    Names.KL: "Stable Diffusion VAE",
}
# where whole pipelines keep a part: this repo's layout first, Kiwi-Edit's last
FOLDERS = {
    Part.DIT: ("transformer", "unet"),
    Part.DIT_2: ("transformer_2",),
    Part.VAE: ("vae",),
    Part.MLLM: ("mllm", "mllm_encoder", "text_encoder"),
}
# as diffusers and transformers call weights, pickled ones too; another word in it is a variant, which they skip
_NAMED = re.compile(r"(?:(?:pytorch_)?model|diffusion_pytorch_model)(?:-\d{5}-of-\d{5})?\.(?:safetensors|bin)")
_SHARD = re.compile(r"(.+-)\d{5}-of-(\d{5})(\.safetensors)")


@dataclass(frozen=True)
class Form:
    """Weights on disk, as their headers tell."""

    path: Path  # the file, or the folder that holds the shards
    files: tuple[Path, ...]
    part: Part
    names: Names
    stored: Mapping[str, Stored]  # every tensor, under the name that it has in the file

    @cached_property
    def tensors(self) -> dict[str, Stored]:
        """The model's own tensors, without those that say how others are stored."""
        return {name: stored for name, stored in self.stored.items() if not is_beside(name)}

    @property
    def title(self) -> str:
        """What it is, for people."""
        return _TITLES.get(self.names, self.part.title)

    @property
    def is_text(self) -> bool:
        """Whether it is a umT5 in the place of an MLLM."""
        return self.names is Names.TEXT

    @property
    def is_qwen3(self) -> bool:
        """Whether it is a Qwen3-VL."""
        return self.names is Names.QWEN3

    @property
    def is_gguf(self) -> bool:
        return is_gguf(self.files[0])

    @property
    def is_pickled(self) -> bool:
        return any(map(is_pickle, self.files))

    @property
    def is_scaled(self) -> bool:
        """Whether some of the weights are quantised, or are to be multiplied by a scale."""
        return any(stored.packing or beside(name, self.stored) for name, stored in self.tensors.items())

    @property
    def is_padded(self) -> bool:
        """Whether rows and columns of some weights are filled up, see `Packing`."""
        return any(stored.packing and stored.packing.format.multiple > 1 for stored in self.tensors.values())

    @cached_property
    def is_wrapped(self) -> bool:
        """Whether some names are not those that a library or the model's first code gives."""
        if self.names is Names.LLAVA:  # transformers reads the names of its every version
            return False
        layout = _LAYOUTS[self.part, self.names]
        prefixes = _MLLM_PREFIXES if self.part is Part.MLLM else ("",)
        return any(name not in {prefix + layout.bare(name) for prefix in prefixes} for name in self.tensors)

    @property
    def has_config(self) -> bool:
        """Whether the library that the names are of finds its config beside the weights."""
        return self.names not in (Names.ORIGINAL, Names.TEXT) and (self.path / "config.json").is_file()

    @property
    def is_library_folder(self) -> bool:
        """Whether that library reads the weights by itself: a folder as it saves one."""
        stem = "model" if self.part is Part.MLLM else "diffusion_pytorch_model"
        named = all(_NAMED.fullmatch(file.name) and file.name.startswith(stem) for file in self.files)
        # transformers 4.57 keeps 8-bit floats, which nothing can compute with
        left = self.part is Part.MLLM and not EIGHT_BITS.isdisjoint(self.dtypes)
        return self.has_config and named and not (self.is_scaled or self.is_pickled or left or self.is_wrapped)

    @property
    def dtypes(self) -> dict[str, int]:
        """How many numbers there are of each type, the most first."""
        counts: Counter[str] = Counter()
        for stored in self.tensors.values():
            counts[stored.kind] += stored.numel
        return dict(counts.most_common())


def find_form(path: str | Path, part: Part | None = None, allow_pickle: bool = False) -> Form:
    """What `path` holds.

    Args:
        path: a safetensors or GGUF file, a folder of one model's shards, or a pipeline's folder with the part in it.
        part: what it is to be; None for whatever it is.
        allow_pickle: open pickles too, where there is nothing else, for their tensors alone.

    Raises:
        CheckpointError: nothing there, another part than `part` or none that is known, a shard that is missing, a
            file that is damaged, or several models in one folder.
    """
    path = _component(Path(path), part)
    found_in = _weight_files(path, allow_pickle)
    files, stored = tuple(found_in), {}
    for held in found_in.values():
        if twice := stored.keys() & held.keys():
            raise CheckpointError(
                f"{quoted_path(path)} holds several models ({quoted(min(twice))} is in more than one file); give one "
                "of the files."
            )
        stored |= held
    found = _classify(stored)
    if found is None or part not in (None, found[0]):
        wanted = f"a {part.title}" if part else "a Wan DiT, a Wan VAE or a Qwen2.5-VL"
        what = f"it is a {found[0].title}" if found else _unknown(stored)
        raise CheckpointError(f"{quoted_path(path)} does not hold {wanted}: {what}; give other weights.")
    if found[0] is Part.MLLM and found[1] is not Names.TEXT:
        with naming(path):
            _LAYOUTS[found].unwrapped(stored)
    return Form(path, files, *found, stored)


def pair_in(folder: Path) -> tuple[Path, Path] | None:
    """The two DiTs of a pipeline's folder, for high and for low noise; None where it has not both."""
    first, second = (folder / FOLDERS[part][0] for part in (Part.DIT, Part.DIT_2))
    return (first, second) if is_dir(first) and is_dir(second) else None


def bare_mllm(name: str) -> str:
    """A name of a Qwen-VL's without the prefixes that transformers' versions put before it, and without wrappers."""
    return _MLLM.bare(name)


def bare_llava(name: str) -> str:
    """A name of a LLaVA's as transformers 5 has it, without `model.`, whatever version wrote it."""
    return _LLAVA.bare(name).replace("language_model.lm_head.", "lm_head.")


def bare_text(name: str) -> str:
    """A name of a umT5's without wrappers."""
    return _TEXT.bare(name)


def published_mllm(name: str, is_qwen3: bool = False) -> str:
    """A name of a Qwen-VL's as it was published, which every version of transformers reads."""
    bare = bare_mllm(name)
    if is_qwen3 and not bare.startswith("lm_head."):
        return f"model.{bare}" if bare.startswith("visual.") else f"model.language_model.{bare}"
    return f"model.{bare}" if bare.startswith(("embed_tokens.", "layers.", "norm.")) else bare


def _classify(names: Iterable[str]) -> tuple[Part, Names] | None:
    names = list(names)
    return next((kind for kind, marks in _MARKS.items() if marks <= {*map(_LAYOUTS[kind].bare, names)}), None)


def _component(path: Path, part: Part | None) -> Path:
    """`path` itself, or the folder in it where a pipeline keeps its part."""
    if part is None or not is_dir(path) or any(file.name != ADAPTER for file in path.glob("*.safetensors")):
        return path
    if part is Part.DIT and (pair := pair_in(path)):
        first, second = (half.name for half in pair)
        raise CheckpointError(
            f"{str(path)!r} holds a pair of DiTs, {first} for high and {second} for low noise, and one is asked for; "
            "give one of these two folders."
        )
    return next((path / name for name in FOLDERS[part] if (path / name).is_dir()), path)


def _weight_files(path: Path, allow_pickle: bool) -> dict[Path, Mapping[str, Stored]]:
    """The file, or all shards in the folder, with their headers; pickles where there are no others.

    Files that an index names, or that are called as the libraries call weights, are taken alone: a LoRA, a variant or a
    trainer's state may be beside them. So may what an editor adds (queries, a connector): a file in which no tensor is
    of a part known here is left out.

    Raises:
        CheckpointError: nothing there, or a shard missing that the folder's index names.
    """
    if not is_dir(path):
        return {path: read_stored(path, allow_pickle)}
    headers = {file: read_stored(file) for file in sorted(path.glob("*.safetensors"))}
    files = tuple(file for file, stored in headers.items() if any(map(_is_known, stored)))
    if not files:  # where pickles are not allowed, reading them says so
        files = tuple(sorted(file for file in path.iterdir() if file.suffix in PICKLES and is_pickle(file)))
    files = files or tuple(headers)  # to say what they hold
    if not files:
        raise CheckpointError(
            f"{str(path)!r} has no .safetensors weights; the model is incomplete, get it again or give a file."
        )
    indexed = _indexed(path, files)
    files = tuple(file for file in files if file.name in indexed or _NAMED.fullmatch(file.name)) or files
    for file in files:  # an index may be missing too
        if match := _SHARD.fullmatch(file.name):
            numbers = range(1, int(match[2]) + 1)
            _check_there(path, files, {f"{match[1]}{number:05}-of-{match[2]}{match[3]}" for number in numbers})
    return {file: headers.get(file) or read_stored(file, allow_pickle) for file in files}


def _is_known(name: str) -> bool:
    """Whether a tensor is one of a DiT, a VAE or an MLLM."""
    return any(layout.has(name) for layout in _LAYOUTS.values())


def _indexed(folder: Path, files: tuple[Path, ...]) -> set[str]:
    """The files that the folder's indices name; all of them exist."""
    kind = ".safetensors" if files[0].suffix == ".safetensors" else ".bin"
    indexed: set[str] = set()
    for index in sorted(folder.glob(f"*{kind}.index.json")):
        try:
            named = set(read_json(index)["weight_map"].values())
            if not named or any(not name or Path(name).name != name for name in named):
                raise ValueError("it names no files beside it")
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise CheckpointError(f"{quoted_path(index)} is no list of shards; get it again.") from error
        _check_there(folder, files, named)
        indexed |= named
    return indexed


def _check_there(folder: Path, files: tuple[Path, ...], named: set[str]) -> None:
    if missing := sorted(named - {file.name for file in files}):
        raise CheckpointError(
            f"{quoted_path(folder / missing[0])} is missing ({len(missing)} of {len(named)} shards); get it again."
        )


def _unknown(stored: Mapping[str, Stored]) -> str:
    return f"it holds {listed(sorted(stored))}" if stored else "it is empty"
