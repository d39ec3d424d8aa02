"""The file by which a folder on disk or on the hub is known as a model, free of torch for menus and downloads."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ..bounded import is_dir

ADAPTER = "instructx.safetensors"  # of this repo's layout: what InstructX adds to its base models
PUBLISHED = "mllm_encoder/config.json"  # of the layout in which Kiwi-Edit is published
CONFIG = "config.json"  # of a whole model's folder in diffusers' parts, where the model has a name of its own
WHOLE = (CONFIG, "transformer/config.json")  # such a folder has both
# weights in a folder, not what macOS puts beside them on the disks of other systems ("._NAME")
SAFETENSORS = "[!.]*.safetensors"
MARKS = (ADAPTER, PUBLISHED)  # the first that a folder has is fetched last, so half a download is not taken for a model


def mark_of(names: Iterable[str]) -> str | None:
    """Of a folder's files ("file" or "folder/file"), the one by which it is a model; None where it is none.

    A folder whose only weights are one file is what was trained alone, as its authors publish it.
    """
    there = set(names)
    if found := next((name for name in MARKS if name in there), None):
        return found
    if there.issuperset(WHOLE):
        return CONFIG
    weights = [name for name in there if name.endswith(".safetensors")]
    return weights[0] if len(weights) == 1 and "/" not in weights[0] and CONFIG not in there else None


def lone_file(folder: Path) -> Path | None:
    """The file of weights of a folder that holds nothing else of a model; None for any other."""
    if not is_dir(folder):
        return None
    paths = (path for pattern in ("[!.]*", "[!.]*/[!.]*") for path in folder.glob(pattern))
    found = mark_of(path.relative_to(folder).as_posix() for path in paths)
    return folder / found if found and found.endswith(".safetensors") and found not in MARKS else None
