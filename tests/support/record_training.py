"""Record golden/training.json: `PYTHONPATH=tests python -m support.record_training [NAME ...]` in the root folder.

Do it only where numbers are meant to change, and say in the commit which and why.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from support import training_goldens
from support.record_goldens import versions


def main() -> None:
    file = training_goldens.FILE
    losses = json.loads(file.read_text())["losses"] if file.exists() else {}
    for name in sys.argv[1:] or training_goldens.RUNS:
        with tempfile.TemporaryDirectory() as folder:
            losses[name] = [round(loss, 6) for loss in training_goldens.run(name, Path(folder))]
        print(f"{name}: {losses[name][0]} to {losses[name][-1]}", file=sys.stderr)
    file.write_text(json.dumps({"losses": losses, "versions": versions()}, indent=1) + "\n")


if __name__ == "__main__":
    main()
