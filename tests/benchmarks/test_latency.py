"""The latency benchmark on the Tabletop bundle: what must hold before timing, and what is reported. No times."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
import torch
from onnx import numpy_helper
from typer.testing import CliRunner

from benchmarks.__main__ import app
from benchmarks.latency import probe
from benchmarks.latency.contenders import (
    Rows,
    Sampling,
    Target,
    choose,
    contenders,
    for_parity,
    make_case,
)
from benchmarks.latency.measure import PARITY, Settings, check_parity, find_target, measure
from runtime import RealCompoError
from runtime.bundle.manifest import FileSpec, read_manifest, sha256_of, write_manifest
from runtime.denoising.models import GRADIENT_ROLES, PREDICTION_ROLES

SAMPLING = Sampling(steps=2, guidance_scale=7.5)  # three evaluations, the first of the spatial model alone
HEADLINES = {"surrogate_vs_stock", "exact_vs_stock", "eager_vs_exact", "eager_vs_surrogate"}


@pytest.fixture
def target(tabletop_bundle: Path) -> Target:
    return find_target(tabletop_bundle, (), "cpu", torch.get_num_threads())


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("stock", Rows(3 * 2, 0)),
        ("stock_spatial", Rows(3 * 2, 0)),
        ("eager", Rows(2 + 2 * 4, 2 * 2)),
        ("eager_released", Rows(11 + 7, 1 + 1)),  # 8 forwards a step, 12 the first, one of each step goes back
        ("surrogate", Rows(2 + 2 * 4, 0)),
        ("exact", Rows(2 + 2 * 4, 2 * 2)),
        ("released", Rows(4 + 2 + 4, 1 + 1)),  # the spatial model alone goes on with the first step
    ],
)
def test_rows_are_those_of_the_design(target: Target, name: str, rows: Rows):
    (contender,) = choose(contenders(target), [name])
    drawn = contender.load(target)(make_case((4, 16, 16), SAMPLING))
    assert drawn.rows == rows
    assert {"text", "denoise", "decode"} <= drawn.stages.keys()


def test_a_batch_is_of_different_images(target: Target):
    case = make_case((4, 16, 16), SAMPLING, 2)
    for contender in choose(contenders(target), ["stock", "stock_spatial", "eager", "exact"]):
        latents = contender.load(target)(case).latents
        assert latents.shape == (2, 4, 16, 16) and not torch.allclose(latents[0], latents[1])


def test_a_process_of_its_own(target: Target):
    (surrogate,) = choose(contenders(target), ["surrogate"])
    found = probe.run(surrogate, target, SAMPLING, 1, (2,))
    drawn = surrogate.load(target)(make_case((4, 16, 16), SAMPLING))
    torch.testing.assert_close(torch.tensor(found.latents).reshape(1, 4, 16, 16), drawn.latents, atol=1e-4, rtol=1e-4)
    assert (len(found.steady), list(found.images_per_second), found.gpu_memory) == (1, [2], 0)
    weights = sum(file.stat().st_size for file in Path(target.bundle).glob("*.onnx"))
    assert weights / 2 < found.peak_rss < 8e9 and found.cold_load > 0


def test_one_at_a_time_pairs_with_the_stock(target: Target):
    settings = Settings(SAMPLING, rounds=1, batches=(), only=("none", "surrogate"), one_at_a_time=True)
    found = measure(target, settings)
    a, b = (found["ratios"][f"{name}_vs_stock"] for name in ("none", "surrogate"))
    assert found["ratios"]["none_vs_surrogate"] == pytest.approx(a / b)


def test_altered_weights_are_no_parity(tabletop_bundle: Path, tmp_path: Path, target: Target):
    """One convolution of the exported text-to-image model by 1 %."""
    folder, manifest = Path(shutil.copytree(tabletop_bundle, tmp_path / "altered")), read_manifest(tabletop_bundle)
    engine = manifest.engines["text_to_image"]
    model = onnx.load(folder / engine.graph[0].name)
    (weight, *_) = (w for w in model.graph.initializer if len(w.dims) == 4 and min(w.dims[:2]) > 4)
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * 1.01, weight.name))
    onnx.save(model, folder / "altered.onnx")
    graph = (FileSpec(name="altered.onnx", sha256=sha256_of(folder / "altered.onnx")),)
    engines = manifest.engines | {"text_to_image": engine.model_copy(update={"graph": graph, "fused": None})}
    write_manifest(folder, manifest.model_copy(update={"engines": engines}))
    settings = Settings(SAMPLING, rounds=1, batches=(), only=("stock", "text_to_image"))
    with pytest.raises(RealCompoError, match=r"no parity, so nothing is timed: .* text_to_image differ from .* stock"):
        measure(replace(target, bundle=str(folder)), settings)


@pytest.mark.parametrize("device", ["foo", "cuda"])
def test_another_device_is_not_timed_instead(tabletop_bundle: Path, device: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(RealCompoError, match=f"device='{device}'"):
        find_target(tabletop_bundle, ("onnx",), device, threads=1)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_contenders_on_a_gpu(tabletop_bundle: Path):
    """Parity is asserted on the way."""
    target = find_target(tabletop_bundle, ("onnx",), "cuda:0", torch.get_num_threads())
    found = measure(target, Settings(SAMPLING, rounds=1, batches=(), only=("stock", "eager", "exact"), quick=True))
    assert set(found["parity"]) == {"exact and eager"} and found["settings"]["device"] == "cuda:0"


def test_half_precision_is_compared_after_few_steps():
    assert for_parity(Sampling(20, 7.5), "fp16") == Sampling(4, 7.5)
    assert for_parity(SAMPLING, "bf16") == SAMPLING and for_parity(Sampling(20, 7.5), "fp32") == Sampling(20, 7.5)


def test_parity_in_numbers():
    reference = torch.full((1, 4, 2, 2), 2.0)
    (ours, theirs), *_ = PARITY
    assert check_parity({ours: reference * 1.0005, theirs: reference}, "fp32").popitem()[1] == pytest.approx(
        5e-4, rel=1e-2
    )
    for wrong in (reference * 1.002, reference * torch.nan):
        with pytest.raises(RealCompoError, match="no parity"):
            check_parity({ours: wrong, theirs: reference}, "fp32")


def test_other_checkpoints_are_refused(tabletop_bundle: Path, tmp_path: Path):
    folder, manifest = Path(shutil.copytree(tabletop_bundle, tmp_path / "other")), read_manifest(tabletop_bundle)
    spatial = manifest.pair.spatial.model_copy(update={"sha256": "0" * 64})
    write_manifest(folder, manifest.model_copy(update={"pair": manifest.pair.model_copy(update={"spatial": spatial})}))
    with pytest.raises(RealCompoError, match=r"not on this machine or have changed\. Build it with"):
        find_target(folder, (), "cpu", 1)


def test_command(tabletop_bundle: Path, tmp_path: Path):
    """Every figure that the issue of this benchmark names, on the last line and in the file."""
    picture, file = tmp_path / "new" / "latency.png", tmp_path / "new" / "latency.json"
    arguments = ["latency", str(tabletop_bundle), "--steps", "2", "--rounds", "2", "--batch", "1", "--threads", "1"]
    for name in ("stock", "eager", "surrogate", "exact"):
        arguments += ["--only", name]
    threads = torch.get_num_threads()
    try:
        result = CliRunner().invoke(app, [*arguments, "--profile", "--plot", str(picture), "--json", str(file)])
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(threads)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout.splitlines()[-1])
    assert json.loads(file.read_text()) == found and picture.read_bytes().startswith(b"\x89PNG")
    assert found["benchmark"] == "latency" and found["machine"]["threads"] == 1
    assert found["parity"].keys() == {"exact and eager"}
    assert found["ratios"].keys() == found["ratio_quartiles"].keys() >= HEADLINES
    assert all(found["ratios"][name] > 0 for name in HEADLINES)
    assert [len(row["seconds"]) for row in found["contenders"].values()] == [2] * 4
    assert found["contenders"]["stock"]["images_per_second"].keys() == {"1"}
    exact = found["contenders"]["exact"]
    assert exact["engines_ms"].keys() == {*PREDICTION_ROLES.values(), *GRADIENT_ROLES.values()}
    assert exact["between_engines_ms"] > 0
    assert {profile["role"] for profile in found["profiles"]} == set(read_manifest(tabletop_bundle).engines)


def test_an_unknown_contender_is_one_line(tabletop_bundle: Path):
    result = CliRunner().invoke(app, ["latency", str(tabletop_bundle), "--only", "fastest"])
    assert result.exit_code == 2
    assert "--only fastest: there is no such contender; there are stock, stock_spatial," in result.stderr


def test_quick_and_full_size_exclude_each_other(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["latency", str(tmp_path), "--quick", "--full-size"])
    assert result.exit_code == 2 and "--quick leaves out all that --full-size does" in result.stderr


def test_without_distilled_models_there_are_none_to_time(tabletop_bundle: Path, target: Target) -> None:
    """A bundle whose models are plain is refused; one that has them adds its contenders to the others."""
    with pytest.raises(RealCompoError, match="no distilled models are in that bundle"):
        find_target(tabletop_bundle, (), "cpu", 1, tabletop_bundle)
    names = [one.name for one in contenders(target)]
    more = [one.name for one in contenders(replace(target, distilled=f"{target.bundle}-8steps"))]
    assert [name for name in more if name not in names] == ["handover_distilled", "exact_distilled"]
