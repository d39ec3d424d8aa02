"""Build a diffusers model from tensors: create it empty, check it against a file header, fill it tensor by tensor.

diffusers' own `from_single_file` fetches configs from the hub and does not report gaps. Here the config is given, and
a tensor that is missing, unexpected or has a different shape is named before anything is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from ..compat import kept_in_float32
from ..errors import CheckpointError
from . import values
from .compare import first_difference, shapes_of
from .files import check_finite
from .files import read_tensors as read_file
from .mapped import give_back
from .packed_linear import PackedLinear, staying
from .quantised import beside, check_readable, is_beside, unpadded, widened, without_filling
from .unpacking import unpacked

if TYPE_CHECKING:
    from .detect import Form
    from .packing import Packing
    from .stored import Stored

M = TypeVar("M", bound=torch.nn.Module)


def read_tensors(form: Form) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield a model's own tensors as (name in the file, value); quantised ones as float32.

    Files are mapped, so a tensor that the caller does not keep takes no memory.

    Raises:
        CheckpointError: a damaged file, or tensors in an unsupported form.
    """
    state = _mapped(form)
    for name in [name for name in state if not is_beside(name)]:  # popped: unpacked GGUF values are in memory
        yield name, widened(state.pop(name), beside(name, state), _packing(form, name))


def _mapped(form: Form) -> dict[str, torch.Tensor]:
    """All tensors as stored; those of a GGUF unpacked."""
    check_readable(form.stored, form.path)
    if form.is_gguf:
        return {name: values.value(stored) for name, stored in unpacked(form).items()}
    state: dict[str, torch.Tensor] = {}
    for file in form.files:
        state |= read_file(file)
    return state


def _packing(form: Form, name: str) -> Packing | None:
    stored = form.stored.get(name)  # a file may also hold tensors of other parts
    return None if stored is None else stored.packing


def empty_model(model_class: type[M], config: Mapping[str, Any]) -> M:
    """A model whose parameters have shapes but no memory; its buffers are real."""
    from accelerate import init_empty_weights

    with init_empty_weights(include_buffers=False):
        return model_class.from_config(dict(config))


def fill_reader(model_class: type[M], config: Any, form: Form, dtype: torch.dtype, bare: Callable[[str], str]) -> M:
    """Load a transformers model, keeping the quantised weights of its linear layers as stored.

    Args:
        form: its tensors must have been checked against the config.
        bare: normalises the model's names and the file's to the same names.
    """
    from accelerate import init_empty_weights

    with init_empty_weights(include_buffers=False):
        model = model_class(config)
    fill(model, form, names_in_file(model, form, bare), dtype, packed=True)
    model.tie_weights()
    return model


def names_in_file(model: torch.nn.Module, form: Form, bare: Callable[[str], str]) -> dict[str, str]:
    """The model's names of the tensors in `form` -> the file's; `bare` normalises both."""
    files = {bare(name): name for name in form.tensors}
    return {name: files[bare(name)] for name in model.state_dict() if bare(name) in files}


def check_shapes(model: torch.nn.Module, found: Mapping[str, Stored], source: object, kind: str) -> None:
    """Raise CheckpointError unless `found` has exactly the tensors of `model`."""
    wanted = shapes_of(model.state_dict())
    if odd := first_difference(wanted, unpadded(found, wanted)):
        raise CheckpointError(f"{str(source)!r} is not a complete {kind}: {odd}; get it again.")


def loaded_dtype(model: torch.nn.Module, name: str, dtype: torch.dtype) -> torch.dtype:
    """The dtype that `from_pretrained` gives a parameter when asked for `dtype`: diffusers keeps some in float32."""
    return dtype if kept_in_float32(model, dtype).isdisjoint(name.split(".")) else torch.float32


def fill(model: M, form: Form, renamed: Mapping[str, str], dtype: torch.dtype, packed: bool = False) -> M:
    """Fill an empty model in place with the tensors of `form`, in `dtype` as `from_pretrained` would.

    Args:
        model: from `empty_model`, with its shapes checked.
        renamed: the model's names -> those in the file.
        dtype: of everything except the layers that diffusers keeps in float32.
        packed: keep quantised weights of linear layers as stored.
    """
    own = {there: here for here, there in renamed.items()}
    shapes = shapes_of(model.state_dict())
    layers = {there: layer for layer, there in staying(model, form, renamed, dtype).items()} if packed else {}
    held, state, kept = _mapped(form), {}, {}
    for name, value in held.items():
        if name not in own or is_beside(name):
            continue
        beside_it, packing = beside(name, held), _packing(form, name)
        if name in layers:
            kept[layers[name]] = PackedLinear(model.get_submodule(layers[name]), value, beside_it, packing)
            check_finite({name: kept[layers[name]].numbers(torch.float32)}, form.path)
        else:
            wide = widened(value, beside_it, packing)
            check_finite({name: wide}, form.path)
            # a tensor that has this dtype already stays mapped: weight files are replaced, never modified
            state[own[name]] = without_filling(wide, shapes[own[name]]).to(loaded_dtype(model, own[name], dtype))
        give_back([value])
    model.load_state_dict(state, assign=True, strict=not kept)  # only the weights in `kept` may be missing
    for layer, linear in kept.items():
        linear.bias = model.get_submodule(layer).bias
        model.set_submodule(layer, linear)
    return model.eval()
