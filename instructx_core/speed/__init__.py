"""Faster steps of the DiT: attention, compiled blocks and step caches as options, and what a run computes once."""
