"""What binds ComfyUI's executor: known in this ComfyUI, and one that is another is refused with a sentence."""

from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import mock

import execution
from kit import NODES, expect


def check_this_executor_is_known():
    from instructx_pack.nodes.nested_execution import check_executor

    assert "InstructXWindowClose" in NODES
    check_executor()


def check_another_executor_is_refused_with_a_sentence():
    from instructx_pack.nodes.nested_execution import check_executor

    async def execute(server, dynprompt, caches, current_item, extra_data, executed, prompt_id):
        """With other arguments."""

    def waiting(*arguments):
        """No longer asynchronous."""

    for name, other in (("execute", execute), ("execute", waiting), ("CacheEntry", dict), ("ExecutionResult", object)):
        with mock.patch.object(execution, name, other):
            expect("InputError", "does not support yet; update InstructX", check_executor)
    kept = execution.IsChangedCache
    del execution.IsChangedCache
    try:
        expect("InputError", "does not support yet; update InstructX", check_executor)
    finally:
        execution.IsChangedCache = kept


def check_a_loop_s_lengths_and_folder_are_checked_before_a_run():
    """What ComfyUI leaves to the node because the node checks it, and what comes by a link."""
    import folder_paths

    node, before = NODES["InstructXWindowOpen"], folder_paths.get_output_directory()
    for window, overlap, words in ((0, 0, "give 1 or more"), (5, 5, "lower overlap"), (5, -3, "give 0 or more")):
        assert words in node.validate_inputs(window=window, overlap=overlap)
        expect("InputError", words, node.execute, None, window, overlap)
    with TemporaryDirectory() as folder:
        folder_paths.set_output_directory(folder)
        try:
            (Path(folder) / "clip.mp4").touch()
            for name, words in (("clip.mp4", "is a file"), ("clip.mp4/x", "cannot be used"), ("x" * 300, "too long")):
                assert words in node.validate_inputs(folder=name), name
            for name in ("", "new/one", "."):
                assert node.validate_inputs(folder=name) is True, name
        finally:
            folder_paths.set_output_directory(before)


def check_a_loop_is_known_by_its_nodes():
    """Not by their numbers; by which output it ends at, and by what the nodes' own checks say."""
    from comfy_execution.graph import DynamicPrompt
    from instructx_pack.nodes.window_loop import Loop, digest

    def known(number="3", output=0, changed=False):
        nodes = {
            "2": {"class_type": "InstructXWindowOpen", "inputs": {"window": 5}},
            "1": {"class_type": "LoadImage", "inputs": {"image": "a.png"}, "is_changed": changed},
            number: {"class_type": "ImageBlend", "inputs": {"image1": ["2", 0], "image2": ["1", 0]}},
        }
        ends = {"image": (number, output)}
        return digest(DynamicPrompt(nodes), Loop("2", ends, frozenset([number]), (number,), (("1", 0),)))

    assert known() == known("7") and known()[1] == []
    assert len({known()[0], known(output=1)[0], known(changed=["hash"])[0]}) == 3
    always = known(changed=[float("nan")])
    assert always == known("7", changed=[float("nan")]) and always[1] == ["1"]
