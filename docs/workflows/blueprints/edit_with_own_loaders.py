"""Edit with own loaders: MODEL, VAE and MLLM come from other nodes, so LoRAs and quantised weights can be used."""

from ..description import Blueprint
from ..parts import OWN_LOADERS, WIDGETS, stations

COLUMNS, LINKS = stations()
EDIT_WITH_OWN_LOADERS = Blueprint(
    name="Edit with own loaders (InstructX)",
    description="Edit a picture or a video with a MODEL, VAE, MLLM and CONNECTOR from other loaders.",
    aliases=("edit image", "edit video", "instruct", "gguf", "lora", "wan", "instructx"),
    category="Image generation and editing/Edit image",
    columns=COLUMNS[1:],
    links={start: ends for start, ends in LINKS.items() if not start.startswith("load.")},
    inputs=OWN_LOADERS | {name: targets for name, targets in WIDGETS.items() if name != "model_name"},
    outputs={"IMAGE": "restore.IMAGE", "VIDEO": "restore.VIDEO"},
)
