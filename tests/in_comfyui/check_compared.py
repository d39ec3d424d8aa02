"""The architectures that the paper compares, through the same nodes as its own, against the library."""

import os
from pathlib import Path

import folder_paths
from kit import TOLERANCE, difference, editor, example, sampled, wired

MODELS = Path(os.environ["INSTRUCTX_TEST_COMPARED"])

folder_paths.add_model_folder_path("instructx", str(MODELS))


def check_architectures_that_the_paper_compares():
    found = {}
    for name in sorted(path.name for path in MODELS.iterdir()):
        for frames in (1, 5):
            image, instruction, _ = example("recolor", frames=frames, width=48, height=48)
            ours = sampled(wired(name, image, instruction), seed=4, steps=2)
            expected = editor(name).edit(image, instruction, seed=4, steps=2).latents
            found[name, frames] = difference(ours, expected)
    assert len(found) == 6, found
    assert max(found.values()) <= TOLERANCE, found
