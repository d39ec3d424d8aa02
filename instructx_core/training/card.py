"""The card of an exported model: its data, config and last metrics, and the versions of libraries."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..photographs import usable_photographs
from ..version import __version__
from .config import TrainConfig

CARD = "README.md"
LIBRARIES = ("torch", "diffusers", "transformers", "accelerate", "peft")


def write_card(folder: Path, config: TrainConfig, processes: int, values: dict[str, float]) -> None:
    """Write `README.md` into a model folder. Raises OSError if it cannot be written."""
    import yaml

    data = config.data.table or f"the procedural world ({config.data.images} images, {config.data.videos} videos)"
    versions = [f"instructx {__version__}", *(f"{name} {_version(name)}" for name in LIBRARIES)]
    numbers = [f"| {name} | {value:.6g} |" for name, value in sorted(values.items())]
    lines = [
        "# Trained with InstructX",
        "",
        f"- Stage: `{config.task}`, {config.steps} steps on {processes} process{'es' if processes > 1 else ''}",
        f"- From: {', '.join(f'{name} `{path}`' for name, path in config.start.items()) or 'nothing'}",
        f"- Data: {data}",
        f"- Versions: {', '.join(versions)}",
        "",
        *_photographs(config.data.photographs),
        "## Final metrics",
        "",
        "| value | |",
        "|---|---|",
        *numbers,
        "",
        "## Config",
        "",
        "```yaml",
        yaml.safe_dump(_plain(asdict(config)), sort_keys=False, allow_unicode=True).rstrip(),
        "```",
        "",
    ]
    (folder / CARD).write_text("\n".join(lines), encoding="utf-8")


def _photographs(folder: str | None) -> list[str]:
    """The section that lists the photographs, as their licences require."""
    if folder is None:
        return []
    names = [f"- `{path.relative_to(folder).as_posix()}`" for path in usable_photographs(folder)]
    return ["## Photographs used as backgrounds", "", *names, ""]


def _plain(value: Any) -> Any:
    """Replace tuples with lists, as YAML has no tuples."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return value


def _version(library: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(library)
    except PackageNotFoundError:
        return "(not installed)"
