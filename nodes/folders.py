"""Where models lie: the registered folder `models/instructx`, and the bundled model."""

from __future__ import annotations

from pathlib import Path

import folder_paths

from ..instructx_core.errors import CheckpointError

KIND = "instructx"
BUNDLED_NAME = "InstructX Tiny (bundled)"
ADAPTER = "instructx.safetensors"  # what makes a folder a model; the same as in instructx_core.checkpoints.bundle
KIWI = "mllm_encoder/config.json"  # what a folder has that is laid out as Kiwi-Edit is published
PARTS = ("mllm", "transformer", "vae", "mllm_encoder", "source_embedder", "ref_embedder")  # components with a config
BUNDLED = Path(__file__).parent.parent / "instructx_core" / "bundled" / "instructx-tiny"


def register_folder() -> None:
    """Make `models/instructx` known to ComfyUI; extra_model_paths.yaml can add more under the same name."""
    folder_paths.add_model_folder_path(KIND, str(Path(folder_paths.models_dir) / KIND))


def roots() -> list[Path]:
    """The registered folders, whether they exist or not."""
    return (
        [Path(root) for root in folder_paths.get_folder_paths(KIND)]
        if KIND in folder_paths.folder_names_and_paths
        else []
    )


def model_names() -> list[str]:
    """What a model menu offers: the bundled model, then every folder with a checkpoint in it."""
    return [BUNDLED_NAME, *_folders_with(ADAPTER), *_folders_with(KIWI)]


def base_names() -> list[str]:
    """What an MLLM menu offers: models with an MLLM of their own, and folders of a bare Qwen2.5-VL."""
    bare = [name for name in _folders_with("config.json") if Path(name).name not in PARTS]
    return list(dict.fromkeys([*model_names(), *bare]))


def find_model(name: str) -> Path:
    """The folder behind a menu entry.

    Raises:
        CheckpointError: it is not there (any more); the message says where to put it.
    """
    if name == BUNDLED_NAME:
        return BUNDLED
    for root in roots():
        if (root / name).is_dir():
            return root / name
    places = " or ".join(str(root) for root in roots()) or "models/instructx"
    raise CheckpointError(
        f"There is no model {name!r}; put its folder (instructx.safetensors, mllm, transformer, vae; or Kiwi-Edit's as"
        f" published) into {places}, then press R to refresh the menus."
    )


def _folders_with(file: str) -> list[str]:
    """Folders, up to two levels below a root, that hold `file`, a name or a path below them."""
    found = []
    for root in roots():
        for pattern in (f"*/{file}", f"*/*/{file}"):
            folders = [path.parents[file.count("/")] for path in sorted(root.glob(pattern))]
            found += [folder.relative_to(root).as_posix() for folder in folders]
    return list(dict.fromkeys(found))
