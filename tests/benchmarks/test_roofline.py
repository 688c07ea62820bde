"""The roofline benchmark: its counts of calls against a real run's, its floors against a hand's, its output."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks.__main__ import app
from benchmarks.rehearsal import rehearse
from benchmarks.roofline.costs import Cost
from benchmarks.roofline.gpus import GPUS, measure_cpu
from benchmarks.roofline.measure import Floor, analyse, floor
from runtime import Layout, RealCompo, Region

H100 = GPUS["h100"]
LAYOUT = Layout([Region("a red ball", box=(0.1, 0.5, 0.4, 0.9)), Region("a blue cube", box=(0.6, 0.1, 0.9, 0.5))])


@pytest.mark.parametrize(
    "settings",
    [
        {"gradient": "exact"},
        {"gradient": "exact", "gradient_from": ("spatial",), "update_every": 2, "num_images": 2},
        {"gradient": "surrogate", "guidance_scale": 1.0},
        {"gradient": "text_to_image", "switch_step": 0},
    ],
)
def test_calls_are_those_of_a_run(tabletop: RealCompo, tabletop_bundle: Path, settings: dict):
    settings = {"guidance_scale": 2.5, "switch_step": 2, "steps": 5, "sampler": "ddim", **settings}
    stats = tabletop("a red ball and a blue cube", layout=LAYOUT, **settings).stats
    images = settings.pop("num_images", 1)
    calls = rehearse(tabletop_bundle, images, regions=2, **settings).calls
    rows: dict[str, int] = {}
    for call in calls:
        rows[call.role] = rows.get(call.role, 0) + call.rows
    assert rows == dict(stats.rows)
    assert len(calls) == sum(stats.calls.values())


def test_floor_is_the_longer_of_compute_and_memory():
    busy = Cost(flops=989_400_000_000, element_operations=0, weights=1000, activations=1000)
    idle = Cost(flops=1000, element_operations=0, weights=3_350_000_000, activations=0)
    assert floor(busy, "fp16", H100) == Floor(pytest.approx(1e-3), "compute")
    assert floor(busy, "fp32", H100) == Floor(pytest.approx(0.9894 / 66.9), "compute")
    assert floor(idle, "fp16", H100) == Floor(pytest.approx(2e-3), "memory")
    assert floor(idle, "fp32", H100) == Floor(pytest.approx(4e-3), "memory")


def test_stages_add_up_their_engines(tabletop_bundle: Path):
    found = analyse(tabletop_bundle, H100, steps=10, sampler="ddim", switch_step=4)
    least = {engine.role: engine.floors["fp16"].seconds for engine in found.engines}
    early, updating = least["spatial"], sum(v for role, v in least.items() if role.startswith(("spatial", "text_to")))
    once = least["text_encoder"] + least["grounding"] + least["vae_decoder"]
    assert found.stages["step of one model"]["fp16"] == pytest.approx(early)
    assert found.stages["step that updates"]["fp16"] == pytest.approx(updating)
    assert found.stages["image"]["fp16"] == pytest.approx(once + 4 * early + 6 * updating)


def test_cpu_ceilings_are_of_this_world():
    """A core does at least an operation a cycle and no CPU a petaflop; memory gives 1 GB/s to 10 TB/s."""
    found = measure_cpu()
    assert 1e-3 < found.tflops["fp32"] < 1e3
    assert 1 < found.bandwidth < 1e4


def run(*arguments: object):
    return CliRunner().invoke(app, ["roofline", *map(str, arguments)])


def test_command_prints_draws_and_writes(tabletop_bundle: Path, tmp_path: Path):
    plot, file = tmp_path / "new" / "roofline.png", tmp_path / "roofline.json"
    result = run(tabletop_bundle, "--gpu", "h100", "--steps", 10, "--plot", plot, "--json", file)
    assert result.exit_code == 0, result.output
    last = json.loads(result.stdout.splitlines()[-1])
    assert last == json.loads(file.read_text())
    assert {engine["role"] for engine in last["engines"]} >= {"spatial", "text_to_image_gradient", "vae_decoder"}
    assert last["measured"] == []
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_command_measures_the_cpu(tabletop_bundle: Path, tmp_path: Path):
    result = run(tabletop_bundle, "--gpu", "cpu", "--gradient", "surrogate", "--plot", tmp_path / "cpu.png")
    assert result.exit_code == 0, result.output
    measured = json.loads(result.stdout.splitlines()[-1])["measured"]
    assert {row["role"] for row in measured} >= {"spatial", "text_to_image", "vae_decoder"}
    assert all(row["seconds"] > 0 and row["share"] > 0 for row in measured)


def test_unknown_gpu_is_named(tabletop_bundle: Path):
    result = run(tabletop_bundle, "--gpu", "h1000")
    assert result.exit_code == 2
    assert "--gpu h1000 is unknown; known: a100, h100, h200" in result.stderr
