"""The trials of the balancer: what each makes of a gradient, and a run of all on tiny engines."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from benchmarks.__main__ import app
from benchmarks.balancing.changes import CHANGES, by_region, momentum, normalised, smooth, unmet
from benchmarks.balancing.measure import beats, cheap_modes
from benchmarks.balancing.trials import TRIALS
from benchmarks.study.statistics import difference
from runtime.denoising.balancer import Attention, Regions, step_size
from tests.benchmarks.test_study import layouts, tiny

__all__ = ["layouts", "tiny"]  # fixtures

SIDE = 4


def halves() -> Regions:
    """One region, the left half, and padding."""
    left = torch.zeros(1, 2, SIDE, SIDE)
    left[:, 0, :, :2] = 1
    return Regions(left.flatten(2), torch.ones(1, 2, 3), torch.tensor([[1.0, 0.0]]))


def seen(at: tuple[int, int]) -> Attention:
    """All of the region's attention at one pixel."""
    maps = torch.zeros(1, 2, SIDE, SIDE)
    maps[0, 0, at[0], at[1]] = 1
    return Attention(torch.zeros(1), maps.flatten(2))


def gradient() -> torch.Tensor:
    return torch.randn(1, 2, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


def test_by_region_is_the_mean_of_the_region_and_of_the_ground() -> None:
    own, made = gradient(), by_region(gradient(), seen((0, 0)), halves())
    wanted = own.clone()
    wanted[..., :2] = own[..., :2].mean((2, 3), keepdim=True)
    wanted[..., 2:] = own[..., 2:].mean((2, 3), keepdim=True)
    torch.testing.assert_close(made, wanted)


def test_by_region_at_twice_the_maps_resolution() -> None:
    own = torch.randn(1, 2, 2 * SIDE, 2 * SIDE, generator=torch.Generator().manual_seed(1))
    made = by_region(own, seen((0, 0)), halves())
    torch.testing.assert_close(made[..., 0, 0], own[..., :SIDE].mean((2, 3)))


def test_smoothing_keeps_what_is_alike_and_halves_what_is_not() -> None:
    flat = torch.full((1, 2, SIDE, SIDE), 3.0)
    torch.testing.assert_close(smooth(flat, seen((0, 0)), halves()), flat)
    assert smooth(gradient(), seen((0, 0)), halves()).std() < 0.6 * gradient().std()


def test_normalised_moves_coefficients_by_one_whatever_the_gradient_s_size() -> None:
    for size in (1e-9, 1.0):
        made = normalised(size * gradient(), seen((0, 0)), halves())
        assert (step_size(0, 10, 1e6, SIDE * SIDE) * made).square().mean().sqrt().item() == pytest.approx(1)
    assert not normalised(torch.zeros(1, 2, SIDE, SIDE), seen((0, 0)), halves()).any()


def test_unmet_moves_the_region_and_what_it_looks_at() -> None:
    moved = unmet(gradient(), seen((0, 3)), halves()) != 0
    wanted = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    wanted[:, :2] = wanted[0, 3] = True
    assert torch.equal(moved[0, 0], wanted)


def test_unmet_leaves_a_region_alone_that_has_its_attention() -> None:
    assert not unmet(gradient(), seen((0, 0)), halves()).any()


def test_momentum_adds_up_and_each_run_has_its_own() -> None:
    change, one = momentum(), torch.ones(1, 2, SIDE, SIDE)
    assert [change(one, seen((0, 0)), halves()).mean().item() for _ in range(3)] == pytest.approx([1, 1.9, 2.71])
    assert momentum()(one, seen((0, 0)), halves()).mean() == 1


@pytest.mark.parametrize(
    ("in_box", "realism", "wanted"),
    [(0.1, 0.0, True), (0.1, -0.1, False), (0.0, 0.1, True), (0.0, 0.0, False), (-0.1, 0.1, False)],
)
def test_what_beats_is_better_beyond_chance_and_not_worse(in_box: float, realism: float, wanted: bool) -> None:
    noise = np.random.default_rng(0).normal(0, 0.01, 50)
    noise -= noise.mean()
    gap = {"in_box": difference(noise + in_box, 0 * noise), "realism": difference(noise + realism, 0 * noise)}
    assert beats(gap) is wanted


def test_a_whole_run(tiny: Path, layouts: Path, tmp_path: Path) -> None:
    words = ["balancing", str(tiny), "--scorer", "tests.benchmarks.test_study:brightness", "--layouts", str(layouts)]
    words += ["--scenes", "4", "--steps", "10", "--sampler", "ddim", "--batch", "2", "--out", str(tmp_path)]
    result = CliRunner().invoke(app, [*words, "--json", str(tmp_path / "balancing.json")])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout.splitlines()[-1])
    rows = {row["name"]: row for row in found["trials"]}
    assert list(rows) == [trial.name for trial in TRIALS]
    assert {row["name"] for row in found["cheap"]} == {mode.name for mode in cheap_modes(10)}
    assert {trial.change for trial in TRIALS} - {None} == set(CHANGES) - {"by region"}
    drawn = {row["name"]: row["realism"] for row in found["trials"]}
    assert len(set(drawn.values())) > len(TRIALS) / 2  # the changes change something
    assert rows["no updates"]["unet_rows"] < rows["as the paper"]["unet_rows"]
    page = tmp_path / "report.html"
    told = CliRunner().invoke(app, ["report", str(tmp_path / "balancing.json"), "--out", str(page)])
    assert told.exit_code == 0, told.output
    assert "trials beat the cheap modes" in page.read_text() and "leads by 4, unmet regions" in page.read_text()
