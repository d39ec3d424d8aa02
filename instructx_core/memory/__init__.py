"""Fitting into a GPU's memory: what an edit needs, what the machine has, and where the weights are kept meanwhile."""
