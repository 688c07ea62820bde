"""The types that engines' tensors have, and the checks that every runner makes on what it is given."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from runtime.bundle.manifest import EngineSpec, Manifest, TensorSpec, how_to_rebuild
from runtime.errors import RealCompoError
from runtime.messages import some_of


class ElementType(NamedTuple):
    torch: torch.dtype
    onnx: int  # onnx.TensorProto.DataType
    tensorrt: str  # tensorrt.DataType's member


ELEMENT_TYPES: dict[str, ElementType] = {
    "float32": ElementType(torch.float32, 1, "FLOAT"),
    "float16": ElementType(torch.float16, 10, "HALF"),
    "bfloat16": ElementType(torch.bfloat16, 16, "BF16"),
    "int64": ElementType(torch.int64, 7, "INT64"),
    "int32": ElementType(torch.int32, 6, "INT32"),
    "bool": ElementType(torch.bool, 9, "BOOL"),
}


def check_inputs(spec: EngineSpec, tensors: Mapping[str, torch.Tensor]) -> dict[str, int]:
    """Check names, dtypes and shapes against the engine's, and return the sizes of its symbolic dimensions.

    Raises:
        RealCompoError: the first mismatch, with what mends it.
    """
    _check_names(spec, tensors)
    sizes: dict[str, int] = {}
    for wanted in spec.inputs:
        _check_dtype(spec, wanted, tensors[wanted.name])
        _check_shape(spec, wanted, tensors[wanted.name], sizes)
    return sizes


def check_names(
    folder: Path, manifest: Manifest, file: Path, kind: str, found: Sequence[str], wanted: Sequence[TensorSpec]
) -> None:
    """Check that a loaded engine has the inputs or outputs that the manifest says.

    Raises:
        RealCompoError: it has others.
    """
    if set(found) != {tensor.name for tensor in wanted}:
        raise RealCompoError(
            f"{file} has the {kind} {some_of(found, 3)}, but the manifest says "
            f"{some_of([tensor.name for tensor in wanted], 3)}. {how_to_rebuild(folder, manifest)}"
        )


def output_shape(output: TensorSpec, sizes: Mapping[str, int]) -> tuple[int, ...]:
    """The output's shape once the symbolic sizes are known from the inputs."""
    return tuple(size if isinstance(size, int) else sizes[size] for size in output.shape)


def _check_names(spec: EngineSpec, tensors: Mapping[str, torch.Tensor]) -> None:
    wanted = [tensor.name for tensor in spec.inputs]
    if missing := [name for name in wanted if name not in tensors]:
        raise RealCompoError(f"{spec.role} needs {some_of(missing, 3)} too; it takes {some_of(wanted, 6)}")
    if unknown := [name for name in tensors if name not in wanted]:
        raise RealCompoError(f"{spec.role} has no input {some_of(unknown, 3)}; it takes {some_of(wanted, 6)}")


def _check_dtype(spec: EngineSpec, wanted: TensorSpec, tensor: torch.Tensor) -> None:
    dtype = ELEMENT_TYPES[wanted.dtype].torch
    if tensor.dtype != dtype:
        raise RealCompoError(
            f"{spec.role} takes {wanted.name} as {wanted.dtype}, not {str(tensor.dtype).removeprefix('torch.')}: "
            f"convert it with .to({dtype})"
        )


def _check_shape(spec: EngineSpec, wanted: TensorSpec, tensor: torch.Tensor, sizes: dict[str, int]) -> None:
    fits = len(wanted.shape) == tensor.ndim and all(
        size == (sizes.setdefault(want, size) if isinstance(want, str) else want)
        for want, size in zip(wanted.shape, tensor.shape, strict=True)
    )
    if not fits:
        known = f" with {', '.join(f'{name} = {size}' for name, size in sizes.items())}" if sizes else ""
        raise RealCompoError(
            f"{spec.role} takes {wanted.name} of shape ({', '.join(map(str, wanted.shape))}){known}, not "
            f"{tuple(tensor.shape)}: pass that shape, or build a bundle for the other one with python -m export build"
        )
