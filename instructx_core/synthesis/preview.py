"""A preview of kept and dropped pairs as one self-contained HTML file."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from ..atomic import partial_file
from ..errors import InputError
from ..words import quoted_path
from .config import Form
from .manifest import check_shard, read_manifest
from .shards import SCORES, read_shard
from .store import DROPPED, KEPT
from .thumbnails import is_clip, thumbnail

MOST = 50  # pairs per table
SHOWN = ("source", "target", "mask", "reference")
STYLE = """
body { font: 14px/1.4 system-ui, sans-serif; margin: 24px; background: #fafafa; color: #222 }
table { border-collapse: collapse; width: 100% }
td, th { border-bottom: 1px solid #ddd; padding: 6px; text-align: left }
td { vertical-align: top } img, video { width: 160px; image-rendering: pixelated } .why { color: #a00 }
"""


def write_preview(folder: Path, form: Form, path: Path) -> Path:
    """Write the preview of an output: media, instruction and scores of up to MOST kept and MOST dropped pairs.

    Raises:
        InputError: nothing has been packed yet, a shard is damaged, or the page cannot be written.
    """
    entries = read_manifest(folder)
    if not entries:
        raise InputError(f"{quoted_path(folder)} has no shards yet; run `instructx synthesise` first.")
    parts = []
    for place in (KEPT, DROPPED):
        files = {name: about for e in entries for name, about in e["files"].items() if name.startswith(f"{place}/")}
        total = sum(about["rows"] for about in files.values())
        rows = list(islice(_rows(folder, form, files), MOST))
        parts.append(f"<h2>{place}: {len(rows)} of {total}</h2><table>{_head()}{''.join(map(_row, rows))}</table>")
    page = f'<!doctype html><meta charset="utf-8"><title>{html.escape(folder.name)}</title><style>{STYLE}</style>'
    with partial_file(path) as partial:
        partial.write_text(page + "".join(parts), encoding="utf-8")
    return path


def _rows(folder: Path, form: Form, files: Mapping[str, dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for name in files:
        check_shard(folder, name, files[name], whole=True)
        yield from read_shard(form, folder / name)


def _head() -> str:
    return "<tr>" + "".join(f"<th>{name}</th>" for name in (*SHOWN, "sentence", "scores")) + "</tr>"


def _row(row: dict[str, Any]) -> str:
    cells = [_medium(row.get(name)) for name in SHOWN]
    words = f"<b>{html.escape(row['task'])}</b><br>{html.escape(row.get('instruction') or '')}"
    if row.get("reason"):
        words += f'<br><span class="why">{html.escape(row["reason"])}</span>'
    words += f"<br><small>{html.escape(row['key'])}</small>"
    known = {name: row[name] for name in SCORES if row.get(name) is not None}
    known |= {name: row[name] for name in ("qwen_VIE_SC", "qwen_VIE_PQ") if name in row}
    scores = "<br>".join(f"{name} {_short(value)}" for name, value in known.items())
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in (*cells, words, scores)) + "</tr>"


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else html.escape(str(value))


def _medium(data: bytes | None) -> str:
    if not data:
        return ""
    coded = base64.b64encode(thumbnail(data)).decode()
    if is_clip(data):
        return f'<video src="data:video/mp4;base64,{coded}" autoplay loop muted playsinline></video>'
    return f'<img src="data:image/png;base64,{coded}">'
