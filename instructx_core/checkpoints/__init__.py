"""Weights on disk: safe files and folders, and the names that different programs give to the same tensors."""
