"""The shards of a synthesis."""

from __future__ import annotations

from pathlib import Path

from instructx_core.synthesis.config import SynthesisConfig, WorldClips
from instructx_core.synthesis.manifest import checksum, read_manifest
from instructx_core.synthesis.shards import read_shard


def small_synthesis(folder: Path, count: int = 3, frames: int = 1, **fields) -> SynthesisConfig:
    fields = {"recipe": "add_remove", "shard": 2} | fields
    return SynthesisConfig(output=str(folder), world=WorldClips(count, frames=frames), **fields)


def files(folder: Path) -> dict[str, str]:
    return {name: about["sha256"] for entry in read_manifest(folder) for name, about in entry["files"].items()}


def stored(folder: Path, form: str) -> list[dict]:
    """All rows of all shards."""
    return [
        row for entry in read_manifest(folder) for name in entry["files"] for row in read_shard(form, folder / name)
    ]


def check_sums(folder: Path) -> None:
    """Manifest, shards and checksums agree, and nothing else lies there."""
    entries = read_manifest(folder)
    named = {name: about for entry in entries for name, about in entry["files"].items()}
    there = {str(p.relative_to(folder)) for place in ("kept", "dropped") for p in (folder / place).glob("*.*")}
    assert there == set(named)
    assert all(checksum(folder / name) == about["sha256"] for name, about in named.items())
    kept = sum(about["rows"] for name, about in named.items() if name.startswith("kept"))
    assert kept == sum(entry["kept"] for entry in entries)
    assert not list((folder / "pending").iterdir())
