"""Edit in three steps: own loaders, FastWan's noise levels, and ComfyUI's lcm, which adds fresh noise at each level."""

from ..description import Blueprint, Column
from ..parts import OWN_LOADERS, STATION, node, stations

COLUMNS, LINKS = stations()
NODES = {key: one for column in COLUMNS for key, one in column.nodes.items()}
NODES["levels"] = node("ManualSigmas", "FastWan's levels", sigmas="1.0, 0.757, 0.522, 0.0")
NODES["anew"] = node("KSamplerSelect", "Noise anew", sampler_name="lcm")
NODES["sampler"] = node("SamplerCustom", "Sample", add_noise=True, noise_seed=0, cfg=1.0)
TOGETHER = (("fit",), ("guidance",), ("connector",), ("source", "levels", "anew"), ("sampler",), ("decode",))
TOGETHER += (("restore",),)

THREE_STEPS = Blueprint(
    name="Edit in three steps",
    description="Edit with a MODEL of few steps whose noise levels are known, such as one with FastWan's LoRA.",
    aliases=("few steps", "fastwan", "lcm", "instructx"),
    category="Video generation and editing/Edit video",
    columns=tuple(Column({key: NODES[key] for key in keys}, width=STATION) for keys in TOGETHER),
    links={start: ends for start, ends in LINKS.items() if not start.startswith(("load.", "source.LATENT", "sampler."))}
    | {
        "levels.SIGMAS": ["sampler.sigmas"],
        "anew.SAMPLER": ["sampler.sampler"],
        "source.LATENT": ["sampler.latent_image"],
        "sampler.denoised_output": ["decode.samples"],
    },
    inputs=OWN_LOADERS
    | {
        "instruction": ("guidance.instruction",),
        "sigmas": ("levels.sigmas",),
        "seed": ("sampler.noise_seed",),
    },
    outputs={"IMAGE": "restore.IMAGE", "VIDEO": "restore.VIDEO"},
)
