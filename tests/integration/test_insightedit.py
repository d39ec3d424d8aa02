"""A whole InsightEdit through the front door: saved, loaded, guided three ways, at its published sizes, and refused."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from instructx_core import Editor, edit_video, families
from instructx_core.cli import main
from instructx_core.config import (
    ConnectorConfig,
    ConnectorKind,
    DenoiserConfig,
    GuidanceConfig,
    GuidanceMode,
    ModelConfig,
    Network,
    Prediction,
    SamplingConfig,
    SourceInjection,
)
from instructx_core.connectors import make_connector
from instructx_core.convert import convert
from instructx_core.errors import CheckpointError, InputError
from instructx_core.families.components import Components, guidance_class
from instructx_core.families.networks import network_kind
from instructx_core.families.part_loaders import load_image_attention
from instructx_core.memory.choice import Memory
from instructx_core.memory.measure import measure_phases
from instructx_core.memory.phases import trained_job
from instructx_core.model_info import describe
from instructx_core.sampling import GuidanceTerm, initial_noise, sample
from instructx_core.weights.unet_keys import unet_name
from support import tiny, tiny_insightedit
from support.video_files import make_video

UNET = "transformer/diffusion_pytorch_model.safetensors"
SOURCE = tiny.clip(1, 40, 56)[0]


@pytest.fixture(scope="module")
def editor() -> Editor:
    return Editor(tiny_insightedit.components())


@pytest.fixture(scope="module")
def saved(editor, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("insightedit") / "model"
    editor.save_pretrained(folder)
    return folder


def edited(editor: Editor, **settings: object) -> torch.Tensor:
    return editor.edit(SOURCE, "make it blue", seed=3, **settings).frames


def test_saved_and_loaded_it_edits_the_same(editor, saved):
    loaded = Editor.from_pretrained(saved)
    assert torch.equal(edited(loaded), edited(editor)) and edited(editor).shape == (1, 40, 56, 3)
    again = saved.parent / "again"
    loaded.save_pretrained(again)
    for path in sorted(saved.rglob("*.safetensors")):
        assert path.read_bytes() == (again / path.relative_to(saved)).read_bytes()


def test_the_published_vae_s_old_names_are_read(editor, saved, tmp_path):
    old = tiny_insightedit.write_old_vae(tmp_path / "vae")
    assert torch.equal(edited(Editor.from_pretrained(saved, vae=old)), edited(editor))


def test_an_edit_is_its_guidance_written_out(editor):
    """v + 1.5 (v_I - v) + 7.5 (v_IT - v_I): of nothing, of the picture, of picture and instruction."""
    result = editor.edit(SOURCE, "make it blue", seed=3)
    fit = editor.fit(1, (40, 56))
    canvas = fit.apply(SOURCE[None])
    asked = editor.context(["make it blue"], [fit.cut(canvas)], [()], False)
    unasked = editor.connector.unasking(asked)
    source = editor.encode(canvas[None])
    denoiser = editor.denoiser
    shown, hidden = denoiser.conditions(source), denoiser.conditions(torch.zeros_like(source))  # zeros: no source
    noise = initial_noise(tuple(source.shape), 3)
    terms = [GuidanceTerm(7.5, asked, shown), GuidanceTerm(-6.0, unasked, shown), GuidanceTerm(-0.5, unasked, hidden)]
    torch.testing.assert_close(result.latents, sample(denoiser, noise, terms, 2, 1.0), atol=1e-5, rtol=1e-5)


def test_each_kind_of_guidance_and_lambda_counts(editor):
    whole = edited(editor)
    for settings in ({"source_scale": 1.0}, {"guidance_scale": 3.0}, {"image_stream": 0.0}, {"steps": 4}):
        assert (edited(editor, **settings) - whole).abs().max() > 1e-3, settings
    assert torch.equal(edited(editor, source_scale=1.5, guidance_scale=7.5, image_stream=1.0), whole)


def test_another_kind_of_model_has_no_image_stream(tiny_editor):
    with pytest.raises(InputError, match="this model has no image stream"):
        tiny_editor.edit(SOURCE, "make it blue", image_stream=0.5)
    with pytest.raises(InputError, match="guidance mode v2v does not guide by the source"):
        tiny_editor.edit(SOURCE, "make it blue", source_scale=2.0)
    for name, bad in (("image_stream", 11), ("source_scale", -1)):
        with pytest.raises(InputError, match=f"{name} is {bad}"):
            tiny_editor.edit(SOURCE, "make it blue", **{name: bad})


@pytest.mark.parametrize("extra", [{"compile": True}, {"cache": "first-block"}, {"loras": [("some.safetensors", 1.0)]}])
def test_what_is_for_wan_s_dit_is_refused(saved, extra):
    with pytest.raises(InputError, match="has no Wan DiT"):
        Editor.from_pretrained(saved, **extra)


def test_its_pictures_alone_are_measured(saved, capsys):
    code = main(["evaluate", "--model", str(saved), "--images", "1", "--videos", "1", "--drawn", "0", "--outside", "0"])
    said = capsys.readouterr()
    assert code == 0 and "without references; all other measurements are skipped" in said.err
    assert "| recolor | 1 |" in said.out and "reference" not in said.out


def test_it_edits_one_picture_without_references(editor):
    with pytest.raises(InputError, match="edits pictures"):
        editor.edit(tiny.clip(5), "make it blue")
    with pytest.raises(InputError, match="no reference pictures"):
        editor.edit(SOURCE, "make it blue", reference=SOURCE)


def test_a_long_video_is_refused_before_it_is_decoded(editor, tmp_path, monkeypatch):
    monkeypatch.setattr("instructx_core.long_video.edit.look_through", lambda _: pytest.fail("it was decoded"))
    with pytest.raises(InputError, match="edits pictures, not clips"):
        edit_video(editor, make_video(tmp_path / "a.mp4"), tmp_path / "b.mp4", "make it blue")


def test_without_an_iaa_it_is_smartedit(tmp_path):
    editor = Editor(tiny_insightedit.components(tiny_insightedit.without_iaa()))
    editor.save_pretrained(tmp_path / "model")
    assert torch.equal(edited(Editor.from_pretrained(tmp_path / "model")), edited(editor))
    assert not [name for name in load_file(tmp_path / "model/instructx.safetensors") if "image_attention" in name]


def test_what_it_says_about_itself(saved):
    said = describe(saved)
    for words in ("InsightEdit", "two_stream", "channels", "noise", "image guidance 1.5", "image stream 1"):
        assert words in said, words


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ("transformer", ("Stable Diffusion UNet", "8 channels for editing")),
        ("vae", ("Stable Diffusion VAE", "4 channels, stride 8")),
        ("mllm", ("LLaVA", "pictures of 28 in patches of 7")),
    ],
)
def test_each_part_says_what_it_is(saved, part, words):
    said = describe(saved / part)
    assert all(word in said for word in words), said


def test_its_memory_is_planned(editor, saved):
    from instructx_core.families.meta_model import outline

    model = outline(families.open(saved), torch.float32)
    phases = measure_phases(model, trained_job(model.config))
    assert [phase.name for phase in phases] == ["MLLM reads", "VAE encodes", "DiT step", "VAE decodes"]
    assert all(phase.working > 0 for phase in phases)


@pytest.mark.parametrize("memory", tiny.ways_here([Memory.MODEL, Memory.GROUP, Memory.SEQUENTIAL]))
def test_wherever_its_weights_lie_it_edits_the_same(editor, saved, memory):
    torch.testing.assert_close(
        edited(Editor.from_pretrained(saved, memory=memory.value)), edited(editor), atol=1e-6, rtol=0
    )


def test_its_unet_runs_in_8_bit_floats(editor, saved):
    """What it enters and leaves by keeps its type; the edit is about the same."""
    small = Editor.from_pretrained(saved, fp8=True)
    unet = small.denoiser.transformer
    assert unet.mid_block.resnets[0].conv1.weight.dtype is torch.float8_e4m3fn
    assert unet.conv_in.weight.dtype is torch.float32 and small.denoiser.dtype is torch.float32
    difference = (edited(small) - edited(editor)).abs().mean()
    assert 0 < difference < 0.02 * edited(editor).abs().mean()  # found 0.0048; without a UNet 0.052


def test_a_context_that_is_zeroed_says_nothing(editor):
    """In the image stream and v_txt neither: what the benchmark's ablation asks."""
    words = ("make it blue", "remove the circle")
    plain = [editor.edit_batch([SOURCE[None]], [one], seeds=[1], steps=2)[0].frames for one in words]
    without = [
        editor.edit_batch([SOURCE[None]], [one], seeds=[1], steps=2, context_transform=torch.zeros_like)[0].frames
        for one in words
    ]
    assert not torch.equal(*plain) and torch.equal(*without)


def test_its_unet_converts_for_comfyui_s_loader(saved, editor, tmp_path):
    """One file under the first code's names, no tensor lost or changed; the rest is the adapter's."""
    convert(saved, tmp_path / "unet.safetensors")
    found, own = load_file(tmp_path / "unet.safetensors"), load_file(saved / UNET)
    assert sorted(value.flatten()[:3].tolist() for value in found.values()) == sorted(
        value.flatten()[:3].tolist() for value in own.values()
    )
    assert torch.equal(found["input_blocks.0.0.weight"], own["conv_in.weight"])
    assert torch.equal(found["middle_block.2.out_layers.3.bias"], own["mid_block.resnets.1.conv2.bias"])
    attention = "transformer_blocks.0.attn2.to_k.weight"
    assert torch.equal(found[f"output_blocks.2.1.{attention}"], own[f"up_blocks.1.attentions.0.{attention}"])
    convert(saved, tmp_path / "instructx.safetensors")
    assert any("image_attention" in name for name in load_file(tmp_path / "instructx.safetensors"))
    with pytest.raises(CheckpointError, match="is not a tensor of Stable Diffusion 1's UNet"):
        unet_name("label_emb.0.weight", 1, (True,))


def test_image_attention_is_read_apart(saved, editor, tmp_path):
    """As the nodes take it: by the cross-attentions' names, or a sentence where the file lacks some."""
    from instructx_core.unet_denoiser import image_attended, image_attentions

    unet = editor.denoiser.transformer
    names = image_attended(unet)
    found = load_image_attention(families.open(saved), names)
    for name, processor in zip(names, image_attentions(unet), strict=True):
        assert torch.equal(found[name][0], processor.to_k_ip[0].weight)
        assert torch.equal(found[name][1], processor.to_v_ip[0].weight)
    with pytest.raises(CheckpointError, match=f"its UNet takes {2 * len(names) + 2}"):
        load_image_attention(families.open(saved), [*names, "one.more"])


# --- weights that do not fit


def copied(saved: Path, folder: Path) -> Path:
    shutil.copytree(saved, folder)
    return folder


@pytest.mark.parametrize("part", ["mllm/model", "transformer/diffusion_pytorch_model", "vae/diffusion_pytorch_model"])
def test_a_part_that_lacks_a_tensor_is_named(saved, tmp_path, part):
    model = copied(saved, tmp_path / "model")
    state = load_file(model / f"{part}.safetensors")
    lost = sorted(name for name in state if "norm" in name)[0]
    del state[lost]
    save_file(state, model / f"{part}.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match=part.split("/")[0]):
        Editor.from_pretrained(model)


def test_parts_of_other_families_are_refused(saved, tmp_path, tiny_components):
    from instructx_core.families.instructx.folder import save_checkpoint

    save_checkpoint(tiny_components, tmp_path / "wan")
    with pytest.raises(CheckpointError, match="was trained on a Stable Diffusion UNet.*is a Wan DiT"):
        Editor.from_pretrained(saved, transformer=tmp_path / "wan/transformer")
    with pytest.raises(CheckpointError, match="was trained on a Stable Diffusion VAE.*is a Wan VAE"):
        Editor.from_pretrained(saved, vae=tmp_path / "wan/vae")
    with pytest.raises(CheckpointError, match="is guided by a LLaVA"):
        Editor.from_pretrained(saved, mllm=tmp_path / "wan/mllm")
    with pytest.raises(CheckpointError, match="was trained on a Wan DiT.*is a Stable Diffusion UNet"):
        Editor.from_pretrained(tmp_path / "wan", transformer=saved / "transformer")


def test_a_unet_that_only_draws_is_refused(saved, tmp_path):
    from diffusers import UNet2DConditionModel

    config = UNet2DConditionModel.load_config(saved / "transformer")
    UNet2DConditionModel.from_config({**config, "in_channels": 4}).save_pretrained(tmp_path / "unet")
    with pytest.raises(CheckpointError, match="The UNet takes 4 channels, but editing needs 8"):
        Editor.from_pretrained(saved, transformer=tmp_path / "unet")


@pytest.mark.parametrize(
    ("part", "field", "value"),
    [
        ("transformer", "addition_embed_type", "text_time"),
        ("transformer", "cross_attention_dim", -1),
        ("vae", "scaling_factor", 0.13025),
        ("vae", "latent_channels", "four"),
        ("mllm", "vision_feature_layer", -9),
        ("mllm", "image_token_index", -1),
    ],
)
def test_a_config_out_of_range_is_named(saved, tmp_path, part, field, value):
    import json

    model = copied(saved, tmp_path / "model")
    path = model / part / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {field: value}))
    with pytest.raises(CheckpointError, match=f"{part}/config.json.*{field} is .*(give|expected)"):
        Editor.from_pretrained(model)


# --- published sizes


PUBLISHED = ModelConfig(
    name="InsightEdit",
    default_size=(256, 256),
    default_frames=1,
    guidance=GuidanceConfig(
        image_queries=32, video_queries=0, video_frames=1, dialect="insightedit", lora_rank=8, lora_alpha=16
    ),
    connector=ConnectorConfig(ConnectorKind.TWO_STREAM, 4096, 768, 768, layers=6, tokens=77),
    denoiser=DenoiserConfig(SourceInjection.CHANNELS, Prediction.NOISE, network=Network.UNET, image_tokens=4),
    sampling=SamplingConfig(
        steps=100, shift=1.0, guidance_scale=7.5, guidance_mode=GuidanceMode.V2V_CHAIN, source_scale=1.5
    ),
)
# parameters of LLaVA-7B on CLIP ViT-L/14 with LoRA, of SD 1.5's UNet with image attention and of its VAE
COUNTS = {
    "mllm": 7_063_099_392,
    "lora": 4_194_304,
    "queries": 262_144,
    "unet": 859_532_484,
    "image attention": 19_169_280,
    "vae": 83_653_863,
}


@pytest.mark.slow
def test_forward_and_backward_at_the_published_size():
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import LlavaConfig, LlavaForConditionalGeneration

    config = PUBLISHED.checked()
    text = {"model_type": "llama", "vocab_size": 32064, "hidden_size": 4096, "intermediate_size": 11008}
    sight = {"model_type": "clip_vision_model", "hidden_size": 1024, "intermediate_size": 4096, "image_size": 224,
             "patch_size": 14, "num_hidden_layers": 24, "num_attention_heads": 16, "projection_dim": 768}  # fmt: skip
    with torch.device("meta"):
        llava = LlavaForConditionalGeneration(LlavaConfig(text_config=text, vision_config=sight))
        unet = UNet2DConditionModel(in_channels=8, cross_attention_dim=768, attention_head_dim=8)
        vae = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(128, 256, 512, 512),
            layers_per_block=2,
            latent_channels=4,
        )
        kind = network_kind(config)
        model = Components(
            config, guidance_class(config)(llava, None, config.guidance), make_connector(config.connector),
            kind.denoiser(unet, config), kind.codec(vae),
        )  # fmt: skip
        guidance = model.guidance.rehearse(1, 256, 256)
        context = model.connector(guidance)
        latents = torch.empty(1, 4, 1, 32, 32)
        velocity = model.denoiser(latents, torch.full((1,), 0.5), context, model.denoiser.conditions(latents))
    assert guidance.tokens.shape == (1, 32, 4096) and guidance.image.shape == (1, 256, 1024)
    assert velocity.shape == latents.shape
    velocity.square().mean().backward()
    trained = (*model.guidance.queries.parameters(), *model.connector.parameters(), *model.denoiser.parameters())
    assert all(parameter.grad is not None for parameter in trained if parameter is not model.connector)

    def count(tensors) -> int:
        return sum(tensor.numel() for tensor in tensors)

    lora = [value for name, value in llava.named_parameters() if "lora_" in name]
    image = list(model.denoiser.gained()["image_attention"].parameters())
    counts = {"mllm": count(llava.parameters()) - count(lora), "lora": count(lora),
              "queries": count((*model.guidance.queries.values(), *model.guidance.rows.values())),
              "unet": count(unet.parameters()) - count(image), "image attention": count(image),
              "vae": count(vae.parameters())}  # fmt: skip
    assert counts == COUNTS


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"denoiser": replace(PUBLISHED.denoiser, network=Network.WAN)}, "denoiser.source is channels"),
        ({"denoiser": replace(PUBLISHED.denoiser, prediction=Prediction.VELOCITY)}, "denoiser.prediction is velocity"),
        ({"denoiser": DenoiserConfig(image_tokens=4)}, "connector.kind is two_stream"),
        ({"default_frames": 5}, "default_frames is 5"),
        ({"sampling": SamplingConfig(shift=5.0)}, "sampling.shift 5"),
    ],
)
def test_what_a_unet_cannot_take_is_named(changes, reason):
    with pytest.raises(CheckpointError, match=reason):
        replace(PUBLISHED, **changes).checked()


def test_connector_and_unet_agree_about_an_image_stream():
    with pytest.raises(CheckpointError, match="denoiser.image_tokens is 0; give 4, as many as the connector makes"):
        replace(PUBLISHED, denoiser=replace(PUBLISHED.denoiser, image_tokens=0)).checked()
