"""Model families: one sub-package per published kind of model, with its detection and everything specific to it.

`open` is the single entry point to a model's weights for the editor, the command line, training and ComfyUI. A family
is a function `recognise(path) -> Match | None`; `recognise` here tries them in order. Everything after the `Match`
(`match.py`) is the same for all families. To add one: create a sub-package with its `recognise`, list that below, and
if the family has its own prompt, add a row to `components.DIALECTS`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ..errors import CheckpointError
from ..words import quoted_path

if TYPE_CHECKING:
    from ..weights.component_files import Plan
    from .match import Match
    from .opened import Opened
    from .overrides import Overrides


def open(path: str | Path, overrides: Overrides | None = None, allow_pickle: bool = False) -> Opened:
    """Identify the model at a path from file headers; no weights are read.

    Args:
        path: the model's folder, the file with what it adds to base models, or a bundled model's name.
        overrides: weights that replace the model's own or supply those it lacks.
        allow_pickle: allow pickles among the overrides, reading only their tensors.

    Raises:
        CheckpointError: no model of any family, one that must be converted first, or a truncated or damaged file.
    """
    from .bundled import located
    from .instructx import folder as instructx
    from .opened import Opened
    from .overrides import OWN

    path = located(path)
    if only_converted(path) is not None:
        raise CheckpointError(
            f"{quoted_path(path)} is a SmartEdit in pickles; convert it first (`instructx convert --allow-pickle`)."
        )
    found = recognise(path) or instructx.match(path)  # which says what is missing
    return Opened(found, overrides or OWN, allow_pickle)


def recognise(path: str | Path) -> Match | None:
    """Return the model at a path; None if there is none, e.g. only the weights of one part.

    A folder with a single weight file and no config is treated as that file.

    Raises:
        CheckpointError: a file that is damaged or not safetensors.
    """
    from ..weights.marks import lone_file
    from .bernini import folder as bernini
    from .coinve import composite as coinve
    from .instructx import folder as instructx
    from .kiwi import folder as kiwi
    from .kiwi import trained as kiwi_trained

    place = lone_file(Path(path)) or Path(path)
    families = (kiwi.recognise, instructx.recognise, bernini.recognise, coinve.recognise, kiwi_trained.recognise)
    return next((found for family in families if (found := family(place))), None)


class Convertible(Protocol):
    """A published model that must be converted before it can be opened."""

    def plan(self, overrides: Overrides, allow_pickle: bool) -> Plan:
        """The model folder it converts to, in this repo's layout.

        Raises:
            CheckpointError: pickles that were not allowed, or weights that are missing or do not fit each other.
        """


def only_converted(path: str | Path) -> Convertible | None:
    """Return a published model that must be converted before it can be opened; None if `path` is something else.

    Raises:
        CheckpointError: files of several models.
    """
    from .insightedit.smartedit import find

    return find(Path(path))
