"""What the library raises. A message is one sentence for a person: which input, what is wrong, what to do."""

from __future__ import annotations

from .words import one_line

LONGEST = 1500  # characters of a message


class InstructXError(Exception):
    """Base class of every error that this library raises on purpose.

    Its message is one line without control characters, whatever the name of a file or a tensor in it holds.
    """

    def __init__(self, message: object = "") -> None:
        super().__init__(one_line(message, LONGEST))


class InputError(InstructXError, ValueError):
    """A source, reference, instruction, output path or number that cannot be used."""


class CheckpointError(InstructXError, ValueError):
    """A model folder or weight file that is missing, damaged, or of another kind than was asked for."""


class EditInterrupted(InstructXError):
    """A callback returned False: the edit stopped between two steps and has no result."""


class TrainingStopped(InstructXError):
    """A signal ended a training run before its last step; a state was saved first."""


class TrainingError(InstructXError):
    """Training cannot continue: a loss that is NaN or infinite, or an example that a step fails on."""
