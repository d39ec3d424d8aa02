"""Public models as experts, by the names that a config gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import InputError
from ...words import listed, quoted
from ..config import ExpertChoice, Role
from ..experts import Experts

if TYPE_CHECKING:
    from ...evaluation.judges import Judge as AnyJudge

SETTINGS = {  # of each kind
    "detector": {"threshold"},
    "inpainting": {"steps", "grow", "seed"},
    "picture-edit": {"steps", "seed"},
    "instructx": {"steps", "seed"},
    "vace": {"steps", "seed", "words"},
}
KINDS: dict[Role, tuple[str, ...]] = {
    "describe": ("mllm", "service"),
    "judge": ("mllm", "service"),
    "detect": ("detector",),
    "segment": ("sam2",),
    "erase": ("inpainting",),
    "redraw": ("picture-edit", "instructx"),
    "pose": ("vitpose",),
    "animate": ("vace",),
    "flow": ("block-matching",),
    "cuts": ("scenedetect",),
}
WITHOUT_MODEL = ("block-matching", "scenedetect")


def check_experts(choices: Mapping[Role, ExpertChoice]) -> None:
    """Raise InputError where a kind or setting is unknown, or a model is missing; nothing is loaded."""
    for role, choice in choices.items():
        if choice.kind not in KINDS[role]:
            raise InputError(
                f"experts.{role}: {quoted(choice.kind)} is no kind of it; give {' or '.join(KINDS[role])}."
            )
        if choice.model is None and choice.kind not in WITHOUT_MODEL:
            raise InputError(f"experts.{role}: {choice.kind} needs a model; name its folder under model.")
        if (choice.kind == "service") != (choice.url is not None):
            raise InputError(f"experts.{role}: url belongs to kind: service, which needs it.")
        if unknown := sorted(set(choice.settings) - SETTINGS.get(choice.kind, set())):
            raise InputError(f"experts.{role}: {choice.kind} has no setting {listed(unknown)}.")


def load_experts(choices: Mapping[Role, ExpertChoice], device: str) -> Experts:
    """Load what a config names; one model that two roles name is loaded once.

    Raises:
        InputError, CheckpointError: no such model.
    """
    check_experts(choices)
    once: dict[Any, Any] = {}

    def shared(choice: ExpertChoice, load: Callable[[], Any]) -> Any:
        key = _model(choice)
        if key not in once:
            once[key] = load()
        return once[key]

    return Experts(**{role: _load(role, choice, device, shared) for role, choice in choices.items()})


def models_of(choices: Mapping[Role, ExpertChoice]) -> list[dict[Role, ExpertChoice]]:
    """The roles of each model on this machine; those that share one are together. Services have none."""
    found: dict[Any, dict[Role, ExpertChoice]] = {}
    for role, choice in choices.items():
        if choice.kind not in WITHOUT_MODEL and choice.url is None:
            found.setdefault(_model(choice), {})[role] = choice
    return list(found.values())


def _model(choice: ExpertChoice) -> tuple[str, str | None, str | None]:
    """The same for roles that one model can serve."""
    return "pipeline" if choice.kind in ("inpainting", "vace") else choice.kind, choice.model, choice.url


def _load(role: Role, choice: ExpertChoice, device: str, shared: Callable[..., Any]) -> Any:
    folder, settings = Path(choice.model or ""), dict(choice.settings)
    if role in ("describe", "judge"):
        from .asked import AskedDescriber, AskedRater

        judge = shared(choice, lambda: _judge(choice, device))
        return (AskedDescriber if role == "describe" else AskedRater)(judge, choice.prompts)
    if role == "detect":
        from .detectors import NamedDetector

        return NamedDetector.from_folder(folder, device, **settings)
    if role == "segment":
        from .trackers import Sam2Tracker

        return Sam2Tracker.from_folder(folder, device)
    if role == "pose":
        from .poses import VitPoser

        return VitPoser.from_folder(folder, device)
    if role == "flow":
        from .motion import BlockFlow

        return BlockFlow()
    if role == "cuts":
        from .scenes import ContentScenes

        return ContentScenes()
    prompts = {name: words for name, words in choice.prompts.items() if name == "portray"}
    if choice.kind == "instructx":
        from .editors import OwnRedrawer

        return OwnRedrawer.from_folder(folder, device, **prompts, **settings)
    from .pipelines import PipelineEraser, PipelineRedrawer, VaceAnimator, load_pipeline

    pipeline = shared(choice, lambda: load_pipeline(folder, device))
    kinds = {"erase": PipelineEraser, "redraw": PipelineRedrawer, "animate": VaceAnimator}
    return kinds[role](pipeline, **prompts, **settings)


def _judge(choice: ExpertChoice, device: str) -> AnyJudge:
    import torch

    if choice.url is not None:
        from ...evaluation.judges.remote import RemoteJudge

        return RemoteJudge(choice.url, choice.model or "")
    from ...evaluation.judges.local import LocalJudge

    return LocalJudge(
        Path(choice.model or ""), torch.device(device), torch.float32 if device == "cpu" else torch.bfloat16
    )
