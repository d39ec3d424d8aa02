"""Edit video: a clip that the model takes in one go."""

from ..description import Blueprint
from ..parts import WIDGETS, stations

COLUMNS, LINKS = stations()
EDIT_VIDEO = Blueprint(
    name="Edit video (InstructX)",
    description="Edit a short video from a sentence. Frame rate, length and sound stay.",
    aliases=("edit video", "instruct", "video to video", "kiwi", "wan", "bernini", "instructx"),
    category="Video generation and editing/Edit video",
    columns=COLUMNS,
    links=LINKS,
    inputs={"video": ("fit.source",), **WIDGETS},
    outputs={"VIDEO": "restore.VIDEO", "IMAGE": "restore.IMAGE", "AUDIO": "restore.AUDIO", "FPS": "restore.FPS"},
)
