"""Weights on disk: files, formats, tensor names, LoRA and the hub. Independent of any model family."""
