"""InstructX Window Close: join the edited windows into one video.

Close itself only analyses the graph and expands to a hidden node, so that ComfyUI runs and caches the nodes outside the
loop; the hidden node runs the inner nodes window by window (window_run.py).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

from comfy_api.latest import InputImpl, io

from . import categories
from .inner_nodes import run_loop
from .loop_expansion import expand, ran, run_schema
from .nested_execution import check_executor
from .sockets import Flow
from .window_loop import find_loop

if TYPE_CHECKING:
    from pathlib import Path

    from .sockets import FlowValue

_made: dict[str, set[Path]] = defaultdict(set)  # by node id of a Close, the videos that it made in this process
_lost: Counter[str] = Counter()  # how often any of them were found deleted


class InstructXWindowClose(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="InstructXWindowClose",
            display_name="InstructX Window Close",
            category=categories.VIDEO,
            description=(
                "The end of a loop over windows. Runs the nodes since InstructX Window Open once per "
                "window and joins the results into one video with the source's times, sound, rotation"
                " and tags."
            ),
            search_aliases=["instructx", "loop", "end loop", "long video", "join windows"],
            inputs=[
                Flow.Input("flow", tooltip="From the InstructX Window Open that gave the frames."),
                io.Image.Input(
                    "image",
                    lazy=True,
                    raw_link=True,
                    tooltip="The edited frames: as many as the window has, and the same size in every window.",
                ),
            ],
            outputs=[
                io.Video.Output(
                    display_name="VIDEO",
                    tooltip=("All windows as one file, with the source's times, sound, rotation and colour tags."),
                ),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.dynprompt],
            not_idempotent=True,  # each Close tracks the files that it made
            enable_expand=True,
        )

    @classmethod
    def fingerprint_inputs(cls, **_inputs: Any) -> int:
        """Change the value when a video that this node made is deleted: ComfyUI's cache holds only its path."""
        node_id = cls.hidden.unique_id
        gone = {path for path in _made[node_id] if not path.is_file()}
        _made[node_id] -= gone
        _lost[node_id] += bool(gone)
        return _lost[node_id]

    @classmethod
    def execute(cls, flow: FlowValue, image: Any) -> io.NodeOutput:
        check_executor()
        close_id, prompt = cls.hidden.unique_id, cls.hidden.dynprompt
        loop = find_loop(prompt, flow.node_id, close_id)
        return expand("InstructXWindowRun", loop, close_id)


class InstructXWindowRun(io.ComfyNode):
    """The hidden node that InstructX Window Close expands to."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return run_schema("InstructXWindowRun", "InstructX Window Run", "InstructX Window Close")

    @classmethod
    async def execute(
        cls, flow: list[FlowValue], end_id: list[str], nonce: list[str], outer: list[str], **values: list[Any]
    ) -> io.NodeOutput:
        from .window_run import edit_by_nodes

        path = await run_loop(flow[0], ran(cls, end_id[0], outer[0], values), ("image",), edit_by_nodes)
        _made[end_id[0]].add(path)
        return io.NodeOutput(InputImpl.VideoFromFile(str(path)), ui=_shown(path))


def _shown(path: Path) -> dict[str, Any]:
    """The UI output that shows the whole video on Window Close."""
    import folder_paths

    folder = path.parent.relative_to(_resolved(folder_paths.get_output_directory()))
    file = {"filename": path.name, "subfolder": "" if str(folder) == "." else folder.as_posix(), "type": "output"}
    return {"images": [file], "animated": (True,)}


def _resolved(folder: str) -> Path:
    from pathlib import Path

    return Path(folder).resolve()
