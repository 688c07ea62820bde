"""A graph called with other tensors in the place of its own."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.func import functional_call


def own_tensors(graph: nn.Module) -> dict[str, Tensor]:
    """Weights and buffers, each by one name: a module may stand in two places, as a ControlNet with two uses does."""
    return {
        f"{place}.{name}".lstrip("."): tensor
        for place, module in graph.named_modules()
        for name, tensor in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False))
    }


def call_with(graph: nn.Module, tensors: Mapping[str, Tensor], inputs: Mapping[str, Tensor]) -> Any:
    """What a graph makes of `inputs` with `tensors` instead of `own_tensors`, which it has again afterwards.

    By default PyTorch would also give them to the other places of a module, and then not find back to its own.
    """
    return functional_call(graph, dict(tensors), kwargs=dict(inputs), tie_weights=False)
