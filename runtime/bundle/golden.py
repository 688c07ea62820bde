"""Golden values: a few inputs of an engine, and what PyTorch made of them when the bundle was built.

They are in an .npz file that numpy reads without pickles. It stays small: a large input is a tile that is repeated, and
of a large output evenly spread numbers are kept.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from runtime.bundle.manifest import EngineSpec
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
        """Of a batch's outputs: max |engine - PyTorch| / max |PyTorch|, infinite where a number is none."""
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
            outputs = {tensor.name: stored[f"output.{tensor.name}"] for tensor in spec.outputs}
            rows = len(next(iter(outputs.values())))
            inputs = {
                tensor.name: _fill(
                    torch.from_numpy(stored[f"input.{tensor.name}"]), (rows, *map(int, tensor.shape[1:]))
                )
                for tensor in spec.inputs
            }
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise RealCompoError(
            f"{path} holds no golden values of {spec.role}: {error}. Build the bundle again"
        ) from error
    return Golden(inputs, outputs)


def _fill(tile: Tensor, shape: Sequence[int]) -> Tensor:
    count = int(np.prod(shape))
    return tile.repeat(-(-count // len(tile)))[:count].reshape(tuple(shape))


def _samples(output: Array) -> Array:
    """(R,...) to (R,S): evenly spread over each row."""
    flat = output.reshape(len(output), -1)
    count = min(SAMPLES, flat.shape[1])
    return flat[:, np.arange(count) * flat.shape[1] // count]


def _error(found: Tensor, target: Array) -> float:
    samples = _samples(found.float().cpu().numpy())
    wanted = target[np.arange(len(samples)) % len(target)]
    error = float(np.abs(samples - wanted).max() / np.abs(wanted).max())
    return error if np.isfinite(error) else float("inf")
