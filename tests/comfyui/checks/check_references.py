"""How a reference lies in the source's frame, how strongly it counts, and which part of it the DiT sees."""

import torch
from kit import BUNDLED, VARIANTS, difference, example, expect, loaded, run, sampled, wired

WIDE = (40, 80)  # of a reference beside square sources: every way to fit it gives another picture


def referenced(name, reference, **options):
    """The conditioning of a graph with one reference, and the graph."""
    image, instruction, _ = example("reference_swap", width=48, height=48)
    patched, positive, negative, latent, fit = wired(name, image, instruction)
    link = {"model": patched, "positive": positive, "negative": negative, "vae": loaded(name)[1]}
    patched, positive, negative = run("Reference", reference=reference, **link | options)
    return patched, positive, negative, latent, fit


def laid(name, reference, **options):
    """The reference's raw latents, as the DiT is given them."""
    return referenced(name, reference, **options)[1][0][1]["time_dim_concat"]


def wide_reference():
    image = example("reference_swap", width=WIDE[1], height=WIDE[0])[0]
    assert tuple(image.shape[1:3]) == WIDE
    return image


def check_fit_modes():
    """`fill` is the middle part, `stretch` all of it: against pictures that are cut and scaled by hand."""
    from instructx_pack.instructx_core.fit import fit_reference, resize

    reference, vae = wide_reference(), loaded(BUNDLED)[1]
    height, width = WIDE
    middle = reference[:, :, (width - height) // 2 : (width + height) // 2]
    canvas = referenced(BUNDLED, reference)[4].plan.canvas
    expected = {
        "whole picture": fit_reference(reference[0], canvas)[None],
        "fill the frame": resize(middle, canvas),
        "stretch": resize(reference, canvas),
    }
    found = {mode: laid(BUNDLED, reference, fit_mode=mode) for mode in expected}
    for mode, picture in expected.items():
        assert difference(found[mode], vae.encode(picture)) < 1e-5, mode
    assert difference(found["stretch"], found["fill the frame"]) > 0.1
    assert difference(found["stretch"], found["whole picture"]) > 0.1


def check_mask_shows_the_subject_alone():
    """What the mask leaves out is grey; one mask serves a batch, and a mask of ones changes nothing."""
    reference = wide_reference()
    mask = torch.zeros(1, *WIDE)
    mask[:, 8:32, 20:60] = 1
    by_hand = reference * mask[..., None] + 0.5 * (1 - mask[..., None])
    assert difference(laid(BUNDLED, reference, mask=mask), laid(BUNDLED, by_hand)) < 1e-5
    assert difference(laid(BUNDLED, reference, mask=torch.ones(1, *WIDE)), laid(BUNDLED, reference)) == 0
    both = laid(BUNDLED, torch.cat([reference, 1 - reference]), mask=mask)
    assert both.shape[2] == 2
    assert difference(both[:, :, :1], laid(BUNDLED, by_hand)) < 1e-5


def check_masks_of_one_reference_are_merged():
    """Segmenters return one mask per object; of several references each has its own, and more are refused."""
    reference, halves = wide_reference(), torch.zeros(2, *WIDE)
    halves[0, :, :50] = halves[1, :, 50:] = 1
    assert difference(laid(BUNDLED, reference, mask=halves), laid(BUNDLED, reference)) == 0
    pair = torch.cat([reference, 1 - reference])
    both = laid(BUNDLED, pair, mask=halves)
    for index in range(2):
        alone = laid(BUNDLED, pair[index, None], mask=halves[index, None])
        assert difference(both[:, :, index, None], alone) < 1e-5
    more = torch.cat([halves, halves])
    expect("InputError", "There are 4 masks for 2 references", laid, BUNDLED, pair, mask=more)
    expect("InputError", "or chain one InstructX Reference per reference", laid, BUNDLED, pair, mask=more)


def check_strength():
    """Half of a reference is another edit than the whole, whatever embeds it; 1 is what was trained."""
    reference = wide_reference()
    for name in (BUNDLED, *VARIANTS):
        whole = sampled(referenced(name, reference, strength=1.0), seed=2, steps=2)
        assert difference(sampled(referenced(name, reference), seed=2, steps=2), whole) == 0, name
        assert difference(sampled(referenced(name, reference, strength=0.5), seed=2, steps=2), whole) > 1e-4, name


def check_further_sockets_are_a_batch():
    """Three sockets of InstructX MLLM Guidance show the MLLM what a batch of three does."""
    image, instruction, reference = example("reference_swap")
    mllm = loaded(BUNDLED)[2]
    others = [1 - reference, reference.flip(2)]
    further = {"reference_2": others[0], "reference_3": others[1]}
    seen = {"mllm": mllm, "source": image, "instruction": instruction}
    (apart,) = run("MLLMGuidance", reference=reference, further=further, **seen)
    (batch,) = run("MLLMGuidance", reference=torch.cat([reference, *others]), **seen)
    (one,) = run("MLLMGuidance", reference=reference, **seen)
    assert difference(apart.positive.tokens, batch.positive.tokens) == 0
    assert difference(apart.positive.tokens, one.positive.tokens) > 1e-3
