"""One folder for each published kind of model: how it is recognised, and everything specific to it.

`open` is the one door to a model's weights, for the editor, the command line, training and ComfyUI. A family is a
function `recognise(path) -> Match | None`, which `recognise` here asks in turn; what it finds is a value (`match.py`),
and everything after that is the same for all. To add one: a folder with its `recognise`, a place among these, and
where it has a prompt of its own a row in `components.DIALECTS`.
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
    """Tell what model a path holds, from headers; no weight is read.

    Args:
        path: the model's folder, the file of what it adds to base models, or a bundled model's name.
        overrides: weights that take the place of its own, or that it does not have.
        allow_pickle: open pickles among these, for their tensors alone.

    Raises:
        CheckpointError: no model of any family, or a truncated or damaged file.
    """
    from .bundled import located
    from .instructx import folder as instructx
    from .opened import Opened
    from .overrides import OWN

    path = located(path)
    if only_converted(path) is not None:
        raise CheckpointError(
            f"{quoted_path(path)} is SmartEdit's, in pickles; convert it first (`instructx convert --allow-pickle`)."
        )
    found = recognise(path) or instructx.match(path)  # which says what is missing
    return Opened(found, overrides or OWN, allow_pickle)


def recognise(path: str | Path) -> Match | None:
    """The model that a path holds; None where it is none, such as weights of one part.

    A folder with one file of weights and no config is that file.

    Raises:
        CheckpointError: a file that is damaged or no safetensors.
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
    """A published model that cannot be opened as it is."""

    def plan(self, overrides: Overrides, allow_pickle: bool) -> Plan:
        """This repo's folder of it.

        Raises:
            CheckpointError: pickles that nobody allowed, weights that are missing, or that do not fit each other.
        """


def only_converted(path: str | Path) -> Convertible | None:
    """A published model that cannot be opened as it is, but converted; None where `path` is something else.

    Raises:
        CheckpointError: files of several models.
    """
    from .insightedit.smartedit import find

    return find(Path(path))
