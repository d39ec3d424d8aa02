"""Model locations: the bundled models, the registered folder `models/instructx`, and ComfyUI's own folders."""

from __future__ import annotations

import json
import os
from itertools import islice
from pathlib import Path

import folder_paths

from ..instructx_core.bounded import is_file, read_text
from ..instructx_core.errors import CheckpointError, InputError
from ..instructx_core.names import is_plain
from ..instructx_core.weights.known_models import KNOWN, KnownModel, find_known, folder_name
from ..instructx_core.weights.marks import CONFIG, MARKS, WHOLE, lone_file
from ..instructx_core.words import shown

KIND = "instructx"
STOCK_MODELS = "diffusers"  # ComfyUI's folder for complete model folders
STOCK = {"transformer": "diffusion_models", "vae": "vae", "mllm": "text_encoders"}  # ComfyUI's folders by part
VISION = ("qwen2_5_vl", "qwen3_vl", "llava")  # `model_type` of MLLMs in their config.json
READERS = (*VISION, "umt5")  # of all that read instructions
PARTS = {"transformer": "A Wan DiT", "vae": "A Wan VAE", "mllm": "A Qwen2.5-VL (for CoinVE-Edit a Qwen3-VL)"}
OWN = "the model's own"
BUNDLED_NAME = "InstructX Tiny (bundled)"
PACK = Path(__file__).resolve().parent.parent
BUNDLED = PACK / "instructx_core" / "bundled" / "instructx-tiny"
INSIGHTEDIT_NAME = "InsightEdit Tiny (bundled)"
INSIGHTEDIT = BUNDLED.with_name("insightedit-tiny")
COMPONENTS = (
    "mllm",
    "transformer",
    "vae",
    "mllm_encoder",
    "source_embedder",
    "ref_embedder",
)  # components with a config
MOST_FILES = 1000  # in one model folder
HUB = "https://huggingface.co/linyq"  # Kiwi-Edit's authors


def register_folder() -> None:
    """Register `models/instructx` with ComfyUI; extra_model_paths.yaml can add more folders under the same name."""
    folder_paths.add_model_folder_path(KIND, str(Path(folder_paths.models_dir) / KIND))


def roots(kind: str = KIND) -> list[Path]:
    """The registered folders of a kind, including those that do not exist."""
    known = kind in folder_paths.folder_names_and_paths
    return [Path(root) for root in folder_paths.get_folder_paths(kind)] if known else []


def models() -> dict[str, Path]:
    """Entries of the model menu with their paths: bundled models, model folders, files with only trained weights."""
    files = [path for root in reversed(roots()) for path in root.glob("*.safetensors") if is_plain(path.name)]
    found = {path.name: path for path in files if is_file(path) and _is_model(path)}
    folders = {BUNDLED_NAME: BUNDLED, INSIGHTEDIT_NAME: INSIGHTEDIT} | _model_folders()
    stock = _model_folders(STOCK_MODELS)
    return found | {f"{STOCK_MODELS}/{name}": folder for name, folder in stock.items()} | folders


def parts(part: str) -> dict[str, Path]:
    """Entries of the menu of a single part: weight files in ComfyUI's folder for it, and for MLLMs also folders."""
    kind = STOCK[part]
    names = [name for name in _stock_names(kind) if name.endswith(".safetensors") and is_plain(Path(name).as_posix())]
    places = {name: folder_paths.get_full_path(kind, name) for name in names}
    found = {f"{kind}/{Path(name).as_posix()}": Path(place) for name, place in places.items() if place}
    if part == "mllm":
        folders = _folders_with("config.json", kind).items()
        found |= {f"{kind}/{name}": folder for name, folder in folders if _mentions(folder, VISION)}
    return found


def bases() -> dict[str, Path]:
    """Entries of the MLLM menu: models with their own MLLM, folders of an MLLM or a umT5, and single files."""
    own = {
        name: folder
        for name, folder in _folders_with("config.json").items()
        if folder.name not in COMPONENTS and _mentions(folder, READERS)
    }
    whole = {name: place for name, place in models().items() if place.is_dir() and lone_file(place) is None}
    return parts("mllm") | own | whole


def model_names() -> list[str]:
    """The installed models, then known public models that are not installed, with their download commands."""
    return [*_menu(models()), *not_here()]


def not_here() -> dict[str, KnownModel]:
    """Menu entries for known public models that are not installed; choosing one is an error that says how to get it."""
    here = {Path(name).name for name in models()}
    lacking = [model for model in KNOWN if not here & {model.name, folder_name(model.repository)}]
    return {
        f"{model.name} ({model.size}, licence {model.licence}), not here yet: instructx download {model.name}": model
        for model in lacking
    }


def base_names() -> list[str]:
    return _menu(bases())


def part_names(part: str) -> list[str]:
    return [OWN, *_menu(parts(part))]


def find_model(name: str) -> Path:
    """The folder or file of a model menu entry.

    Names that are not in the menu are never looked up on disk: workflows are untrusted and must not probe this
    machine's folders.

    Raises:
        CheckpointError: not in the menu (any more); the message says where to get the model and where to put it.
    """
    return _find(name, models())


def find_part(part: str, name: object) -> Path:
    """The file or folder of an entry in the menu of a single part.

    Raises:
        CheckpointError: not in the menu (any more).
    """
    found = parts(part)
    if not isinstance(name, str) or name not in found:
        raise CheckpointError(
            f"The menu {part} has no {shown(name)}; put the file into models/{STOCK[part]}, then press R to refresh"
            " the menus."
        )
    return found[name]


def find_base(name: str) -> Path:
    """The folder or file of an MLLM menu entry.

    Raises:
        CheckpointError: as for `find_model`.
    """
    return _find(name, bases())


def stamp(place: Path) -> str:
    """A fingerprint that changes when a model on disk is replaced: its files' names, sizes and modification times.

    Covers the model's folder and its direct subfolders. A linked folder is not entered; only its own modification time
    is included.

    Raises:
        CheckpointError: more than `MOST_FILES` files in a folder.
    """
    if place.is_file():
        return json.dumps([_facts(place, place.parent)])
    entries = _entries(place)
    folders = [path for path in entries if path.is_dir() and not path.is_symlink()]
    entries += [inner for folder in folders for inner in _entries(folder)]
    return json.dumps([_facts(path, place) for path in sorted(set(entries) - set(folders))])


def _find(name: object, known: dict[str, Path]) -> Path:
    if isinstance(name, str) and name in known:
        return known[name]
    root = str(roots()[0]) if roots() else "models/instructx"
    offered = not_here().get(name) if isinstance(name, str) else None
    if offered is not None:
        raise CheckpointError(
            f"{offered.name} is not here yet; download it with ComfyUI's Python in {PACK}: `python -m instructx_core"
            f' download {offered.name} --to "{root}"`. Then press R to refresh the menus.'
        )
    where = " or ".join(map(str, roots())) or root
    model = find_known(name) if isinstance(name, str) else None
    fetch = f'python -m instructx_core download {"NAME" if model is None else model.name} --to "{root}"'
    raise CheckpointError(
        f"There is no model {shown(name)} in the menu. Put its folder (instructx.safetensors, mllm, transformer, vae;"
        f" or a Kiwi-Edit folder as published on {HUB}) into {where}, or download Kiwi-Edit with ComfyUI's Python in"
        f" {PACK}: `{fetch}`. Then press R to refresh the menus."
    )


def _menu(places: dict[str, Path]) -> list[str]:
    """Names in menu order: the bundled model, the user's own, those from ComfyUI's folders."""
    stock = tuple(f"{kind}/" for kind in (STOCK_MODELS, *STOCK.values()))
    return sorted(places, key=lambda name: (name != BUNDLED_NAME, name.startswith(stock), name))


def _stock_names(kind: str) -> list[str]:
    """The file names that ComfyUI lists for one of its own kinds."""
    try:
        return folder_paths.get_filename_list(kind) if kind in folder_paths.folder_names_and_paths else []
    except OSError:  # a registered folder has disappeared, e.g. on an unplugged drive; list the remaining ones
        return [name for root in roots(kind) for name in folder_paths.recursive_search(str(root), [".git"])[0]]


def _model_folders(kind: str = KIND) -> dict[str, Path]:
    """Folders that contain a checkpoint; if one matches several layouts, this repo's takes precedence."""
    whole = _folders_with(CONFIG, kind)  # complete models in diffusers' layout, as some families are published
    found = {
        name: folder
        for name, folder in whole.items()
        if all(is_file(folder / file) for file in WHOLE) and _is_model(folder)
    }
    found |= _lone_files(kind)
    for mark in reversed(MARKS):
        found |= _folders_with(mark, kind)
    return found


def _lone_files(kind: str) -> dict[str, Path]:
    """Folders whose only weights are one file with just the trained part, as published on the hub."""
    found = {}
    for root in reversed(roots(kind)):
        folders = {file.parent for pattern in ("*/*.safetensors", "*/*/*.safetensors") for file in root.glob(pattern)}
        found |= {
            folder.relative_to(root).as_posix(): folder
            for folder in folders
            if lone_file(folder) is not None and _is_model(folder)
        }
    return {name: folder for name, folder in found.items() if is_plain(name)}


def _folders_with(file: str, kind: str = KIND) -> dict[str, Path]:
    """Folders up to two levels below a root that contain `file`, a name or relative path; earlier roots win."""
    found = {}
    for root in reversed(roots(kind)):
        for pattern in (f"*/{file}", f"*/*/{file}"):
            folders = [path.parents[file.count("/")] for path in root.glob(pattern)]
            found |= {folder.relative_to(root).as_posix(): folder for folder in folders}
    return {name: folder for name, folder in found.items() if is_plain(name)}


def _entries(folder: Path) -> list[Path]:
    with os.scandir(folder) as entries:
        found = [Path(entry.path) for entry in islice(entries, MOST_FILES + 1)]
    if len(found) > MOST_FILES:
        raise CheckpointError(f"{str(folder)!r} holds more than {MOST_FILES} files; give the model its own folder.")
    return found


def _facts(path: Path, folder: Path) -> tuple[str, int, int]:
    try:
        facts = path.stat()
    except OSError:  # a broken link
        facts = path.lstat()
    return path.relative_to(folder).as_posix(), facts.st_size, facts.st_mtime_ns


def _is_model(path: Path) -> bool:
    """Whether a file or folder is a model of a known family; False if it is damaged or of another kind."""
    from ..instructx_core import families

    try:
        return families.recognise(path) is not None
    except (OSError, ValueError):  # CheckpointError among them: one bad file must not empty the menus
        return False


def _mentions(folder: Path, kinds: tuple[str, ...]) -> bool:
    """Whether a folder's config.json names one of these kinds of model."""
    try:
        said = read_text(folder / "config.json")
        return any(f'"{kind}"' in said for kind in kinds)
    except InputError:
        return False
