"""Identify the weights at a path from their headers: by tensor names (`parts`), never by file names.

Shards are read as one model; a folder with a missing shard is refused here, before anything is loaded.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ..bounded import is_dir, read_json
from ..errors import CheckpointError
from ..words import listed, quoted, quoted_path
from .files import naming
from .gguf_header import is_gguf
from .marks import ADAPTER, SAFETENSORS
from .parts import FOLDERS, LAYOUTS, MLLM_PREFIXES, TITLES, Names, Part, classify, is_known
from .pickles import PICKLES, is_pickle
from .quantised import beside, is_beside
from .stored import EIGHT_BITS, Stored, read_stored

# names that diffusers and transformers give weights, pickles included; they skip variants, which have an extra word
_NAMED = re.compile(r"(?:(?:pytorch_)?model|diffusion_pytorch_model)(?:-\d{5}-of-\d{5})?\.(?:safetensors|bin)")
_SHARD = re.compile(r"(.+-)\d{5}-of-(\d{5})(\.safetensors)")


@dataclass(frozen=True)
class Form:
    """Weights on disk, as described by their headers."""

    path: Path  # the file, or the folder of the shards
    files: tuple[Path, ...]
    part: Part
    names: Names
    stored: Mapping[str, Stored]  # every tensor, by its name in the file

    @cached_property
    def tensors(self) -> dict[str, Stored]:
        """The model's own tensors, without those that describe how others are stored."""
        return {name: stored for name, stored in self.stored.items() if not is_beside(name)}

    @property
    def title(self) -> str:
        """Its display name."""
        return TITLES.get(self.names, self.part.title)

    @property
    def is_text(self) -> bool:
        """Whether it is a umT5 used in place of an MLLM."""
        return self.names is Names.TEXT

    @property
    def is_qwen3(self) -> bool:
        """Whether it is a Qwen3-VL."""
        return self.names is Names.QWEN3

    @property
    def is_gguf(self) -> bool:
        return is_gguf(self.files[0])

    @property
    def is_pickled(self) -> bool:
        return any(map(is_pickle, self.files))

    @property
    def is_scaled(self) -> bool:
        """Whether some weights are quantised or have a scale."""
        return any(stored.packing or beside(name, self.stored) for name, stored in self.tensors.items())

    @property
    def is_padded(self) -> bool:
        """Whether rows and columns of some weights are padded, see `Packing`."""
        return any(stored.packing and stored.packing.format.multiple > 1 for stored in self.tensors.values())

    @cached_property
    def is_wrapped(self) -> bool:
        """Whether some names differ from those of a library or the model's original code."""
        if self.names is Names.LLAVA:  # transformers reads the names of all its versions
            return False
        layout = LAYOUTS[self.part, self.names]
        prefixes = MLLM_PREFIXES if self.part is Part.MLLM else ("",)
        return any(name not in {prefix + layout.bare(name) for prefix in prefixes} for name in self.tensors)

    @property
    def has_config(self) -> bool:
        """Whether the library whose names are used finds its config next to the weights."""
        return self.names not in (Names.ORIGINAL, Names.TEXT) and (self.path / "config.json").is_file()

    @property
    def is_library_folder(self) -> bool:
        """Whether that library can read the weights directly, as in a folder that it saved."""
        stem = "model" if self.part is Part.MLLM else "diffusion_pytorch_model"
        named = all(_NAMED.fullmatch(file.name) and file.name.startswith(stem) for file in self.files)
        # transformers 4.57 leaves 8-bit floats as they are, and nothing can compute with them
        left = self.part is Part.MLLM and not EIGHT_BITS.isdisjoint(self.dtypes)
        return self.has_config and named and not (self.is_scaled or self.is_pickled or left or self.is_wrapped)

    @property
    def dtypes(self) -> dict[str, int]:
        """The number of values of each type, largest first."""
        counts: Counter[str] = Counter()
        for stored in self.tensors.values():
            counts[stored.kind] += stored.numel
        return dict(counts.most_common())


def find_form(path: str | Path, part: Part | None = None, allow_pickle: bool = False) -> Form:
    """Identify the weights at `path`.

    Args:
        path: a safetensors or GGUF file, a folder of one model's shards, or a pipeline folder that contains the part.
        part: the expected part; None for any.
        allow_pickle: also open pickles, if there are no other weights, and read only tensors from them.

    Raises:
        CheckpointError: nothing there, a part other than `part` or an unknown one, a missing shard, a damaged file, or
            several models in one folder.
    """
    path = _component(Path(path), part)
    found_in = _weight_files(path, allow_pickle)
    files, stored = tuple(found_in), {}
    for held in found_in.values():
        if twice := stored.keys() & held.keys():
            raise CheckpointError(
                f"{quoted_path(path)} holds several models ({quoted(min(twice))} is in more than one file); give one "
                "of the files."
            )
        stored |= held
    found = classify(stored)
    if found is None or part not in (None, found[0]):
        wanted = f"a {part.title}" if part else "a Wan DiT, a Wan VAE or a Qwen2.5-VL"
        what = f"it is a {found[0].title}" if found else _unknown(stored)
        raise CheckpointError(f"{quoted_path(path)} does not hold {wanted}: {what}; give other weights.")
    if found[0] is Part.MLLM and found[1] is not Names.TEXT:
        with naming(path):
            LAYOUTS[found].unwrapped(stored)
    return Form(path, files, *found, stored)


def pair_in(folder: Path) -> tuple[Path, Path] | None:
    """The two DiTs of a pipeline folder, for high and low noise; None unless it has both."""
    first, second = (folder / FOLDERS[part][0] for part in (Part.DIT, Part.DIT_2))
    return (first, second) if is_dir(first) and is_dir(second) else None


def _component(path: Path, part: Part | None) -> Path:
    """`path` itself, or its subfolder in which a pipeline keeps the part."""
    if part is None or not is_dir(path) or any(file.name != ADAPTER for file in path.glob(SAFETENSORS)):
        return path
    if part is Part.DIT and (pair := pair_in(path)):
        first, second = (half.name for half in pair)
        raise CheckpointError(
            f"{str(path)!r} holds a pair of DiTs, {first} for high and {second} for low noise, but one is expected; "
            "give one of these two folders."
        )
    return next((path / name for name in FOLDERS[part] if (path / name).is_dir()), path)


def _weight_files(path: Path, allow_pickle: bool) -> dict[Path, Mapping[str, Stored]]:
    """The file, or all shards in the folder, with their headers; pickles if there are no other weights.

    Files without a tensor of a known part, such as an editor's queries or connector, are ignored, except shards. If
    some of the others are named by an index or as the libraries name weights, only those are used: a LoRA, a variant or
    a trainer's state may lie next to them.

    Raises:
        CheckpointError: nothing there, or a missing shard.
    """
    if not is_dir(path):
        return {path: read_stored(path, allow_pickle)}
    headers = {file: read_stored(file) for file in sorted(path.glob(SAFETENSORS))}
    files = tuple(file for file, stored in headers.items() if any(map(is_known, stored)))
    if not files:  # reading them raises unless pickles are allowed
        files = tuple(sorted(file for file in path.iterdir() if file.suffix in PICKLES and is_pickle(file)))
    files = files or tuple(headers)  # so that an error can say what they hold
    if not files:
        raise CheckpointError(
            f"{str(path)!r} has no .safetensors weights; the model is incomplete, get it again or give a file."
        )
    there = tuple(dict.fromkeys((*headers, *files)))
    shards = _indexed(path, files[0].suffix, there)
    files = tuple(file for file in files if file.name in shards or _NAMED.fullmatch(file.name)) or files
    for file in files:  # without an index, the names still say how many there are
        if match := _SHARD.fullmatch(file.name):
            numbers = range(1, int(match[2]) + 1)
            named = {f"{match[1]}{number:05}-of-{match[2]}{match[3]}" for number in numbers}
            _check_there(path, there, named)
            shards |= named
    # so that unknown tensors in a shard of their own are reported, not dropped
    files = tuple(file for file in there if file in files or file.name in shards)
    return {file: headers.get(file) or read_stored(file, allow_pickle) for file in files}


def _indexed(folder: Path, suffix: str, files: tuple[Path, ...]) -> set[str]:
    """The files that the indices of the folder's safetensors or pickles name; raises unless all exist."""
    kind = ".safetensors" if suffix == ".safetensors" else ".bin"
    indexed: set[str] = set()
    for index in sorted(folder.glob(f"[!.]*{kind}.index.json")):
        try:
            named = set(read_json(index)["weight_map"].values())
            if not named or any(not name or Path(name).name != name for name in named):
                raise ValueError("it names no files beside it")
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise CheckpointError(f"{quoted_path(index)} is not a valid shard index; get it again.") from error
        _check_there(folder, files, named)
        indexed |= named
    return indexed


def _check_there(folder: Path, files: tuple[Path, ...], named: set[str]) -> None:
    if missing := sorted(named - {file.name for file in files}):
        raise CheckpointError(
            f"{quoted_path(folder / missing[0])} is missing ({len(missing)} of {len(named)} shards); get it again."
        )


def _unknown(stored: Mapping[str, Stored]) -> str:
    return f"it holds {listed(sorted(stored))}" if stored else "it is empty"
