"""The gradients benchmark on the Tabletop bundle: losses, directions, picture and the last line."""

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from benchmarks.__main__ import app
from benchmarks.drawing import SceneSampling
from benchmarks.gradients.measure import RUNS, agreements, losses_over_steps, open_eager
from benchmarks.gradients.shortcuts import shortcut_and_exact
from benchmarks.tabletop.scenes import held_out_scenes
from runtime import RealCompo

SAMPLING = SceneSampling(steps=5, sampler="dpm++2m", guidance_scale=2.5, batch=4)


def test_updates_lower_the_loss_only_once_they_begin(tabletop: RealCompo):
    scenes = held_out_scenes(4)
    losses = {run.name: losses_over_steps(tabletop, scenes, run, SAMPLING) for run in RUNS[:3]}
    assert losses["exact"][:3] == pytest.approx(losses["none"][:3])  # two rows before the switch, one before an update
    assert losses["exact"][-1] < losses["none"][-1]


def test_the_two_models_gradients_add_up_to_the_exact_one(tabletop: RealCompo):
    """For each row |exact|^2 = |exact| (|spatial| cos + |text| cos): the parts' projections sum to the whole."""
    found = {row.name: row for row in agreements(tabletop, held_out_scenes(1), SAMPLING)}
    parts = [found["spatial maps alone"], found["text-to-image maps alone"]]
    projections = torch.tensor([[c * n for c, n in zip(p.cosine, p.norm_ratio, strict=True)] for p in parts])
    torch.testing.assert_close(projections.sum(0), torch.ones(projections.shape[1]), atol=1e-4, rtol=0)


def test_a_bundle_of_another_size_is_measured_at_its_own(tabletop: RealCompo, tabletop_bundle: Path):
    """And not at that of its checkpoint's training, which is square."""
    manifest = tabletop.manifest.model_copy(update={"latent_shape": (4, 16, 24)})
    shortcut, exact = shortcut_and_exact(open_eager(tabletop_bundle, manifest), held_out_scenes(1), SAMPLING)
    assert shortcut.shape == exact.shape == (3, 1, 2 * 16 * 24)


def test_command(tabletop_bundle, tmp_path):
    picture = tmp_path / "new" / "gradients.png"
    arguments = ["gradients", str(tabletop_bundle), "--scenes", "4", "--steps", "5", "--plot", str(picture)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert picture.read_bytes().startswith(b"\x89PNG")
    row = json.loads(result.stdout.splitlines()[-1])
    assert set(row["losses"]) == {run.name for run in RUNS} and row["agreement"][0]["name"] == "surrogate"
