"""Training's number format where a CPU is slow in bfloat16; that a run then warns: test_training_recipe."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from instructx_core.training import precision

CPU = torch.device("cpu")


class Formats(TorchDispatchMode):
    """Collects the formats of all results in a block."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[torch.dtype] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.seen.add(result.dtype)
        return result


def stepped(weight: torch.Tensor, gradient: torch.Tensor) -> tuple[torch.Tensor, set[torch.dtype]]:
    """A weight after a step of Muon, and the formats that the step computed in."""
    parameter = torch.nn.Parameter(weight.clone())
    parameter.grad = gradient.clone()
    with Formats() as formats, precision.stepping(CPU):
        torch.optim.Muon([parameter], lr=0.1, adjust_lr_fn="match_rms_adamw").step()
    return parameter.detach(), formats.seen


def test_muon_steps_alike_in_either_format(monkeypatch: pytest.MonkeyPatch) -> None:
    weight, gradient = torch.randn(2, 48, 32, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(precision, "is_slow_in_bfloat16", lambda device: False)
    usual, formats = stepped(weight, gradient)
    assert torch.bfloat16 in formats
    monkeypatch.setattr(precision, "is_slow_in_bfloat16", lambda device: True)
    mended, formats = stepped(weight, gradient)
    assert torch.bfloat16 not in formats
    moved = (usual - weight).norm()
    assert (mended - usual).norm() < 0.02 * moved


@pytest.mark.parametrize("device", ["cuda", "mps", "xpu"])
def test_only_cpus_are_asked(device: str) -> None:
    assert not precision.is_slow_in_bfloat16(torch.device(device))
