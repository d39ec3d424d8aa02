"""Weights on disk: files, forms, names, LoRA and the hub; knows no family of models."""
