"""Conditions: values that change a denoiser's input. One kind per file, each pure and without a model of its own.

- `source_add`, `source_embed`, `source_channels`: the pixels to be edited.
- `reference_frames`: pictures that the instruction speaks of.
- `image_stream`: an image's own tokens, attended to separately from the instruction's.

`Denoiser.forward` applies a list of them; the ComfyUI nodes apply the same ones to a native MODEL.
"""
