"""Progress and Cancel in what takes long, and what is released afterwards."""

import gc
import weakref
from contextlib import contextmanager

import comfy.model_management as management
import comfy.utils
import torch
from kit import BUNDLED, SMALLER, example, run


@contextmanager
def on_progress(react):
    """`react(done, total)` after each move of any progress bar, as ComfyUI's own hook but not less often."""
    original = comfy.utils.ProgressBar.update_absolute

    def spied(bar, value, total=None, preview=None):
        original(bar, value, total, preview)
        react(bar.current, bar.total)

    comfy.utils.ProgressBar.update_absolute = spied
    try:
        yield
    finally:
        comfy.utils.ProgressBar.update_absolute = original


def expect_cancelled(name, **inputs):
    """The node stops as ComfyUI's nodes do when Cancel was pressed."""
    try:
        run(name, **inputs)
    except management.InterruptProcessingException:
        return
    raise AssertionError(f"{name} went on")


def held():
    """Bytes of all tensors that live."""
    gc.collect()
    return sum(thing.nbytes for thing in gc.get_objects() if type(thing) in (torch.Tensor, torch.nn.Parameter))


def free_everything():
    """With dropping the nodes' outputs, what the server's /free does."""
    management.unload_all_models()
    management.cleanup_models()


def check_loading_moves_the_bar():
    for node, inputs in (
        ("LoadModel", {"model_name": BUNDLED}),
        ("LoadMLLM", {"base": BUNDLED, "adapter": BUNDLED}),
    ):
        seen = []
        with on_progress(lambda done, total, seen=seen: seen.append(done / total)):
            run(node, precision="float32", **inputs)
        assert len(seen) > 20, node  # the MLLM moves it tensor by tensor
        assert seen == sorted(seen)
        assert seen[-1] > 0.95, (node, seen[-1])


def check_cancel_inside_the_load():
    seen = []

    def cancel(done, total):
        seen.append(done / total)
        if len(seen) == 3:
            management.interrupt_current_processing()  # what the server does when Cancel is pressed

    before = held()
    with on_progress(cancel):
        expect_cancelled("LoadMLLM", base=BUNDLED, adapter=BUNDLED, precision="float32")
    assert len(seen) == 3
    assert seen[-1] < 1
    free_everything()
    assert held() - before < 2**20


def check_cancel_inside_the_reading():
    image, instruction, _ = example("recolor")
    before = held()
    (mllm,) = run("LoadMLLM", base=BUNDLED, adapter=BUNDLED, precision="float32")
    first, *_, last = mllm.guidance.mllm.model.language_model.layers
    reached = []
    first.register_forward_hook(lambda *_: management.interrupt_current_processing())
    last.register_forward_hook(lambda *_: reached.append(True))
    expect_cancelled("MLLMGuidance", mllm=mllm, source=image, instruction=instruction)
    assert not reached
    weights = weakref.ref(mllm.guidance)
    del mllm, first, last, _
    free_everything()
    assert weights() is None
    assert held() - before < 2**20


def check_cancel_while_sampling_releases_memory():
    def cancel(done, total):
        assert total == 2 * 2
        if done == 2 + 1:  # the first window is edited, the second one is half way
            management.interrupt_current_processing()
            management.throw_exception_if_processing_interrupted()  # as ComfyUI's hook does

    image, instruction, _ = example("background", frames=9)
    before = held()
    model, vae, mllm, connector = run("LoadModel", model_name=SMALLER, precision="float32")
    weights = [weakref.ref(part) for part in (model.model, vae.first_stage_model, mllm.guidance, connector.module)]
    parts = {"model": model, "vae": vae, "mllm": mllm, "connector": connector}
    settings = {"source": image, "instruction": instruction, "window": 5, "steps": 2}
    with on_progress(cancel):
        expect_cancelled("SlidingWindowImages", **parts, **settings)
    assert run("SlidingWindowImages", **parts, **settings)[0].shape == image.shape  # all is as usable as before
    with on_progress(cancel):
        expect_cancelled("SlidingWindowImages", **parts, **settings)
    del model, vae, mllm, connector, parts
    free_everything()
    assert held() - before < 2**20
    assert not any(part() for part in weights)


def check_dropping_the_mllm_frees_it():
    mllm = run("LoadMLLM", base=BUNDLED, adapter=BUNDLED, precision="float32")[0]
    image, instruction, _ = example("recolor")
    run("MLLMGuidance", mllm=mllm, source=image, instruction=instruction)
    loaded_now = [entry.model for entry in management.current_loaded_models]
    assert mllm.patcher in loaded_now
    weights = weakref.ref(mllm.guidance)
    del mllm, loaded_now
    gc.collect()
    management.cleanup_models()
    assert weights() is None


def check_an_mllm_that_no_gpu_holds_reads_on_the_cpu():
    """ComfyUI could not stream it: it loads it whole."""
    from check_long_video import replaced
    from instructx_pack.nodes import memory

    own = run("LoadMLLM", base=BUNDLED, adapter=BUNDLED, precision="float32")[0]
    room = management.module_size(own.patcher.model) + management.minimum_inference_memory()
    said, gpu = [], torch.device("meta")
    with (
        replaced(management, "text_encoder_device", lambda: gpu),
        replaced(memory, "say", said.append),
    ):
        for total, place in ((room, gpu), (room - 1, torch.device("cpu"))):
            with replaced(management, "get_total_memory", lambda device, total=total: total):
                assert memory.manage(own.guidance, "Own", "").patcher.load_device == place
    assert len(said) == 1 and said[0].startswith("The MLLM Own needs ")


def check_a_codec_works_where_its_weights_are():
    """With --novram ComfyUI leaves them on the CPU."""
    from instructx_pack.nodes.codec_vae import CodecVAE
    from kit import loaded

    image = example("recolor", frames=5)[0]
    vae = loaded(BUNDLED)[1]
    other = CodecVAE(vae.codec)
    other.device = torch.device("meta")
    latents = vae.encode(image)
    assert torch.equal(other.encode(image), latents)
    assert torch.equal(other.decode(latents), vae.decode(latents))


def check_cancel_inside_a_composite():
    """Between frames: one with a wide fade takes seconds."""
    from check_long_video import replaced
    from instructx_pack.instructx_core import compositing

    image = example("recolor", frames=5)[0]
    for step, given in (("changed_region", {}), ("inner_fade", {"mask": torch.ones(5, 64, 64)})):
        made, original = [], getattr(compositing, step)

        def cancelled(*given, done=made, whole=original):
            done.append(True)
            management.interrupt_current_processing()
            return whole(*given)

        with replaced(compositing, step, cancelled):
            expect_cancelled("Composite", source=image, edited=1 - image, **given)
        assert len(made) == 1
