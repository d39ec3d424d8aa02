"""Conditions: values that change a denoiser's input. One kind per file, each pure and without a model of its own.

- `source_add`, `source_embed`, `source_channels`: the pixels to be edited; `source_stream`: also references, as tokens.
- `reference_frames`: pictures that the instruction speaks of.

`Denoiser.forward` applies a list of them; the ComfyUI nodes apply the same ones to a native MODEL. Beside them lie
functions that conditions and networks share: `image_stream`, `source_places`, `local_edits`.
"""
