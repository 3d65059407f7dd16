"""Products with fixed matrices, for the few rows at a time that decoding has.

On a CPU in float32 a matrix is packed once for oneDNN, as ``torch.compile`` packs it. Against ``torch``'s own product
that is up to four times faster for 2 to 32 rows, which is what a batch or a draft has, and a row comes out in the same
bits in whatever batch it stands. A packed matrix is a copy: the memory doubles, and later changes to the weights are
not seen. Elsewhere ``torch`` does the product, and the weights that are put side by side become views of one tensor.
"""

import functools
from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812 - the name that torch's own documentation gives it
from jaxtyping import Float
from torch import Tensor, nn

_PACKED_FOR = 32
"""Rows; a matrix that is packed for one row is slow with more."""


class Product:
    """``x @ W.T + b``, where W and b are those of ``parts``, one below the other."""

    def __init__(self, *parts: nn.Linear) -> None:
        weights, biases = [part.weight for part in parts], [part.bias for part in parts]
        self._packed: Tensor | None = None
        self._bias: Tensor | None = None
        if is_packable(weights[0]):
            joined = torch.cat([weight.detach() for weight in weights])
            self._packed = torch.ops.mkldnn._reorder_linear_weight(joined, _PACKED_FOR)
            self._bias = None if biases[0] is None else torch.cat([bias.detach() for bias in biases])
        else:
            self._weight = _side_by_side(weights)
            self._bias = None if biases[0] is None else _side_by_side(biases)

    def __call__(self, x: Float[Tensor, "*rows in"]) -> Float[Tensor, "*rows out"]:
        """The product."""
        if self._packed is None:
            return F.linear(x, self._weight, self._bias)
        rows = x if x.dim() > 1 else x[None]
        found: Tensor = torch.ops.mkldnn._linear_pointwise(rows, self._packed, self._bias, "none", [], "")
        return found if x.dim() > 1 else found[0]

    def plus(self, x: Float[Tensor, "rows in"], residual: Float[Tensor, "rows out"]) -> Float[Tensor, "rows out"]:
        """The product and ``residual``, added in one pass."""
        if self._packed is None:
            return torch.addmm(residual if self._bias is None else residual + self._bias, x, self._weight.t())
        found: Tensor = torch.ops.mkldnn._linear_pointwise.binary(x, residual, self._packed, self._bias, "add")
        return found


def is_packable(weight: Tensor) -> bool:
    """Whether there is a packed product for ``weight``."""
    return weight.device.type == "cpu" and weight.dtype == torch.float32 and _packs()


@functools.cache
def _packs() -> bool:
    """Whether this build of torch packs, and gets it right: the operators are not part of its public interface."""
    if not torch.backends.mkldnn.is_available():
        return False
    weight = torch.linspace(-1, 1, 15).reshape(3, 5)
    rows, bias, residual = torch.linspace(0, 1, 20).reshape(4, 5), torch.ones(3), torch.linspace(2, 3, 12).reshape(4, 3)
    try:
        with torch.inference_mode():
            packed = torch.ops.mkldnn._reorder_linear_weight(weight, _PACKED_FOR)
            plain = torch.ops.mkldnn._linear_pointwise(rows, packed, bias, "none", [], "")
            added = torch.ops.mkldnn._linear_pointwise.binary(rows, residual, packed, None, "add")
    except (AttributeError, RuntimeError, TypeError):
        return False
    expected = rows @ weight.T
    return torch.allclose(plain, expected + 1, atol=1e-5) and torch.allclose(added, expected + residual, atol=1e-5)


def _side_by_side(parameters: Sequence[Tensor]) -> Tensor:
    """One tensor of all, which become views of it; where they are such views already, that tensor."""
    first = parameters[0].detach()
    starts = [first.data_ptr()]
    for parameter in parameters:
        starts.append(starts[-1] + parameter.numel() * parameter.element_size())
    shape = (sum(len(parameter) for parameter in parameters), *first.shape[1:])
    storage = first.untyped_storage().data_ptr()
    if all(
        p.data_ptr() == start and p.untyped_storage().data_ptr() == storage and p.is_contiguous()
        for p, start in zip(parameters, starts[:-1], strict=True)
    ):
        return first.as_strided(shape, first.stride())
    joined = torch.cat([parameter.detach() for parameter in parameters])
    for parameter, part in zip(parameters, joined.split([len(p) for p in parameters]), strict=True):
        parameter.data = part
    return joined
