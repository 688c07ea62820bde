"""Half precision in the graph itself: TensorRT is strongly typed, so what a layer computes in is what its tensors are.

Weights and activations become fp16 or bf16 but for islands in fp32: the statistics of norms, the maps' softmax, the
timestep's sines, what turns a prediction into noise, and the attention loss (the graphs see to the last three
themselves). Inputs and outputs of engines stay fp32.
"""

import torch
from torch import nn

from runtime.words import Precision

DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
# fp16 has no numbers between 0 and 6e-8, where half-way gradients of attention maps lie. bf16 has fp32's range.
LOSS_SCALES: dict[Precision, float] = {"fp32": 1.0, "fp16": 4096.0, "bf16": 1.0}


def lower(model: nn.Module, precision: Precision) -> None:
    """Turn a model's weights to `precision`, in place, with its norms as fp32 islands.

    Buffers, the noise schedule among them, stay as they are.
    """
    if precision == "fp32":
        return
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.GroupNorm | nn.LayerNorm):
                parent.register_module(name, _Fp32Norm(child))
    islands = {
        id(weight) for module in model.modules() if isinstance(module, _Fp32Norm) for weight in module.parameters()
    }
    for weight in model.parameters():
        if id(weight) not in islands:
            weight.data = weight.data.to(DTYPES[precision])


class _Fp32Norm(nn.Module):
    """A norm in fp32 between tensors of another type."""

    def __init__(self, norm: nn.GroupNorm | nn.LayerNorm):
        super().__init__()
        self.norm = norm

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        normal: torch.Tensor = self.norm(hidden_states.to(self.norm.weight.dtype))
        return normal.to(hidden_states.dtype)
