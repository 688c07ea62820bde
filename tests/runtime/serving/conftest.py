from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.runtime.serving.server import Server, serving


@pytest.fixture(scope="session")
def server(bundle: Path) -> Iterator[Server]:
    with serving(bundle, "--max-steps", "1000", "--max-body", "1MB", "--max-pixels", "250000") as running:
        yield running
