"""What an earlier build left of a part, why a part must be built again, and what a study said of an earlier bundle."""

from pathlib import Path

from pydantic import ValidationError

from export.parts import HASH, Part
from runtime.bundle.manifest import (
    EngineSpec,
    FileSpec,
    Manifest,
    RecommendedSpec,
    bundle_files,
    engine_files,
    read_manifest,
    sha256_of,
)
from runtime.errors import RealCompoError


def finished(part: Part, out: Path) -> EngineSpec | None:
    """The part as an earlier build left it, if it is whole and nothing that it depends on has changed."""
    engine = _read(out / part.sidecar)
    whole = engine and engine.key == part.key and all(_is_whole(out, file) for file in engine_files(engine))
    return engine if whole else None


def reason(part: Part, out: Path) -> str | None:
    """Why a part that is not finished is built, in words; None if there was none before."""
    engine = _latest(part, out)
    if engine is None:
        return None
    if engine.key == part.key:
        return "its files are missing or have changed"
    return ", ".join(_changes(engine.depends, part.depends)) or "it is from an older version of the exporter"


def recommended_before(manifest: Manifest, out: Path) -> RecommendedSpec | None:
    """What a study has stored in the present bundle, if it has the same files as the new one."""
    try:
        present = read_manifest(out)
    except RealCompoError:
        return None
    return present.recommended if bundle_files(present) == bundle_files(manifest) else None


def _changes(before: dict[str, str], now: dict[str, str]) -> list[str]:
    return [_change(name, before[name], now[name]) for name in now if before.get(name, now[name]) != now[name]]


def _change(name: str, before: str, now: str) -> str:
    return f"{name} changed" if before.startswith(HASH) else f"{name} {before} -> {now}"


def _latest(part: Part, out: Path) -> EngineSpec | None:
    sidecars = sorted(out.glob(part.any_sidecar), key=lambda path: path.stat().st_mtime)
    return _read(sidecars[-1]) if sidecars else None


def _read(sidecar: Path) -> EngineSpec | None:
    try:
        return EngineSpec.model_validate_json(sidecar.read_bytes())
    except (OSError, ValidationError):
        return None


def _is_whole(out: Path, file: FileSpec) -> bool:
    path = out / file.name
    return path.is_file() and sha256_of(path) == file.sha256
