"""The graph against `Editor.edit`: the same seed and inputs, the same latents and pixels."""

import torch
from kit import AFFINE, BUNDLED, TOLERANCE, VARIANTS, difference, editor, example, expect, loaded, run, sampled, wired

import nodes as stock

SMALL = {"width": 64, "height": 64}  # where the model's own size would only take longer


def check_image():
    image, instruction, _ = example("recolor")
    own = editor(BUNDLED).edit(image, instruction, seed=3)
    assert difference(sampled(wired(BUNDLED, image, instruction), seed=3), own.latents) <= TOLERANCE


def check_pixels_after_restore():
    image, instruction, _ = example("recolor", width=80, height=56)
    own = editor(BUNDLED).edit(image, instruction, seed=3)
    graph = wired(BUNDLED, image, instruction)
    patched, positive, negative, latent, fit = graph
    (out,) = run("Sampler", model=patched, positive=positive, negative=negative, latent=latent, seed=3)
    (decoded,) = stock.VAEDecode().decode(loaded(BUNDLED)[1], out)
    restored, video, audio, fps = run("Restore", image=decoded, fit=fit)
    assert (audio, fps) == (None, 16.0)
    assert restored.shape == image.shape
    assert difference(restored, own.frames) <= TOLERANCE
    assert (restored == image).all(dim=-1).float().mean() > 0.2  # the source's own pixels, where nothing was to change
    as_decoded, *_ = run("Restore", image=decoded, fit=fit, keep_source=False, detail="model")
    assert difference(as_decoded, fit.plan.restore(decoded)) == 0
    assert video.get_components().images.shape == image.shape


def check_video():
    image, instruction, _ = example("background", frames=6)
    own = editor(BUNDLED).edit(image, instruction, seed=4, **SMALL)
    assert difference(sampled(wired(BUNDLED, image, instruction, **SMALL), seed=4), own.latents) <= TOLERANCE


def check_reference():
    image, instruction, reference = example("reference_swap")
    own = editor(BUNDLED).edit(image, instruction, reference, seed=5)
    assert difference(sampled(wired(BUNDLED, image, instruction, [reference]), seed=5), own.latents) <= TOLERANCE


def check_two_references_in_a_video():
    image, instruction, reference = example("reference_add", frames=5)
    other = example("reference_swap")[2]
    own = editor(BUNDLED).edit(image, instruction, [reference, other], seed=6, steps=4, **SMALL)
    graph = wired(BUNDLED, image, instruction, [reference, other], **SMALL)
    assert difference(sampled(graph, seed=6, steps=4), own.latents) <= TOLERANCE


def check_cfg():
    image, instruction, reference = example("reference_swap")
    own = editor(BUNDLED).edit(image, instruction, reference, seed=5, guidance_scale=3.0, steps=6, **SMALL)
    graph = wired(BUNDLED, image, instruction, [reference], **SMALL)
    assert difference(sampled(graph, seed=5, cfg=3.0, steps=6), own.latents) <= TOLERANCE


def check_batch_of_two():
    from instructx_pack.instructx_core.context import Context
    from instructx_pack.instructx_core.sampling import GuidanceTerm, sample

    image, instruction, reference = example("reference_swap")
    patched, positive, negative, latent, _ = wired(BUNDLED, image, instruction, [reference], **SMALL)
    (twice,) = stock.RepeatLatentBatch().repeat(latent, 2)
    both = sampled((patched, positive, negative, twice, None), seed=7, cfg=2.0, steps=5)
    own = editor(BUNDLED)
    noise = torch.randn(twice["samples"].shape, generator=torch.manual_seed(7))
    source, references = own.encode(image[None]), own.encode(reference[None])

    def context(words):
        return Context(own.context([words], [image], [[reference[0]]], False).tokens.repeat(2, 1, 1))

    shift = own.config.sampling.shift
    conditions = own.denoiser.conditions(source, (references,))
    terms = [GuidanceTerm(2.0, context(instruction), conditions), GuidanceTerm(-1.0, context(""), conditions)]
    expected = sample(own.denoiser, noise, terms, 5, shift)
    assert difference(both, expected) <= TOLERANCE
    assert difference(both[0], both[1]) > 0.1


def check_every_variant():
    """Source added or embedded; context in text space or past it; velocity, change or gain predicted; strides 4, 2."""
    image, instruction, reference = example("reference_swap", frames=3, width=48, height=40)
    plain = {}
    for name in (*VARIANTS, AFFINE):
        own = editor(name).edit(image, instruction, reference, seed=8, guidance_scale=2.0)
        ours = sampled(wired(name, image, instruction, [reference]), seed=8, cfg=2.0)
        assert difference(ours, own.latents) <= TOLERANCE, name
        plain[name] = ours
    assert (
        min(difference(plain[VARIANTS[0]], plain[other]) for other in VARIANTS[1:]) > 0.01
    )  # each does something else


def check_source_strength():
    image, instruction, _ = example("recolor", width=48, height=48)
    for name in VARIANTS:
        patched, positive, negative, latent, _ = wired(name, image, instruction)
        model = loaded(name)[0]
        if "change" in name:  # the source stays what the change is added to, however little the DiT sees of it
            weak = run("Source", model=model, positive=positive, negative=negative, source=latent, strength=0.5)
            whole = sampled((patched, positive, negative, latent, None), seed=1)
            assert difference(sampled((*weak, None), seed=1), whole) > 1e-4, name
            continue
        none = run("Source", model=model, positive=positive, negative=negative, source=latent, strength=0.0)
        bare = [[entry[0], {}] for entry in positive], [[entry[0], {}] for entry in negative]
        without = sampled((patched, *bare, latent, None), seed=1)
        assert difference(sampled((*none, None), seed=1), without) == 0, name
        assert difference(sampled((patched, positive, negative, latent, None), seed=1), without) > 0.01, name


def check_a_change_needs_a_source():
    image, instruction, _ = example("recolor", width=48, height=48)
    for name in (next(name for name in VARIANTS if "change" in name), AFFINE):
        patched, positive, _, latent, _ = wired(name, image, instruction)
        bare = [[positive[0][0], {}]]
        expect("InputError", "put InstructX Source", sampled, (patched, positive, bare, latent, None), cfg=2.0)


def check_conditioning_loses_nothing_of_a_context():
    """What is masked out is left out, and what CONDITIONING has no place for is refused."""
    from instructx_pack.instructx_core.context import Context
    from instructx_pack.nodes.connector import seen

    tokens, mask = torch.rand(2, 3, 4), torch.tensor([[True, False, True]] * 2)
    assert torch.equal(seen(Context(tokens)), tokens)
    assert torch.equal(seen(Context(tokens, mask)), tokens[:, [0, 2]])
    expect("InputError", "differ in length", seen, Context(tokens, torch.tensor([[True] * 3, [False, True, True]])))
    expect("InputError", "image stream", seen, Context(tokens, image=torch.rand(2, 1, 4)))
