"""Edit a clip, then interpolate frames."""

from ..blueprints import EDIT_VIDEO
from ..description import Box, Column, Node, Template, Text
from ..showing import BOX, FIRST, SENTENCES, SMALL, TINY, clips_below, example, note, weights

TITLE = Text("Edit, then more frames", "编辑后补帧")
TWICE = Text(
    "The edited clip with twice as many frames and its sound; *fps* of *Create Video* is twice the source's. Needs"
    " ComfyUI 0.33 and FILM, which ComfyUI offers to download.",
    "编辑后的视频帧数加倍，声音保留；*Create Video* 的 *fps* 是原视频的两倍。需要 ComfyUI 0.33 和 FILM（ComfyUI"
    " 会提示下载）。",
)
FILM = weights(
    "film_net_fp16.safetensors",
    "https://huggingface.co/Comfy-Org/frame_interpolation/resolve/main/frame_interpolation/film_net_fp16.safetensors",
    "frame_interpolation",
)
SOURCE = "clip"
RATE = 16.0  # twice that of the example clip


def edit_and_interpolate() -> Template:
    loads = Node("FrameInterpolationModelLoader", "FILM", {"model_name": FILM[0]["name"]}, models=FILM)
    box = Box(EDIT_VIDEO, "Edit video", {"instruction": SENTENCES[SOURCE]})
    return Template(
        TITLE,
        note(TITLE, TWICE, TINY),
        (
            Column({"input": example(SOURCE), "model": loads}, width=FIRST),
            Column({"edit": box}, width=BOX),
            Column({"between": Node("FrameInterpolate", "Twice as many frames")}, width=SMALL),
            *clips_below({"video": Node("CreateVideo", "", {"fps": RATE})}, "interpolate"),
        ),
        {
            "input.VIDEO": ["edit.video", "before.video"],
            "edit.IMAGE": ["between.images"],
            "edit.AUDIO": ["video.audio"],
            "model.INTERP_MODEL": ["between.interp_model"],
            "between.IMAGE": ["video.images"],
            "video.VIDEO": ["after.video"],
        },
        needs_weights=True,
    )
