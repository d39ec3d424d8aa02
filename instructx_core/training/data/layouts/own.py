"""Our own CSV: source,target,instruction, and optionally reference (several separated by ";"), caption, mask."""

from .base import Layout, plain

OWN = Layout("own pairs", ("source", "target", "instruction"), plain, optional=("reference", "caption", "mask"))
