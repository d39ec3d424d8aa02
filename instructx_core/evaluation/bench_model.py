"""The model that makes a benchmark run's edits; those of two models are not mixed."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import ModelConfig
from ..errors import InputError
from ..long_video.editor_model import fingerprint, tensor_samples
from ..words import quoted_path

if TYPE_CHECKING:
    from ..loaded_model import LoadedModel


@dataclass(frozen=True)
class BenchModel:
    """A model as `edited.jsonl` notes it with each edit.

    Attributes:
        model: a hash of its weights and of the config's fields that differ from the defaults: a field that a later
            version of this library adds does not change it.
        dtype: the number format it is loaded in.
        older: returns the hash that older versions noted, of the weights and the whole config.
    """

    model: str
    dtype: str
    older: Callable[[], str]

    @classmethod
    def of(cls, editor: LoadedModel) -> BenchModel:
        digest = hashlib.sha256(json.dumps(_changes(editor.config, ModelConfig()), sort_keys=True).encode())
        for piece in tensor_samples(editor):
            digest.update(piece)
        dtype = str(editor.codec.vae.dtype).removeprefix("torch.")
        return cls(digest.hexdigest(), dtype, lambda: fingerprint(editor))

    def noted(self) -> dict[str, str]:
        """What a line of `edited.jsonl` says of the model."""
        return {"model": self.model, "dtype": self.dtype}

    def check(self, log: Path, lines: Mapping[str, Mapping[str, Any]]) -> None:
        """Raise InputError if a log's lines (by key) are of another model, or of the same in another number format.

        Lines of failures, and of versions that noted no model, are of any.
        """
        noted = [line for line in lines.values() if "model" in line]
        older = {line["weights"] for line in lines.values() if "weights" in line}
        others = [line for line in noted if line["model"] != self.model]
        # older lines are read only until one of this version stands beside them, which agreed with them
        if not others and (noted or not older or older == {self.older()}):
            return
        theirs = others[0].get("dtype", self.dtype) if others else self.dtype
        if theirs != self.dtype:
            why = f"in {theirs}, and the model is loaded in {self.dtype}; give --dtype {theirs}"
        elif others:
            why = "by another model (other weights, or another config); give that one"
        else:
            why = "by another model, or by the same in another number format; give that one, in its --dtype"
        raise InputError(
            f"The edits that {quoted_path(log)} lists were made {why}, or a new folder for the run; to edit anew in "
            "this one, remove edits/, edited.jsonl, judged/ and measured.jsonl from it first."
        )


def _changes(config: Any, usual: Any) -> dict[str, Any]:
    """The fields of a config that are not those of `usual`; of a nested config, those that are not its defaults."""
    values = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    return {
        name: _changes(value, type(value)()) if dataclasses.is_dataclass(value) else value
        for name, value in values.items()
        if value != getattr(usual, name, None)
    }
