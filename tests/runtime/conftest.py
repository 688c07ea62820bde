from pathlib import Path

import pytest

from runtime import RealCompo
from runtime.words import Role
from tests.runtime.bundles import Part, make_parts, write_bundle


@pytest.fixture(scope="session")
def parts() -> dict[Role, Part]:
    """The tiny bundle's networks in PyTorch: the oracle of its engines."""
    return make_parts()


@pytest.fixture(scope="session")
def bundle(parts: dict[Role, Part], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    write_bundle(folder, parts)
    return folder


@pytest.fixture(scope="session")
def pipe(bundle: Path) -> RealCompo:
    return RealCompo.load(bundle)
