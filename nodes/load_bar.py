"""Progress and Cancel while weights are read from disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

import comfy.model_management as management
import comfy.utils

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..instructx_core.weights.detect import Form


class LoadBar:
    """A node's progress bar, counted in bytes of weights.

    The MLLM is read and counted tensor by tensor. DiT and VAE are counted file by file: ComfyUI only memory-maps them
    and reads them when it builds or first uses the model.

    Args:
        forms: the parts to be loaded.
    """

    def __init__(self, forms: Iterable[Form]) -> None:
        total = sum(path.stat().st_size for form in forms for path in form.files)
        self.bar = comfy.utils.ProgressBar(max(1, total))

    def __call__(self, count: int) -> None:
        """Advance by `count` bytes.

        Raises:
            InterruptProcessingException: Cancel was pressed.
        """
        management.throw_exception_if_processing_interrupted()
        self.bar.update(count)
