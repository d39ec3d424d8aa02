"""The per-run cache: the same bits, fewer forwards, and nothing left behind."""

from __future__ import annotations

import copy
import gc
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch

from instructx_core import EditInterrupted, Editor
from instructx_core.config import ContextEntry, DenoiserConfig, ModelConfig, SourceInjection
from instructx_core.context import Context
from instructx_core.denoiser import Denoiser
from instructx_core.families.components import Components
from instructx_core.memory.choice import Memory
from instructx_core.memory.live import LiveMemory
from instructx_core.memory.placement import place, store_in_fp8
from instructx_core.memory.plan import CHOICES, Plan
from instructx_core.sampling import GuidanceTerm, sample
from instructx_core.speed.options import CACHES, speed_up
from instructx_core.speed.run_cache import RunCache
from support import tiny

CPU = torch.device("cpu")
WORDS = "make the red circle blue"
STEPS = 4
ONCE = ("attn2.to_k", "attn2.norm_k", "attn2.to_v")  # of the blocks
LATENTS = torch.randn(1, tiny.CHANNELS, 2, 4, 6, generator=torch.Generator().manual_seed(1))
SIGMAS = (1.0, 0.6, 0.3)


def editor_with(components: Components | None = None, memory: Memory = Memory.FULL) -> Editor:
    return Editor(place(components or tiny.components(), Plan(memory, tiled=False), CPU), CPU)


def without_cache(monkeypatch: pytest.MonkeyPatch, edited: Callable[[], torch.Tensor]) -> torch.Tensor:
    """What an edit gives of which every step computes everything."""
    with monkeypatch.context() as patched:
        patched.setattr(RunCache, "lent", lambda _: nullcontext())
        return edited()


def edit(editor: Editor, guidance_scale: float = 1.0, **options: object) -> torch.Tensor:
    result = editor.edit(tiny.clip(5), WORDS, steps=STEPS, guidance_scale=guidance_scale, **options)
    return result.latents


def context(seed: int, count: int = 5) -> Context:
    return Context(torch.randn(1, count, tiny.TEXT_DIM, generator=torch.Generator().manual_seed(seed)))


def cached(denoiser: Denoiser, cache: RunCache, latents: torch.Tensor, sigma: torch.Tensor, own: Context):
    with cache.lent():
        return denoiser(latents, sigma, own)


def count(editor: Editor) -> dict[str, int]:
    """Forwards of the last block's parts and of what comes before the blocks, from now on."""
    transformer = editor.denoiser.transformer
    parts = {name: transformer.blocks[-1].get_submodule(name) for name in (*ONCE, "attn2.to_q")}
    parts |= {"text": transformer.condition_embedder.text_embedder.linear_1, "time": transformer.condition_embedder}
    calls = dict.fromkeys(parts, 0)

    def counting(name: str) -> None:
        def one_more(*_: object) -> None:
            calls[name] += 1

        parts[name].register_forward_hook(one_more)

    for name in parts:
        counting(name)
    return calls


# --- the same bits


MODELS: dict[str, ModelConfig] = {
    "text": tiny.CONFIG,
    "width": tiny.with_entry(ContextEntry.WIDTH),
    "embedding": replace(tiny.CONFIG, denoiser=DenoiserConfig(SourceInjection.EMBEDDING, source_fades=True)),
}


@pytest.mark.parametrize("config", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("guidance_scale", [1.0, 2.0])
def test_the_same_bits(config: ModelConfig, guidance_scale: float, monkeypatch: pytest.MonkeyPatch):
    expected = without_cache(monkeypatch, lambda: edit(editor_with(tiny.components(config)), guidance_scale))
    assert torch.equal(edit(editor_with(tiny.components(config)), guidance_scale), expected)


@pytest.mark.parametrize("memory", tiny.ways_here(CHOICES))
@pytest.mark.parametrize("fp8", [False, True])
def test_wherever_weights_lie(memory: Memory, fp8: bool, monkeypatch: pytest.MonkeyPatch):
    def editor() -> Editor:
        components = tiny.components()
        if fp8:
            store_in_fp8(components)
        return editor_with(components, memory)

    expected = without_cache(monkeypatch, lambda: edit(editor(), 2.0))
    caching = editor()
    calls = count(caching)
    assert torch.equal(edit(caching, 2.0), expected)
    assert calls["attn2.to_k"] == 1


def test_in_16_bits(monkeypatch: pytest.MonkeyPatch):
    def editor() -> Editor:
        components = tiny.components()
        components.denoiser.transformer.to(torch.bfloat16)
        return editor_with(components)

    assert torch.equal(edit(editor()), without_cache(monkeypatch, lambda: edit(editor())))


@pytest.mark.parametrize("cache", CACHES)
def test_beside_a_step_cache(cache: str, monkeypatch: pytest.MonkeyPatch):
    def editor() -> Editor:
        editor = editor_with()
        speed_up(editor.denoiser.transformer, "sdpa", compile_blocks=False, cache=tiny.step_cache(cache))
        return editor

    options = {"steps": 10, "guidance_scale": 1.5}
    expected = without_cache(monkeypatch, lambda: editor().edit(tiny.clip(5), WORDS, **options).latents)
    assert torch.equal(editor().edit(tiny.clip(5), WORDS, **options).latents, expected)


@torch.no_grad()
def test_runs_may_take_turns():
    """A cache belongs to a run: two of them, of other contexts and sizes, step by step beside each other."""
    denoiser = Denoiser(tiny.transformer(), tiny.CONFIG.denoiser)
    runs = [(LATENTS, context(1)), (LATENTS[..., :4], context(2, 7))]
    caches = [RunCache(denoiser.transformer) for _ in runs]
    for sigma in map(torch.tensor, SIGMAS):
        for (latents, own), cache in zip(runs, caches, strict=True):
            assert torch.equal(cached(denoiser, cache, latents, sigma, own), denoiser(latents, sigma, own))


@torch.no_grad()
def test_forwards_of_one_step_have_caches_of_their_own():
    """Terms of other shapes, and of the same shapes in another batch, never see each other's keys."""
    denoiser = Denoiser(tiny.transformer(), tiny.CONFIG.denoiser)
    source = denoiser.conditions(LATENTS)
    terms = [
        GuidanceTerm(3.0, context(1), source),
        GuidanceTerm(-1.5, context(2), ()),
        GuidanceTerm(-0.5, context(3, 7), source),
    ]
    latents, (first, second) = LATENTS, torch.tensor([0.75, 0.0]).split(1)  # the sigmas of two steps, shift 3
    for sigma, following in ((torch.tensor(1.0), first), (first[0], second)):
        velocity = sum(term.weight * denoiser(latents, sigma, term.context, term.conditions) for term in terms)
        latents = latents + (following - sigma) * velocity
    torch.testing.assert_close(sample(denoiser, LATENTS, terms, 2, 3.0), latents, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_latents_of_another_size_have_their_own_positions():
    denoiser = Denoiser(tiny.transformer(), tiny.CONFIG.denoiser)
    cache, sigma = RunCache(denoiser.transformer), torch.tensor(0.5)
    for latents in (LATENTS, LATENTS.mT.contiguous()):
        assert torch.equal(cached(denoiser, cache, latents, sigma, context(1)), denoiser(latents, sigma, context(1)))


@torch.no_grad()
def test_a_step_that_failed_can_be_tried_again(monkeypatch: pytest.MonkeyPatch):
    denoiser = Denoiser(tiny.transformer(), tiny.CONFIG.denoiser)
    cache, to_v = RunCache(denoiser.transformer), denoiser.transformer.blocks[-1].attn2.to_v
    with monkeypatch.context() as broken, pytest.raises(MemoryError):
        broken.setattr(to_v, "forward", lambda _: (_ for _ in ()).throw(MemoryError))
        cached(denoiser, cache, LATENTS, torch.tensor(0.5), context(1))
    expected = denoiser(LATENTS, torch.tensor(0.5), context(1))
    assert torch.equal(cached(denoiser, cache, LATENTS, torch.tensor(0.5), context(1)), expected)


@torch.no_grad()
def test_a_copy_computes_by_itself():
    denoiser = Denoiser(tiny.transformer(), tiny.CONFIG.denoiser)
    cached(denoiser, RunCache(denoiser.transformer), LATENTS, torch.tensor(0.5), context(1))
    other = copy.deepcopy(denoiser)
    for weight in denoiser.parameters():
        weight.zero_()
    ours = cached(other, RunCache(other.transformer), LATENTS, torch.tensor(0.5), context(1))
    assert ours.abs().max() > 0 and torch.equal(ours, other(LATENTS, torch.tensor(0.5), context(1)))


def test_two_denoisers_of_one_dit():
    transformer = tiny.transformer()
    first, second = (Denoiser(transformer, tiny.CONFIG.denoiser).requires_grad_(False) for _ in range(2))
    with torch.no_grad():
        caches = RunCache(transformer), RunCache(transformer)
        for sigma in map(torch.tensor, SIGMAS):
            ours = cached(first, caches[0], LATENTS, sigma, context(1))
            assert torch.equal(ours, cached(second, caches[1], LATENTS, sigma, context(1)))
            assert torch.equal(ours, first(LATENTS, sigma, context(1)))


# --- fewer forwards


def test_once_a_run():
    editor = editor_with()
    calls = count(editor)
    for runs in (1, 2):
        edit(editor, seed=runs)
        assert calls == dict.fromkeys((*ONCE, "text"), runs) | dict.fromkeys(("attn2.to_q", "time"), runs * STEPS)


def test_compiled_blocks_are_two():
    """One for the first step and one for all others: not one of each block, nor one of each run."""
    from torch._dynamo.testing import CompileCounter

    torch._dynamo.reset()
    editor, counter = editor_with(), CompileCounter()
    editor.denoiser.transformer.compile_repeated_blocks(backend=counter, fullgraph=True)
    compiled = edit(editor)
    assert counter.frame_count == 2
    torch.testing.assert_close(compiled, edit(editor_with()), atol=1e-5, rtol=0)
    edit(editor, seed=1)
    assert counter.frame_count == 2
    torch._dynamo.reset()


# --- nothing left


def test_nothing_is_left_after_a_run():
    editor = editor_with()
    with LiveMemory(editor.denoiser) as live, torch.no_grad():
        cache = RunCache(editor.denoiser.transformer)
        cached(editor.denoiser, cache, LATENTS, torch.tensor(0.5), context(1))
        gc.collect()
        kept = live.now
        del cache
        gc.collect()
        assert kept > 0 == live.now


def test_a_stopped_run_leaves_nothing_to_the_next():
    editor = editor_with()
    with pytest.raises(EditInterrupted):
        editor.edit(tiny.clip(5, seed=4), "add a green star", steps=STEPS, callback=lambda *_: False)
    assert torch.equal(edit(editor), edit(editor_with()))


def test_training_computes_everything():
    """Gradients of every forward reach the layers that a run would ask once."""
    denoiser = Denoiser(tiny.transformer(), tiny.CONFIG.denoiser)
    cache = RunCache(denoiser.transformer)
    gradients = []
    for lent in (cache.lent, cache.lent, nullcontext):
        denoiser.zero_grad()
        with lent():
            denoiser(LATENTS, torch.tensor(0.5), context(1)).square().mean().backward()
        gradients.append(denoiser.transformer.blocks[-1].attn2.to_k.weight.grad.clone())
    assert gradients[0].abs().max() > 0
    assert torch.equal(gradients[1], gradients[0]) and torch.equal(gradients[2], gradients[0])
    with torch.no_grad(), cache.lent():  # of another context: what they computed was not kept
        cached = denoiser(LATENTS, torch.tensor(0.5), context(2))
    with torch.no_grad():
        assert torch.equal(cached, denoiser(LATENTS, torch.tensor(0.5), context(2)))
