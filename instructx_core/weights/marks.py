"""The file by which a folder on disk or on the hub is known as a model, free of torch for menus and downloads."""

ADAPTER = "instructx.safetensors"  # of this repo's layout: what InstructX adds to its base models
PUBLISHED = "mllm_encoder/config.json"  # of the layout in which Kiwi-Edit is published
MARKS = (ADAPTER, PUBLISHED)  # the first that a folder has is fetched last, so half a download is not taken for a model
