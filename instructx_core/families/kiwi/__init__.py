"""Kiwi-Edit (https://github.com/showlab/Kiwi-Edit): its published folder and what its training code saves."""
