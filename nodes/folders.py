"""Where models lie: the bundled one, the registered folder `models/instructx`, and ComfyUI's own folders."""

from __future__ import annotations

import json
from pathlib import Path

import folder_paths

from ..instructx_core.errors import CheckpointError

KIND = "instructx"
STOCK_MODELS = "diffusers"  # where ComfyUI users keep folders of whole models
STOCK_MLLMS = "text_encoders"
BUNDLED_NAME = "InstructX Tiny (bundled)"
BUNDLED = Path(__file__).parent.parent / "instructx_core" / "bundled" / "instructx-tiny"
ADAPTER = "instructx.safetensors"  # what makes a folder a model; the same as in instructx_core.checkpoints.bundle
KIWI = "mllm_encoder/config.json"  # what a folder has that is laid out as Kiwi-Edit is published
PARTS = ("mllm", "transformer", "vae", "mllm_encoder", "source_embedder", "ref_embedder")  # components with a config
HUB = "https://huggingface.co/linyq"  # of Kiwi-Edit's authors


def register_folder() -> None:
    """Make `models/instructx` known to ComfyUI; extra_model_paths.yaml can add more under the same name."""
    folder_paths.add_model_folder_path(KIND, str(Path(folder_paths.models_dir) / KIND))


def roots(kind: str = KIND) -> list[Path]:
    """The registered folders of a kind, whether they exist or not."""
    known = kind in folder_paths.folder_names_and_paths
    return [Path(root) for root in folder_paths.get_folder_paths(kind)] if known else []


def model_names() -> list[str]:
    """What a model menu offers: the bundled model, then every folder with a checkpoint in it."""
    own = [*_folders_with(ADAPTER), *_folders_with(KIWI)]
    stock = [*_folders_with(ADAPTER, STOCK_MODELS), *_folders_with(KIWI, STOCK_MODELS)]
    return [BUNDLED_NAME, *dict.fromkeys(own), *dict.fromkeys(f"{STOCK_MODELS}/{name}" for name in stock)]


def adapter_names() -> list[str]:
    """What an adapter menu offers: models, and single files in `models/instructx` with what a checkpoint adds."""
    files = [path for root in roots() for path in sorted(root.glob("*.safetensors")) if _is_adapter(path)]
    return [*model_names(), *dict.fromkeys(path.name for path in files)]


def base_names() -> list[str]:
    """What an MLLM menu offers: models with an MLLM of their own, and folders of a bare Qwen2.5-VL."""
    own = [name for name in _folders_with("config.json") if Path(name).name not in PARTS]
    stock = [name for name in _folders_with("config.json", STOCK_MLLMS) if _is_qwen(STOCK_MLLMS, name)]
    return list(dict.fromkeys([*model_names(), *own, *(f"{STOCK_MLLMS}/{name}" for name in stock)]))


def find_model(name: str) -> Path:
    """The folder behind a menu entry.

    Raises:
        CheckpointError: it is not there (any more); the message says where to get it and where to put it.
    """
    if name == BUNDLED_NAME:
        return BUNDLED
    kind, _, rest = name.partition("/")
    places = [root / name for root in roots()]
    if kind in (STOCK_MODELS, STOCK_MLLMS):
        places += [root / rest for root in roots(kind)]
    for place in places:
        if place.is_dir():
            return place
    where = " or ".join(str(root) for root in roots()) or "models/instructx"
    raise CheckpointError(
        f"There is no model {name!r}; put its folder (instructx.safetensors, mllm, transformer, vae; or one of"
        f" Kiwi-Edit's, as published on {HUB}) into {where}, then press R to refresh the menus."
    )


def find_adapter(name: str) -> Path:
    """The folder or the file behind an adapter menu's entry.

    Raises:
        CheckpointError: as `find_model`.
    """
    for root in roots():
        if name.endswith(".safetensors") and (root / name).is_file():
            return root / name
    return find_model(name)


def stamp(place: Path) -> str:
    """What tells a model on the disk from another that took its place: its files' names, sizes and times."""
    files = [place] if place.is_file() else sorted(path for path in place.rglob("*") if path.is_file())
    facts = [(path.relative_to(place.parent).as_posix(), path.stat()) for path in files]
    return json.dumps([(name, fact.st_size, fact.st_mtime_ns) for name, fact in facts])


def _folders_with(file: str, kind: str = KIND) -> list[str]:
    """Folders, up to two levels below a root, that hold `file`, a name or a path below them."""
    found = []
    for root in roots(kind):
        for pattern in (f"*/{file}", f"*/*/{file}"):
            folders = [path.parents[file.count("/")] for path in sorted(root.glob(pattern))]
            found += [folder.relative_to(root).as_posix() for folder in folders]
    return list(dict.fromkeys(found))


def _is_adapter(path: Path) -> bool:
    """Whether a file says that it is what a checkpoint adds; one that is damaged or of another kind is not."""
    from ..instructx_core.checkpoints.bundle import FORMAT
    from ..instructx_core.checkpoints.files import read_metadata

    try:
        return FORMAT in read_metadata(path)
    except CheckpointError:
        return False


def _is_qwen(kind: str, name: str) -> bool:
    """Whether a folder's config is a Qwen2.5-VL's: text encoders of many kinds share that place."""
    for root in roots(kind):
        config = root / name / "config.json"
        if config.is_file():
            return '"qwen2_5_vl"' in config.read_text(encoding="utf-8", errors="replace")
    return False
