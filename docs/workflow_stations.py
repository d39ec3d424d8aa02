"""What most of the shipped graphs are made of: their loader, their input, and the stations between source and edit."""

from __future__ import annotations

from typing import Any

from workflow_layout import Column, Node


def node(kind: str, title: str = "", height: int = 0, **settings: Any) -> Node:
    return Node(kind, title, settings, height)


def loader() -> Node:
    return node("InstructXLoadModel", "1. The model (bundled, runs on a CPU)")


def example(group: str, seed: int, frames: int = 1) -> Node:
    return node("InstructXExampleInput", "2. Something to edit", example=group, seed=seed, frames=frames)


PREVIEWED = 490  # a sampler's height once it shows what it makes
HEAD = (
    "For your own picture replace **InstructX Example Input** by *Load Image* or *Load Video* and type an instruction."
)
TINY = (
    "The bundled **InstructX Tiny** knows a world of coloured shapes at 64 x 64 pixels: it shows that everything is "
    "wired, not what a large model can do."
)


def edit_columns(
    group: str, seed: int, frames: int = 1, references: int = 0
) -> tuple[list[Column], dict[str, list[str]]]:
    """The columns that nearly every graph begins with, up to the sampler's decoded picture."""
    inputs = Column("Model and input", {"load": loader(), "input": example(group, seed, frames)})
    reads = Column(
        "The MLLM reads",
        {
            "fit": node("InstructXFit", "3. To the model's size"),
            "guidance": node("InstructXMLLMGuidance", "4. Instruction and pixels", 200),
            "connector": node("InstructXConnector", "5. To CONDITIONING"),
        },
        "#8a8",
    )
    denoises: dict[str, Node] = {"source": node("InstructXSource", "6. What is edited")}
    links = {
        "load.MODEL": ["fit.model", "source.model"],
        "load.VAE": ["fit.vae", "source.vae", "decode.vae"],
        "load.MLLM": ["guidance.mllm"],
        "load.CONNECTOR": ["connector.connector"],
        "input.instruction": ["guidance.instruction"],
        "fit.IMAGE": ["guidance.source", "source.source"],
        "fit.FIT": ["guidance.fit", "restore.fit"],
        "guidance.GUIDANCE": ["connector.guidance"],
        "connector.positive": ["source.positive"],
        "connector.negative": ["source.negative"],
        "source.LATENT": ["sampler.latent"],
        "sampler.LATENT": ["decode.samples"],
        "decode.IMAGE": ["restore.image"],
    }
    links["input.VIDEO" if frames > 1 else "input.IMAGE"] = ["fit.source"]
    last = "source"
    if references:
        denoises["reference"] = node("InstructXReference", "7. Whose subject")
        links["input.reference"] = ["guidance.reference", "reference.reference"]
        links["load.VAE"].append("reference.vae")
        for name in ("MODEL", "positive", "negative"):
            links[f"source.{name}"] = [f"reference.{name.lower()}"]
        last = "reference"
    for name in ("MODEL", "positive", "negative"):
        links[f"{last}.{name}"] = [f"sampler.{name.lower()}"]
    denoises["sampler"] = node("InstructXSampler", "Sample, with the model's own settings", PREVIEWED, seed=0)
    samples = Column("The DiT edits", denoises, "#a1309b")
    result = Column(
        "Result",
        {
            "decode": node("VAEDecode"),
            "restore": node("InstructXRestore", "Back to the source's size"),
        },
        "#b58b2a",
    )
    return [inputs, reads, samples, result], links
