"""Faster DiT steps: attention, compiled blocks and step caches as options, and a cache of per-run constants."""
