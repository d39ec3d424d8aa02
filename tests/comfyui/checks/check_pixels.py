"""VAE, FIT, composite, examples: what goes in and comes out."""

import torch
from kit import BUNDLED, NODES, difference, editor, example, loaded, run

import nodes as stock


def check_codec_vae_is_a_vae():
    image = example("recolor", frames=5)[0]
    model, vae, _, _ = loaded(BUNDLED)
    (latent,) = stock.VAEEncode().encode(vae, image)
    raw = latent["samples"]
    assert difference(model.model.process_latent_in(raw), editor(BUNDLED).encode(image[None])) <= 1e-5
    (decoded,) = stock.VAEDecode().decode(vae, latent)
    assert decoded.shape == image.shape
    (tiled,) = stock.VAEDecodeTiled().decode(vae, latent, 512)
    assert torch.equal(tiled, decoded)
    odd = torch.nn.functional.pad(image, (0, 1, 1, 1, 1, 1))  # alpha, columns, rows
    assert torch.equal(vae.vae_encode_crop_pixels(odd), image), "as VideoHelperSuite's VAE Encode Batched asks for it"


def check_preview_colours():
    """What a sampler shows after a step looks like the picture: closer to it than a grey card is."""
    import latent_preview

    image = example("recolor", seed=77)[0]
    model = loaded(BUNDLED)[0]
    fmt = model.model.latent_format
    previewer = latent_preview.Latent2RGBPreviewer(fmt.latent_rgb_factors, fmt.latent_rgb_factors_bias)
    shown = previewer.decode_latent_to_preview(editor(BUNDLED).encode(image[None]).clone())
    pixels = torch.tensor(list(shown.getdata())).view(shown.height, shown.width, 3) / 255
    pooled = torch.nn.functional.adaptive_avg_pool2d(image.permute(0, 3, 1, 2), pixels.shape[:2])[0].permute(1, 2, 0)
    assert (pixels - pooled).abs().mean() < 0.5 * (pooled - pooled.mean((0, 1))).abs().mean()


def check_composite_is_exact_outside():
    source, _, _ = example("recolor")
    edited = source.clone()
    edited[:, 20:40, 10:30] = 1 - edited[:, 20:40, 10:30]
    result, mask = run("Composite", source=source, edited=edited)
    assert torch.equal(result[mask == 0], source[mask == 0])
    assert mask.any() and not mask.all()


def check_examples():
    from instructx_pack.instructx_core.examples import examples
    from instructx_pack.instructx_core.world import GROUPS

    for group in GROUPS:
        image, instruction, reference = example(group, frames=5, seed=1)
        assert image.shape == (5, 64, 64, 3)
        assert instruction
        assert (reference is not None) == group.startswith("reference")
    for name in (*examples(), "shipped demo.png", "shipped demo.mp4"):
        image, video, instruction, reference = run("ExampleInput", example=name)
        assert len(video.get_components().images) == len(image)
        assert (len(image) > 1) == ("clip" in name or name.endswith("mp4"))
        assert instruction
        assert isinstance(reference, torch.Tensor) == ("reference" in name)
    assert torch.equal(run("ExampleInput", example="random: add")[0], run("ExampleInput", example="add")[0])
    said = NODES["InstructXExampleInput"].validate_inputs(example="no such picture")
    assert "choose one from the menu" in said


def check_video_socket_is_a_video():
    """A VIDEO is one whatever its length, an IMAGE only with more than one frame; frame rate and sound come back."""
    from fractions import Fraction

    from instructx_pack.nodes.pixels import to_video

    image, _, _ = example("recolor", frames=5)
    model, vae, _, _ = loaded(BUNDLED)
    sound = {"waveform": torch.zeros(1, 2, 1000), "sample_rate": 8000}
    fitted, fit = run("Fit", model=model, vae=vae, source=to_video(image[:1], Fraction(30000, 1001), sound))
    assert fit.is_video
    _, video, *_ = run("Restore", image=fitted, fit=fit)
    components = video.get_components()
    assert components.frame_rate == Fraction(30000, 1001)
    assert components.audio is sound
