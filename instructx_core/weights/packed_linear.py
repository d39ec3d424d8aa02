"""Linear layers whose weights stay as stored in their file: fewer bits in memory, on any device and on the way there.

Each forward pass unpacks the layer's weight into the dtype of its inputs; the values are bit for bit those of
unpacking once on load. The model's own LoRA is kept next to such a weight, and next to a weight mapped from its file,
which merging would copy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from ..compat import kept_in_float32
from .quantised import beside, widened, without_filling
from .stored import DTYPES, EIGHT_BITS

if TYPE_CHECKING:
    from .detect import Form
    from .packing import Packing
    from .stored import Stored


class PackedLinear(nn.Linear):
    """`nn.Linear` with its weight as stored in the file, packed or not, and an optional LoRA next to it.

    Packed tensors are kept as bytes, which a change of the model's dtype does not touch. It is an nn.Linear because
    diffusers and accelerate move those.
    """

    down: nn.Parameter | None  # [rank, in] of a LoRA
    up: nn.Parameter | None  # [out, rank]

    def __init__(self, plain: nn.Linear, weight: Tensor, held: Mapping[str, Tensor], packing: Packing | None) -> None:
        """
        Args:
            plain: the layer to replace; its bias is kept.
            weight, held, packing: as in `quantised.widened`; rows and columns may be padded.
        """
        nn.Module.__init__(self)
        self.in_features, self.out_features, self.packing = plain.in_features, plain.out_features, packing
        self.is_packed = packing is not None or bool(held) or weight.itemsize == 1
        self._kinds = {name: (tensor.dtype, tensor.shape) for name, tensor in {"weight": weight, **held}.items()}
        self.weight = _bytes(weight) if self.is_packed else nn.Parameter(weight, requires_grad=False)
        for name, tensor in held.items():
            self.register_parameter(name, _bytes(tensor))
        self.bias = plain.bias
        self.register_parameter("down", None)
        self.register_parameter("up", None)

    def add_pair(self, down: Tensor, up: Tensor) -> None:
        """Add a LoRA next to the weight: up [out, rank] @ down [rank, in]."""
        self.down, self.up = (nn.Parameter(tensor, requires_grad=False) for tensor in (down, up))

    def as_stored(self) -> list[nn.Parameter]:
        """The parameters that keep the file's dtype: all but the bias and, if it is not packed, the weight."""
        others = ("bias",) if self.is_packed else ("bias", "weight")
        return [own for name, own in self.named_parameters(recurse=False) if name not in others]

    def numbers(self, dtype: torch.dtype) -> Tensor:
        """The dequantised weight [out, in] without its LoRA."""
        if not self.is_packed:
            return self.weight.to(dtype)
        held = {name: self._plain(name) for name in self._kinds if name != "weight"}
        shape = (self.out_features, self.in_features)
        return without_filling(widened(self._plain("weight"), held, self.packing), shape).to(dtype)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs = linear(inputs, self.numbers(inputs.dtype), self.bias)
        if self.down is not None:
            outputs = outputs + linear(linear(inputs, self.down.to(inputs.dtype)), self.up.to(inputs.dtype))
        return outputs

    def _plain(self, name: str) -> Tensor:
        dtype, shape = self._kinds[name]
        return getattr(self, name).view(dtype).reshape(shape)


def _bytes(tensor: Tensor) -> nn.Parameter:
    # int8: T5's code takes it for quantised and does not convert its inputs to it
    return nn.Parameter(tensor.reshape(-1).view(torch.int8), requires_grad=False)


def staying(model: nn.Module, form: Form, renamed: Mapping[str, str], dtype: torch.dtype) -> dict[str, str]:
    """The linear layers of a model whose weights can stay as stored -> the names of these weights in the file.

    Args:
        renamed: the model's names -> those in the file.
        dtype: of the other weights.
    """
    if form.is_gguf or form.is_pickled or form.is_library_folder:  # read by other code
        return {}
    exact, found = kept_in_float32(model, dtype), {}
    for layer, module in model.named_modules():
        file_name = renamed.get(f"{layer}.weight", "")
        stored = form.stored.get(file_name)
        if stored is None or type(module) is not nn.Linear or not exact.isdisjoint(layer.split(".")):
            continue
        if stored.packing is not None or stored.dtype in EIGHT_BITS:
            found[layer] = file_name
    return found


@contextmanager
def unpacked_layers(model: nn.Module, dtype: torch.dtype) -> Iterator[None]:
    """In the block, replace packed layers by plain ones with the LoRA merged and parameters in their usual order."""
    packed = packed_layers(model)
    try:
        for name, layer in packed.items():
            with torch.device("meta"):
                plain = nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None)
            weight = layer.numbers(torch.float32)
            if layer.down is not None:
                weight = weight + layer.up.float() @ layer.down.float()
            weight = weight.to(dtype if layer.is_packed else layer.weight.dtype)
            plain.weight, plain.bias = nn.Parameter(weight, requires_grad=False), layer.bias
            model.set_submodule(name.removesuffix(".weight"), plain)
        yield
    finally:
        for name, layer in packed.items():
            model.set_submodule(name.removesuffix(".weight"), layer)


def packed_layers(model: nn.Module) -> dict[str, PackedLinear]:
    """The packed layers of a model, by the names of their weights."""
    return {f"{name}.weight": layer for name, layer in model.named_modules() if isinstance(layer, PackedLinear)}


def put_beside(
    model: nn.Module,
    loras: Mapping[str, tuple[Tensor, Tensor]],
    stored: Mapping[str, Stored],
    bare: Callable[[str], str] = str,
) -> dict[str, tuple[Tensor, Tensor]]:
    """Put LoRAs next to weights of linear layers that are as stored in their file, so that these need no copy.

    Args:
        loras: (down, up) by weight name.
        stored: these weights in their file.
        bare: maps the model's names to those of `loras`.

    Returns:
        The LoRAs of all other weights, to be merged.
    """
    linear = {
        bare(f"{name}.weight"): (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
    }
    left = {}
    for name, pair in loras.items():
        where, layer = linear.get(name, ("", None))
        if type(layer) is nn.Linear and DTYPES.get(stored[name].dtype) is layer.weight.dtype:
            layer = PackedLinear(layer, layer.weight.data, {}, None)
            model.set_submodule(where, layer)
        if isinstance(layer, PackedLinear):
            layer.add_pair(*pair)
        else:
            left[name] = pair
    return left


def outline_packed(model: nn.Module, form: Form, renamed: Mapping[str, str], dtype: torch.dtype) -> None:
    """Put packed layers into a model on the meta device, from headers alone, as `build.fill` would load it."""
    for layer, name in staying(model, form, renamed, dtype).items():
        stored = form.stored[name]
        packing, (rows, columns) = stored.packing, stored.shape
        if packing is not None:
            step = packing.format.multiple
            rows, columns = -(-rows // step) * step, columns // packing.format.a_byte
        with torch.device("meta"):
            weight = torch.empty(rows, columns, dtype=DTYPES[stored.dtype])
            held = {
                leaf: torch.empty(own.shape, dtype=DTYPES[own.dtype]) for leaf, own in beside(name, form.stored).items()
            }
        model.set_submodule(layer, PackedLinear(model.get_submodule(layer), weight, held, packing))
