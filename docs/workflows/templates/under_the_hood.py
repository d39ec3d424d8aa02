"""All nodes of the box, laid out one by one."""

from dataclasses import replace

from ..description import Column, Template, Text
from ..parts import node, stations
from ..showing import SENTENCES, TINY, example, look, note, saved

TITLE = Text("Under the hood", "盒子里的全部节点")
NATIVE = Text(
    "The MODEL is a native Wan model: LoRA loaders, ModelSamplingSD3, caches and any sampler work on it. Here"
    " *ComfyUI's own sampler* (*KSampler*) samples, with Tiny's two steps; *InstructX Sampler* knows each model's own"
    " steps, cfg and shift.",
    "这里的 MODEL 是 ComfyUI 原生的 Wan 模型：LoRA、ModelSamplingSD3、缓存和任何采样器都能用。这里用"
    " *ComfyUI's own sampler*（*KSampler*），Tiny 只用 2 步；*InstructX Sampler* 会自动用每个模型自己的步数、cfg 和"
    " shift。",
)
SOURCE = "removed"
WIDE, LAST = 205, 270  # Nodes 2.0 draws nodes at least 225 pixels wide, which the gap between columns leaves room for


def under_the_hood() -> Template:
    columns, links = stations()
    nodes = {key: one for column in columns for key, one in column.nodes.items()}
    nodes["guidance"] = node("InstructXMLLMGuidance", "3. The MLLM reads", 190, instruction=SENTENCES[SOURCE])
    own = {"seed": 0, "steps": 2, "cfg": 1.0, "sampler_name": "euler", "scheduler": "simple"}
    return Template(
        TITLE,
        note(TITLE, NATIVE, TINY),
        (
            Column({"input": example(SOURCE), "load": nodes["load"]}, width=WIDE),
            Column({"fit": nodes["fit"]}, width=WIDE),
            Column({"guidance": nodes["guidance"], "connector": nodes["connector"]}, width=WIDE),
            Column({"source": nodes["source"]}, width=WIDE),
            Column({"sampler": node("KSampler", "ComfyUI's own sampler", **own)}, width=WIDE),
            Column({"decode": nodes["decode"], "before": replace(look("Before"), width=LAST)}, width=WIDE),
            Column({"restore": nodes["restore"]}, width=WIDE),
            Column({"after": saved("under-the-hood")}, width=LAST, beside="before"),
        ),
        links
        | {
            "input.IMAGE": ["fit.source", "before.images"],
            "source.LATENT": ["sampler.latent_image"],
            "restore.IMAGE": ["after.images"],
        },
    )
