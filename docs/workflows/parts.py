"""Parts of the boxes: the nodes between a source and its edit."""

from __future__ import annotations

from typing import Any

from .description import Column, Links, Node

STATION = 260  # the width of a column
RESTORE = 240  # the height of InstructX Restore, in the canvas that draws it taller


def node(kind: str, title: str = "", height: int = 0, **settings: Any) -> Node:
    return Node(kind, title, settings, height)


def stations(reference: bool = False, mask: bool = False) -> tuple[tuple[Column, ...], Links]:
    """Columns and links of the nodes from the model's loader to the restored edit."""
    nodes = {
        "load": node("InstructXLoadModel", "1. The model"),
        "fit": node("InstructXFit", "2. To its size"),
        "guidance": node("InstructXMLLMGuidance", "3. The MLLM reads"),
        "connector": node("InstructXConnector", "4. To CONDITIONING"),
        "source": node("InstructXSource", "5. What is edited"),
        "reference": node("InstructXReference", "6. Whose subject"),
        "sampler": node("InstructXSampler", "Sample", seed=0),
        "decode": node("VAEDecode", height=RESTORE),
        "restore": node("InstructXRestore", "To the source's size"),
    }
    if not reference:
        del nodes["reference"]
    columns = tuple(Column({key: one}, width=STATION) for key, one in nodes.items())
    last = "reference" if reference else "source"
    links: Links = {
        "load.MODEL": ["fit.model", "source.model"],
        "load.VAE": ["fit.vae", "source.vae", "decode.vae"],
        "load.MLLM": ["guidance.mllm"],
        "load.CONNECTOR": ["connector.connector"],
        "fit.IMAGE": ["guidance.source", "source.source"],
        "fit.FIT": ["guidance.fit", "restore.fit"],
        "guidance.GUIDANCE": ["connector.guidance"],
        "connector.positive": ["source.positive"],
        "connector.negative": ["source.negative"],
        "source.LATENT": ["sampler.latent"],
        "sampler.LATENT": ["decode.samples"],
        "decode.IMAGE": ["restore.image"],
    }
    if mask:
        links["fit.FIT"].append("source.fit")
    if reference:
        links["load.VAE"].append("reference.vae")
        for name in ("MODEL", "positive", "negative"):
            links[f"source.{name}"] = [f"reference.{name.lower()}"]
    for name in ("MODEL", "positive", "negative"):
        links[f"{last}.{name}"] = [f"sampler.{name.lower()}"]
    return columns, links


# Inputs of the boxes.
OWN_LOADERS = {  # for a box whose model parts come from other nodes
    "source": ("fit.source",),
    "model": ("fit.model", "source.model"),
    "vae": ("fit.vae", "source.vae", "decode.vae"),
    "mllm": ("guidance.mllm",),
    "connector": ("connector.connector",),
}
WIDGETS = {
    "instruction": ("guidance.instruction",),
    "model_name": ("load.model_name",),
    "seed": ("sampler.seed",),
    "steps": ("sampler.steps",),
    "edit_strength": ("sampler.edit_strength",),
}
