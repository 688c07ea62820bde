"""The bar over a build's parts ends full, however many parts the bundle has."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from export.build import Options, build
from export.pairs import Pair
from export.progress import PartProgress
from runtime.bundle.manifest import read_manifest


@pytest.mark.parametrize("kind", ["gligen", "controlnet"])  # the second has one UNet for both models
def test_the_bar_ends_full(kind: str, pair: Pair, controlled_pair: Pair, bundle: Path, controlled_bundle: Path) -> None:
    given, out = {"gligen": (pair, bundle), "controlnet": (controlled_pair, controlled_bundle)}[kind]
    with PartProgress(Console(file=io.StringIO())) as progress:
        build(given, out, Options(), progress.report, progress.say, progress.expect)
        (task,) = progress._progress.tasks
    assert task.finished and task.completed == len(read_manifest(out).engines)
