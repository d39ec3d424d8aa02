"""InstructX's own layout."""
