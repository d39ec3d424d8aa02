"""Where weights lie changes no pixel; and whatever computes has its weights, which a CPU alone would never tell."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import torch
from torch import nn

from instructx_core import EditInterrupted, Editor, InputError
from instructx_core.families.components import Components
from instructx_core.long_video.editor_model import fingerprint
from instructx_core.memory.choice import Memory
from instructx_core.memory.phases import Part
from instructx_core.memory.placement import place, together
from instructx_core.memory.plan import CHOICES, Plan, resident
from instructx_core.memory.sizes import sizes_of
from support import tiny
from support.pairs import paired

CPU = torch.device("cpu")
WORDS = "make the red circle blue"
SPARING = CHOICES[1:]


def placed(memory: Memory, tiled: bool = False) -> Editor:
    return Editor(place(tiny.components(), Plan(memory, tiled), CPU), CPU)


def edits(editor: Editor) -> list[torch.Tensor]:
    """A picture; a clip with a reference and guidance; the picture again."""
    picture, clip = tiny.clip(1), tiny.clip(5)
    return [
        editor.edit(picture, WORDS).frames,
        editor.edit(clip, WORDS, tiny.clip(1, 30, 60, seed=5)[0], guidance_scale=2.0).frames,
        editor.edit(picture, WORDS).frames,
    ]


def batch(editor: Editor) -> torch.Tensor:
    """Two clips together."""
    results = editor.edit_batch([tiny.clip(5), tiny.clip(5, seed=3)], [WORDS, "add a green star"])
    return torch.stack([result.frames for result in results])


@pytest.fixture(scope="module")
def everything_there() -> Editor:
    return Editor(tiny.components())


@pytest.mark.parametrize("memory", tiny.ways_here(CHOICES))
def test_the_same_pixels(memory: Memory, everything_there: Editor):
    editor = placed(memory)
    for frames, expected in zip(edits(editor), edits(everything_there), strict=True):
        assert torch.equal(frames, expected)
    # clips of a batch go through the VAE one by one, which sums in another order
    torch.testing.assert_close(batch(editor), batch(everything_there), atol=1e-5, rtol=0)


@pytest.mark.parametrize("memory", tiny.ways_here(SPARING))
def test_a_spread_model_is_saved_and_known_again(memory: Memory, tmp_path: Path):
    editor = placed(memory)
    editor.edit(tiny.clip(1), WORDS)
    assert fingerprint(editor) == fingerprint(Editor(tiny.components()))
    editor.save_pretrained(tmp_path / "model")
    again = Editor.from_pretrained(tmp_path / "model", device="cpu", memory=memory.value)
    frames, expected = (one.edit(tiny.clip(1), WORDS).frames for one in (again, editor))
    torch.testing.assert_close(frames, expected, atol=1e-5, rtol=0)  # memory lies otherwise: sums in another order


def test_wrong_names_are_refused_before_anything_is_loaded(tmp_path: Path):
    with pytest.raises(InputError, match="memory is 'small'"):
        Editor.from_pretrained(tmp_path, device="cpu", memory="small")


# --- what is where, on a device that is only pretended


class Pretended:
    """Which weights would be away from a device; modules that compute without theirs fail the test."""

    def __init__(self, *parts: nn.Module) -> None:
        self.sizes = {id(tensor): tensor.nbytes for part in parts for tensor in part.parameters()}
        self.away: set[int] = set()
        self.most = 0  # bytes of weights that were there while something computed
        for part in parts:
            for module in part.modules():
                if own := list(module.parameters(recurse=False)):
                    module.forward = self._watched(module.forward, {id(tensor) for tensor in own})

    def come(self, tensors: Iterable[torch.Tensor]) -> None:
        self.away -= {id(tensor) for tensor in tensors}

    def go(self, tensors: Iterable[torch.Tensor]) -> None:
        self.away |= {id(tensor) for tensor in tensors}

    def _watched(self, forward: Callable, own: set[int]) -> Callable:
        def run(*args: object, **kwargs: object) -> object:
            assert not own & self.away, f"{forward} computes, but its weights are away"
            self.most = max(self.most, sum(size for key, size in self.sizes.items() if key not in self.away))
            return forward(*args, **kwargs)

        return run


@pytest.fixture(params=[tiny.components, paired], ids=["one DiT", "a pair"])
def pretended(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[Components, Pretended]:
    """A model whose weights come and go as the libraries' hooks would move them."""
    from accelerate.hooks import CpuOffload
    from diffusers.hooks.group_offloading import ModuleGroup

    components = request.param()
    parts = (components.guidance, components.connector, components.denoiser, components.codec)
    device = Pretended(*parts)

    def of_group(group: ModuleGroup) -> list[torch.Tensor]:
        return [*group.parameters, *(tensor for module in group.modules for tensor in module.parameters())]

    def comes(hook: CpuOffload, module: nn.Module, *args: object, **kwargs: object) -> tuple:
        if hook.prev_module_hook is not None:
            hook.prev_module_hook.offload()
        device.come(module.parameters())
        return args, kwargs

    def goes(_hook: CpuOffload, module: nn.Module) -> nn.Module:
        device.go(module.parameters())
        return module

    monkeypatch.setattr(ModuleGroup, "onload_", lambda group: device.come(of_group(group)))
    monkeypatch.setattr(ModuleGroup, "offload_", lambda group: device.go(of_group(group)))
    monkeypatch.setattr(CpuOffload, "pre_forward", comes)
    monkeypatch.setattr(CpuOffload, "init_hook", goes)
    return components, device


@pytest.mark.parametrize("memory", tiny.ways_here(SPARING))
def test_what_computes_is_there_and_little_else(memory: Memory, pretended: tuple[Components, Pretended]):
    components, device = pretended
    sizes = sizes_of(components)
    editor = Editor(place(components, Plan(memory, tiled=False), CPU), CPU)
    edits(editor)
    assert 0 < device.most <= max(resident(sizes, memory, part) for part in Part)
    assert device.most < sum(device.sizes.values())


def test_a_stopped_edit_makes_room_for_the_next(pretended: tuple[Components, Pretended]):
    components, device = pretended
    editor = Editor(place(components, Plan(Memory.MODEL, tiled=False), CPU), CPU)
    for steps in (1, 2, 3, 4):  # where the first DiT of a pair works, and where the second does
        with pytest.raises(EditInterrupted):
            editor.edit(tiny.clip(1), WORDS, steps=4, callback=lambda step, *_, last=steps: step < last)
        device.most = 0
        editor.context([WORDS], [tiny.clip(1)], [()], False)
        assert device.most <= resident(sizes_of(components), Memory.MODEL, Part.MLLM)


def test_accelerate_sends_away_whichever_of_several_is_there():
    from accelerate.hooks import CpuOffload, UserCpuOffloadHook

    class Sent(UserCpuOffloadHook):
        def offload(self) -> None:
            sent.append(self.model)

    here, there, part = nn.Linear(1, 1), nn.Linear(1, 1, device="meta"), nn.Linear(1, 1)  # meta stands for a GPU
    for others, gone in (([here, there], True), ([there, here], True), ([here], False)):
        sent: list[nn.Module] = []
        CpuOffload(CPU, together([Sent(other, None) for other in others])).pre_forward(part)
        assert (there in sent) is gone


def test_one_dit_of_a_pair_is_there_at_a_time(pretended: tuple[Components, Pretended]):
    """Also where the next run begins, and where one has steps of the first alone."""
    components, device = pretended
    editor = Editor(place(components, Plan(Memory.MODEL, tiled=False), CPU), CPU)
    editor.context([WORDS], [tiny.clip(1)], [()], False)
    worked = []
    for half in components.denoiser.halves:
        others = [id(own) for other in components.denoiser.halves if other is not half
                  for own in other.transformer.parameters()]  # fmt: skip

        def check(*_: object, others: list[int] = others, half: object = half) -> None:
            worked.append(half)
            assert device.away.issuperset(others)

        half.transformer.blocks[0].register_forward_pre_hook(check)
    for steps in (4, 4, 1):
        editor.edit(tiny.clip(1), WORDS, steps=steps)
    assert set(worked) == set(components.denoiser.halves)


@pytest.mark.parametrize("memory", tiny.ways_here(CHOICES))
def test_tiles_are_the_vae_s_alone(memory: Memory):
    assert placed(memory, tiled=True).codec.vae.use_tiling
    assert not placed(memory).codec.vae.use_tiling
