"""Public models as experts, by the kinds that a config names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...bounded import is_dir
from ...errors import InputError
from ...evaluation.judges.remote import RemoteJudge
from ...words import quoted, quoted_path
from ..config import ExpertChoice, Role
from ..experts import Experts
from .settings import check_prompts, check_settings

if TYPE_CHECKING:
    from ...evaluation.judges import Judge as AnyJudge

KINDS: dict[Role, tuple[str, ...]] = {
    "describe": ("mllm", "service"),
    "judge": ("mllm", "service"),
    "detect": ("detector",),
    "segment": ("sam2", "sam3"),
    "erase": ("inpainting",),
    "redraw": ("picture-edit", "instructx"),
    "pose": ("vitpose",),
    "animate": ("vace", "wan-animate"),
    "flow": ("block-matching", "raft"),
    "cuts": ("scenedetect",),
}
WITHOUT_MODEL = ("block-matching", "scenedetect")


def check_experts(choices: Mapping[Role, ExpertChoice]) -> None:
    """Raise InputError if a kind, setting, prompt or URL is invalid, or no model is named; nothing is loaded."""
    for role, choice in choices.items():
        if choice.kind not in KINDS[role]:
            raise InputError(f"experts.{role}: unknown kind {quoted(choice.kind)}; give {' or '.join(KINDS[role])}.")
        if choice.kind in WITHOUT_MODEL:
            if choice.model is not None:
                raise InputError(f"experts.{role}: {choice.kind} has no model; leave out model.")
        elif choice.model is None:
            what = "its name at the service" if choice.kind == "service" else "its folder"
            raise InputError(f"experts.{role}: {choice.kind} needs a model; give {what} as model.")
        if (choice.kind == "service") != (choice.url is not None):
            raise InputError(f"experts.{role}: kind: service requires url, other kinds do not take it.")
        if (choice.kind in WITHOUT_MODEL or choice.url) and (choice.copies != 1 or choice.gpus is not None):
            raise InputError(f"experts.{role}: copies and gpus are for local models; leave them out for {choice.kind}.")
        if choice.url is not None:
            RemoteJudge(choice.url, choice.model or "")
        check_settings(role, choice)
        check_prompts(role, choice.prompts)


def check_folders(choices: Mapping[Role, ExpertChoice]) -> None:
    """Raise InputError if a model folder is missing, before any model is loaded."""
    for role, choice in choices.items():
        if choice.model is not None and choice.url is None and not is_dir(choice.model):
            raise InputError(
                f"experts.{role}: {quoted_path(choice.model)} is not a folder; give a model folder on this machine."
            )


def load_experts(
    choices: Mapping[Role, ExpertChoice], device: str, answered_before: Callable[[], bool] = lambda: False
) -> Experts:
    """Load the experts that a config names; a model shared by several roles is loaded once.

    Args:
        answered_before: whether services have answered questions of this run elsewhere or before.

    Raises:
        InputError: an expert is misconfigured or its model folder is missing.
        CheckpointError: a folder does not hold such a model.
    """
    check_experts(choices)
    check_folders(choices)
    once: dict[Any, Any] = {}

    def shared(choice: ExpertChoice, load: Callable[[], Any]) -> Any:
        key = _model(choice)
        if key not in once:
            once[key] = load()
        return once[key]

    return Experts(**{role: _load(role, choice, device, shared, answered_before) for role, choice in choices.items()})


def models_of(choices: Mapping[Role, ExpertChoice]) -> list[dict[Role, ExpertChoice]]:
    """The roles of each local model; roles that share a model are grouped. Services are left out."""
    found: dict[Any, dict[Role, ExpertChoice]] = {}
    for role, choice in choices.items():
        if choice.kind not in WITHOUT_MODEL and choice.url is None:
            found.setdefault(_model(choice), {})[role] = choice
    return list(found.values())


def _model(choice: ExpertChoice) -> tuple[str, str | None, str | None]:
    """A key that is equal for roles which can share a model."""
    return "pipeline" if choice.kind in ("inpainting", "vace") else choice.kind, choice.model, choice.url


def _load(
    role: Role, choice: ExpertChoice, device: str, shared: Callable[..., Any], answered_before: Callable[[], bool]
) -> Any:
    folder, settings = Path(choice.model or ""), dict(choice.settings)
    if role in ("describe", "judge"):
        from .asked import AskedDescriber, AskedRater

        judge = shared(choice, lambda: _judge(choice, device))
        return (AskedDescriber if role == "describe" else AskedRater)(judge, choice.prompts, answered_before)
    if role == "detect":
        from .detectors import NamedDetector

        return NamedDetector.from_folder(folder, device, **settings)
    if role == "segment":
        from .trackers import SamTracker

        return SamTracker.from_folder(folder, device, choice.kind)
    if role == "pose":
        from .poses import VitPoser

        return VitPoser.from_folder(folder, device)
    if role == "flow":
        from .motion import BlockFlow
        from .raft import RaftFlow

        return RaftFlow.from_folder(folder, device) if choice.kind == "raft" else BlockFlow()
    if role == "cuts":
        from .scenes import ContentScenes

        return ContentScenes()
    prompts = dict(choice.prompts)
    if choice.kind == "instructx":
        from .editors import OwnRedrawer

        return OwnRedrawer.from_folder(folder, device, **prompts, **settings)
    from .animators import VaceAnimator, WanAnimator
    from .pipelines import PipelineEraser, PipelineRedrawer, load_pipeline

    pipeline = shared(choice, lambda: load_pipeline(folder, device))
    kinds = {
        "inpainting": PipelineEraser,
        "picture-edit": PipelineRedrawer,
        "vace": VaceAnimator,
        "wan-animate": WanAnimator,
    }
    return kinds[choice.kind](pipeline, **prompts, **settings)


def _judge(choice: ExpertChoice, device: str) -> AnyJudge:
    import torch

    if choice.url is not None:
        return RemoteJudge(choice.url, choice.model or "")
    from ...evaluation.judges.local import LocalJudge

    return LocalJudge(
        Path(choice.model or ""), torch.device(device), torch.float32 if device == "cpu" else torch.bfloat16
    )
