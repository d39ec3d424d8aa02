"""Long video in the nodes: the library's loop with ComfyUI's MODEL and VAE, streamed, and Cancel that keeps windows."""

import os
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import comfy.model_management as management
import comfy.utils
import folder_paths
import start
import torch
from comfy_api.latest import InputImpl, io
from comfy_execution.graph import DynamicPrompt
from kit import NODES, SMALLER, editor, example, expect, loaded, run

ONE_LEVEL = 1.01 / 255  # of the 8 bits in which windows are joined


def parts(name=SMALLER):
    return dict(zip(("model", "vae", "mllm", "connector"), loaded(name), strict=True))


def video_file(folder, frames):
    """A file with these frames, 8 a second."""
    from instructx_pack.instructx_core.images import to_uint8
    from instructx_pack.instructx_core.video import VideoWriter

    path = Path(folder) / "source.mp4"
    with VideoWriter(path, fps=8) as writer:
        for frame in frames:
            writer.write(to_uint8(frame))
    return path


def scratch(name):
    folder = Path(folder_paths.get_temp_directory()) / "checks" / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def library(name, frames, instruction, options, reference=None, **settings):
    """The frames [T, H, W, 3] that the library's own models make of a clip in windows."""
    from instructx_pack.instructx_core.long_video import WindowRun, plan_edit
    from instructx_pack.instructx_core.long_video.editor_model import EditorModel
    from instructx_pack.instructx_core.long_video.footage import in_memory
    from instructx_pack.instructx_core.request import EditRequest, Sampling

    asked = Sampling(settings.get("steps"), guidance_scale=settings.get("cfg"))
    references = () if reference is None else tuple(reference)
    model = EditorModel(editor(name), EditRequest(instruction, references, asked, seed=settings["seed"]))
    footage = in_memory(frames, Fraction(8))
    windows, window_editor = plan_edit(model, footage, options)
    return torch.stack([frame for _, frame in WindowRun(footage, windows, window_editor).frames()]) / 255


def long_options(**settings):
    from instructx_pack.instructx_core.long_video import Head, LongOptions, Reading
    from instructx_pack.instructx_core.windows import Span

    head, reading = Head(settings.get("head", "pin")), Reading(settings.get("guidance_from", "window"))
    return LongOptions(window=Span(Fraction(5)), head=head, reading=reading)


def check_windows_are_the_librarys():
    """Every head, guidance of the whole video, and guidance scale: the pixels that the library makes of it."""
    image, instruction, reference = example("reference_swap", frames=9)
    results = []
    for settings in (
        {"head": "pin"},
        {"head": "source"},
        {"head": "latent"},
        {"guidance_from": "video", "cfg": 2.0, "reference": reference},
    ):
        given = {"seed": 4, "steps": 3} | settings
        (ours,) = run("SlidingWindowImages", **parts(), source=image, instruction=instruction, window=5, **given)
        theirs = library(SMALLER, image, instruction, long_options(**settings), **given)
        assert ours.shape == image.shape
        assert (ours - theirs).abs().max() <= ONE_LEVEL, settings
        assert (ours - theirs).abs().gt(1e-6).float().mean() < 0.01, settings
        results.append(ours)
    for number, one in enumerate(results):
        for other in results[number + 1 :]:
            assert not torch.equal(one[5:], other[5:])  # each way does something else


def check_windows_with_other_strides():
    """A VAE that compresses time: the noise mask and the pinned latents are latent frames, not frames."""
    from kit import VARIANTS

    image, instruction, _ = example("recolor", frames=9, width=48, height=40)
    for head in ("pin", "latent"):
        given = {"seed": 1, "steps": 2, "head": head}
        (ours,) = run(
            "SlidingWindowImages", **parts(VARIANTS[0]), source=image, instruction=instruction, window=5, **given
        )
        theirs = library(VARIANTS[0], image, instruction, long_options(head=head), **given)
        assert (ours - theirs).abs().max() <= ONE_LEVEL, head


@contextmanager
def replaced(owner, name, value):
    original = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield original
    finally:
        setattr(owner, name, original)


def check_windows_are_read_once_without_guidance():
    """At cfg 1 the guidance without an instruction would go unused, except by CFG++ samplers and some patches."""
    from instructx_pack.nodes import memory

    image, instruction, _ = example("recolor", frames=9)
    given = {"source": image, "instruction": instruction, "window": 5, "overlap": 1, "seed": 1, "steps": 1}
    patched = parts() | {"model": parts()["model"].clone()}
    patched["model"].set_model_sampler_post_cfg_function(lambda args: args["denoised"], disable_cfg1_optimization=True)
    edits = []
    for own, settings, count in (
        (parts(), {"cfg": 1.0}, 2),
        (patched, {"cfg": 1.0}, 4),
        (parts(), {"cfg": 1.0, "sampler_name": "euler_cfg_pp"}, 4),
        (parts(), {"cfg": 2.0}, 4),
    ):
        calls = []

        def counted(*asked, calls=calls):
            calls.append(asked[1])
            return read(*asked)

        with replaced(memory, "read", counted) as read:
            edits.append(run("SlidingWindowImages", **own, **given, **settings)[0])
        assert len(calls) == count, (settings, calls)
        assert calls.count(instruction) == 2
    assert (edits[0] - edits[1]).abs().max() <= ONE_LEVEL, "the same edit, from half of the forwards"


def check_video_is_streamed():
    """From a file to a file, never decoded whole; what the library makes of the same file, the clock as it was."""
    from instructx_pack.instructx_core.long_video import edit_video
    from instructx_pack.instructx_core.video import VideoReader, VideoWriter

    image, instruction, _ = example("background", frames=9)
    path = video_file(scratch("streamed"), image)
    written = []

    def whole(_self):
        raise AssertionError("decoded whole")

    def watched(writer, frame, *timing):
        written.append(frame.int())
        write(writer, frame, *timing)

    with replaced(InputImpl.VideoFromFile, "get_components", whole), replaced(VideoWriter, "write", watched) as write:
        (video,) = run(
            "SlidingWindow",
            **parts(),
            source=InputImpl.VideoFromFile(str(path)),
            instruction=instruction,
            window=5,
            steps=2,
        )
        theirs = edit_video(
            editor(SMALLER), path, path.with_name("library.mp4"), instruction, options=long_options(), steps=2
        ).path
    made = Path(video.get_stream_source())
    assert made.is_relative_to(folder_paths.get_temp_directory())
    with VideoReader(made) as ours, VideoReader(theirs) as expected:
        assert ours.info.fps == expected.info.fps == 8
        times, wanted_times = ([pts for _, pts in reader] for reader in (ours, expected))
    assert times == wanted_times
    assert len(times) == 9
    # before the encoder, which makes 5 levels in 255 of one level in one pixel
    differences = (torch.stack(written[:9]) - torch.stack(written[9:])).abs()
    assert differences.max() <= 1
    assert differences.float().mean() < 0.001
    assert [path.name for path in made.parent.iterdir() if path.is_dir()] == []  # neither windows nor copies are left


def check_videos_that_are_no_whole_file():
    """Frames with sound from a node, and a part of a file."""
    from instructx_pack.instructx_core.video import VideoReader
    from instructx_pack.nodes.pixels import to_video

    image, instruction, _ = example("background", frames=9)
    waves = torch.sin(torch.arange(9000) / 8000 * 440 * 6.28)[None, None].repeat(1, 2, 1)
    held = to_video(image, Fraction(8), {"waveform": waves, "sample_rate": 8000})
    trimmed = InputImpl.VideoFromFile(str(video_file(scratch("trimmed"), image)), start_time=0.25, duration=0.5)
    for source, count in ((held, 9), (trimmed, 4)):
        (video,) = run("SlidingWindow", **parts(), source=source, instruction=instruction, window=5, steps=1)
        with VideoReader(video.get_stream_source()) as reader:
            assert reader.info.fps == 8
            assert len(list(reader)) == count
            assert reader.info.has_audio == (source is held)
        if source is held:
            with av.open(video.get_stream_source()) as file:
                (track,) = file.streams.audio
                assert abs(track.duration * track.time_base - Fraction(9000, 8000)) < Fraction(1, 5)


def queued(seed, **changed):
    """The node as the executor calls it, in a graph that says where its parts come from."""
    loader = {
        "class_type": "InstructXLoadModel",
        "inputs": {"model_name": changed.pop("model_name", SMALLER)},
        **changed,
    }
    links = {name: ["1", index] for index, name in enumerate(("model", "vae", "mllm", "connector"))}
    prompt = DynamicPrompt({"1": loader, "2": {"class_type": "InstructXSlidingWindow", "inputs": links}})
    data = {"hidden_inputs": {io.Hidden.unique_id: "2", io.Hidden.dynprompt: prompt}}
    node = NODES["InstructXSlidingWindow"].PREPARE_CLASS_CLONE(data)
    models = parts()  # loaded before anybody watches a progress bar

    def execute(source, instruction, **more):
        given = {"source": source, "instruction": instruction, "window": 5, "steps": 2, "seed": seed, **more}
        return start.run(node, **models, **given)[0]

    return execute


def check_cancel_keeps_finished_windows():
    """The same graph again goes on from them, and makes the file that nothing interrupts makes."""
    image, instruction, _ = example("remove", frames=13)
    source = InputImpl.VideoFromFile(str(video_file(scratch("cancelled"), image)))
    steps, previews = [], []

    @contextmanager
    def watched(cancel_at=None):
        def spied(bar, value, total=None, preview=None):
            original(bar, value, total, preview)
            (steps if preview is None else previews).append(value)
            if value == cancel_at:
                management.interrupt_current_processing()
                management.throw_exception_if_processing_interrupted()

        with replaced(comfy.utils.ProgressBar, "update_absolute", spied) as original:
            yield

    execute = queued(seed=11)
    with watched(cancel_at=3):  # the second of three windows has made its first step of two
        try:
            execute(source, instruction)
        except management.InterruptProcessingException:
            pass
        else:
            raise AssertionError("went on")
    assert steps == [1, 2, 3]
    assert previews == [2]  # the first window's edited end
    steps.clear()
    with watched():
        resumed = execute(source, instruction)
    assert steps == [3, 4, 5, 6]  # the first window is not edited again
    steps.clear()
    path = Path(resumed.get_stream_source())
    content = path.read_bytes()
    with watched():
        again = execute(source, instruction)
    assert again.get_stream_source() == str(path)  # what is there need not be made
    assert steps == []
    path.unlink()
    with watched():
        execute(source, instruction)
    assert len(steps) == 6
    assert path.read_bytes() == content
    other = Path(queued(seed=12)(source, instruction).get_stream_source())
    assert other != path
    assert other.read_bytes() != content


def check_finished_windows_of_another_seed_are_named():
    from instructx_pack.nodes import sliding_window

    image, instruction, _ = example("remove", frames=13)
    source = InputImpl.VideoFromFile(str(video_file(scratch("seeds"), image)))
    said, shown = [], []

    def stopped_after_three_steps(words):
        shown.append(words)
        if len(shown) == 3:
            management.interrupt_current_processing()
            management.throw_exception_if_processing_interrupted()

    with replaced(sliding_window, "say", said.append):
        with replaced(sliding_window, "show", stopped_after_three_steps):
            try:
                queued(seed=21)(source, instruction)
            except management.InterruptProcessingException:
                pass
            else:
                raise AssertionError("went on")
        assert said == []
        assert shown[-1].startswith("window 2 of 3, ") and "steps 2" in shown[-1], shown
        shown.clear()
        with replaced(sliding_window, "show", shown.append):
            queued(seed=22)(source, instruction)
    assert said == ["Windows of this edit already finished with seed 21: 1. Set that seed to continue from them."]
    assert len(shown) == 6 and all(said[0] in words for words in shown), shown
    assert ", 0:00 left (" in shown[-1]
    assert sliding_window.clock(100) == "1:40" and sliding_window.clock(3760) == "1:02:40"
    said.clear()
    shown.clear()
    with replaced(sliding_window, "say", said.append), replaced(sliding_window, "show", shown.append):
        queued(seed=21)(source, instruction)  # goes on, and the edit with seed 22 is complete: nothing to name
        queued(seed=21)(source, instruction)
    assert said == []
    assert shown[-2].startswith("window 3 of 3, "), shown
    assert shown[-1].startswith("Made by an earlier run"), shown


def check_seeds_of_windows_stay():
    """After Cancel the next run has the same seed, so that it goes on."""
    for name in ("SlidingWindow", "SlidingWindowImages"):
        seed = next(one for one in NODES[f"InstructX{name}"].GET_SCHEMA().inputs if one.id == "seed")
        assert seed.as_dict()["control_after_generate"] == "fixed"


def check_another_graph_is_another_edit():
    from instructx_pack.nodes.graph_identity import origins

    def graph(number, name, slot=0, changed=False):
        nodes = {
            number: {"class_type": "Loader", "inputs": {"name": name}, "is_changed": changed},
            "9": {"class_type": "Lora", "inputs": {"model": [number, slot], "strength": 1.0}},
            "2": {"class_type": "Window", "inputs": {"model": ["9", 0], "seed": 5}},
        }
        return origins(DynamicPrompt(nodes), "2", ("model",))[0]

    assert graph("1", "a") == graph("7", "a")  # numbers of nodes do not count
    others = [graph("1", "a"), graph("1", "b"), graph("1", "a", 1), graph("1", "a", changed=["a file's hash"])]
    assert len(set(map(str, others))) == 4
    assert origins(None, "2", ("model",)) == (None, True)


def check_a_model_file_of_the_same_name_is_another_edit():
    """Stock loaders say nothing of their files; other words of the graph name none."""
    from instructx_pack.nodes.graph_identity import Hashes

    folder = scratch("loras")
    file = folder / "trained" / "again.safetensors"
    file.parent.mkdir(exist_ok=True)
    words = {"text": "a\0b", "empty": "", "name": "trained/again.safetensors", "far": "../../../etc/hostname"}
    prompt = DynamicPrompt({"1": {"class_type": "LoraLoader", "inputs": words}})
    folder_paths.add_model_folder_path("loras", str(folder))
    try:
        hashes = [Hashes(prompt).of_node("1")]
        for content, time in ((b"one", 1), (b"two", 2), (b"three", 2), (b"three", 2)):
            file.write_bytes(content)
            os.utime(file, ns=(time, time))
            hashes.append(Hashes(prompt).of_node("1"))
    finally:
        folder_paths.folder_names_and_paths["loras"][0].remove(str(folder))
    assert len(set(hashes)) == 4 and hashes[-1] == hashes[-2]


def check_a_model_that_always_changes_is_edited_again():
    """As Window Close does: its cached file may be of other weights. Asked also where ComfyUI asks no node."""
    from comfy.cli_args import args
    from instructx_pack.nodes.graph_identity import origins

    import nodes as stock

    class Restless:
        FUNCTION, RETURN_TYPES, INPUT_TYPES = "make", ("MODEL",), classmethod(lambda cls: {"required": {}})

        @classmethod
        def IS_CHANGED(cls):
            return float("nan")

    def graph(**said):
        return DynamicPrompt(
            {
                "1": {"class_type": "Restless", "inputs": {}, **said},
                "9": {"class_type": "LoraLoader", "inputs": {"model": ["1", 0]}},
                "2": {"class_type": "InstructXSlidingWindow", "inputs": {"model": ["9", 0]}},
            }
        )

    hashes, settled = origins(graph(is_changed=[float("nan")]), "2", ("model", "vae"))
    assert not settled and hashes == origins(graph(is_changed=[float("nan")]), "2", ("model", "vae"))[0]
    assert origins(graph(is_changed=["a file's hash"]), "2", ("model", "vae"))[1]
    with replaced(args, "cache_none", True):
        stock.NODE_CLASS_MAPPINGS["Restless"] = Restless
        try:
            assert not origins(graph(), "2", ("model",))[1]
        finally:
            del stock.NODE_CLASS_MAPPINGS["Restless"]

    image, instruction, _ = example("remove", frames=5)
    source = InputImpl.VideoFromFile(str(video_file(scratch("restless"), image)))
    for changed, runs in ((False, 1), ([float("nan")], 2)):
        execute, steps = queued(seed=61, is_changed=changed), []

        def spied(bar, value, total=None, preview=None, steps=steps):
            steps.append(value)

        with replaced(comfy.utils.ProgressBar, "update_absolute", spied):
            paths = {execute(source, instruction, steps=1).get_stream_source() for _ in range(2)}
        assert len(paths) == 1
        assert steps.count(1) == runs, steps


def check_words_of_the_windows():
    image, instruction, _ = example("recolor", frames=5)
    node = NODES["InstructXSlidingWindow"]
    assert "empty" in node.validate_inputs(instruction=" ", cuts="")
    assert "is not the first frame of a scene" in node.validate_inputs(instruction="x", cuts="5,x")
    assert node.validate_inputs(instruction="x", cuts=" ") is True
    given = {"source": image, "instruction": instruction, "cuts": "9"}
    expect("InputError", "cuts: 9 is outside the video", run, "SlidingWindowImages", **parts(), **given)


def check_the_loop_takes_one_of_each_from_outside():
    from instructx_pack.nodes.sliding_window_loop import _one

    assert _one("model", ["it"]) == "it"
    for values in ([], ["a", "b"]):
        expect("InputError", f"reference: a list of {len(values)} came from outside", _one, "reference", values)
