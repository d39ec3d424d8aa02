"""Errors by which memory runs out are told from others, and said in one sentence."""

import pytest
import torch

from instructx_core.demo import DEMO_EDITS
from instructx_core.editor import Editor
from instructx_core.evaluation.judges import RefusedQuestion
from instructx_core.out_of_memory import is_out_of_memory, out_of_memory_refused
from support.commands import refusal


def of_the_allocator() -> RuntimeError:
    """PyTorch's own, on a CPU."""
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    return caught.value


def test_errors_of_memory_are_known():
    for error in (
        MemoryError(), torch.OutOfMemoryError("no"), of_the_allocator(), RuntimeError("CUDA error: out of memory"),
        RuntimeError("MPS backend out of memory"), RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED"),
    ):  # fmt: skip
        assert is_out_of_memory(error), error
    for error in (RuntimeError("CUDA error: an illegal memory access"), ValueError("out of memory"), OSError(12, "x")):
        assert not is_out_of_memory(error), error


def test_other_errors_pass():
    with pytest.raises(RuntimeError, match="no"), out_of_memory_refused("It", "stop"):
        raise RuntimeError("no")
    with pytest.raises(RefusedQuestion, match=r"It needs more memory than is free \(MemoryError: 8\); stop."):
        with out_of_memory_refused("It", "stop", RefusedQuestion):
            raise MemoryError("8")


def test_a_command_says_how_to_take_less(tmp_path, monkeypatch, capsys):
    def fail(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 20 GiB.")

    monkeypatch.setattr(Editor, "from_pretrained", fail)
    own = "give --memory group or sequential on a GPU"
    of_edit = f"{own}, or a smaller --height and --width, or a shorter --window; `instructx info --plan` says what an"
    for arguments, advice in (
        (("edit", DEMO_EDITS[0].source, "make it gray", "-o", tmp_path / "out.png"), of_edit),
        (("evaluate",), f"{own}; `instructx info"),
        (("demo", "-o", tmp_path / "demo"), "end other programs, or give it less at a time."),
    ):
        line = refusal(capsys, *arguments)
        assert "free (OutOfMemoryError: CUDA out of memory. Tried to allocate 20 GiB.); " + advice in line
