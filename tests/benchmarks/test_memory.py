"""Memory by mode: figures of Linux's own, of processes that have opened no more than they need."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks.__main__ import app
from benchmarks.memory.measure import Job, run
from runtime.bundle.manifest import read_manifest
from runtime.errors import RealCompoError


def test_surrogate_holds_no_gradient_engines(tabletop_bundle: Path):
    result = CliRunner().invoke(app, ["memory", str(tabletop_bundle), "--mode", "surrogate", "--mode", "exact"])
    assert result.exit_code == 0, result.output
    modes = json.loads(result.stdout.splitlines()[-1])["modes"]
    assert set(modes["exact"]["engines"]) - set(modes["surrogate"]["engines"]) == {
        "text_to_image_gradient",
        "spatial_gradient",
    }
    graphs = [read_manifest(tabletop_bundle).engines[role].graph[0] for role in ("spatial_gradient",)]
    least = sum((tabletop_bundle / file.name).stat().st_size for file in graphs)
    assert modes["exact"]["loaded"] > modes["surrogate"]["loaded"] + least


def test_the_process_says_why_it_fails(tmp_path: Path):
    with pytest.raises(RealCompoError, match=r"mode exact could not be measured .* is not a bundle"):
        run(Job(str(tmp_path), "exact", "onnx", "cpu", 1))
