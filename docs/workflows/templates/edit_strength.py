"""Four strengths of one edit side by side."""

from ..description import Blueprint, Box, Column, Links, Node, Template, Text
from ..parts import RESTORE, WIDGETS, node, stations
from ..showing import BOX, FIRST, OWN_PICTURE, SENTENCES, TINY, UNDER, example, look, note

TITLE = Text("Four edit strengths", "四种编辑强度")
DIAL = Text(
    "*edit_strength* weighs the sentence against the picture: 1 is the model's own, less is milder, more is bolder."
    " Any value but 1 takes twice the time.",
    "*edit_strength* 调节句子的分量：1 是模型本身的强度，越小越柔和，越大越强。不等于 1 时用时加倍。",
)
SOURCE = "triangle"
STRENGTHS = {"a": 0.5, "b": 0.75, "c": 1.0, "d": 1.5}
LOOK = 270


def edit_strength() -> Template:
    looks = {
        key: Node("SaveImage", f"Strength {value:g}", {"filename_prefix": f"InstructX/strength-{value:g}"}, 360)
        for key, value in STRENGTHS.items()
    }
    return Template(
        TITLE,
        note(TITLE, DIAL, OWN_PICTURE, TINY),
        (
            Column({"input": example(SOURCE)}, width=FIRST),
            Column({"edit": Box(_compare(), "Edit image, four times", {"instruction": SENTENCES[SOURCE]})}, width=BOX),
            Column({"before": look("Before", 360)}, width=LOOK, top=2 * UNDER),
            Column({"a": looks["a"], "c": looks["c"]}, width=LOOK, top=UNDER),
            Column({"b": looks["b"], "d": looks["d"]}, width=LOOK),
        ),
        {"input.IMAGE": ["edit.image", "before.images"]} | {f"edit.{key}": [f"{key}.images"] for key in STRENGTHS},
    )


def _compare() -> Blueprint:
    """The nodes of Edit image, with four samplers after one source."""
    columns, links = stations()
    samplers, decodes, restores = {}, {}, {}
    every: Links = {
        start: list(ends) for start, ends in links.items() if start.split(".")[0] not in ("sampler", "decode")
    }
    for key, value in STRENGTHS.items():
        samplers[f"sampler_{key}"] = node("InstructXSampler", f"Strength {value:g}", seed=9, edit_strength=value)
        decodes[f"decode_{key}"] = node("VAEDecode", height=RESTORE)
        restores[f"restore_{key}"] = node("InstructXRestore")
        every[f"sampler_{key}.LATENT"] = [f"decode_{key}.samples"]
        every[f"decode_{key}.IMAGE"] = [f"restore_{key}.image"]
    for ends in every.values():
        for old in [end for end in ends if end.split(".")[0] in ("sampler", "decode", "restore")]:
            ends.remove(old)
            part, socket = old.split(".")
            ends += [f"{part}_{key}.{socket}" for key in STRENGTHS]
    return Blueprint(
        name="Edit image at four strengths",
        description="One edit at four strengths.",
        aliases=(),
        category="InstructX",
        columns=(*columns[:5], Column(samplers), Column(decodes), Column(restores)),
        links=every,
        inputs={"image": ("fit.source",), "instruction": WIDGETS["instruction"], "model_name": WIDGETS["model_name"]}
        | {"seed": tuple(f"sampler_{key}.seed" for key in STRENGTHS)},
        outputs={key: f"restore_{key}.IMAGE" for key in STRENGTHS},
    )
