"""A mask on Source, Restore and the sliding windows: edited only there, the source to the bit elsewhere."""

from types import SimpleNamespace

import torch
from check_long_video import parts, queued, replaced, scratch, video_file
from comfy_api.latest import InputImpl
from kit import SMALLER, VARIANTS, example, expect, loaded, run

import nodes as stock


def left_half(frames, height, width):
    mask = torch.zeros(frames, height, width)
    mask[:, :, : width // 2] = 1
    return mask


def edited_within(image, instruction, mask, name=SMALLER, on_source=True, seed=3):
    """(IMAGE of Restore, FIT, LATENT of Source, the edit's LATENT)"""
    model, vae, mllm, connector = loaded(name)
    fitted, fit = run("Fit", model=model, vae=vae, source=image)
    (guidance,) = run("MLLMGuidance", mllm=mllm, source=fitted, instruction=instruction, fit=fit)
    positive, negative = run("Connector", connector=connector, guidance=guidance)
    given = {"mask": mask, "fit": fit} if on_source else {}
    wired = run("Source", model=model, positive=positive, negative=negative, source=fitted, vae=vae, **given)
    model, positive, negative, latent = wired
    (edit,) = run("Sampler", model=model, positive=positive, negative=negative, latent=latent, seed=seed)
    (decoded,) = stock.VAEDecode().decode(vae, edit)
    return run("Restore", image=decoded, fit=fit, mask=mask)[0], fit, latent, edit


def check_only_what_the_mask_covers_is_edited():
    """A picture that is scaled and a clip whose frames are repeated; one mask, and one for each frame."""
    for frames, height, width in ((1, 96, 128), (4, 64, 64)):
        image, instruction, _ = example("background", frames=frames, width=width, height=height)
        for mask in (left_half(1, height, width), left_half(frames, height, width)):
            restored, fit, latent, edit = edited_within(image, instruction, mask)
            right = mask.expand(frames, -1, -1) == 0
            assert restored.shape == image.shape
            assert torch.equal(restored[right], image[right])
            assert (restored - image)[~right].abs().amax() > 0.2
            held = latent["noise_mask"].expand_as(edit["samples"]) == 0
            assert held.any() and not held.all()
            assert (edit["samples"] - latent["samples"])[held].abs().max() < 1e-4  # while sampling too
            assert fit.plan.frames == frames


def check_a_mask_while_sampling_is_another_edit():
    image, instruction, _ = example("background")
    mask = left_half(1, 64, 64)
    inside, *_ = edited_within(image, instruction, mask)
    after, *_ = edited_within(image, instruction, mask, on_source=False)
    assert not torch.equal(inside, after)  # the DiT sees the source's own pixels beside the edit
    everywhere, *_ = edited_within(image, instruction, torch.ones(64, 64))
    unmasked, *_ = edited_within(image, instruction, torch.ones(64, 64), on_source=False)
    assert (everywhere - unmasked).abs().amax() < 1e-4


def check_masks_over_latents():
    """Latent frames span several frames: one is free where the mask touches any of them."""
    from instructx_pack.nodes.masks import over_latent

    mask = torch.zeros(9, 16, 24)
    mask[0, 0, 0] = mask[7, 15, 23] = 1
    free = over_latent(mask, (1, 4, 3, 2, 3), 8, 4)
    assert free.shape == (1, 1, 3, 2, 3)
    assert free.nonzero()[:, 2:].tolist() == [[0, 0, 0], [2, 1, 2]]
    still = over_latent(mask[:1], (1, 4, 3, 2, 3), 8, 4)
    assert still.nonzero()[:, 2:].tolist() == [[0, 0, 0], [1, 0, 0], [2, 0, 0]]
    image, instruction, _ = example("recolor", frames=6, width=48, height=40)
    moving = torch.zeros(6, 40, 48)
    moving[3:, 8:24, 8:24] = 1
    restored, *_ = edited_within(image, instruction, moving, VARIANTS[0])
    assert torch.equal(restored[:3], image[:3])
    assert torch.equal(restored[moving == 0], image[moving == 0])


def check_masks_that_do_not_fit_are_refused():
    image, instruction, _ = example("recolor", frames=5)
    for mask in (torch.ones(1, 32, 64), torch.ones(2, 64, 64)):
        expect("InputError", "The mask is", edited_within, image, instruction, mask)
        expect("InputError", "The mask is", run, "SlidingWindowImages", **parts(), source=image, window=5, mask=mask)
    model, vae, *_ = loaded(SMALLER)
    bare = {"model": model, "positive": [], "negative": [], "source": image, "vae": vae}
    expect("InputError", "connect the FIT", run, "Source", **bare, mask=torch.ones(1, 32, 64))
    expect("InputError", "with one channel", run, "Source", **bare, mask=torch.ones(1, 64, 64, 3))
    for mask in (torch.ones(64, 64), torch.ones(5, 1, 64, 64), torch.ones(1, 64, 64, 1)):
        assert run("Source", **bare, mask=mask)[3]["noise_mask"].all()


def check_load_images_mask_without_paint_is_named():
    """Load Image gives 64 x 64 zeros for a picture without alpha, whatever its size."""
    from instructx_pack.nodes.masks import for_frames, over_latent
    from instructx_pack.nodes.reference import subject_only

    unpainted, words = torch.zeros(1, 64, 64), "Load Image gives"
    expect("InputError", words, for_frames, unpainted, 1, (96, 128))
    expect("InputError", words, over_latent, unpainted, (1, 4, 1, 12, 16), 8, 4)
    expect("InputError", words, subject_only, torch.ones(96, 128, 3), unpainted[0])
    assert for_frames(unpainted, 1, (64, 64)).shape == (1, 64, 64)  # it has that picture's size


def check_an_empty_mask_is_said():
    """Before the run, which would change no pixel: a segmenter that found nothing gives such a mask."""
    from instructx_pack.nodes import masks

    image, *_ = example("background")
    model, vae, *_ = loaded(SMALLER)
    bare = {"model": model, "positive": [], "negative": [], "source": image, "vae": vae}

    def stop(words):
        raise InterruptedError(words)

    with replaced(masks, "say", stop):
        run("Source", **bare, mask=left_half(1, 64, 64))
        for node, given in (("Source", bare), ("SlidingWindowImages", parts() | {"source": image, "window": 5})):
            expect("InterruptedError", "The mask is empty", run, node, **given, mask=torch.zeros(1, 64, 64))


def check_windows_within_a_mask():
    """Still and moving, over joins, and in a file as exactly as its codec keeps pixels."""
    image, instruction, _ = example("background", frames=9)
    moving = torch.zeros(9, 64, 64)
    for index in range(9):
        moving[index, :, 4 * index : 4 * index + 24] = 1
    for mask in (left_half(1, 64, 64), moving):
        given = {"source": image, "instruction": instruction, "window": 5, "seed": 1, "mask": mask}
        (edited,) = run("SlidingWindowImages", **parts(), **given)
        outside = mask.expand(9, -1, -1) == 0
        assert torch.equal(edited[outside], image[outside])
        assert (edited - image)[~outside].abs().mean() > 0.05
    source = InputImpl.VideoFromFile(str(video_file(scratch("masked"), image)))
    kept = source.get_components().images
    (video,) = run("SlidingWindow", **parts(), source=source, **{k: v for k, v in given.items() if k != "source"})
    made = video.get_components().images
    inner = moving.clone()
    inner[:, :, 1:] = torch.maximum(inner[:, :, 1:], moving[:, :, :-1])
    inner[:, :, :-1] = torch.maximum(inner[:, :, :-1], moving[:, :, 1:])
    assert (made - kept)[inner == 0].abs().mean() < 0.02
    assert (made - kept)[moving == 1].abs().mean() > 0.05


def check_another_mask_is_another_edit():
    """The identity of an edit, by which its windows are found again, holds the mask."""
    image, instruction, _ = example("remove", frames=5)
    source = InputImpl.VideoFromFile(str(video_file(scratch("other-mask"), image)))
    execute = queued(seed=31)
    paths = {
        execute(source, instruction, mask=mask).get_stream_source()
        for mask in (None, left_half(1, 64, 64), left_half(1, 64, 64), torch.ones(1, 64, 64))
    }
    assert len(paths) == 3


def check_a_frame_that_is_partly_edited_has_the_runs_timestep():
    """Wan 2.2 5B: ComfyUI multiplies a frame's timestep by the share of it that is free."""
    from instructx_pack.nodes.wan import _of_run

    options = {"sigmas": torch.tensor([0.8])}
    frames = torch.zeros(1, 4, 3, 2, 2)
    shares = torch.tensor([[800.0, 200.0, 0.0]])  # all of it, a quarter, nothing
    assert torch.allclose(_of_run(shares, frames, options), torch.tensor([[800.0, 800.0, 0.0]]))
    assert torch.equal(_of_run(shares[:, :1], frames, options), shares[:, :1])


def check_a_latent_format_that_does_not_say_its_frames_is_wan_s():
    """As ComfyUI's own formats up to 0.15."""
    from instructx_pack.nodes.source import noise_mask

    model = SimpleNamespace(model=SimpleNamespace(latent_format=SimpleNamespace(spacial_downscale_ratio=8)))
    mask = torch.zeros(9, 64, 64)
    mask[5:, :32] = 1
    found = noise_mask(model, torch.zeros(1, 16, 3, 8, 8), mask)
    wanted = torch.zeros(1, 1, 3, 8, 8)
    wanted[:, :, 2, :4] = 1
    assert torch.equal(found, wanted)


def check_separate_pictures_take_a_mask_each():
    """Of as many masks; fewer or more are objects of every picture, as without pictures apart."""
    from instructx_pack.nodes.source import noise_mask

    image = example("background", frames=3)[0]
    masks = torch.zeros(3, 64, 64)
    for index in range(3):
        masks[index, :, 20 * index : 20 * index + 16] = 1
    model, vae, *_ = loaded(SMALLER)
    pictures, fits = run("Fit", model=model, vae=vae, source=image, batch="separate pictures", width=64, height=64)
    for index, (picture, fit) in enumerate(zip(pictures, fits, strict=True)):
        raw = vae.encode(picture)
        for given, own in ((masks, masks[index, None]), (masks[:2], masks[:2]), (masks[1], masks[1])):
            assert torch.equal(noise_mask(model, raw, given, fit), noise_mask(model, raw, own))
        restored = run("Restore", image=1 - picture, fit=fit, mask=masks)[0]
        changed = (restored != image[index, None]).any(-1)
        assert changed.any() and not changed[masks[index, None] == 0].any()
