"""Load a model with InstructX Load Model in a ComfyUI process: run by `rehearsal`, with ComfyUI's Python.

python rehearsal_comfyui.py FOLDER        (COMFYUI_PATH set)
"""

from __future__ import annotations

import sys
from pathlib import Path

FOLDER = Path(sys.argv[1]).resolve()
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "comfyui" / "checks"))

import start  # noqa: E402, I001  before all of ComfyUI
import folder_paths  # noqa: E402


def main() -> None:
    nodes = start.load_nodes()
    folder_paths.add_model_folder_path("instructx", str(FOLDER.parent))
    model, *_ = start.run(nodes["InstructXLoadModel"], model_name=FOLDER.name, precision="bfloat16")
    print(type(model.model.diffusion_model).__name__, model.model_dtype())


if __name__ == "__main__":
    main()
