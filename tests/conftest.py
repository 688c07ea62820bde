"""The demo pair's bundle, built by the exporter itself; a later run keeps the parts that have not changed."""

from pathlib import Path

import pytest

from export.build import Options, build
from export.checkpoints import ROOT
from export.pairs import find_pair
from runtime import RealCompo


@pytest.fixture(scope="session")
def tabletop_bundle() -> Path:
    folder = ROOT / "outputs" / "tests" / "tabletop"
    build(find_pair("tabletop"), folder, Options())
    return folder


@pytest.fixture(scope="session")
def tabletop_half_bundle() -> Path:
    folder = ROOT / "outputs" / "tests" / "tabletop-fp16"
    build(find_pair("tabletop"), folder, Options(precision="fp16"))
    return folder


@pytest.fixture(scope="session")
def tabletop(tabletop_bundle: Path) -> RealCompo:
    return RealCompo.load(tabletop_bundle)
