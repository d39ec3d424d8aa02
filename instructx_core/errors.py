"""The library's exceptions. A message is one sentence for the user: which input, what is wrong, what to do."""

from __future__ import annotations

from .words import one_line

LONGEST = 1500  # characters of a message


class InstructXError(Exception):
    """Base class of every error that this library raises on purpose.

    Its message is one line without control characters, whatever file or tensor names it contains.
    """

    def __init__(self, message: object = "") -> None:
        super().__init__(one_line(message, LONGEST))


class InputError(InstructXError, ValueError):
    """A source, reference, instruction, output path or value that cannot be used."""


class NoRoom(InputError):
    """An input that needs more main memory than is free now; later, or on another machine, it may fit."""


class CheckpointError(InstructXError, ValueError):
    """A model folder or weight file that is missing, damaged, or of the wrong kind."""


class EditInterrupted(InstructXError):
    """A callback returned False: the edit stopped between two steps and has no result."""


class TrainingStopped(InstructXError):
    """A signal ended a training run before its last step; a state was saved first."""

    def __init__(self, message: object = "", signal: int | None = None) -> None:
        super().__init__(message)
        self.signal = signal


class TrainingError(InstructXError):
    """Training cannot continue: the loss is NaN or infinite, or a step fails on an example."""
