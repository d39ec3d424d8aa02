"""The demo: edits of a bundled picture, clip and photograph, saved as source and edit side by side.

The first two were drawn by docs/make_demo_assets.py, not by the procedural world that the bundled model was trained on.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from .editor import Editor
    from .sampling import StepCallback

ASSETS = Path(__file__).parent / "assets"
GAP = 8  # white columns between source and edit


@dataclass(frozen=True)
class DemoEdit:
    """A bundled file and its instruction."""

    source: Path
    instruction: str


DEMO_EDITS = (
    DemoEdit(ASSETS / "demo.png", "make the red circle blue"),
    DemoEdit(ASSETS / "demo.mp4", "change the background to teal"),
    DemoEdit(ASSETS / "cat.jpg", "make it sepia"),
)


def side_by_side(source: Tensor, edit: Tensor) -> Tensor:
    """Source and edit [T, H, W, 3] -> [T, H, 2 W + 8, 3], the source on the left."""
    import torch

    gap = torch.ones_like(source[:, :, :GAP])
    return torch.cat([source, gap, edit], dim=2)


def run_demo_edit(editor: Editor, demo: DemoEdit, directory: Path, callback: StepCallback | None = None) -> Path:
    """Edit one bundled file and write `<name>_edit.<suffix>` into an existing folder.

    Args:
        callback: as in `Editor.edit`.

    Returns:
        The file: source and edit side by side, in the bundled file's format.

    Raises:
        InputError: the file cannot be written.
        EditInterrupted: the callback returned False.
    """
    from .request import EditRequest
    from .source import load_source, save_result

    source = load_source(demo.source)
    result = editor.edit_loaded(source, EditRequest(demo.instruction), callback=callback)
    output = directory / f"{demo.source.stem}_edit{demo.source.suffix}"
    save_result(side_by_side(source.frames, result.frames), output, like=source)
    return output
