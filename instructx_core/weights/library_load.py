"""Load parts with their own libraries, checking that no weight is missing; errors name the folder."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from ..errors import CheckpointError
from ..words import escaped, one_line, quoted_path
from .files import check_finite, read_metadata
from .mapped import give_back
from .marks import SAFETENSORS


def check_part(folder: Path) -> None:
    """Check a component's files before any of them is loaded.

    Raises:
        CheckpointError: no config, no safetensors, or one that is truncated or damaged.
    """
    check_config(folder)
    weights = sorted(folder.glob(SAFETENSORS))
    if not weights:
        raise CheckpointError(f"{str(folder)!r} has no .safetensors weights; the model is incomplete, get it again.")
    for path in weights:
        read_metadata(path)


def check_config(folder: Path) -> None:
    """Raise CheckpointError if a component has no config."""
    if not (folder / "config.json").is_file():
        raise CheckpointError(f"{str(folder)!r} has no config.json; the model is incomplete, get it again.")


def load_weights(folder: Path, model_class: Any, state: dict[str, torch.Tensor] | None = None, **options: Any) -> Any:
    """Load a model, checking that all weights are present and finite: the libraries would fill gaps at random.

    `state` holds the tensors of `folder` if they have been read already; only transformers accepts it.
    """
    options |= {"use_safetensors": True, "output_loading_info": True}
    if state is None:
        model, report = load_or_explain(folder, lambda: model_class.from_pretrained(folder, **options))
    else:
        model, report = load_or_explain(folder, lambda: model_class.from_pretrained(None, state_dict=state, **options))
    for problem in ("missing", "unexpected"):
        if names := sorted(report[f"{problem}_keys"]):
            raise CheckpointError(
                f"{quoted_path(folder)} does not fit its config: {problem} {escaped(names[0])} ({len(names)} tensors); "
                "get it again."
            )
    check_finite(model.state_dict(), folder)
    give_back(model.parameters())
    return model


@contextmanager
def quietly() -> Iterator[None]:
    """Silence transformers' warnings about what is checked right afterwards."""
    logger = logging.getLogger("transformers")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def load_or_explain(folder: Path, read: Callable[[], Any]) -> Any:
    """Return `read()`; any exception becomes a CheckpointError that names `folder`."""
    try:
        return read()
    except CheckpointError:
        raise
    except Exception as error:  # all that transformers 4.57 raises for a damaged tokenizer
        first_line = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise CheckpointError(f"{quoted_path(folder)} cannot be loaded: {one_line(first_line, 300)}") from error
