"""Golden values: a few inputs of an engine, and what PyTorch made of them when the bundle was built.

They are in an .npz file that numpy reads without pickles. It stays small: a large input is a tile that is repeated, and
of a large output evenly spread numbers are kept.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from runtime.bundle.deviation import relative_error
from runtime.bundle.manifest import EngineSpec, TensorSpec
from runtime.errors import RealCompoError

Array = NDArray[Any]
TILE = 16_381  # elements, a prime: what is repeated falls on other rows and columns each time
SAMPLES = 16_384  # of a row of an output


@dataclass(frozen=True)
class Golden:
    """R rows of an engine's inputs (R,...), and samples of its outputs (R,S) float32."""

    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Array]

    @property
    def rows(self) -> int:
        return len(next(iter(self.outputs.values())))

    def batch(self, rows: int) -> dict[str, Tensor]:
        """Inputs of so many rows: those there are, over and over."""
        return {name: tensor[[k % self.rows for k in range(rows)]] for name, tensor in self.inputs.items()}

    def errors(self, found: Mapping[str, Tensor]) -> dict[str, float]:
        """Of a batch's outputs: max |engine - PyTorch| / max |PyTorch|, infinite where a number is none.

        The divisor is that of all rows, as when the bundle was built: a row of small numbers is not measured by itself.
        """
        return {name: _error(found[name], target) for name, target in self.outputs.items()}


def tiled(values: Tensor) -> Tensor:
    """The same where it is small; of what is larger the first elements, over and over."""
    if values.numel() <= TILE:
        return values
    return _fill(values.flatten()[:TILE], tuple(values.shape))


def write_golden(path: Path, inputs: Mapping[str, Tensor], outputs: Mapping[str, Array]) -> None:
    """Store inputs (R,...), tiled, and PyTorch's outputs (R,...)."""
    arrays = {f"input.{name}": tensor.flatten()[:TILE].numpy() for name, tensor in inputs.items()}
    arrays |= {f"output.{name}": _samples(output.astype(np.float32)) for name, output in outputs.items()}
    with path.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]  # numpy's stubs take the names for its own


def read_golden(folder: Path, spec: EngineSpec) -> Golden:
    """The golden values of an engine that has them.

    Raises:
        RealCompoError: the file is damaged, or of other tensors than the engine's.
    """
    assert spec.golden is not None
    path = folder / spec.golden.name
    try:
        with np.load(path, allow_pickle=False) as stored:
            rows = _rows(stored, spec)
            outputs = {tensor.name: _read_output(stored, tensor, rows) for tensor in spec.outputs}
            inputs = {tensor.name: _read_input(stored, tensor, rows) for tensor in spec.inputs}
    except Exception as error:  # numpy, zipfile and zlib each raise kinds of their own for what is damaged
        raise RealCompoError(
            f"{path} holds no golden values of {spec.role}: {error}. Build the bundle again"
        ) from error
    return Golden(inputs, outputs)


def _rows(stored: Mapping[str, Array], spec: EngineSpec) -> int:
    name = f"output.{spec.outputs[0].name}"
    rows: int = next(iter(stored[name].shape), 0)
    if not rows:
        raise ValueError(f"{name} has no rows")
    return rows


def _read_output(stored: Mapping[str, Array], tensor: TensorSpec, rows: int) -> Array:
    """Samples (R,S)."""
    samples = _take(stored, f"output.{tensor.name}", "float32", (rows, min(SAMPLES, _row_size(tensor))))
    if not np.isfinite(samples).all():
        raise ValueError(f"output.{tensor.name} has numbers that are none")
    return samples


def _read_input(stored: Mapping[str, Array], tensor: TensorSpec, rows: int) -> Tensor:
    """All of it (R,...), from its tile."""
    count = min(TILE, rows * _row_size(tensor))
    tile = torch.from_numpy(_take(stored, f"input.{tensor.name}", tensor.dtype, (count,)))
    return _fill(tile, (rows, *map(int, tensor.shape[1:])))


def _take(stored: Mapping[str, Array], name: str, dtype: str, shape: tuple[int, ...]) -> Array:
    array = stored[name]
    if (array.dtype.name, array.shape) != (dtype, shape):
        raise ValueError(f"{name} is {array.dtype.name} of shape {array.shape}, not {dtype} of {shape}")
    return array


def _row_size(tensor: TensorSpec) -> int:
    return math.prod(map(int, tensor.shape[1:]))


def _fill(tile: Tensor, shape: Sequence[int]) -> Tensor:
    count = math.prod(shape)
    return tile.repeat(-(-count // len(tile)))[:count].reshape(tuple(shape))


def _samples(output: Array) -> Array:
    """(R,...) to (R,S): evenly spread over each row."""
    flat = output.reshape(len(output), -1)
    count = min(SAMPLES, flat.shape[1])
    return flat[:, np.arange(count) * flat.shape[1] // count]


def _error(found: Tensor, target: Array) -> float:
    samples = _samples(found.float().cpu().numpy())
    wanted = target[np.arange(len(samples)) % len(target)]
    error = relative_error(samples, wanted, scale=float(np.abs(target).max()))
    return error if np.isfinite(error) else float("inf")
