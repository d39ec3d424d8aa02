"""Bad input, in words; and what is said on every socket."""

import sys
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from check_long_video import replaced
from comfy.nested_tensor import NestedTensor
from kit import BUNDLED, LOADED_EARLY, NODES, VARIANTS, example, expect, loaded, run, wired


class OtherVAE:
    """A VAE of another number of channels than the MODEL takes."""

    def __init__(self, vae):
        self.vae = vae
        self.latent_channels = 48

    def __getattr__(self, name):
        return getattr(self.vae, name)


def check_words_for_bad_input():
    """Every case is tried, and all that fail are named."""
    image, instruction, reference = example("reference_swap")
    model, vae, mllm, connector = loaded(BUNDLED)
    patched, positive, negative, latent, fit = wired(BUNDLED, image, instruction)
    bare = [[positive[0][0], {}]]
    narrow = [[positive[0][0][..., :100], positive[0][1]]]
    (read,) = run("MLLMGuidance", mllm=mllm, source=image, instruction=instruction)
    link = {"model": model, "positive": positive, "negative": negative}
    sample = {"model": patched, "positive": positive, "negative": negative, "latent": latent}
    parts = {"model": model, "vae": vae, "mllm": mllm, "connector": connector}
    other = OtherVAE(vae)
    small, wide = ({"samples": torch.zeros(1, channels, 1, 4, 4)} for channels in (16, 48))
    sounding = {"samples": NestedTensor([latent["samples"], torch.zeros(1, 8, 4)])}
    see = {"model": patched, "positive": positive, "negative": negative, "vae": vae, "reference": reference}
    cases = [
        ("instruction is empty", "MLLMGuidance", {"mllm": mllm, "source": image, "instruction": "  "}),
        (
            "connect the IMAGE of that InstructX Fit",
            "MLLMGuidance",
            {"mllm": mllm, "source": image, "instruction": instruction, "fit": fit},
        ),
        ("put InstructX Fit before", "Source", link | {"source": image[:, :60], "vae": vae}),
        ("no VAE is connected", "Source", link | {"source": image}),
        ("(1, 48, 1, 4, 4)", "Source", link | {"source": wide}),
        ("holds video and sound", "Source", link | {"source": sounding}),
        ("holds video and sound", "Sampler", sample | {"latent": sounding}),
        ("makes latents of 48 channels", "Source", link | {"source": image, "vae": other}),
        ("makes latents of 48 channels", "Fit", {"model": model, "vae": other, "source": image}),
        ("makes latents of 48 channels", "Reference", see | {"vae": other}),
        ("sample the LATENT from InstructX Source", "Sampler", sample | {"latent": small}),
        ("conditioning is 100 wide", "Sampler", sample | {"positive": narrow}),
        ("put InstructX Source before", "Reference", see | {"positive": bare, "negative": bare}),
        ("The mask is", "Reference", see | {"mask": torch.ones(1, 8, 8)}),
        ("takes guidance of width 32", "Connector", {"connector": loaded(VARIANTS[0])[3], "guidance": read}),
        ("width and height go together", "Fit", {"model": model, "vae": vae, "source": image, "width": 64}),
        ("the FIT is for", "Restore", {"image": image[:, :32], "fit": fit}),
        ("bring the edited one back", "Composite", {"source": image, "edited": image[:, :32]}),
        (
            "overlap",
            "SlidingWindowImages",
            parts | {"source": image, "instruction": instruction, "window": 4, "overlap": 4},
        ),
    ]
    wrong = []
    for match, node, inputs in cases:
        try:
            expect("InputError", match, run, node, **inputs)
        except AssertionError as missed:
            wrong.append(f"{node}: {match!r}: {missed}")
    assert not wrong, "\n".join(wrong)


def check_words_in_the_menus():
    """What ComfyUI shows on a node before anything runs."""

    def said(name, **values):
        return NODES[f"InstructX{name}"].validate_inputs(**values)

    assert "empty" in said("MLLMGuidance", instruction=" ")
    assert said("MLLMGuidance", instruction=None) is True
    assert "huggingface.co/linyq" in said("LoadModel", model_name="nowhere")
    assert said("LoadModel", model_name=BUNDLED) is True
    assert said("LoadModel", model_name=BUNDLED, transformer=None, vae=None, mllm=None) is True  # links
    absent = said("LoadModel", model_name="linyq--kiwi-edit-5b-instruct-only-diffusers")
    assert "`python -m instructx_core download kiwi-edit-5b-instruct-only --to " in absent
    assert "'nowhere'" in said("LoadMLLM", base=BUNDLED, adapter="nowhere")
    assert "'nowhere'" in said("LoadMLLM", base="nowhere", adapter=BUNDLED)
    assert "'nowhere.safetensors'" in said("LoadAdapter", adapter="nowhere.safetensors")
    assert "is not the first frame" in said("SlidingWindow", instruction="x", cuts="a,b")
    assert said("SlidingWindow", instruction="x", cuts="") is True


def check_menus_refuse_what_is_no_text():
    """ComfyUI checks none of these menus itself, and a graph may hold anything."""
    menus = [
        ("ExampleInput", "example"),
        ("LoadModel", "model_name"),
        ("LoadModel", "transformer"),
        ("Plan", "model_name"),
    ]
    for node, menu in menus:
        for value in (5, True, {"a": 1}, ["a", "b", "c"]):
            said = NODES[f"InstructX{node}"].validate_inputs(**{menu: value})
            assert "menu" in said and str(value) in said, (node, menu, said)


def check_model_that_is_not_wan():
    model = loaded(BUNDLED)[0].clone()
    other = type("Other", (), {"diffusion_model": torch.nn.Linear(1, 1)})()
    model.model = other
    _, vae, _, _ = loaded(BUNDLED)
    image = example("recolor")[0]
    expect("InputError", "not Wan", run, "Fit", model=model, vae=vae, source=image)
    expect("InputError", "not Wan", run, "Source", model=model, positive=[], negative=[], source=image, vae=vae)
    expect("InputError", "not Wan", run, "Sigmas", model=model)


def check_heavy_libraries_wait_for_a_loader():
    assert not LOADED_EARLY, LOADED_EARLY


def check_missing_libraries_are_named():
    from instructx_pack.nodes import requirements

    before = requirements.REQUIREMENTS
    with TemporaryDirectory() as folder:
        requirements.REQUIREMENTS = Path(folder) / "requirements.txt"
        requirements.REQUIREMENTS.write_text("torch>=1.0\na-library-that-nobody-has>=2\nnumpy>=99.1\nhalf-there>=1\n")
        (Path(folder) / "half_there-1.0.dist-info").mkdir()  # an installation that was interrupted
        sys.path.append(folder)
        try:
            assert "half-there is not installed" in requirements.lacking()
            expect("InstructXError", "a-library-that-nobody-has is not installed", run, "LoadModel", model_name=BUNDLED)
            expect("InstructXError", "99.1 or newer is needed", run, "LoadMLLM", base=BUNDLED, adapter=BUNDLED)
        finally:
            requirements.REQUIREMENTS = before
            sys.path.remove(folder)
    assert not requirements.lacking()


def check_every_input_has_a_tooltip():
    for name, node in NODES.items():
        schema = node.GET_SCHEMA()
        schema.validate()
        assert schema.description and schema.category.startswith("InstructX"), name
        if schema.is_dev_only:
            continue  # a node in no menu
        for socket in (*schema.inputs, *schema.outputs):
            assert socket.tooltip, (name, socket)


def check_what_the_bundled_model_does_not_know_is_said():
    """Words that it never read, and photographs; in a line each, of no other model."""
    from instructx_pack.nodes import depth

    image, instruction, _ = example("recolor")
    photograph = run("ExampleInput", example="photograph: cat in sepia", seed=0, frames=1, width=64, height=64)[0]
    _, _, mllm, _ = loaded(BUNDLED)
    said = []
    with replaced(depth, "say", said.append):
        run("MLLMGuidance", mllm=mllm, source=image, instruction=instruction)
        run("MLLMGuidance", mllm=mllm, source=image, instruction="put a hat on the dog")
        run("MLLMGuidance", mllm=mllm, source=photograph, instruction=instruction)
        depth.warn(replace(mllm, name="another model"), "put a hat on the dog", photograph)
    assert len(said) == 2
    assert said[0].startswith('InstructX Tiny never learned "hat" or "dog". ')
    assert said[1].startswith("This looks like a photograph. InstructX Tiny can change its colours")
    tiny = replace(mllm, name="InsightEdit Tiny (bundled)")
    assert depth.outside(tiny, instruction, image) == ""
    assert 'InsightEdit Tiny never learned "sepia"' in depth.outside(tiny, "make it sepia", image)
    assert depth.outside(tiny, "删除红色圆形", image) == "InsightEdit Tiny reads only English."
    for english in ("make the circle\u2019s colour blue", "make the café blue", "make it blue…"):
        assert "English" not in depth.outside(tiny, english, image), english
    assert "InsightEdit Tiny never saw one" in depth.outside(tiny, instruction, photograph)
