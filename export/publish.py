"""What makes a folder a bundle, once and for every command that writes one.

Files have names that say what they hold, so that none is ever written over by another: the present bundle is whole
until the manifest, which comes last, is replaced. Only then does what nobody needs any more go.
"""

import json
import os
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, get_args

from torch import Tensor

from export.checkpoints.prepare import CONVERTED, LORAS, RANDOM_WEIGHTS, SINGLE_FILES
from export.external_data import rename_external_data, store_weights
from export.onnx.fuse import fuse_attention
from runtime.bundle.golden import write_golden
from runtime.bundle.manifest import (
    MANIFEST,
    EngineSpec,
    FileSpec,
    Manifest,
    PlanSpec,
    bundle_files,
    engine_files,
    sha256_of,
    write_atomically,
    write_manifest,
)
from runtime.words import Role

_TOKENIZERS = ("tokenizer", "tokenizer_2")
_DIGITS = 12
_PART = rf"({'|'.join(get_args(Role))})-[0-9a-f]{{{_DIGITS}}}"
_OURS = re.compile(
    rf"{_PART}\.(onnx|onnx\.data|engine|golden\.npz|json)"
    rf"|({'|'.join(_TOKENIZERS)})(-[0-9a-f]{{{_DIGITS}}})?\.json"
    rf"|\.({_PART}|manifest)\.json\..+"  # half written by an older version
)
_PREPARED = {
    RANDOM_WEIGHTS: re.compile(r"text_to_image|spatial|(controlnet|adapter)-\w+"),
    CONVERTED: re.compile(
        rf"\.?(text_to_image|spatial)-[0-9a-f]{{{_DIGITS}}}|\.?weights-[0-9a-f]{{{_DIGITS}}}\.safetensors"
    ),
    SINGLE_FILES: re.compile(rf"\.?(text_to_image|spatial)-[0-9a-f]{{{_DIGITS}}}"),
    LORAS: re.compile(rf"\.?(text_to_image|spatial)-[0-9a-f]{{{_DIGITS}}}"),
}


def store_graph(
    role: Role, files: Sequence[Path], earlier: Iterable[EngineSpec] = (), folder: Path | None = None
) -> tuple[FileSpec, ...]:
    """Store a graph's weights apart, unless an earlier engine has them, and name its files after what they hold.

    Args:
        files: the .onnx file, and its external data if it has any; they are replaced.
        earlier: engines whose files are in `folder`.

    Returns:
        The graph, its own weights if it has any, and the earlier engines' files that it refers to.
    """
    graph, *before = files
    own, there = graph.with_name(f"{role}.weights"), list(earlier)
    used = store_weights(graph, own, [(folder or graph.parent) / engine.graph[0].name for engine in there])
    for file in before:
        file.unlink()
    published = {file.name: file for engine in there for file in engine.graph if file.name in used}
    weights = [_renamed(own, f"{role}-", ".onnx.data")] if own.name in used else []
    if weights:
        rename_external_data(graph, {own.name: weights[0].name})
    else:
        own.unlink()
    return _renamed(graph, f"{role}-", ".onnx"), *weights, *published.values()


def store_fused(role: Role, graph: FileSpec, folder: Path) -> FileSpec | None:
    """Write the fused graph of a stored one in `folder`, if it has any attention to fuse."""
    path = folder / f"{role}.fused"
    return _renamed(path, f"{role}-", ".onnx") if fuse_attention(folder / graph.name, path) else None


def name_plan(role: Role, plan: PlanSpec, folder: Path) -> PlanSpec:
    """Rename a plan in `folder` after what it holds."""
    return plan.model_copy(update={"file": _renamed(folder / plan.file.name, f"{role}-", ".engine")})


def store_golden(role: Role, inputs: Mapping[str, Tensor], outputs: Mapping[str, Any], folder: Path) -> FileSpec:
    """Write an engine's golden values to `folder`, under a name that says what they hold."""
    path = folder / f"{role}.golden"
    write_golden(path, inputs, outputs)
    return _renamed(path, f"{role}-", ".golden.npz")


def write_tokenizers(contents: Iterable[bytes], scratch: Path, out: Path) -> dict[str, FileSpec]:
    """Write a tokenizer for each text encoder to the scratch folder, and return the manifest's fields of them.

    They keep their plain names, unless the present bundle has another file there.
    """
    present = _present(out)
    return {
        stem: _write_tokenizer(stem, content, scratch, present)
        for stem, content in zip(_TOKENIZERS, contents, strict=False)
    }


def publish_part(engine: EngineSpec, sidecar: str, scratch: Path, out: Path) -> None:
    """Move a finished part out of the scratch folder; its sidecar, which comes last, says that it is whole."""
    _place_files(engine_files(engine), scratch, out)
    write_atomically(scratch / sidecar, engine.model_dump_json(indent=2).encode() + b"\n")
    _place(scratch / sidecar, out)


def publish(
    manifest: Manifest, scratch: Path, out: Path, sidecars: Iterable[str] = (), prepared: Iterable[Path] = ()
) -> None:
    """Move what the manifest names and the scratch folder has, then the manifest, and remove what it replaces.

    Args:
        sidecars: of this build's parts.
        prepared: folders that this build has used.
    """
    _place_files(bundle_files(manifest), scratch, out)
    write_manifest(scratch, manifest)
    _place(scratch / MANIFEST, out)
    remove_stale(out, {*(file.name for file in bundle_files(manifest)), *sidecars}, prepared)


def remove_stale(out: Path, keep: Iterable[str], prepared: Iterable[Path]) -> None:
    """Remove what earlier builds made and this one has not. Nothing is touched that a build did not make."""
    kept = set(keep)
    for path in out.iterdir():
        if _OURS.fullmatch(path.name) and path.name not in kept and path.is_file():
            path.unlink()
    _remove_prepared(out, {path.resolve() for path in prepared})


def _remove_prepared(out: Path, used: set[Path]) -> None:
    for name, pattern in _PREPARED.items():
        if not (folder := out / name).is_dir():
            continue
        for path in folder.iterdir():
            if pattern.fullmatch(path.name) and path.resolve() not in used:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        with suppress(OSError):  # it is not empty
            folder.rmdir()


def _renamed(path: Path, beginning: str, end: str) -> FileSpec:
    digest = sha256_of(path)
    named = path.rename(path.with_name(f"{beginning}{digest[:_DIGITS]}{end}"))
    return FileSpec(name=named.name, sha256=digest)


def _write_tokenizer(stem: str, content: bytes, scratch: Path, present: dict[str, str]) -> FileSpec:
    plain = scratch / f"{stem}.json"
    plain.write_bytes(content)
    digest = sha256_of(plain)
    named = f"{stem}-{digest[:_DIGITS]}.json"
    if present.get(plain.name, digest) == digest and named not in present:
        return FileSpec(name=plain.name, sha256=digest)
    return _renamed(plain, f"{stem}-", ".json")


def _present(out: Path) -> dict[str, str]:
    """Name and sha256 of every file that the present manifest names, whatever its version."""
    named: dict[str, str] = {}

    def collect(entry: dict[str, Any]) -> None:
        if entry.keys() >= {"name", "sha256"}:
            named[entry["name"]] = entry["sha256"]

    with suppress(OSError, ValueError):  # there is none, or none that can be read
        json.loads((out / MANIFEST).read_bytes(), object_hook=collect)
    return named


def _place_files(files: Iterable[FileSpec], scratch: Path, out: Path) -> None:
    """Move those that the scratch folder has; what the bundle has already, such as unchanged weights, stays there."""
    for file in files:
        made, there = scratch / file.name, out / file.name
        if made.is_file() and not (there.is_file() and sha256_of(there) == file.sha256):
            _place(made, out)


def _place(file: Path, out: Path) -> None:
    """Move a file to the bundle, once the disk has all of it."""
    with file.open("rb") as opened:
        os.fsync(opened.fileno())
    file.replace(out / file.name)
