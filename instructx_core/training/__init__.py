"""Training: one loop over `accelerate` for editing, alignment and two-stream stages, and for those of recipes."""
