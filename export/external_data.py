"""The files beside an .onnx file that hold its weights, where one file cannot hold all. Nothing here reads weights."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import onnx
from onnx import ModelProto, StringStringEntryProto, TensorProto


def stored_bytes(path: Path) -> int:
    """Of a graph with its external data."""
    model = onnx.load(path, load_external_data=False)
    names = {location.value for location in _locations(model)}
    return path.stat().st_size + sum((path.parent / name).stat().st_size for name in names)


def rename_external_data(path: Path, names: Mapping[str, str]) -> None:
    """Make a graph look for its external data under other names."""
    model = onnx.load(path, load_external_data=False)
    for location in _locations(model):
        location.value = names[location.value]
    path.write_bytes(model.SerializeToString())


def _locations(model: ModelProto) -> Iterator[StringStringEntryProto]:
    for weight in model.graph.initializer:
        if weight.data_location == TensorProto.EXTERNAL:
            yield from (entry for entry in weight.external_data if entry.key == "location")
