"""The files beside .onnx files that hold their weights.

A bundle stores each weight once: a graph refers to the files of those that were stored before it for what they have
already, such as a gradient's to the forward model's.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
from onnx import ModelProto, StringStringEntryProto, TensorProto, numpy_helper

SMALLEST = 1024  # bytes of a weight that is stored apart: shapes and the like are read with the graph
_ALIGNMENT = 64  # bytes: files are mapped, and a cache line starts there


class _Place(NamedTuple):
    """Where a weight is."""

    file: str  # beside the graph
    offset: int
    length: int


def stored_bytes(path: Path) -> int:
    """Of a graph with its external data."""
    names = {location.value for location in _locations(onnx.load(path, load_external_data=False))}
    return path.stat().st_size + sum((path.parent / name).stat().st_size for name in names)


def store_weights(graph: Path, data: Path, earlier: Iterable[Path] = ()) -> set[str]:
    """Take the weights out of a graph: into the file `data` beside it, but for those that earlier graphs have, to whose
    files it refers then. The files that it referred to before are no longer of use to it.

    Args:
        earlier: .onnx files, named by what they hold; their external data will be in the folder that the graph's is in
            when it is loaded.

    Returns:
        The names of the files that it refers to now.
    """
    model = onnx.load(graph, load_external_data=False)
    places = {digest: place for one in earlier for digest, place in _stored(one).items()}
    with data.open("wb") as file:
        for weight in model.graph.initializer:
            content = _content(weight, graph.parent)
            if content.nbytes < SMALLEST:
                _put_inside(weight, content)
                continue
            digest = hashlib.sha256(content).digest()
            if digest not in places:
                file.write(bytes(-file.tell() % _ALIGNMENT))
                places[digest] = _Place(data.name, file.tell(), content.nbytes)
                file.write(content)
            _put_outside(weight, places[digest])
    graph.write_bytes(model.SerializeToString())
    return {location.value for location in _locations(model)}


def rename_external_data(path: Path, names: Mapping[str, str]) -> None:
    """Make a graph look for its external data under other names, where they have others."""
    model = onnx.load(path, load_external_data=False)
    for location in _locations(model):
        location.value = names.get(location.value, location.value)
    path.write_bytes(model.SerializeToString())


@cache
def _stored(graph: Path) -> Mapping[bytes, _Place]:
    """The place of each of a graph's external weights, by its hash: every later graph of a build asks for it."""
    weights = onnx.load(graph, load_external_data=False).graph.initializer
    return {
        hashlib.sha256(_content(weight, graph.parent)).digest(): place
        for weight in weights
        if (place := _place(weight))
    }


def _place(weight: TensorProto) -> _Place | None:
    if weight.data_location != TensorProto.EXTERNAL:
        return None
    said = {entry.key: entry.value for entry in weight.external_data}
    return _Place(said["location"], int(said.get("offset", 0)), int(said["length"]))


def _content(weight: TensorProto, folder: Path) -> memoryview:
    """A weight's bytes, mapped if they are in a file."""
    if place := _place(weight):
        return np.memmap(folder / place.file, np.uint8, "r", place.offset, place.length).data
    return memoryview(weight.raw_data or numpy_helper.to_array(weight).tobytes())


def _put_inside(weight: TensorProto, content: memoryview) -> None:
    if weight.data_location == TensorProto.EXTERNAL:
        weight.raw_data = content.tobytes()
        weight.ClearField("external_data")
        weight.data_location = TensorProto.DEFAULT


def _put_outside(weight: TensorProto, place: _Place) -> None:
    for field in ("raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data", "external_data"):
        weight.ClearField(field)
    weight.data_location = TensorProto.EXTERNAL
    for key, value in (("location", place.file), ("offset", place.offset), ("length", place.length)):
        weight.external_data.add(key=key, value=str(value))


def _locations(model: ModelProto) -> Iterator[StringStringEntryProto]:
    for weight in model.graph.initializer:
        if weight.data_location == TensorProto.EXTERNAL:
            yield from (entry for entry in weight.external_data if entry.key == "location")
