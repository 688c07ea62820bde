"""What makes a folder a bundle, once and for every command that writes one.

Files have names that say what they hold, so that none is ever written over by another: the present bundle is whole
until the manifest, which comes last, is replaced. Only then does what nobody needs any more go.
"""

import json
import os
import re
import shutil
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, get_args

from export.checkpoints.prepare import CONVERTED, LORAS, RANDOM_WEIGHTS, SINGLE_FILES
from export.external_data import rename_external_data
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
    rf"{_PART}\.(onnx|onnx\.data|onnx_data|engine|json)"
    rf"|({'|'.join(_TOKENIZERS)})(-[0-9a-f]{{{_DIGITS}}})?\.json"
    rf"|\.({_PART}|manifest)\.json\..+"  # half written by an older version
)
_PREPARED = {
    RANDOM_WEIGHTS: re.compile(r"text_to_image|spatial|controlnet-\w+"),
    CONVERTED: re.compile(
        rf"\.?(text_to_image|spatial)-[0-9a-f]{{{_DIGITS}}}|\.?weights-[0-9a-f]{{{_DIGITS}}}\.safetensors"
    ),
    SINGLE_FILES: re.compile(rf"\.?(text_to_image|spatial)-[0-9a-f]{{{_DIGITS}}}"),
    LORAS: re.compile(rf"\.?text_to_image-[0-9a-f]{{{_DIGITS}}}"),
}


def name_graph(role: Role, files: Sequence[Path]) -> tuple[FileSpec, ...]:
    """Rename a graph's files after what they hold: the external data first, for the graph tells its name.

    Args:
        files: the .onnx file, and its external data if it has any.
    """
    graph, *data = files
    named = {file.name: _renamed(file, f"{role}-", ".onnx.data") for file in data}
    if any(old != spec.name for old, spec in named.items()):
        rename_external_data(graph, {old: spec.name for old, spec in named.items()})
    return _renamed(graph, f"{role}-", ".onnx"), *named.values()


def name_plan(role: Role, plan: PlanSpec, folder: Path) -> PlanSpec:
    """Rename a plan in `folder` after what it holds."""
    return plan.model_copy(update={"file": _renamed(folder / plan.file.name, f"{role}-", ".engine")})


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
    for file in engine_files(engine):
        _place(scratch / file.name, out)
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
    for file in bundle_files(manifest):
        if (scratch / file.name).is_file():
            _place(scratch / file.name, out)
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


def _place(file: Path, out: Path) -> None:
    """Move a file to the bundle, once the disk has all of it."""
    with file.open("rb") as opened:
        os.fsync(opened.fileno())
    file.replace(out / file.name)
