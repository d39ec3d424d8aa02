"""Fit edits into memory: estimate what an edit needs, check what is free, and decide where the weights are kept."""
