"""InsightEdit: LLaVA, a two-stream connector and Stable Diffusion 1.5's UNet; SmartEdit's weights convert to it."""
