"""AdvancedEdit: JSON records with origin_img_path, target_img_path, instruction (a list of wordings), task_type,
class_origin, class_target, captions, bbox, segmentation and VIEScores.

A record is used with one of its wordings, picked by a hash of the target: short and advanced ones mix over a set.
"""

import zlib
from typing import Any

from ..rows import ListedPair, RowError
from .base import Fields, Layout, picture, words


def read(fields: Fields) -> ListedPair:
    source, target = picture(fields, "origin_img_path"), picture(fields, "target_img_path")
    given = fields.get("instruction")
    said = [words({"instruction": one}, "instruction") for one in (given if isinstance(given, list) else [given])]
    said = [one for one in said if one]
    if not said:
        raise RowError("it has no instruction")
    return ListedPair(source, target, said[zlib.crc32(str(target).encode(errors="replace")) % len(said)])


def scores(fields: Fields) -> Fields:
    """A record's fields, with its VIEScores under the names that `instructx synthesise` uses."""
    follow_preserve, quality = _numbers(fields.get("qwen_VIE_SC")), _numbers(fields.get("qwen_VIE_PQ"))
    named: dict[str, Any] = dict(zip(("follow", "preserve"), follow_preserve, strict=False))
    return {**fields, "task": fields.get("task_type"), **named, **({"quality": min(quality)} if quality else {})}


def _numbers(value: Any) -> list[float]:
    given = value if isinstance(value, list) else []
    return given if all(isinstance(one, (int, float)) for one in given) else []


ADVANCED_EDIT = Layout(
    "AdvancedEdit",
    ("origin_img_path", "target_img_path", "instruction"),
    read,
    optional=("task_type",),
    scores=scores,
)
