"""The shards of a synthesis."""

from __future__ import annotations

from pathlib import Path

from instructx_core.synthesis.manifest import checksum, read_manifest


def files(folder: Path) -> dict[str, str]:
    return {name: about["sha256"] for entry in read_manifest(folder) for name, about in entry["files"].items()}


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
