"""Kiwi-Edit (https://github.com/showlab/Kiwi-Edit): its published folder and its training checkpoints."""
