"""Computing in fp32 with weights that are stored in half precision: what large graphs are verified against.

A copy of the weights in fp32 would be twice as large as all that the export takes. So each is widened for the operator
that takes it, and again where the backward takes it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

_NARROW = (torch.float16, torch.bfloat16)
Packed = Tensor | tuple[Tensor, Any]


@contextmanager
def computed_in_fp32() -> Iterator[None]:
    """While it lasts, every operator widens the half-precision tensors that it takes, and none makes any."""
    widened = _Widened()
    with saved_tensors_hooks(widened.pack, widened.unpack), widened:
        yield


class _Widened(TorchFunctionMode):
    """It knows whose copies the tensors of the operator at work are."""

    def __init__(self) -> None:
        super().__init__()
        self._narrow: dict[int, Tensor] = {}  # by the address of the copy

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        before = dict(self._narrow)
        try:
            return _wide_type(func(*tree_map(self._widen, args), **tree_map(self._widen, kwargs or {})))
        finally:
            self._narrow = before

    def pack(self, saved: Tensor) -> Packed:
        """What the backward needs of a copy is how to make it again."""
        narrow = self._narrow.get(saved.untyped_storage().data_ptr())
        return saved if narrow is None else (narrow, (saved.size(), saved.stride(), saved.storage_offset()))

    def unpack(self, packed: Packed) -> Tensor:
        if isinstance(packed, Tensor):
            return packed
        narrow, view = packed
        return narrow.float().as_strided(*view)

    def _widen(self, value: Any) -> Any:
        if isinstance(value, Tensor) and value.dtype in _NARROW:
            wide = value.float()
            self._narrow[wide.untyped_storage().data_ptr()] = value
            return wide
        return _wide_type(value)


def _wide_type(value: Any) -> Any:
    return torch.float32 if isinstance(value, torch.dtype) and value in _NARROW else value
