"""What a safetensors file says that it holds, read without its weights and believed only where it adds up.

The header's entries are read one by one: parsed as a whole, hostile JSON takes many times its size in memory.
"""

import json
import math
import re
from codecs import getincrementaldecoder
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO, NamedTuple

from runtime.errors import RealCompoError
from runtime.messages import shown

MAX_HEADER = 100_000_000  # bytes, safetensors' own limit
MAX_TENSORS = 100_000  # twenty times what SDXL with every adapter has; of metadata's notes too
MAX_NAME = 500  # bytes
_PIECE = 1_000_000  # bytes

BITS = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 8),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 16),
    **dict.fromkeys(("U32", "I32", "F32"), 32),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 64),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    "F4": 4,
}

_ESCAPE = rb'\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})'
_STRING = rb'"[^"\\\x00-\x1f]*+(?:' + _ESCAPE + rb'[^"\\\x00-\x1f]*+)*+"'
_NAME = re.compile(rb"\s*(" + _STRING + rb")\s*:\s*")
_ENTRY = re.compile(rb"\{[^{}]{0,1000}\}")
_NOTE = re.compile(rb"\s*" + _STRING + rb"\s*:\s*" + _STRING + rb"\s*")
_NEXT = re.compile(rb"\s*([,}])\s*")
_METADATA = b'"__metadata__"'


class TensorInfo(NamedTuple):
    dtype: str  # safetensors' word, such as F16
    shape: tuple[int, ...]


Tensors = Mapping[str, TensorInfo]
_Ends = tuple[int, int]


class _Damage(ValueError):
    """What is wrong with a header."""


def read_header(path: Path) -> dict[str, TensorInfo]:
    """The names, types and shapes of the tensors in a safetensors file.

    Raises:
        RealCompoError: it cannot be read, is cut off, or its header is damaged.
    """
    try:
        with path.open("rb") as file:
            return _parse(file, path.stat().st_size)
    except _Damage as damage:
        raise RealCompoError(f"{shown(path)} is no whole .safetensors file: {damage}. Download it again") from damage
    except OSError as error:
        raise RealCompoError(f"{shown(path)} cannot be read: {error.strerror or error}") from error


def _parse(file: BinaryIO, size: int) -> dict[str, TensorInfo]:
    length = int.from_bytes(file.read(8), "little")
    if size < 8 or length > size - 8:
        raise _Damage(f"it has {size:,} bytes, fewer than its header would have")
    if length > MAX_HEADER:
        raise _Damage(f"its header claims {length:,} bytes, more than {MAX_HEADER:,}")
    tensors: dict[str, TensorInfo] = {}
    ends: list[_Ends] = []
    for name, body in _entries(file.read(length)):
        if name in tensors or len(tensors) == MAX_TENSORS:
            raise _Damage(f"{shown(name)} stands there twice" if name in tensors else f"over {MAX_TENSORS:,} tensors")
        tensors[name], place = _tensor(name, body)
        ends.append(place)
    _check_places(sorted(ends), size - 8 - length)
    return tensors


def _entries(header: bytes) -> Iterator[tuple[str, bytes]]:
    """Each tensor's name and what is said of it, as JSON."""
    _check_text(header)
    if re.fullmatch(rb"\{\s*\}\s*", header):
        return
    at, more, noted = 1, True, False
    while more:
        name = _match(_NAME, header, at)
        if name[1] == _METADATA and noted:
            raise _Damage("it has metadata twice")
        if name[1] == _METADATA:
            noted = True
            at = _after_metadata(header, name.end())
        else:
            entry = _match(_ENTRY, header, name.end())
            yield _text(name[1]), entry[0]
            at = entry.end()
        separator = _match(_NEXT, header, at)
        at, more = separator.end(), separator[1] == b","
    if at != len(header):
        raise _Damage("its header goes on after its end")


def _after_metadata(header: bytes, at: int) -> int:
    """Past an object of strings alone, which are not read."""
    if re.compile(rb"\{\s*\}").match(header, at):
        return header.index(b"}", at) + 1
    at = _match(re.compile(rb"\{"), header, at).end()
    for _ in range(MAX_TENSORS):
        separator = _match(_NEXT, header, _match(_NOTE, header, at).end())
        at = separator.end()
        if separator[1] == b"}":
            return at
    raise _Damage(f"over {MAX_TENSORS:,} notes in its metadata")


def _check_text(header: bytes) -> None:
    """Piece by piece, as whole text takes up to four times the memory."""
    decoder = getincrementaldecoder("utf-8")()
    try:
        for at in range(0, len(header), _PIECE):
            decoder.decode(header[at : at + _PIECE])
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise _Damage("its header is no UTF-8") from error
    if not header.startswith(b"{"):
        raise _Damage("its header is no JSON object")


def _match(pattern: re.Pattern[bytes], header: bytes, at: int) -> re.Match[bytes]:
    if found := pattern.match(header, at):
        return found
    raise _Damage(f"its header is damaged at byte {at:,}")


def _text(name: bytes) -> str:
    if len(name) > MAX_NAME:
        raise _Damage(f"a tensor's name has over {MAX_NAME} bytes")
    try:
        text = str(json.loads(str(name, "utf-8")))
        text.encode()  # half of a surrogate pair cannot be
    except ValueError as error:
        raise _Damage("a tensor's name is no UTF-8") from error
    return text


def _tensor(name: str, body: bytes) -> tuple[TensorInfo, _Ends]:
    try:
        said = json.loads(str(body, "utf-8"))
        dtype, shape, (start, end) = said["dtype"], said["shape"], said["data_offsets"]
        numbers = [*shape, start, end]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise _Damage(f"what it says of {shown(name)} is damaged") from error
    if not isinstance(dtype, str) or dtype not in BITS:
        raise _Damage(f"{shown(name)} is of the unknown type {shown(dtype)}")
    if not all(type(one) is int and 0 <= one < 2**63 for one in numbers):
        raise _Damage(f"the shape or place of {shown(name)} is no list of sizes")
    if (end - start) * 8 != math.prod(shape) * BITS[dtype]:
        raise _Damage(f"{shown(name)} does not have the size of its shape")
    return TensorInfo(dtype, tuple(shape)), (start, end)


def _check_places(ends: list[_Ends], size: int) -> None:
    """Tensors follow each other from the first byte to the last."""
    if any(before[1] != after[0] for before, after in pairwise([(0, 0), *ends])):
        raise _Damage("its tensors overlap, or leave gaps")
    last = ends[-1][1] if ends else 0
    if last != size:
        raise _Damage(f"its tensors take {last:,} bytes, and it has {size:,} of them")
