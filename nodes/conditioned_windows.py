"""Edit windows with any native video MODEL, its VAE and CONDITIONING: no MLLM, no connector."""

from __future__ import annotations

import hashlib
import secrets
from typing import TYPE_CHECKING, Any

from ..instructx_core.errors import InputError
from .conditioning import has_references
from .denoising import ATTACHMENT
from .model_pair import second_of
from .native_windows import NativeModel
from .sampling import Settings, guidance_weight
from .vae import check_vae, strides

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from comfy.model_patcher import ModelPatcher

    from ..instructx_core.fit import Fit
    from ..instructx_core.request import EditRequest
    from .conditioning import Conditioning
    from .each_window import EachWindow

USUAL_LENGTH = 81  # frames of a window when no length is given
PATCH = 2  # a window's sides are multiples of this many latent positions: a token spans 2 in Wan's DiT, 1 in LTXV's


class ConditionedModel(NativeModel):
    """A `WindowModel` of the library.

    If one of this pack's loaders attached a checkpoint to the MODEL, it sees each window's source in the way that the
    checkpoint requires. Any other MODEL sees the source only as the latents that sampling starts from (`denoise` below
    1) or keeps (outside a mask). The conditioning is the same for all windows, except for what `anew` replaces.
    """

    def __init__(
        self,
        model: ModelPatcher,
        vae: Any,
        positive: Conditioning | None,
        negative: Conditioning | None,
        request: EditRequest,
        chosen: Settings,
        graph: dict[str, str] | None = None,
        anew: EachWindow | None = None,
        low: ModelPatcher | None = None,
    ) -> None:
        """
        Args:
            positive, negative: None if `anew` provides it, or if it is not connected.
            chosen: the request's sampling as ComfyUI's settings.
            graph: hashes of the nodes and settings that the parts come from; None if unknown.
            anew: provides per-window inputs; None if there are none.
            low: the second of a pair of DiTs.

        Raises:
            InputError: a second MODEL of a different kind, a VAE that does not match the MODEL, or a run that needs a
                negative without one.
        """
        check_vae(model, vae)
        names = frozenset() if anew is None else anew.names
        self.model, self.vae = model, vae
        self.low = None if low is None else second_of(model, low)
        self.own = model.get_attachment(ATTACHMENT)
        if (request.references or "reference" in names) and self.own is None:
            raise InputError(
                "References need a model from InstructX Load Model; for any other, put them into the conditioning."
            )
        self.positive, self.negative = positive, negative
        self.request = request
        self.chosen = chosen
        self.graph = graph or {"unknown": secrets.token_hex(16)}
        self.anew = anew
        self.mask = self.window_mask = None
        self.outside = []
        self.strides = strides(vae)
        self.default_frames = USUAL_LENGTH if self.own is None else self.own.config.default_frames
        self.takes_back_loss = self.own is not None and self.own.config.keep_source > 0
        self.temporal_stride = self.strides.time
        self.frame_multiple = self.strides.frame_multiple
        self.read_frames = 1
        if "negative" not in names:
            self._check_negative("reference" in names)

    def fit(self, frames: int, size: tuple[int, int]) -> Fit:
        if self.own is not None:
            return super().fit(frames, size)
        from ..instructx_core.fit import plan_fit

        return plan_fit(frames, size, self.strides.space * PATCH, self.strides.frame_multiple, size[0] * size[1])

    def take(self, given: dict[str, Any]) -> None:
        super().take(given)
        if "positive" in given:
            self.positive = given["positive"]
        if "negative" in given:
            self.negative = given["negative"]
        self._check_negative()

    def _check_negative(self, awaits_reference: bool = False) -> None:
        """Raise InputError if the run needs a negative and has none.

        Args:
            awaits_reference: each window will get a reference.
        """
        if self.negative is not None:
            return
        if self.chosen.cfg != 1:
            raise InputError(
                f"cfg times edit_strength is {self.chosen.cfg:g}, but no negative is connected; connect one, or set "
                "both to 1."
            )
        referenced = bool(self.request.references) or has_references(self.positive or [], None)
        if self.needs_negative(awaits_reference or referenced):
            raise InputError(
                f"The model's guidance, a patch on it or its sampler ({self.chosen.sampler}) needs a negative even at "
                "cfg 1; connect one."
            )

    def read(self, shown: Sequence[torch.Tensor]) -> tuple[Conditioning, Conditioning]:
        return self.positive, self.positive if self.negative is None else self.negative

    def encode(self, frames: torch.Tensor) -> torch.Tensor:
        return self.vae.encode(frames[0, ..., :3])

    def conditions(
        self, source: torch.Tensor, guidance: tuple[Conditioning, Conditioning]
    ) -> tuple[ModelPatcher, Conditioning, Conditioning]:
        if self.own is None:
            return self.model, *guidance
        return self.carrying(source, *guidance)

    def files(self) -> str:
        return hashlib.sha256(b"").hexdigest()


def settings_of(settings: dict[str, Any]) -> Settings:
    """Sampling settings from the widgets, for a MODEL that has no defaults of its own.

    Raises:
        InputError: steps or cfg is left at 0, or as for `guidance_weight`.
    """
    for name in ("steps", "cfg"):
        if not settings[name]:
            raise InputError(f"{name} is 0, but this MODEL has no value of its own; set {name}.")
    return Settings(
        settings["steps"],
        guidance_weight(settings["cfg"], settings.get("edit_strength", 1.0)),
        settings["shift"],
        settings["sampler_name"],
        settings["scheduler"],
        settings["denoise"],
    )
