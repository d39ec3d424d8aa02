"""Every form of a model's weights that the command line reads is read by the nodes, and edits alike; by default some of
each family, the others as slow tests.
"""

import json
import os
from pathlib import Path

import folder_paths
import torch
from kit import NEW, TOLERANCE, difference, example, run, slow

SIDES = {"width": 64, "height": 64}
LIMITS = {
    "Bernini-R's": 5e-3,  # ComfyUI's RoPE of several streams is in float32
    "int8": 5e-3,  # ComfyUI rounds the inputs of such a layer too; its weights are compared in check_packed_dits.py
}
ROOT = Path(os.environ["INSTRUCTX_TEST_DOORS"])
FORMS = json.loads((ROOT / "forms.json").read_text())
QUICK = (
    "a folder",
    "what was trained alone",
    "fp8 with scales, as spelled now",
    "a lone Qwen in nvfp4",
    "Kiwi-Edit's training checkpoint, with LoRA",
    "Bernini-R's folder",
    "CoinVE-Edit's file",
)
KINDS = {"model": "instructx", "transformer": "diffusion_models", "vae": "vae", "mllm": "text_encoders"}

for kind in KINDS.values():
    folder_paths.add_model_folder_path(kind, str(ROOT / kind))


def check_forms_through_both_doors():
    _through_both_doors(QUICK)


@slow
def check_the_other_forms_through_both_doors():
    _through_both_doors([form for form in FORMS if form not in QUICK])


def _through_both_doors(forms):
    from instructx_pack.instructx_core.editor import Editor

    image, instruction, _ = example("recolor", width=48, height=48)
    wrong = {}
    for form in forms:
        names = FORMS[form]
        paths = {part: ROOT / KINDS[part] / name for part, name in names.items()}
        given = {part: f"{KINDS[part]}/{name}" for part, name in names.items() if part != "model"}
        try:
            model, vae, mllm, connector = run("LoadModel", model_name=names["model"], precision="float32", **given)
            fitted, fit = run("Fit", model=model, vae=vae, source=image, **SIDES)
            (guidance,) = run("MLLMGuidance", mllm=mllm, source=fitted, instruction=instruction, fit=fit)
            positive, negative = run("Connector", connector=connector, guidance=guidance)
            model, positive, negative, latent = run(
                "Source", model=model, positive=positive, negative=negative, source=fitted, vae=vae
            )
            (out,) = run("Sampler", model=model, positive=positive, negative=negative, latent=latent, seed=1, steps=2)
            found = model.model.process_latent_in(out["samples"])
            path = paths.pop("model")
            own = Editor.from_pretrained(path, device="cpu", dtype=torch.float32, **paths)
            distance = difference(found, own.edit(image, instruction, seed=1, steps=2, **SIDES).latents)
            if distance > LIMITS.get(form.partition(",")[0].split()[0], TOLERANCE):
                wrong[form] = distance
        except Exception as error:  # every form is tried, and all that fail are named
            if NEW or "update ComfyUI" not in str(error):  # an older one is told so
                wrong[form] = f"{type(error).__name__}: {error}"
    assert not wrong, wrong
