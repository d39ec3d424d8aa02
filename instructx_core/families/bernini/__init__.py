"""Bernini-R (bytedance/Bernini): a Wan DiT that edits by words alone, its sources tokens beside the noisy ones."""
