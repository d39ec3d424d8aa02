"""InstructX Tiny: what the small bundled model has beyond the paper's."""
