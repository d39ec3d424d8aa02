"""A public name means one thing: no two differ by a capital or an underscore, and none stands in two modules."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

CORE = Path(__file__).resolve().parent.parent.parent / "instructx_core"
# rooms whose files are alike on purpose, each with the same functions: a family, a layout, a language, a recipe
ALIKE = ("families/", "training/data/layouts/", "world/", "synthesis/recipes/")
# the loader of a part, by its module; a value and the function that reads it from headers
KNOWN = ["DitSizes / dit_sizes", "read_json", "read_tensors", "to_diffusers"]


def test_no_two_public_names_are_alike():
    where: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for path in CORE.rglob("*.py"):
        place = path.relative_to(CORE).as_posix()
        if place.startswith(ALIKE):
            continue
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                where[node.name.lower().replace("_", "")][node.name].add(place)
    alike = {
        " / ".join(sorted(names)): sorted(set().union(*names.values()))
        for names in where.values()
        if len(names) > 1 or any(len(places) > 1 for places in names.values())
    }
    assert not {pair: places for pair, places in alike.items() if pair not in KNOWN}
