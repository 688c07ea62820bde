"""A LoRA file, read into what it does to each layer. Every tensor of it finds its place, or the file is refused.

All that is refused here is a ValueError; `export.checkpoints.lora` says which file it is of.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from export.checkpoints.lora_algorithms import ALGORITHMS, LENGTHS, Algorithm, check_shapes, delta_for
from export.checkpoints.lora_names import OTHERS, Layer, layer_names, split_name
from export.words import Component
from runtime.messages import shown

Shapes = Mapping[Component, Mapping[str, Sequence[int]]]  # of a model's weights, as they are stored
Change = Callable[[Tensor, float], Tensor]  # of a weight and a strength: what is added, in fp32
_BESIDE = {"alpha", "up_bias", "diff_b", *LENGTHS}  # parts that matrices may have with them
_SETTINGS = "lora_adapter_metadata"  # where diffusers keeps PEFT's
_REBASED = ("pissa", "olora", "corda", "loftq")  # PEFT's ways to start that change the base model too


@dataclass(frozen=True)
class Update:
    """What a file does to one layer."""

    layer: Layer
    algorithm: Algorithm | None  # None where it changes the bias alone
    parts: Mapping[str, Tensor]
    scaling: float  # alpha / rank

    def changes(self) -> Iterator[tuple[str, Change]]:
        """The stored weights that it changes, and how."""
        if self.algorithm:
            yield f"{self.layer.stored}.weight", self._of_weight
        if {"up_bias", "diff_b"} & self.parts.keys():
            yield f"{self.layer.stored}.bias", self._of_bias

    def _of_weight(self, weight: Tensor, strength: float) -> Tensor:
        assert self.algorithm
        parts = {name: part.float() for name, part in self.parts.items()}
        return delta_for(weight.float(), self.algorithm, parts, self.scaling, strength)

    def _of_bias(self, bias: Tensor, strength: float) -> Tensor:
        scales = {"up_bias": self.scaling, "diff_b": 1.0}
        terms = [self.parts[name].float() * scale for name, scale in scales.items() if name in self.parts]
        return torch.stack(terms).sum(0) * strength


def read_lora(file: Path, shapes: Shapes) -> list[Update]:
    """What a file does to each layer of a model.

    Raises:
        ValueError: a tensor that has no place in the model, lacks another, does not fit or is not finite.
        SafetensorError, OSError: it cannot be read.
    """
    with safe_open(file, framework="pt") as opened:
        named = _by_layer(list(opened.keys()), layer_names({component: list(own) for component, own in shapes.items()}))
        settings = _settings(opened.metadata() or {})
        return [_read(opened, layer, names, settings, shapes[layer.component]) for layer, names in named.items()]


def _by_layer(names: Sequence[str], layers: Mapping[str, Layer]) -> dict[Layer, dict[str, str]]:
    """Of each layer, the names of its parts."""
    found: dict[Layer, dict[str, str]] = {}
    parted = {name: split_name(name) for name in names}
    if not any(parted.values()):
        _refuse_others(names)
        raise ValueError(f"it is no LoRA; it has weights such as {shown(names[0]) if names else 'none'}")
    for name, split in parted.items():
        if split is None or split[0] not in layers:
            raise ValueError(_no_place([name for name, split in parted.items() if not split or split[0] not in layers]))
        own = found.setdefault(layers[split[0]], {})
        if (before := own.setdefault(split[1], name)) != name:
            raise ValueError(f"{shown(before)} and another tensor are the same part of one layer")
    return found


def _no_place(names: Sequence[str]) -> str:
    _refuse_others(names)
    others = f" and {len(names) - 1} others" if len(names) > 1 else ""
    return f"it has no place for {shown(names[0])}{others}"


def _refuse_others(names: Iterable[str]) -> None:
    for name in names:
        if what := next((what for piece, what in OTHERS.items() if piece in name), None):
            raise ValueError(f"{shown(name)} is of {what}, which is not fused")


def _read(
    opened: Any, layer: Layer, names: Mapping[str, str], settings: Mapping[str, Any], own: Mapping[str, Sequence[int]]
) -> Update:
    parts = {part: _tensor(opened, name, part) for part, name in names.items()}
    first = shown(next(iter(names.values())))
    algorithm = _algorithm(set(parts), first)
    for part in {"up_bias", "diff_b"} & parts.keys():
        _check_bias(shown(names[part]), parts[part], own.get(f"{layer.stored}.bias"))
    try:
        if algorithm:
            check_shapes(torch.Size(own[f"{layer.stored}.weight"]), algorithm, parts)
        return Update(layer, algorithm, parts, _scaling(layer, algorithm, parts, settings))
    except ValueError as error:
        raise ValueError(f"{first}: {error}") from error


def _tensor(opened: Any, name: str, part: str) -> Tensor:
    tensor: Tensor = opened.get_tensor(name)
    if not tensor.is_floating_point() and (part != "alpha" or tensor.is_complex()):
        raise ValueError(f"{shown(name)} holds {str(tensor.dtype).removeprefix('torch.')}, no weights")
    if not tensor.float().isfinite().all():
        raise ValueError(f"{shown(name)} is not finite")
    return tensor


def _algorithm(parts: set[str], first: str) -> Algorithm | None:
    matrices = frozenset(parts - _BESIDE)
    if not matrices and parts == {"diff_b"}:
        return None
    if found := next((row for row in ALGORITHMS if row.parts == matrices), None):
        if parts >= LENGTHS or ("up_bias" in parts and (found.name != "LoRA" or LENGTHS & parts)):
            raise ValueError(f"{first}: a layer with {', '.join(sorted(parts))} is of no known kind")
        return found
    wider = [row for row in ALGORITHMS if matrices < row.parts]
    if wider and matrices:
        lacking = sorted(min(wider, key=lambda row: len(row.parts)).parts - matrices)
        raise ValueError(f"{first} stands without its {', '.join(lacking)}")
    raise ValueError(f"{first}: a layer with {', '.join(sorted(parts))} is of no known kind")


def _check_bias(name: str, bias: Tensor, shape: Sequence[int] | None) -> None:
    if shape is None:
        raise ValueError(f"{name} changes a bias, and this layer of the model has none")
    if list(bias.shape) != list(shape):
        raise ValueError(f"{name} has shape {list(bias.shape)} where the model's bias has {list(shape)}")


def _scaling(
    layer: Layer, algorithm: Algorithm | None, parts: Mapping[str, Tensor], settings: Mapping[str, Any]
) -> float:
    """alpha / rank; a missing alpha is the rank."""
    if algorithm is None or algorithm.rank_of is None:
        return 1.0
    rank = parts[algorithm.rank_of].shape[0]
    if not rank:
        raise ValueError("its rank is 0")
    alpha = _alpha(parts["alpha"]) if "alpha" in parts else _set_alpha(layer, settings, rank)
    return alpha / (rank**0.5 if settings.get(f"{layer.component}.use_rslora") else rank)


def _alpha(tensor: Tensor) -> float:
    if tensor.numel() != 1:
        raise ValueError(f"its alpha has shape {list(tensor.shape)} and is no number")
    return float(tensor)


def _set_alpha(layer: Layer, settings: Mapping[str, Any], rank: int) -> float:
    """PEFT's alpha for a layer: that of a pattern which ends its path, or the one for all."""
    patterns = settings.get(f"{layer.component}.alpha_pattern") or {}
    path = f".text_model.{layer.path}"
    fitting = [alpha for pattern, alpha in patterns.items() if path.endswith(f".{pattern.removeprefix('^')}")]
    return float(next(iter(fitting), settings.get(f"{layer.component}.lora_alpha", rank)))


def _settings(metadata: Mapping[str, str]) -> dict[str, Any]:
    """PEFT's settings, by component and name; none in other files."""
    try:
        settings = json.loads(metadata.get(_SETTINGS, "{}"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"its {_SETTINGS} is no JSON") from error
    if not isinstance(settings, dict):
        raise ValueError(f"its {_SETTINGS} is no JSON object")
    for name, value in settings.items():
        if not _SETTING.get(name.rpartition(".")[2], _any)(value):
            raise ValueError(f"its {_SETTINGS} has {shown(name)}, which is not fused: {shown(json.dumps(value))}")
    return settings


def _any(value: Any) -> bool:
    return True


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e30


def _is_pattern(value: Any) -> bool:
    """No regular expressions: PEFT would match them, diffusers writes none."""
    plain = isinstance(value, dict) and all(re.fullmatch(r"\^?[\w.]+", name) for name in value)
    return not value or (plain and all(map(_is_number, value.values())))


_SETTING: dict[str, Callable[[Any], bool]] = {  # what PEFT's settings may be here; others change nothing that is stored
    "lora_alpha": _is_number,
    "alpha_pattern": _is_pattern,
    "use_rslora": lambda value: value is None or isinstance(value, bool),
    "init_lora_weights": lambda value: not str(value).lower().startswith(_REBASED),
    "fan_in_fan_out": lambda value: not value,
    "layer_replication": lambda value: not value,
}
