"""Run the checks named on the command line, or all: python run.py [check ...]

Every function called check_* in a file check_*.py beside this one is a check; ../test_comfyui_nodes.py makes a test
of each. {name: "", "SKIPPED: ..." or traceback} goes to the file that the environment variable INSTRUCTX_TEST_REPORT
names.
"""

import importlib
import json
import os
import sys
import time
import traceback
from pathlib import Path
from tempfile import TemporaryDirectory

import start
import torch


def checks():
    """All checks by name."""
    found = {}
    for path in sorted(Path(__file__).parent.glob("check_*.py")):
        module = vars(importlib.import_module(path.stem))  # only now: `start` has set up ComfyUI
        found |= {name: value for name, value in module.items() if name.startswith("check_")}
    return found


def main():
    import folder_paths  # only now: `start` has set up ComfyUI

    with TemporaryDirectory(prefix="instructx-") as folder:
        folder_paths.set_temp_directory(folder)  # an empty one, as ComfyUI starts with: edits in it are used again
        results = run(checks())
    Path(os.environ["INSTRUCTX_TEST_REPORT"]).write_text(json.dumps(results), encoding="utf-8")


def run(found):
    """What became of every check that was asked for, or of all."""
    results = {}
    for name in start.ASKED or found:
        begun = time.monotonic()
        try:
            with torch.no_grad():
                found[name]()
            results[name] = ""
        except start.Skipped as skipped:
            results[name] = f"SKIPPED: {skipped}"
        except Exception:
            results[name] = traceback.format_exc()
        seconds = f"{time.monotonic() - begun:.0f} s"
        print(name, seconds, results[name] or "ok", file=sys.stderr, flush=True)
    return results


if __name__ == "__main__":
    main()
