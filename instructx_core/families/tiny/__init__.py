"""InstructX Tiny: what the small model that comes with this package has beyond the paper's."""
