"""The demo pairs' bundles, built by the exporter itself; a later run keeps the parts that have not changed."""

import os
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from export.build import Options, build
from export.checkpoints.folders import ROOT
from export.spatial import find_pair
from runtime import RealCompo

BUNDLES = ROOT / "outputs" / "tests"


def pytest_configure() -> None:
    """Processes that run tests side by side share the cores, as PyTorch's threads; ONNX Runtime's follow those."""
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    torch.set_num_threads(max(1, torch.get_num_threads() // workers))
    os.environ.pop("COLUMNS", None)  # which they are given; it would fix the width of rich's tables for good


@pytest.fixture(scope="session")
def tabletop_bundle() -> Path:
    return _build_once(BUNDLES / "tabletop", Options())


@pytest.fixture(scope="session")
def tabletop_half_bundle() -> Path:
    return _build_once(BUNDLES / "tabletop-fp16", Options(precision="fp16"))


@pytest.fixture(scope="session")
def tabletop_depth_bundle() -> Path:
    return _build_once(BUNDLES / "tabletop-depth", Options(), "tabletop-depth")


@pytest.fixture(scope="session")
def tabletop(tabletop_bundle: Path) -> RealCompo:
    return RealCompo.load(tabletop_bundle)


def _build_once(folder: Path, options: Options, pair: str = "tabletop") -> Path:
    """The first of the processes that ask builds it; the others wait, and find it there."""
    BUNDLES.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        build(find_pair(pair), folder, options)
    return folder
