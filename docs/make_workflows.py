"""Write workflows/, its API-format graphs and subgraphs/ from the descriptions in docs/workflows/.

    python docs/make_workflows.py [--check]

`--check` writes nothing and fails if a file on disk differs. The pictures for the template browser are recorded by
tests/support/record_workflow_pictures.py.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

from workflows.blueprints import SHIPPED
from workflows.files import blueprint_file, template_file
from workflows.templates import TEMPLATES

from workflows import object_info
from workflows.api import api_file

ROOT = Path(__file__).resolve().parent.parent
WORKFLOWS, API, SUBGRAPHS = (ROOT / folder for folder in ("workflows", "workflows/api", "subgraphs"))


def made() -> dict[Path, Any]:
    """Every file to write, with its content."""
    infos = object_info.read(ROOT)
    files: dict[Path, Any] = {SUBGRAPHS / f"{one.name}.json": blueprint_file(one, infos) for one in SHIPPED}
    for number, template in enumerate((make() for make in TEMPLATES), 1):
        title = template.title.en
        name = f"{number:02} - {title} {template.title.zh}"
        files[WORKFLOWS / f"{name}.json"] = template_file(template, infos)
        if template.app is not None:
            files[WORKFLOWS / f"{name}.app.json"] = template_file(template, infos, as_app=True)
        slug = re.sub(r"[^a-z0-9]+", "-", title.lower())
        files[API / f"{number:02}-{slug}.json"] = api_file(template, infos)
    return files


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare with the files on disk instead of writing them")
    check = parser.parse_args().check
    texts = {path: json.dumps(graph, indent=1, ensure_ascii=False) + "\n" for path, graph in made().items()}
    left = {path for folder in (WORKFLOWS, API, SUBGRAPHS) for path in folder.glob("*.json")} - set(texts)
    if check:
        stale = [path for path, text in texts.items() if not path.is_file() or path.read_text("utf-8") != text]
        stale += left
        if stale:
            print(
                f"stale: {', '.join(path.name for path in stale)}; run python docs/make_workflows.py", file=sys.stderr
            )
        return 1 if stale else 0
    for folder in (WORKFLOWS, API, SUBGRAPHS):
        folder.mkdir(exist_ok=True)
    for path in left:
        path.unlink()
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
