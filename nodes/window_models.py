"""Choose the window model of a sliding window by what is connected: MLLM and connector, or conditioning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..instructx_core.errors import InputError
from . import references, sampling
from .natives import is_unet
from .notes import say

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

    from ..instructx_core.request import EditRequest
    from .native_windows import NativeModel

AS_CONDITIONED = "(as the conditioning says)"


def window_model(
    model: ModelPatcher,
    vae: Any,
    instruction: str,
    settings: dict[str, Any],
    graph: dict[str, str] | None,
    is_video: bool,
) -> NativeModel:
    """Build the window model from the sockets and menus of a sliding window.

    Args:
        settings: all other inputs by socket name. Unconnected ones may be missing, and so may per-window ones, which
            `anew` then provides.
        graph: hashes of the nodes and settings that linked parts come from; None if unknown.

    Raises:
        InputError: any of the inputs cannot be used.
    """
    from ..instructx_core.request import EditRequest

    if is_unet(model):
        raise InputError("model is a Stable Diffusion UNet, which edits pictures; sliding windows need a video MODEL.")
    shown = tuple(references.every(settings.get("reference"), settings.get(references.FURTHER)))
    asked = sampling.asked(settings["steps"], settings["cfg"], settings["shift"])
    conditioned = settings.get("positive") is not None or "positive" in _names(settings)
    if not conditioned and (settings.get("mllm") is None or settings.get("connector") is None):
        raise InputError("Nothing says what to change; connect mllm and connector, or positive and negative.")
    words = AS_CONDITIONED if conditioned else instruction
    request = EditRequest(words, shown, asked, seed=settings["seed"])
    if conditioned:
        return _conditioned(model, vae, request, settings, graph)
    return _guided(model, vae, request, settings, graph, is_video)


def _guided(
    model: ModelPatcher,
    vae: Any,
    request: EditRequest,
    settings: dict[str, Any],
    graph: dict[str, str] | None,
    is_video: bool,
) -> NativeModel:
    """A window model guided by MLLM and connector."""
    from .native_windows import NativeModel
    from .wan import check_wan

    check_wan(model)
    parts = (model, vae, settings["mllm"], settings["connector"])
    return NativeModel(parts, request, _chosen(model, request, settings), graph, is_video, *_given(settings))


def _conditioned(
    model: ModelPatcher, vae: Any, request: EditRequest, settings: dict[str, Any], graph: dict[str, str] | None
) -> NativeModel:
    """A window model guided by conditioning."""
    from .conditioned_windows import ConditionedModel, settings_of
    from .denoising import ATTACHMENT

    if settings.get("mllm") is not None or settings.get("connector") is not None:
        raise InputError("positive and mllm are both connected; connect only one of them.")
    if model.get_attachment(ATTACHMENT) is not None:
        chosen = _chosen(model, request, settings)
    else:
        chosen = settings_of(settings)
        own = "mask" in _names(settings) or "positive" in _names(settings)
        if chosen.denoise == 1 and settings.get("mask") is None and not own:
            say("At denoise 1 and without a mask, this MODEL sees nothing of the source; set denoise below 1.")
    said = (settings.get(name) for name in ("positive", "negative"))
    return ConditionedModel(model, vae, *said, request, chosen, graph, *_given(settings))


def _given(settings: dict[str, Any]) -> tuple[Any, ...]:
    """The provider of per-window inputs, and the second MODEL of a pair; None if missing."""
    return settings.get("anew"), settings.get("model_low")


def _names(settings: dict[str, Any]) -> frozenset[str]:
    """Names of the per-window inputs."""
    anew = settings.get("anew")
    return frozenset() if anew is None else anew.names


def _chosen(model: ModelPatcher, request: EditRequest, settings: dict[str, Any]) -> sampling.Settings:
    way = (settings[name] for name in ("sampler_name", "scheduler", "denoise"))
    return sampling.settings(model, request.sampling, *way, settings.get("edit_strength", 1.0))
