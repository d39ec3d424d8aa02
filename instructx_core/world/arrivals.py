"""Clips in which an object enters late: the first frames lack what the sentence names (Fig. 9b of the paper)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .scenes import Object, Scene, is_clear

_TRIES = 12


def enter_late(rng: np.random.Generator, scene: Scene) -> tuple[Scene, Object] | None:
    """Let the last object enter from outside in the second half of the clip; None if it would touch another.

    Returns:
        The scene, and the object.
    """
    canvas = scene.canvas
    *others, moved = scene.objects
    steps = canvas.frames - 1
    waiting = rng.integers(canvas.frames // 2, max(canvas.frames // 2 + 1, (3 * canvas.frames) // 4))
    waiting = min(waiting, steps - 1)  # in a clip of two frames it appears in the last
    sides = np.array([canvas.height, canvas.width]) / canvas.short  # in units of speed and radius
    reach = moved.reach(canvas) / canvas.short
    travel = steps - waiting
    for _ in range(_TRIES):
        axis, from_far = int(rng.integers(2)), bool(rng.integers(2))
        deep = reach * rng.uniform(1.1, 1.8)  # how far inside the border its centre ends
        speed = (deep + reach) / travel
        rest = rng.uniform(reach, sides[1 - axis] - reach)
        begin = -reach - waiting * speed
        start = np.zeros(2)
        velocity = np.zeros(2)
        start[axis], velocity[axis] = (sides[axis] - begin, -speed) if from_far else (begin, speed)
        start[1 - axis] = rest
        y, x = (start / sides).tolist()
        late = replace(moved, start=(y, x), velocity=(float(velocity[0]), float(velocity[1])))
        objects = (*others, late)
        if is_clear(canvas, objects):
            return replace(scene, objects=objects), late
    return None
