"""The house's floors: imports inside instructx_core point down, never in a circle, and only a family knows its brand.

Read from the source, so an import counts wherever it stands: in a function, or under TYPE_CHECKING.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from support.places import ROOT, TESTS

PACKAGE = "instructx_core"
CORE = ROOT / PACKAGE
# Lowest first. A room is a file or folder right under instructx_core, or deeper where it stands on a floor of its own;
# it may import rooms of lower floors. One that is not here yet may import any, as long as no circle comes of it.
FLOORS: list[set[str]] = [
    {"version", "words"},
    {"errors", "prediction"},
    {"bounded", "compat", "device", "instruction", "main_memory", "names", "out_of_memory"}
    | {"results", "validation", "windows"},
    {"hidden", "still_kinds"},
    {"atomic"},
    {"paths", "run_lock"},
    {"conditions", "config", "context", "images"},
    {"connectors", "cross_attention", "detail", "diffusion", "fit", "latents", "mask_head"}
    | {"photographs", "projection", "schedules", "video"},
    {"backbone", "image_latents", "speed", "world"},
    {"compositing", "denoiser", "guidance", "preview", "source", "unet_denoiser"},
    {"local_edits", "weights"},
    {"families", "sampling"},
    {"guidance_modes"},
    {"convert", "edit_model", "loaded_model", "memory", "request", "weights_info", "world_folder"},
    {"model_info", "requested_edit"},
    {"editor"},
    {"demo", "long_video"},
    {"calibration", "evaluation", "training"},
    {"synthesis"},
    {"cli"},
    {"", "__main__"},  # the package itself, whose names are the public ones
]
HOST = {"comfy", "comfy_api", "comfy_extras", "comfy_execution", "execution", "folder_paths", "nodes", "server"}
BRAND = re.compile("kiwi|coinve|bernini|lingxi|smartedit", re.IGNORECASE)
BRANDED = ("families/", "training/data/", "evaluation/benches/")  # folders whose subject brands are


def modules() -> dict[str, Path]:
    """Every module by its dotted name, the package itself as "instructx_core"."""
    found = {}
    for path in sorted(CORE.rglob("*.py")):
        parts = path.relative_to(CORE.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported_at_once(path: Path) -> set[str]:
    """Packages that importing a file imports: not those of functions, nor those under TYPE_CHECKING."""
    names: set[str] = set()
    for node in tree(path).body:
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(node.module.split(".")[0])
    return names


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imported(name: str, path: Path) -> Iterator[str]:
    """Full dotted names that a module imports, of modules or of what is in them."""
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def arrows() -> dict[str, set[str]]:
    """Module -> the modules of this package that it imports."""
    known, found = modules(), defaultdict(set)
    for name, path in known.items():
        for target in imported(name, path):
            if target.split(".")[0] == PACKAGE:
                found[name].add(target if target in known else target.rpartition(".")[0])
    return found


def room(module: str) -> str:
    """The room that a module is in."""
    inside = module.removeprefix(PACKAGE).removeprefix(".")
    deep = [name for floor in FLOORS for name in floor if "." in name and f"{inside}.".startswith(f"{name}.")]
    return deep[0] if deep else inside.split(".")[0]


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Groups of more than one node that reach each other."""
    reach: dict[str, set[str]] = {}
    for start in graph:
        seen, ahead = set(), list(graph[start])
        while ahead:
            node = ahead.pop()
            if node not in seen:
                seen.add(node)
                ahead += graph.get(node, ())
        reach[start] = seen
    groups = {frozenset(b for b in reach[a] if a in reach.get(b, ())) for a in graph if a in reach[a]}
    return sorted(sorted(group) for group in groups if len(group) > 1)


def identifiers(path: Path) -> set[str]:
    """Every name in a file's code, and of the file; strings are free."""
    names = {part.removesuffix(".py") for part in path.relative_to(CORE).parts}
    for node in ast.walk(tree(path)):
        for field in ("name", "id", "attr", "arg", "asname", "module"):
            value = getattr(node, field, None)
            if isinstance(value, str):
                names.add(value)
    return names


def test_no_file_imports_in_a_circle():
    assert not circles(arrows())


def test_no_room_imports_in_a_circle():
    graph = defaultdict(set)
    for name, targets in arrows().items():
        graph[room(name)] |= {room(target) for target in targets} - {room(name)}
    assert not circles(graph)


def test_imports_point_down():
    height = {name: number for number, floor in enumerate(FLOORS) for name in floor}
    up = {
        f"{name} (floor {height[room(name)]}) imports {target} (floor {height[room(target)]})"
        for name, targets in arrows().items()
        for target in targets
        if room(name) != room(target)
        and {room(name), room(target)} <= height.keys()
        and height[room(name)] <= height[room(target)]
    }
    assert not up, "\n".join(sorted(up))


def test_every_room_on_a_floor_exists():
    there = {room(name) for name in modules()}
    gone = sorted({name for floor in FLOORS for name in floor} - there)
    assert not gone, f"FLOORS names rooms that are gone: {gone}"


def test_the_library_never_imports_comfyui():
    found = {
        f"{name} imports {target}"
        for name, path in modules().items()
        for target in imported(name, path)
        if target.split(".")[0] in HOST
    }
    assert not found


def test_brands_stay_in_their_families():
    """Identifiers and file names; what is shown to people may name any brand."""
    found = {}
    for path in sorted(CORE.rglob("*.py")):
        place = path.relative_to(CORE).as_posix()
        names = sorted(name for name in identifiers(path) if BRAND.search(name))
        if names and not place.startswith(BRANDED):
            found[place] = names
    assert not found, f"These names of a brand belong in families/: {found}"


def test_no_test_imports_another():
    """What tests share is in tests/support, which imports none of them."""
    files = sorted(TESTS.rglob("*.py"))
    tests = {path.stem for path in files if path.stem.startswith("test_")}
    assert len(tests) > 100
    found = {
        f"{path.relative_to(TESTS)} imports {target}"
        for path in files
        for target in imported(path.stem, path)
        if tests & set(target.split("."))
    }
    assert not found


def test_collecting_imports_no_heavy_library():
    """It took 3 s of 8: a test or a helper imports these where it needs them."""
    heavy = {"accelerate", "bitsandbytes", "datasets", "diffusers", "gguf", "peft", "tensorboard", "transformers"}
    found = {path.name: names for path in TESTS.rglob("*.py") if (names := heavy & imported_at_once(path))}
    assert not found
