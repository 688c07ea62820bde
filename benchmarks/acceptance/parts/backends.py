"""Which backends run a bundle here."""

from pathlib import Path

from runtime.backends import load_engines
from runtime.bundle.manifest import read_manifest
from runtime.errors import RealCompoError


def why_not(bundle: Path, backend: str, device: str) -> str | None:
    """Why this machine has no such backend for the bundle; None where it has. No engine is opened yet."""
    try:
        load_engines(bundle, read_manifest(bundle), backend, device, second_stream=False)
    except RealCompoError as error:
        return str(error)
    return None


def timed_backends(bundle: Path, device: str) -> list[str]:
    """Those that `latency` times where they run: the bundle's plans, then the graphs."""
    wanted = dict.fromkeys((read_manifest(bundle).backend, "onnx"))
    return [backend for backend in wanted if why_not(bundle, backend, device) is None]
