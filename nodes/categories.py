"""The nodes' menu categories."""

CATEGORY = "InstructX"
LOADERS = f"{CATEGORY}/loaders"
CONDITIONING = f"{CATEGORY}/conditioning"
SAMPLING = f"{CATEGORY}/sampling"
IMAGE = f"{CATEGORY}/image"
VIDEO = f"{CATEGORY}/video"
