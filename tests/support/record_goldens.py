"""Record golden/*.safetensors: `PYTHONPATH=tests python -m support.record_goldens [NAME ...]` in the root folder.

Do it only where numbers are meant to change, and say in the commit which and why. A NAME is a random model of
golden_runs.VARIANTS, `kiwi` or `bundled`; without one, all are recorded. Each file says in its metadata with which
versions it was made.
"""

from __future__ import annotations

import argparse
import platform
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file

from support import golden_runs

LIBRARIES = ("torch", "diffusers", "transformers", "numpy", "av")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = list(golden_runs.MODELS)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(names)}; none: all")
    for name in parser.parse_args().names or names:
        with tempfile.TemporaryDirectory() as folder:
            values = golden_runs.run(name, Path(folder))
        save_file(values, golden_runs.GOLDEN / f"{name}.safetensors", versions())
        print(f"{name}: {len(values)} tensors, {sum(value.numel() for value in values.values())} values")


def versions() -> dict[str, str]:
    found = {name: sys.modules[name].__version__ for name in LIBRARIES if name in sys.modules}
    return {
        **found,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "threads": str(torch.get_num_threads()),
    }


if __name__ == "__main__":
    main()
