"""Weights on disk: what a path holds, reading it into a model, and writing it in another layout.

- A model: `loading` reads any folder, `bundle` this library's own, `kiwi` Kiwi-Edit's as published, `kiwi_trained`
  what its trainer saves, `base` what was trained on base models that lie elsewhere; `parts` gives one part at a time,
  `outline` a model without weights.
- A component: `dit`, `vae`, `mllm`; `assembling` builds it from tensors, `pretrained` leaves it to its own library.
- What a path holds: `forms`, from `headers` and, where they are allowed, `pickles`; `float8` for scaled weights;
  `shapes` says what does not fit.
- Names that different programs give to the same tensors: `wan_keys`, `kiwi_keys`, `lora_keys`.
- `files` reads and writes safely, `hub` fetches when asked, `loras` merges, `convert` rewrites.
"""
