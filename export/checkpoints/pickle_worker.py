"""The process that reads a pickled file of weights, and writes it as safetensors or says what it holds.

Reads JSON on stdin (the pickle, and the safetensors file or null) and writes one JSON event on stdout: {"tensors":
{name: [dtype, shape]}}, {"refused": why} or {"disk": [errno, reason]}. A pickle is a program. So nothing but
`torch.load(weights_only=True)`, which runs none, ever opens one, and it does so here, where memory is limited and a
crash costs nothing.
"""

import errno
import json
import math
import os
import re
import resource
import sys
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from export.checkpoints.header import MAX_NAME, MAX_TENSORS

SPARE_MEMORY = 256 << 20  # bytes beyond the file's size
_MAGIC = {b"PK\x03\x04": True, b"\x80\x02\x8a\n": False}  # how torch.save's files begin: today's, and those before 1.6
_WRAPPERS = ("state_dict", "model", "module")  # keys under which training keeps the weights
_PARALLEL = "module."
_BESIDE = {"autoencoder", "text_encoder"}  # and keys of GLIGEN's file, which has several models
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS)  # what is no fault of the file's
_DEEPEST = 4  # such keys within each other
_GROWTH = 4  # times a file's size that its tensors may take, for several may share what is stored once

_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_REASONS = (  # what torch and the system say, and what that means
    (r"Unsupported global: GLOBAL (\S+)", "it asks for {}, which is code and no data"),
    (r"Trying to load unsupported GLOBAL (\S+)", "it asks for {}, which is code and no data"),
    (r"TorchScript", "it is a TorchScript archive, which is a program"),
    (r"DefaultCPUAllocator|MemoryError|Cannot allocate memory|mmap", "it asks for more memory than its size explains"),
    (r"BadZipFile|PytorchStreamReader|EOFError|Ran out of input", "it is damaged or cut off"),
)


class Refused(Exception):
    """Why a file is not taken."""


def main() -> None:
    request = json.load(sys.stdin)
    safetensors = request["safetensors"]
    print(json.dumps(answer(Path(request["pickle"]), safetensors and Path(safetensors))), flush=True)


def answer(pickle: Path, safetensors: Path | None) -> dict[str, Any]:
    """Read a file with limited memory, write what it holds if there is a place for it, and say what it is."""
    torch.set_num_threads(1)  # each further thread reserves address space
    try:
        limit_memory(pickle.stat().st_size + SPARE_MEMORY)
        tensors = read(pickle)
        if safetensors:
            write(tensors, safetensors)
        return {"tensors": {name: [_DTYPES[one.dtype], list(one.shape)] for name, one in tensors.items()}}
    except Refused as error:
        return {"refused": str(error)}
    except BaseException as error:  # whatever a hostile file brings about
        if isinstance(error, OSError) and error.errno in _DISK:
            return {"disk": [error.errno, error.strerror]}
        return {"refused": _reason(f"{type(error).__name__}: {error}")}


def limit_memory(more: int) -> None:
    """Let this process take `more` bytes than it has."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + more
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def read(pickle: Path) -> dict[str, Tensor]:
    """A pickle's tensors, such as safetensors can hold."""
    size = pickle.stat().st_size
    named = list(flat_tensors(unwrapped(load(pickle))))
    tensors = dict(named)
    if len(tensors) < len(named):
        raise Refused("it has two tensors of one name")
    if not tensors:
        raise Refused("it holds no tensors by name")
    if len(tensors) > MAX_TENSORS or any(len(name.encode("utf-8", "replace")) > MAX_NAME for name in tensors):
        raise Refused(f"it has over {MAX_TENSORS:,} tensors, or names of over {MAX_NAME} bytes")
    for name, tensor in tensors.items():
        if name == "__metadata__":
            raise Refused("it has a tensor called __metadata__, which safetensors cannot hold")
        if tensor.layout != torch.strided or tensor.device.type != "cpu" or tensor.dtype not in _DTYPES:
            kind = f"{tensor.dtype} {tensor.layout} on {tensor.device}".replace("torch.", "")
            raise Refused(f"{name[:80]} is a tensor that safetensors cannot hold ({kind})")
    if sum(map(_bytes, tensors.values())) > _GROWTH * size:
        raise Refused("its tensors would take more room than its size explains")
    return tensors


def load(pickle: Path) -> Any:
    """What torch.save was given, as far as it is data.

    Raises:
        Exception: of any kind, for what is no data, or damaged.
    """
    with pickle.open("rb") as file:
        zipped = _MAGIC.get(file.read(4))
    if zipped is None:
        raise Refused("it is none of torch.save's files")
    if zipped:
        _check_archive(zipfile.ZipFile(pickle))
    return torch.load(pickle, map_location="cpu", weights_only=True, mmap=zipped)  # mapped, big files take no memory


def _check_archive(archive: zipfile.ZipFile) -> None:
    """What is mapped must be stored as it is."""
    if any(Path(name).name == "constants.pkl" for name in archive.namelist()):
        raise Refused("it is a TorchScript archive, which is a program")
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
        raise Refused("it is compressed, which torch.save's files are not")


def unwrapped(content: Any) -> Any:
    """The weights themselves, of a dictionary that has them under one key beside what else training keeps."""
    for _ in range(_DEEPEST):
        if not isinstance(content, Mapping) or _BESIDE & content.keys():
            break
        wrapper = next((key for key in _WRAPPERS if isinstance(content.get(key), Mapping)), None)
        if wrapper is None or any(isinstance(value, Tensor) for value in content.values()):
            break
        content = content[wrapper]
    return _without_module(content)


def _without_module(content: Any) -> Any:
    """Names as they were before the model was wrapped to train on several GPUs."""
    if not isinstance(content, Mapping) or not all(str(name).startswith(_PARALLEL) for name in content):
        return content
    return {str(name).removeprefix(_PARALLEL): value for name, value in content.items()}


def flat_tensors(content: Any) -> Iterator[tuple[str, Tensor]]:
    """Every tensor by its name; those of a dictionary within by names with its key before them. What is no tensor, such
    as a count of steps, is no weight and left out."""
    if not isinstance(content, Mapping):
        raise Refused(f"it holds a {type(content).__name__} rather than tensors by name")
    seen, waiting = set[int](), [("", content)]
    while waiting:
        prefix, group = waiting.pop()
        if id(group) in seen:  # a dictionary may hold itself
            continue
        seen.add(id(group))
        for key, value in group.items():
            if isinstance(value, Tensor):
                yield f"{prefix}{key}", value.detach()
            elif isinstance(value, Mapping):
                waiting.append((f"{prefix}{key}.", value))


def write(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write a safetensors file, one tensor after the other, so that memory holds one of them at most."""
    ordered = sorted(tensors.items(), key=lambda item: (-item[1].dtype.itemsize, item[0]))  # so that each is aligned
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, tensor in ordered:
        start, end = end, end + _bytes(tensor)
        header[name] = {"dtype": _DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode("utf-8")
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _, tensor in ordered:
            file.write(tensor.flatten().view(torch.uint8).numpy().data)
        file.flush()
        os.fsync(file.fileno())


def _bytes(tensor: Tensor) -> int:
    return math.prod(tensor.shape) * tensor.dtype.itemsize


def _reason(said: str) -> str:
    """One line, in words."""
    for pattern, meaning in _REASONS:
        if match := re.search(pattern, said):
            return meaning.format(*(group[:80] for group in match.groups()))
    said = said.rpartition("WeightsUnpickler error:")[2] if "WeightsUnpickler error:" in said else said
    printable = "".join(c for c in said.strip().split("\n")[0] if c.isprintable())
    return f"it is damaged, or no weights: {printable[:120]}"


if __name__ == "__main__":
    main()
