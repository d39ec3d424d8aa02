"""InstructX UniPC: a second-order solver with its own noise levels, for SamplerCustomAdvanced."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import comfy.samplers
from comfy_api.latest import io

from . import categories

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch


class InstructXUniPC(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="InstructXUniPC",
            display_name="InstructX UniPC",
            category=categories.SAMPLING,
            description=(
                "UniPC as the authors of Wan's editors run it. It differs from ComfyUI's solver of that name."
            ),
            search_aliases=["instructx", "uni_pc", "unipc", "bernini", "sampler", "sigmas"],
            inputs=[
                io.Int.Input("steps", default=40, min=1, max=1000, tooltip="Sampling steps."),
                io.Float.Input(
                    "shift",
                    default=5.0,
                    min=0.1,
                    max=100.0,
                    step=0.1,
                    tooltip="Above 1, more steps go to the coarse shape.",
                ),
            ],
            outputs=[
                io.Sampler.Output(display_name="SAMPLER", tooltip="For SamplerCustomAdvanced."),
                io.Sigmas.Output(display_name="SIGMAS", tooltip="Its noise levels."),
            ],
        )

    @classmethod
    def execute(cls, steps: int, shift: float) -> io.NodeOutput:
        from ..instructx_core.schedules import unipc_schedule

        return io.NodeOutput(comfy.samplers.KSAMPLER(sample_unipc), unipc_schedule(steps, shift).float())


def sample_unipc(
    model: Callable[..., torch.Tensor],
    x: torch.Tensor,
    sigmas: torch.Tensor,
    extra_args: dict[str, Any] | None = None,
    callback: Callable[[dict[str, Any]], object] | None = None,
    disable: bool | None = None,
) -> torch.Tensor:
    """Sampler function with ComfyUI's signature: `model` predicts the clean latents."""
    from ..instructx_core.sampling import unipc

    scheduler, levels = unipc(sigmas.double().cpu())
    each = x.new_ones([len(x)])
    for step, level in enumerate(levels.to(x)):
        clean = model(x, level * each, **(extra_args or {}))
        if callback is not None:
            callback({"x": x, "i": step, "sigma": level, "sigma_hat": level, "denoised": clean})
        velocity = (x - clean) / level
        x = scheduler.step(velocity, scheduler.timesteps[step], x, return_dict=False)[0]
    return x
