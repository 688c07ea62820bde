"""What each kind of LoRA file does to a weight: a row of `ALGORITHMS` for each set of matrices that go together.

LoRA: Hu et al., arXiv 2106.09685. LoHa: Hyeon-Woo et al., arXiv 2108.06098. LoKr and Tucker: Yeh et al., arXiv
2309.14859. DoRA: Liu et al., arXiv 2402.09353.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

Parts = Mapping[str, Tensor]
MAGNITUDE, DORA_SCALE = "lora_magnitude_vector", "dora_scale"  # DoRA's lengths, as PEFT and as LyCORIS lay them out
LENGTHS = {MAGNITUDE, DORA_SCALE}


@dataclass(frozen=True)
class Algorithm:
    """A row of the table."""

    name: str
    parts: frozenset[str]
    rank_of: str | None  # the part that has as many rows as the rank; None where alpha has no effect
    delta: Callable[[Parts], Tensor]  # of the weight, before alpha / rank; dimensions may be flat from the second on


def _lora(parts: Parts) -> Tensor:
    """up (O,r,...), down (r,I,...) -> (O,I,...)."""
    up, down = parts["up"], parts["down"]
    return torch.mm(up.flatten(1), down.flatten(1)).unflatten(1, down.shape[1:])


def _locon(parts: Parts) -> Tensor:
    """up (O,r,1,1), mid (r,r,h,w), down (r,I,1,1) -> (O,I,h,w)."""
    return _tucker(parts["mid"], parts["up"].flatten(1).t(), parts["down"].flatten(1))


def _loha(parts: Parts) -> Tensor:
    first, second = (torch.mm(parts[f"hada_w{i}_a"], parts[f"hada_w{i}_b"]) for i in (1, 2))
    return _times(first, second)


def _loha_tucker(parts: Parts) -> Tensor:
    first, second = (_tucker(*(parts[f"hada_{name}"] for name in (f"t{i}", f"w{i}_a", f"w{i}_b"))) for i in (1, 2))
    return _times(first, second)


def _lokr(parts: Parts) -> Tensor:
    """w1 (a,b), w2 (c,d,...) -> (a*c, b*d, ...)."""
    first, second = _factor(parts, "lokr_w1"), _factor(parts, "lokr_w2")
    if first.ndim != 2:
        raise ValueError("lokr_w1 is no matrix")
    return torch.kron(first[(...,) + (None,) * (second.ndim - 2)], second)


def _factor(parts: Parts, name: str) -> Tensor:
    if name in parts:
        return parts[name]
    left, right = parts[f"{name}_a"], parts[f"{name}_b"]
    core = parts.get(name.replace("w", "t"))  # lokr_t2 alone is in the table
    return torch.mm(left, right) if core is None else _tucker(core, left, right)


def _tucker(core: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """core (r,s,h,w), left (r,O), right (s,I) -> (O,I,h,w). Matrix products alone, which never broadcast."""
    rows, columns, *kernel = core.shape
    inner = torch.mm(left.t(), core.reshape(rows, -1)).reshape(-1, columns, math.prod(kernel)).movedim(1, 2)
    outer = torch.mm(inner.reshape(-1, columns), right)  # [O*h*w, I]
    return outer.reshape(left.shape[1], *kernel, -1).movedim(-1, 1).contiguous()


def _times(first: Tensor, second: Tensor) -> Tensor:
    if first.shape != second.shape:
        raise ValueError(f"a product of {tuple(first.shape)} and {tuple(second.shape)}")
    return first * second


def _full(parts: Parts) -> Tensor:
    return parts["diff"]


def _row(name: str, parts: str, rank_of: str | None, delta: Callable[[Parts], Tensor]) -> Algorithm:
    return Algorithm(name, frozenset(parts.split()), rank_of, delta)


_HADA = "hada_w1_a hada_w1_b hada_w2_a hada_w2_b"
_KRON = product(
    (("lokr_w1", None), ("lokr_w1_a lokr_w1_b", "lokr_w1_b")),
    (("lokr_w2", None), ("lokr_w2_a lokr_w2_b", "lokr_w2_b"), ("lokr_w2_a lokr_w2_b lokr_t2", "lokr_w2_b")),
)
ALGORITHMS = (
    _row("LoRA", "down up", "down", _lora),
    _row("LoCon", "down up mid", "down", _locon),
    _row("LoHa", _HADA, "hada_w1_b", _loha),
    _row("LoHa", f"{_HADA} hada_t1 hada_t2", "hada_w1_b", _loha_tucker),
    *(_row("LoKr", f"{one} {two}", second or first, _lokr) for (one, first), (two, second) in _KRON),
    _row("full difference", "diff", None, _full),
)


def check_shapes(shape: torch.Size, algorithm: Algorithm, parts: Parts) -> None:
    """Whether a layer's parts fit a weight, told without computing anything.

    Raises:
        ValueError: their shapes do not go together, or not with the weight's.
    """
    empty = {name: torch.empty_like(part, device="meta") for name, part in parts.items()}
    try:
        delta = algorithm.delta(empty)
    except (RuntimeError, IndexError, ValueError) as error:
        shapes = ", ".join(f"{name} {list(part.shape)}" for name, part in parts.items() if name in algorithm.parts)
        raise ValueError(f"its matrices do not fit each other: {shapes}") from error
    flat = delta.ndim == 2 and delta.numel() == shape.numel() and delta.shape[0] == shape[0]
    if not flat and _without_ones(delta.shape) != _without_ones(shape):
        raise ValueError(f"it changes {list(delta.shape)} where the model has {list(shape)}")
    for name in LENGTHS & parts.keys():
        if len(shape) < 2 or parts[name].numel() != shape[_axis(name, parts[name], shape)]:
            raise ValueError(f"its {name} {list(parts[name].shape)} does not fit a weight of {list(shape)}")


def delta_for(weight: Tensor, algorithm: Algorithm, parts: Parts, scaling: float, strength: float) -> Tensor:
    """What a layer's parts, which fit and are fp32, add to its weight, where `scaling` is alpha / rank.

    With a magnitude, as PEFT does: the changed weight gets that length, whatever the strength.
    """
    update = algorithm.delta(parts).reshape(weight.shape) * (scaling * strength)
    for name in LENGTHS & parts.keys():
        return _lengthened(weight + update, parts[name], _axis(name, parts[name], weight.shape)) - weight
    return update


def _without_ones(shape: torch.Size) -> tuple[int, ...]:
    """A kernel of 1x1 may be there or not."""
    return tuple(shape[:2]) if all(size == 1 for size in shape[2:]) else tuple(shape)


def _axis(name: str, magnitude: Tensor, shape: torch.Size) -> int:
    """0 where magnitudes are those of outputs, as always in PEFT; 1 of inputs, as in LyCORIS's earlier files."""
    return int(name == DORA_SCALE and tuple(magnitude.shape[:2]) == (1, shape[1]))


def _lengthened(weight: Tensor, magnitude: Tensor, axis: int) -> Tensor:
    others = [dimension for dimension in range(weight.ndim) if dimension != axis]
    length = torch.linalg.vector_norm(weight, dim=others, keepdim=True).clamp_min(torch.finfo(weight.dtype).tiny)
    return weight * (magnitude.reshape(length.shape) / length)
