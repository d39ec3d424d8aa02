"""What people put on a MODEL to make it faster leaves the edit as it is: torch.compile, cached steps."""

from contextlib import contextmanager

import torch
from check_kiwi import REFERENCES, clip
from check_kiwi import wired as wired_kiwi
from comfy.ldm.modules.attention import attention_pytorch
from comfy_api.torch_helpers import set_torch_compile_wrapper
from comfy_extras.nodes_easycache import EasyCacheNode, LazyCacheNode
from comfy_extras.nodes_torch_compile import TorchCompileModel, skip_torch_compile_dict
from kit import AFFINE, SMALLER, TOLERANCE, VARIANTS, difference, example, expect, loaded, sampled, slow, wired
from torch._dynamo.utils import counters

CACHES = (EasyCacheNode, LazyCacheNode)
RUN = {"seed": 8, "cfg": 2.0, "steps": 6}
KIWI = ("published", "first")


def graph(name, model=None):
    """Up to the sampler, of a short clip with a reference."""
    if name in KIWI:
        return wired_kiwi(name, clip(3), references=REFERENCES[:1], model=model)
    image, instruction, reference = example("reference_swap", frames=3, width=48, height=40)
    return wired(name, image, instruction, [reference], model=model)


@contextmanager
def counted(model):
    """A list that grows by one with each run of the MODEL's DiT."""
    runs = []
    hook = model.model.diffusion_model.blocks[0].register_forward_pre_hook(lambda *_: runs.append(True))
    try:
        yield runs
    finally:
        hook.remove()


def traced(sample):
    """What `sample` gives, where torch.compile took in the whole DiT."""
    torch._dynamo.reset()
    counters.clear()
    answer = sample()
    assert counters["stats"]["unique_graphs"] >= 1, dict(counters["stats"])
    assert not counters["graph_break"], dict(counters["graph_break"])
    return answer


def as_on_a_gpu(model):
    """The MODEL with the attention of a GPU: the CPU's asks for free memory, where the compiler breaks off."""
    clone = model.clone()
    own = clone.model_options["transformer_options"]
    own["optimized_attention_override"] = lambda _, *given, **named: attention_pytorch(*given, **named)
    return clone


def check_torch_compile():
    image, instruction, reference = example("reference_swap")
    patched, *rest = wired(SMALLER, image, instruction, [reference])
    patched = as_on_a_gpu(patched)
    plain = sampled((patched, *rest), seed=5)
    (compiled,) = TorchCompileModel.execute(patched, "inductor").args
    with torch._inductor.config.patch({"cpp.vec_isa_ok": False}):  # trying a CPU's instruction sets takes half a minute
        answer = traced(lambda: sampled((compiled, *rest), seed=5))
    assert difference(answer, plain) <= TOLERANCE
    assert difference(sampled((patched, *rest), seed=5), plain) == 0  # the MODEL that went in is untouched


def follows(name):
    """Traced as for a compiler but run as it is, which takes seconds where inductor takes minutes."""
    patched, *rest = graph(name)
    patched = as_on_a_gpu(patched)
    compiled = patched.clone()
    options = {"guard_filter_fn": skip_torch_compile_dict}  # as the node sets them
    set_torch_compile_wrapper(model=compiled, backend="eager", options=options)
    answer = traced(lambda: sampled((compiled, *rest), **RUN))
    assert difference(answer, sampled((patched, *rest), **RUN)) <= 1e-5, name


def check_torch_compile_follows_gains_and_others_models():
    for name in (AFFINE, KIWI[0]):
        follows(name)


@slow
def check_torch_compile_follows_every_variant():
    for name in (*VARIANTS, *KIWI[1:]):
        follows(name)


def check_cached_steps():
    """A threshold that nothing stays under reuses no step; one that all stay under runs less of the DiT, whether the
    cache is put on before InstructX Source or behind it."""
    for name in (*VARIANTS, *KIWI):
        patched, *rest = graph(name)
        plain = sampled((patched, *rest), **RUN)
        for node in CACHES:
            (idle,) = node.execute(patched, 0.0, 0.0, 1.0, False).args
            assert difference(sampled((idle, *rest), **RUN), plain) == 0, (name, node)
            (behind,) = node.execute(patched, 3.0, 0.0, 1.0, False).args
            (before,) = node.execute(loaded(name)[0], 3.0, 0.0, 1.0, False).args
            answers = []
            for whole in ((behind, *rest), graph(name, before)):
                with counted(whole[0]) as runs:
                    answers.append(sampled(whole, **RUN))
                assert 2 <= len(runs) < RUN["steps"], (name, node, len(runs))
            assert difference(*answers) == 0, (name, node)


def check_a_gain_is_cached_as_a_velocity_alone():
    """EasyCache adds what it kept of the DiT's output to the latents, which have other channels; LazyCache keeps what
    the sampler is given."""
    patched, *rest = graph(AFFINE)
    (easy,) = EasyCacheNode.execute(patched, 3.0, 0.0, 1.0, False).args
    expect("InputError", "use LazyCache instead", sampled, (easy, *rest), **RUN)
    (lazy,) = LazyCacheNode.execute(patched, 3.0, 0.0, 1.0, False).args
    with counted(lazy) as runs:
        assert sampled((lazy, *rest), **RUN).isfinite().all()
    assert 2 <= len(runs) < RUN["steps"], len(runs)
