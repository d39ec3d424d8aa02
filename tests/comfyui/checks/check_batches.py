"""Several frames are one video or separate pictures, as a widget says; what is asked is checked before the run."""

from fractions import Fraction

import torch
from check_long_video import replaced
from kit import BUNDLED, NODES, SMALLER, editor, example, expect, loaded, run

import nodes as stock


def fit(source, **settings):
    model, vae, _, _ = loaded(BUNDLED)
    return run("Fit", model=model, vae=vae, source=source, **settings)


def check_separate_pictures_are_edited_each():
    """As ComfyUI runs nodes behind a list: once for each, and each as it would come alone."""
    model, vae, mllm, connector = loaded(SMALLER)
    image, instruction, _ = example("background", frames=3)
    image = image.clone()
    image[1] = 1 - image[1]

    def edit(fitted, fit):
        (guidance,) = run("MLLMGuidance", mllm=mllm, source=fitted, instruction=instruction, fit=fit)
        positive, negative = run("Connector", connector=connector, guidance=guidance)
        given = {"model": model, "positive": positive, "negative": negative, "vae": vae}
        patched, positive, negative, latent = run("Source", **given, source=fitted)
        (out,) = run("Sampler", model=patched, positive=positive, negative=negative, latent=latent)
        return run("Restore", image=stock.VAEDecode().decode(vae, out)[0], fit=fit)[0]

    pictures, fits = fit(image, batch="separate pictures", width=64, height=64)
    assert [tuple(one.shape) for one in pictures] == [(1, 64, 64, 3)] * 3
    assert not any(one.is_video for one in fits)
    edited = [edit(*one) for one in zip(pictures, fits, strict=True)]
    alone = [edit(*fit(one[None], width=64, height=64)) for one in image]
    assert all(torch.equal(one, other) for one, other in zip(edited, alone, strict=True))


def check_a_batch_says_what_it_was_taken_for():
    from instructx_pack.nodes import fit as fit_node
    from instructx_pack.nodes.pixels import to_video

    image, _, _ = example("recolor", frames=3)
    size = {"width": 64, "height": 64}
    said = []
    with replaced(fit_node, "show", said.append):
        _, video = fit(image, **size)
        fit(image[:1], **size)
        fit(to_video(image, Fraction(8)), **size)
        fit(image, batch="separate pictures", **size)
        _, one = fit(image[:1], batch="one video", **size)
    assert video.is_video and one.is_video
    assert said == [
        'one video of 3 frames (for separate pictures set batch to "separate pictures"), at 64 x 64',
        "one picture, at 64 x 64",
        "one video of 3 frames, at 64 x 64",
        "3 pictures, one after the other, at 64 x 64",
        "one video of 1 frames, at 64 x 64",
    ]


def check_sizes_are_checked_before_the_run():
    check = NODES["InstructXFit"].validate_inputs
    assert check() is True and check(width=64) is True and check(width=0, height=0) is True
    assert check(width=64, height=96) is True
    assert "go together" in check(width=64, height=0)
    assert "height is 100" in check(width=64, height=100)


def check_a_reference_is_asked_for_before_the_run():
    needing = ("replace the star with the object in the reference", "use the reference image", "加上参考图中的物体")
    reader = {"mllm": "INSTRUCTX_MLLM", "connector": "INSTRUCTX_CONNECTOR"}
    linked = {"MLLMGuidance": {}, "SlidingWindow": reader, "SlidingWindowImages": reader}
    for name in linked:
        check = NODES[f"InstructX{name}"].validate_inputs
        for words in needing:
            assert "none is connected" in check(instruction=words, input_types=linked[name]), words
            assert check(instruction=words, input_types=linked[name] | {"reference": "IMAGE"}) is True
        for words in ("make the star blue", "remove the reference number from the box", None):
            assert check(instruction=words, input_types=linked[name]) is True, words
        assert "mismatch" in check(instruction="x", input_types=linked[name] | {"reference": "LATENT"})
    assert "Nothing says what to change" in NODES["InstructXSlidingWindow"].validate_inputs(
        instruction="x", input_types={"model": "MODEL", "vae": "VAE"}
    )
    assert NODES["InstructXMLLMGuidance"].validate_inputs(instruction="x", input_types={"source": "VIDEO"}) is True


def check_the_worlds_instructions_that_name_a_reference_are_known():
    from instructx_pack.instructx_core.instruction import speaks_of_a_reference

    for group in ("reference_swap", "reference_add", "recolor", "remove", "background"):
        for seed in range(8):
            _, instruction, reference = example(group, seed=seed)
            named = (
                reference is not None and "reference" in instruction.lower()
            )  # "turn it into this shape" has no such word
            assert speaks_of_a_reference(instruction) == named, instruction


def check_an_example_without_its_reference_is_an_error():
    from comfy_api.latest import io

    def node(links):
        prompt = {"1": {"inputs": {"example": "recolor"}}, "2": {"inputs": links}}
        return NODES["InstructXExampleInput"].PREPARE_CLASS_CLONE(
            {"hidden_inputs": {io.Hidden.unique_id: "1", io.Hidden.prompt: prompt}}
        )

    given = {"example": "recolor", "seed": 0, "frames": 1, "width": 64, "height": 64}
    expect("InputError", "choose one whose name mentions a reference", node({"reference": ["1", 3]}).execute, **given)
    assert len(node({"source": ["1", 0]}).execute(**given).args) == 4


def check_menus_name_what_is_not_here():
    from instructx_pack.nodes.folders import model_names

    (entry,) = (name for name in model_names() if name.startswith("kiwi-edit-5b-instruct-only "))
    assert "GB, licence not stated), not here yet: " in entry
    assert entry.endswith("instructx download kiwi-edit-5b-instruct-only")
    assert model_names()[0] == BUNDLED
    sentence = NODES["InstructXLoadModel"].validate_inputs(model_name=entry)
    assert sentence.startswith("kiwi-edit-5b-instruct-only is not here yet; download it with ")
    assert "instructx_core download kiwi-edit-5b-instruct-only --to" in sentence
    expect("CheckpointError", "is not here yet", run, "LoadModel", model_name=entry)


def check_masks_of_any_rank():
    image, _, _ = example("recolor")
    objects = torch.zeros(3, 64, 64)
    for index in range(3):
        objects[index, :, 20 * index : 20 * index + 10] = 1
    both, mask = run("Composite", source=image, edited=1 - image, mask=objects, feather=0)  # of one picture
    assert torch.equal(mask, objects.amax(0, keepdim=True))
    assert torch.equal(both[mask == 0], image[mask == 0])
    for shape in ((64, 64), (1, 64, 64), (1, 1, 64, 64), (1, 64, 64, 1), (1, 1, 1, 64, 64), (1, 1, 64, 64, 1)):
        assert run("Composite", source=image, edited=1 - image, mask=torch.ones(shape))[1].shape == (1, 64, 64)


def check_the_plan_of_a_run():
    """A line for each size of GPU, from the files' headers alone, and refused before the run like the loader."""
    text = run("Plan", model_name=BUNDLED)[0]
    config = editor(BUNDLED).config
    height, width = config.default_size
    size = f"{width} x {height} pixels (width x height), {config.default_frames} frames"
    assert text.startswith(f"InstructX Tiny, {size}, bfloat16\n")
    assert [line.split(" GiB free: ")[0] for line in text.splitlines()[-4:]] == ["8", "12", "16", "24"]
    assert text.count("everything on the GPU (") == 4
    large = run("Plan", model_name=BUNDLED, width=1920, height=1080, frames=257)[0]
    assert "257 frames" in large and "too little: " in large.splitlines()[-4]
    check = NODES["InstructXPlan"].validate_inputs
    assert check(model_name=BUNDLED, width=64, height=64) is True
    assert "no model" in check(model_name="nowhere")
    assert "go together" in check(model_name=BUNDLED, width=64, height=0)
