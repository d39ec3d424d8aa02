"""A diffusers model from tensors: built empty, compared with what a header tells, and filled tensor by tensor.

diffusers' own `from_single_file` asks the hub for configs and fills no gap loudly; here the config is given, and a
tensor that is missing, left over or of another shape is named before anything is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from ..compat import kept_in_float32
from ..errors import CheckpointError
from .compare import first_difference, shapes_of
from .files import check_finite
from .files import read_tensors as read_file
from .mapped import give_back
from .quantised import beside, check_readable, is_beside, unpadded, widened, without_filling

if TYPE_CHECKING:
    from .detect import Form
    from .stored import Stored

M = TypeVar("M", bound=torch.nn.Module)


def read_tensors(form: Form) -> Iterator[tuple[str, torch.Tensor]]:
    """Names in the file and values of a model's own tensors, one after the other; those that are quantised in float32.

    Files are mapped, so that what a caller does not keep takes no memory.

    Raises:
        CheckpointError: a damaged file, or tensors stored in a form that is not read here.
    """
    check_readable(form.stored, form.path)
    state: dict[str, torch.Tensor] = {}
    for file in form.files:
        state |= read_file(file)
    for name, value in state.items():
        if not is_beside(name):
            stored = form.stored.get(name)  # a file may hold more than the part
            yield name, widened(value, beside(name, state), stored and stored.packing)


def empty_model(model_class: type[M], config: Mapping[str, Any]) -> M:
    """A model whose parameters have shapes but no memory; its buffers are real."""
    from accelerate import init_empty_weights

    with init_empty_weights(include_buffers=False):
        return model_class.from_config(dict(config))


def check_shapes(model: torch.nn.Module, found: Mapping[str, Stored], source: object, kind: str) -> None:
    """Raise CheckpointError unless `found` has just the tensors of `model`."""
    wanted = shapes_of(model.state_dict())
    if odd := first_difference(wanted, unpadded(found, wanted)):
        raise CheckpointError(f"{str(source)!r} holds no whole {kind}: {odd}; get it again.")


def loaded_dtype(model: torch.nn.Module, name: str, dtype: torch.dtype) -> torch.dtype:
    """What `from_pretrained` would load a parameter in, asked for `dtype`: diffusers keeps some in float32."""
    return dtype if kept_in_float32(model).isdisjoint(name.split(".")) else torch.float32


def fill(model: M, form: Form, renamed: Mapping[str, str], dtype: torch.dtype) -> M:
    """Put the tensors of `form` into an empty model, in place, in `dtype` as `from_pretrained` would.

    Args:
        model: of `empty_model`, whose shapes were checked.
        renamed: the model's names -> those in the file.
        dtype: of everything but the layers that diffusers keeps in float32.
    """
    own = {there: here for here, there in renamed.items()}
    shapes = shapes_of(model.state_dict())
    state = {}
    for name, value in read_tensors(form):
        if name in own:
            check_finite({name: value}, form.path)
            # in the type that it has it stays mapped: files of weights are replaced, not changed
            state[own[name]] = without_filling(value, shapes[own[name]]).to(loaded_dtype(model, own[name], dtype))
            give_back([value])
    model.load_state_dict(state, assign=True)
    return model.eval()
