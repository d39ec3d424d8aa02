"""Bad input, in words; and what is said on every socket."""

import torch
from kit import BUNDLED, LOADED_EARLY, NODES, VARIANTS, example, expect, loaded, run, wired


def check_words_for_bad_input():
    image, instruction, reference = example("reference_swap")
    model, vae, mllm, connector = loaded(BUNDLED)
    patched, positive, negative, latent, fit = wired(BUNDLED, image, instruction)
    link = {"model": model, "positive": positive, "negative": negative}
    guidance = {"mllm": mllm, "source": image}
    expect("InputError", "instruction is empty", run, "MLLMGuidance", instruction="  ", **guidance)
    assert "empty" in NODES["InstructXMLLMGuidance"].validate_inputs(instruction=" ")
    assert NODES["InstructXMLLMGuidance"].validate_inputs(instruction=None) is True
    expect("InputError", "put InstructX Fit before", run, "Source", source=image[:, :60], vae=vae, **link)
    expect("InputError", "no VAE is connected", run, "Source", source=image, **link)
    small = {"samples": torch.zeros(1, 16, 1, 4, 4)}
    expect("InputError", "sample the LATENT that comes out", run, "Sampler", latent=small, **link | {"model": patched})
    wide = {"samples": torch.zeros(1, 48, 1, 4, 4)}
    expect("InputError", "(1, 48, 1, 4, 4)", run, "Source", source=wide, **link)

    class OtherVAE(type(vae)):
        @property
        def latent_channels(self):
            return 48

        @latent_channels.setter
        def latent_channels(self, _):
            pass

    expect("InputError", "makes latents of 48 channels", run, "Source", source=image, vae=OtherVAE(vae.codec), **link)
    bare = [[positive[0][0], {}]]
    expect(
        "InputError",
        "connect InstructX Source before",
        run,
        "Reference",
        model=model,
        positive=bare,
        negative=bare,
        vae=vae,
        reference=reference,
    )
    expect(
        "InputError",
        "The mask is",
        run,
        "Reference",
        model=patched,
        positive=positive,
        negative=negative,
        vae=vae,
        reference=reference,
        mask=torch.ones(1, 8, 8),
    )
    (read,) = run("MLLMGuidance", instruction=instruction, **guidance)
    expect("InputError", "takes guidance 32 wide", run, "Connector", connector=loaded(VARIANTS[0])[3], guidance=read)
    narrow = [[positive[0][0][..., :100], positive[0][1]]]
    expect(
        "InputError",
        "conditioning is 100 wide",
        run,
        "Sampler",
        model=patched,
        positive=narrow,
        negative=negative,
        latent=latent,
    )
    expect("InputError", "width and height go together", run, "Fit", model=model, vae=vae, source=image, width=64)
    expect("InputError", "the FIT is for", run, "Restore", image=image[:, :32], fit=fit)
    expect("InputError", "bring the edited one back", run, "Composite", source=image, edited=image[:, :32])
    expect("CheckpointError", "put its folder", run, "LoadModel", model_name="nowhere")
    expect(
        "InputError",
        "overlap",
        run,
        "SlidingWindowImages",
        vae=vae,
        connector=connector,
        window=4,
        overlap=4,
        model=model,
        instruction=instruction,
        **guidance,
    )


def check_model_that_is_not_wan():
    model = loaded(BUNDLED)[0].clone()
    other = type("Other", (), {"diffusion_model": torch.nn.Linear(1, 1)})()
    model.model = other
    _, vae, _, _ = loaded(BUNDLED)
    image = example("recolor")[0]
    expect("InputError", "not Wan", run, "Fit", model=model, vae=vae, source=image)
    expect("InputError", "not Wan", run, "Source", model=model, positive=[], negative=[], source=image, vae=vae)
    expect("InputError", "not Wan", run, "Sigmas", model=model)


def check_nothing_is_fetched_without_the_switch():
    expect("CheckpointError", "switch download on", run, "LoadModel", model_name=BUNDLED, hub_id="owner/name")


def check_heavy_libraries_wait_for_a_loader():
    assert not LOADED_EARLY, LOADED_EARLY


def check_missing_libraries_are_named():
    from instructx_pack.nodes import requirements

    before = requirements.NEEDED
    requirements.NEEDED = (*before, "a_library_that_nobody_has")
    try:
        expect("InstructXError", "a_library_that_nobody_has", run, "LoadModel", model_name=BUNDLED)
    finally:
        requirements.NEEDED = before


def check_every_input_has_a_tooltip():
    for name, node in NODES.items():
        schema = node.GET_SCHEMA()
        schema.validate()
        assert schema.description and schema.category.startswith("InstructX"), name
        for socket in (*schema.inputs, *schema.outputs):
            assert socket.tooltip, (name, socket)
