"""The demo pair's bundle, built once a run by the exporter itself."""

from pathlib import Path

import pytest

from export.build import Options, build
from export.pairs import find_pair
from runtime import RealCompo


@pytest.fixture(scope="session")
def tabletop_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles") / "tabletop"
    build(find_pair("tabletop"), folder, Options())
    return folder


@pytest.fixture(scope="session")
def tabletop_half_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles") / "tabletop-fp16"
    build(find_pair("tabletop"), folder, Options(precision="fp16"))
    return folder


@pytest.fixture(scope="session")
def tabletop(tabletop_bundle: Path) -> RealCompo:
    return RealCompo.load(tabletop_bundle)
