"""The file that marks a folder, on disk or on the hub, as a model. Free of torch, for menus and downloads."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ..bounded import is_dir

ADAPTER = "instructx.safetensors"  # of this repo's layout: what InstructX adds to its base models
PUBLISHED = "mllm_encoder/config.json"  # of the layout in which Kiwi-Edit is published
CONFIG = "config.json"  # of a whole model in diffusers' parts that has a config of its own
WHOLE = (CONFIG, "transformer/config.json")  # such a folder has both
# weights in a folder, without the "._NAME" files that macOS adds on disks of other systems
SAFETENSORS = "[!.]*.safetensors"
MARKS = (ADAPTER, PUBLISHED)  # the first that a folder has is fetched last, so half a download is not taken for a model


def mark_of(names: Iterable[str]) -> str | None:
    """The one of a folder's files ("file" or "folder/file") that marks it as a model; None if it is not a model.

    A folder whose only weights are one file holds only what was trained, as its authors publish it.
    """
    there = set(names)
    if found := next((name for name in MARKS if name in there), None):
        return found
    if there.issuperset(WHOLE):
        return CONFIG
    weights = [name for name in there if name.endswith(".safetensors")]
    return weights[0] if len(weights) == 1 and "/" not in weights[0] and CONFIG not in there else None


def lone_file(folder: Path) -> Path | None:
    """The weight file of a folder that holds nothing else of a model; None for any other folder."""
    if not is_dir(folder):
        return None
    paths = (path for pattern in ("[!.]*", "[!.]*/[!.]*") for path in folder.glob(pattern))
    found = mark_of(path.relative_to(folder).as_posix() for path in paths)
    return folder / found if found and found.endswith(".safetensors") and found not in MARKS else None
