"""The architectures that the paper compares, through the same nodes as its own, against the library."""

import os
from pathlib import Path

import comfy.text_encoders.wan
import folder_paths
import torch
from kit import TOLERANCE, difference, editor, example, loaded, run, sampled, wired

MODELS = Path(os.environ["INSTRUCTX_TEST_COMPARED"])

folder_paths.add_model_folder_path("instructx", str(MODELS))


def check_architectures_that_the_paper_compares():
    found = {}
    for name in sorted(path.name for path in MODELS.iterdir()):
        for frames in (1, 5):
            image, instruction, _ = example("recolor", frames=frames, width=48, height=48)
            ours = sampled(wired(name, image, instruction), seed=4, steps=2)
            expected = editor(name).edit(image, instruction, seed=4, steps=2).latents
            found[name, frames] = difference(ours, expected)
    assert len(found) == 8, found
    assert max(found.values()) <= TOLERANCE, found


def check_core_s_own_text_encoder_conditions_the_model():
    """The MODEL of variant (a) takes what ComfyUI's own umT5 makes of the same words."""
    image, instruction, _ = example("recolor", width=48, height=48)
    model, vae, mllm, _ = loaded("text")
    own = mllm.guidance.mllm
    sizes = {"d_model", "d_ff", "d_kv", "num_heads", "num_layers", "vocab_size"}
    tiny = {name: getattr(own.config, name) for name in sizes}
    options = {"model_name": "umt5xxl", "umt5xxl_model_config": tiny}
    encoder = comfy.text_encoders.wan.UMT5XXlModel(dtype=torch.float32, model_options=options)
    encoder.load_sd({name: value for name, value in own.state_dict().items() if "embed_tokens" not in name})
    ids = mllm.guidance.tokenizer(instruction)["input_ids"]
    tokens = [[(token, 1.0) for token in (*ids, *[0] * (512 - len(ids)))]]  # as UMT5XXlTokenizer pads
    made = encoder.encode_token_weights(tokens)
    context = [[made[0], made[2] if len(made) > 2 else {}]]  # as CLIPTextEncode gives it
    fitted, _ = run("Fit", model=model, vae=vae, source=image)
    patched, positive, negative, latent = run(
        "Source", model=model, positive=context, negative=context, source=fitted, vae=vae
    )
    ours = sampled((patched, positive, negative, latent, None), seed=4, steps=2)
    assert difference(ours, editor("text").edit(image, instruction, seed=4, steps=2).latents) <= TOLERANCE
