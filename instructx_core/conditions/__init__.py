"""Conditions: values that change a denoiser's input. One kind per file, each pure and without its own model.

- `source_add`, `source_embed`, `source_channels`: the pixels to edit; `source_stream`: also references, as tokens.
- `reference_frames`: pictures that the instruction refers to.

`Denoiser.forward` applies a list of them; the ComfyUI nodes apply the same ones to a native MODEL. `image_stream`,
`source_places` and `local_edits` are functions that conditions and networks share.
"""
