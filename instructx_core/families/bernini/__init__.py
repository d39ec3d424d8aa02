"""Bernini-R (bytedance/Bernini): a Wan DiT guided by text only, with source tokens next to the noisy ones."""
