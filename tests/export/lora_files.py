"""What LoRA files of every kind hold, tiny, and what that does to a weight by the papers' formulas in float64."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float64]
Arrays = Mapping[str, Array]
Shape = tuple[int, ...]
RANK, ALPHA = 2, 3.0


class Kind(NamedTuple):
    """How a layer's matrices are shaped and what they amount to before alpha / rank."""

    shapes: Callable[[Shape], dict[str, Shape]]  # by the weight's shape
    delta: Callable[[Arrays], Array]
    scaled: bool = True  # whether alpha has an effect


def _lora(shape: Shape) -> dict[str, Shape]:
    outputs, *inner = shape
    return {"down": (RANK, *inner), "up": (outputs, RANK, *(1 for _ in inner[1:]))}


def _locon(shape: Shape) -> dict[str, Shape]:
    outputs, inputs, *kernel = shape
    ones = [1] * len(kernel)
    return {"down": (RANK, inputs, *ones), "up": (outputs, RANK, *ones), "mid": (RANK, RANK, *kernel)}


def _loha(shape: Shape) -> dict[str, Shape]:
    columns = int(np.prod(shape[1:]))
    return {f"hada_w{i}_{x}": (shape[0], RANK) if x == "a" else (RANK, columns) for i in (1, 2) for x in "ab"}


def _loha_tucker(shape: Shape) -> dict[str, Shape]:
    outputs, inputs, *kernel = shape
    sizes = {f"hada_w{i}_{x}": (RANK, outputs if x == "a" else inputs) for i in (1, 2) for x in "ab"}
    return sizes | {f"hada_t{i}": (RANK, RANK, *kernel) for i in (1, 2)}


def _lokr(first: str, second: str) -> Callable[[Shape], dict[str, Shape]]:
    """The smaller factor is 2x4."""

    def shapes(shape: Shape) -> dict[str, Shape]:
        outputs, inputs, kernel = shape[0] // 2, shape[1] // 4, shape[2:]
        flat = inputs * int(np.prod(kernel))
        options: dict[str, dict[str, Shape]] = {
            "w1": {"lokr_w1": (2, 4)},
            "w1ab": {"lokr_w1_a": (2, RANK), "lokr_w1_b": (RANK, 4)},
            "w2": {"lokr_w2": (outputs, inputs, *kernel)},
            "w2ab": {"lokr_w2_a": (outputs, RANK), "lokr_w2_b": (RANK, flat)},
            "t2": {"lokr_w2_a": (RANK, outputs), "lokr_w2_b": (RANK, inputs), "lokr_t2": (RANK, RANK, *kernel)},
        }
        return options[first] | options[second]

    return shapes


def _product(a: Array, b: Array) -> Array:
    return np.einsum("or,r...->o...", a.reshape(a.shape[0], -1), b)


def _core(core: Array, a: Array, b: Array) -> Array:
    return np.einsum("rs...,ro,si->oi...", core, a, b)


def _kron(parts: Arrays) -> Array:
    first = parts["lokr_w1"] if "lokr_w1" in parts else _product(parts["lokr_w1_a"], parts["lokr_w1_b"])
    if "lokr_t2" in parts:
        second = _core(parts["lokr_t2"], parts["lokr_w2_a"], parts["lokr_w2_b"])
    else:
        second = parts["lokr_w2"] if "lokr_w2" in parts else _product(parts["lokr_w2_a"], parts["lokr_w2_b"])
    product = np.einsum("ab,cd...->acbd...", first, second)
    a, c, b, d, *kernel = product.shape
    return product.reshape(a * c, b * d, *kernel)


def _hada(parts: Arrays) -> Array:
    if "hada_t1" in parts:
        first, second = (_core(*(parts[f"hada_{x}"] for x in (f"t{i}", f"w{i}_a", f"w{i}_b"))) for i in (1, 2))
    else:
        first, second = (_product(parts[f"hada_w{i}_a"], parts[f"hada_w{i}_b"]) for i in (1, 2))
    return first * second


def _middle(parts: Arrays) -> Array:
    up, down = (parts[name].reshape(parts[name].shape[:2]) for name in ("up", "down"))
    return _core(parts["mid"], up.T, down)


KINDS: dict[str, Kind] = {
    "LoRA": Kind(_lora, lambda parts: _product(parts["up"], parts["down"])),
    "LoCon with a core": Kind(_locon, _middle),
    "LoHa": Kind(_loha, _hada),
    "LoHa with cores": Kind(_loha_tucker, _hada),
    "LoKr": Kind(_lokr("w1", "w2ab"), _kron),
    "LoKr of two matrices": Kind(_lokr("w1", "w2"), _kron, scaled=False),
    "LoKr, both decomposed": Kind(_lokr("w1ab", "w2ab"), _kron),
    "LoKr, the first decomposed": Kind(_lokr("w1ab", "w2"), _kron),
    "LoKr with a core": Kind(_lokr("w1", "t2"), _kron),
    "LoKr with a core, both decomposed": Kind(_lokr("w1ab", "t2"), _kron),
    "full": Kind(lambda shape: {"diff": shape}, lambda parts: parts["diff"], scaled=False),
}
CORES = tuple(name for name in KINDS if "core" in name)  # these are for convolutions alone


def random_parts(kind: str, shape: Shape, seed: int, *, alpha: bool = True) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    parts = {name: torch.randn(size, generator=generator) / 3 for name, size in KINDS[kind].shapes(shape).items()}
    return parts | ({"alpha": torch.tensor(ALPHA)} if alpha and kind != "full" else {})


def expected(weight: Tensor, kind: str, parts: Mapping[str, Tensor], strength: float) -> Array:
    """The weight with the parts fused, by the formulas."""
    arrays = {name: part.double().numpy() for name, part in parts.items()}
    scaling = arrays.get("alpha", np.float64(RANK)) / RANK if KINDS[kind].scaled else 1.0
    before = weight.double().numpy()
    after = before + strength * scaling * KINDS[kind].delta(arrays).reshape(before.shape)
    if (length := arrays.get("dora_scale")) is None:
        return after
    by_input = length.shape[0] == 1
    others = tuple(i for i in range(after.ndim) if i != by_input)
    return after / np.sqrt((after**2).sum(others, keepdims=True)) * length
