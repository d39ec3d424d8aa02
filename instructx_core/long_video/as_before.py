"""Continue kept windows with the dtype and the VAE tiles that they were made with.

Both change pixels, and both follow from the memory that is free while a model loads: the same command, run again after
a crash, may load it otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ..errors import InputError
from .editor_model import EditorModel
from .store import FORMAT, WindowStore


@contextmanager
def as_before(model: EditorModel, store: WindowStore, identity: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Tile the VAE within this block if kept windows of the same edit were made so, and yield the edit's identity.

    Args:
        identity: everything that the edited pixels depend on, as the model is now.

    Raises:
        InputError: they were made in another dtype, or with a whole VAE and this one is tiled. Windows that differ in
            anything else are left to `WindowStore.open`, which discards them.
    """
    known, kept, count = {"format": FORMAT, **identity}, store.manifest() or {}, store.count()
    vae = model.model.codec.vae
    changed = {name for name in known.keys() | kept.keys() if kept.get(name) != known.get(name)}
    said = f"{store.folder} holds {count} finished {'window' if count == 1 else 'windows'} made"
    matters = count and "dtype" in kept  # an older version did not note either
    if matters and "dtype" in changed <= {"dtype", "model", "vae"}:
        raise InputError(
            f"{said} in {kept['dtype']}, and the model is loaded in {known['dtype']}; load it in {kept['dtype']} "
            f"(--dtype {kept['dtype']}) to continue, or delete the folder."
        )
    if matters and changed == {"vae"} and vae.use_tiling:
        raise InputError(
            f"{said} with a whole VAE, for which too little memory is free now; free some to continue, or delete the "
            "folder."
        )
    if not matters or changed != {"vae"}:
        yield dict(identity)
        return
    vae.enable_tiling()
    try:
        yield {**identity, "vae": "tiled"}
    finally:
        vae.disable_tiling()
