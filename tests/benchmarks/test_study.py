"""A whole study of tiny engines with a scorer of one's own, and parts of one on the Tabletop bundle."""

import json
import shutil
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from benchmarks.__main__ import app
from benchmarks.drawing import Sampling
from benchmarks.gradients.measure import open_eager
from benchmarks.study import looking
from benchmarks.study.cases import Case, read_cases
from benchmarks.study.contenders import EXACT, Contender
from benchmarks.study.drawing import Drawn, Studio, batches
from benchmarks.study.looking import TIMESTEPS, encode, in_each_layer, in_noised_pictures, open_vae, while_drawing
from benchmarks.study.placebo import CHANGES, PLACEBOS
from benchmarks.study.saving import save_recommended
from benchmarks.study.scorers import judge, open_scorer
from benchmarks.study.tabletop import held_out_cases, score
from export.__main__ import app as export_app
from export.resume import recommended_before
from export.staging import scratch_folder
from runtime import Layout, RealCompo, RealCompoError, Region
from runtime.__main__ import app as runtime_app
from runtime.bundle.manifest import read_manifest
from tests.runtime.bundles import make_parts, write_bundle

MODES = {"text_to_image", "spatial", "none", "surrogate", "exact", "handover"}
PROMPTS = {"a red ball and a blue cube": ("a red ball", "a blue cube"), "a green cone": ("a green cone",)}
PLACES = ((0.05, 0.5, 0.45, 0.9), (0.5, 0.02, 0.95, 0.5))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    write_bundle(folder, make_parts())
    return folder


@pytest.fixture(scope="module")
def layouts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("layouts")
    for i in range(5):
        prompt = list(PROMPTS)[i % 2]
        regions = [{"phrase": phrase, "box": box} for phrase, box in zip(PROMPTS[prompt], PLACES, strict=False)]
        (folder / f"{i}.json").write_text(json.dumps({"prompt": prompt, "regions": regions}))
    return folder


def brightness(image: Image.Image, layout: Layout) -> dict[str, float]:
    """No detector, but a function of image and layout: how red the picture is, and how bright inside the first box."""
    pixels = np.asarray(image) / 255
    x0, y0, x1, y1 = (round(edge * len(pixels)) for edge in layout.regions[0].bounding_box())
    return {
        "object_recall": float(pixels[..., 0].mean()),
        "in_box": float(pixels[y0:y1, x0:x1].mean()),
        "realism": float(pixels.std().clip(0, 1)),
        "blue": float(pixels[..., 2].mean()),
    }


def run(bundle: Path, layouts: Path, out: Path, *more: str) -> dict[str, Any]:
    words = ["study", str(bundle), "--scorer", "tests.benchmarks.test_study:brightness", "--layouts", str(layouts)]
    words += ["--steps", "5", "--sampler", "ddim", "--batch", "3", "--out", str(out), "--json", str(out / "study.json")]
    result = CliRunner().invoke(app, [*words, *more])
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    assert json.loads((out / "study.json").read_text()) == found
    return found


@pytest.fixture(scope="module")
def studied(tiny: Path, layouts: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, Any]]:
    """A bundle that was studied and remembers it, the folder of its pictures, and the result."""
    bundle = Path(shutil.copytree(tiny, tmp_path_factory.mktemp("studied") / "bundle"))
    out = tmp_path_factory.mktemp("out")
    return bundle, out, run(bundle, layouts, out, "--save")


def test_the_last_line_has_the_agreed_shape(studied: tuple[Path, Path, dict[str, Any]]) -> None:
    found = studied[2]
    assert found["n"] == 5 and found["lift"] == {"text_to_image": {}, "spatial": {}}  # no checkpoints, no encoder
    assert {row["mode"].partition(":")[0] for row in found["rows"]} == MODES | {"fixed"}
    for row in found["rows"]:
        assert row["seconds"] > 0 and row["n"] == 5 and set(row["by"]["objects"]) == {"1", "2"}
        for name in ("object_recall", "in_box", "realism", "blue"):
            low, high = row["intervals"][name]
            assert low <= row[name] <= high
    assert set(found["placebo"]) == {"exact", "no updates", *CHANGES}
    assert found["recommended"]["mode"] in {row["mode"] for row in found["rows"]} and found["recommended"]["why"]


def test_rows_are_what_the_pictures_score(studied: tuple[Path, Path, dict[str, Any]], layouts: Path) -> None:
    """Drawn here by the pipeline's public call with the case's number as seed, one at a time."""
    bundle, _, found = studied
    pipe = RealCompo.load(bundle)
    for mode, options in (("spatial", {}), ("exact", {}), ("fixed:0.25", {}), ("handover", {"switch_step": 2})):
        row = next(r for r in found["rows"] if r["mode"] == mode and r["options"] == {"gradient": mode, **options})
        scores = []
        for i, case in enumerate(read_cases(layouts, 5)):
            told = {"steps": 5, "sampler": "ddim", "guidance_scale": 2.5, "gradient": mode, "seed": i, **options}
            scores.append(brightness(pipe(case.prompt, layout=case.layout, **told).images[0], case.layout)["in_box"])
        assert row["in_box"] == pytest.approx(np.mean(scores), abs=2e-3)  # batches round pixels another way


def test_unet_rows_are_counted(studied: tuple[Path, Path, dict[str, Any]]) -> None:
    """Two rows a model and step; of 5 steps, 2 are the spatial model's alone; a gradient row a model and update."""
    rows = {row["name"]: row["unet_rows"] for row in studied[2]["rows"]}
    assert rows["text_to_image"] == rows["spatial"] == rows["handover at 2"] == 10
    assert rows["none"] == rows["fixed:0.5"] == 4 + 3 * 4
    assert rows["exact"] == 16 + 3 * 2 and rows["exact, update every 4"] == 16 + 2


def test_the_bundle_remembers_what_was_recommended(studied: tuple[Path, Path, dict[str, Any]], tmp_path: Path) -> None:
    bundle, _, found = studied
    spec = read_manifest(bundle).recommended
    assert spec is not None and spec.knobs == found["recommended"]["knobs"] and spec.why == found["recommended"]["why"]
    shown = CliRunner().invoke(export_app, ["inspect", str(bundle)]).stdout
    assert "recommended" in shown and f"gradient={spec.knobs['gradient']}" in " ".join(shown.split())
    prompt, out = "a green cone", tmp_path / "image.png"
    layout = tmp_path / "layout.json"
    layout.write_text(json.dumps({"prompt": prompt, "regions": [{"phrase": prompt, "box": PLACES[0]}]}))
    words = ["generate", str(bundle), "--layout", str(layout), "--preset", "recommended", "--out", str(out)]
    drawn = CliRunner().invoke(runtime_app, words)
    assert drawn.exit_code == 0, drawn.output
    wanted = RealCompo.load(bundle)(prompt, layout=Layout.from_file(layout), **spec.knobs).images[0]
    assert np.array_equal(np.asarray(Image.open(out)), np.asarray(wanted))


def test_the_same_command_draws_nothing_again(
    studied: tuple[Path, Path, dict[str, Any]], layouts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, out, found = studied
    monkeypatch.setattr(Studio, "_draw", lambda *_: pytest.fail("it draws again"))
    again = run(bundle, layouts, out, "--placement", "0.1")
    assert again["rows"] == found["rows"] and again["recommended"]["placement"] == 0.1


def test_report_has_its_page(studied: tuple[Path, Path, dict[str, Any]], tmp_path: Path) -> None:
    _, out, found = studied
    page = tmp_path / "report.html"
    result = CliRunner().invoke(app, ["report", str(out / "study.json"), "--out", str(page)])
    assert result.exit_code == 0, result.output
    text = unescape(page.read_text())
    assert text.count("data:image/png") == 5  # the front, maps, differences, groups, and what was drawn
    row = next(row for row in found["rows"] if row["name"] == "exact")
    low, high = row["intervals"]["realism"]
    assert f"{row['realism']:.3f} ({low:.3f} to {high:.3f})" in text and "n=5" in text and found["command"] in text


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ((), "is not Tabletop's: give --scorer"),
        (("--scorer", "tests.benchmarks.test_study:brightness"), "is not Tabletop's: give --layouts"),
        (("--scorer", "nonsense", "--layouts", "."), "is not of the form MODULE:FUNCTION"),
        (("--scorer", "no_such_module:score", "--layouts", "."), "cannot be opened"),
        (("--scorer", "tests.benchmarks.test_study:MODES", "--layouts", "."), "is no function"),
        (("--scorer", "tests.benchmarks.test_study:brightness", "--layouts", "tests"), "has no layout files"),
    ],
)
def test_what_is_missing_is_one_line(tiny: Path, more: tuple[str, ...], said: str) -> None:
    result = CliRunner().invoke(app, ["study", str(tiny), *more])
    assert result.exit_code == 2 and said in result.stderr and len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("scores", [{"object_recall": 1, "in_box": 1}, {"object_recall": 1, "in_box": 2, "realism": 1}])
def test_a_scorer_that_says_something_else_is_named(scores: dict[str, float]) -> None:
    with pytest.raises(RealCompoError, match=r"the scorer gives (no realism|in_box=2)"):
        judge(lambda image, layout: scores, Image.new("RGB", (4, 4)), Layout([Region("x", box=PLACES[0])]))


def test_no_batch_has_but_one_picture() -> None:
    for count in range(2, 40):
        parts = batches(count, 8)
        assert [i for part in parts for i in part] == list(range(count))
        assert all(2 <= len(part) <= 8 for part in parts)


def test_placebos_keep_the_size_and_lose_the_place() -> None:
    gradient = torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    for name, change in PLACEBOS.items():
        changed = change(gradient)
        assert changed.shape == gradient.shape and not torch.equal(changed, gradient)
        assert torch.equal(changed.abs().flatten().sort().values, gradient.abs().flatten().sort().values), name
    assert torch.equal(PLACEBOS["another image's"](gradient)[1], gradient[0])
    assert torch.equal(PLACEBOS["shuffled"](gradient).sum((2, 3)), PLACEBOS["shuffled"](gradient).sum((2, 3)))
    both = PLACEBOS["shuffled"](torch.stack([gradient[:, 0], -gradient[:, 0]], 1))
    assert torch.equal(both[:, 0], -both[:, 1])  # a pixel's two numbers stay together
    assert torch.equal(PLACEBOS["shuffled"](gradient), PLACEBOS["shuffled"](gradient))  # the same at every step


def test_a_study_is_not_saved_in_another_bundle(tiny: Path, tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(tiny, tmp_path / "bundle"))
    manifest = read_manifest(bundle)
    found = {"knobs": {"gradient": "none"}, "why": "it is"}
    other = manifest.model_copy(update={"tokenizer": manifest.tokenizer.model_copy(update={"sha256": "0" * 64})})
    with pytest.raises(RealCompoError, match="was built again"):
        save_recommended(bundle, other, found, "study")
    with scratch_folder(bundle, ["build"]), pytest.raises(RealCompoError, match="another build is at work"):
        save_recommended(bundle, manifest, found, "study")
    assert read_manifest(bundle) == manifest
    save_recommended(bundle, manifest, found, "study")
    kept = recommended_before(manifest, bundle)  # by a build that makes the same files
    assert kept is not None and kept.knobs == {"gradient": "none"}
    assert recommended_before(other, bundle) is None and recommended_before(manifest, tmp_path) is None


def studio_of(pipe: RealCompo, folder: Path, count: int = 4) -> Studio:
    return Studio(pipe, held_out_cases(count), Sampling(5, "dpm++2m", 2.5, 4), folder)


def test_a_picture_is_encoded_as_it_is_decoded(tabletop: RealCompo, tabletop_bundle: Path) -> None:
    """The bundle's own decoder, built from the same VAE, gives renderings back."""
    vae, cases = open_vae(tabletop, tabletop_bundle), held_out_cases(2)
    assert vae is not None
    for model in ("text_to_image", "spatial"):
        pictures = [case.pictures[model] for case in cases]
        with torch.no_grad():
            latents = encode(vae, pictures, tabletop.manifest.image_size)
            decoded = vae.decode(latents / tabletop.manifest.latent_scale).sample
        back = (decoded.permute(0, 2, 3, 1).numpy() / 2 + 0.5).clip(0, 1)
        assert np.abs(back - np.stack([np.asarray(picture) / 255 for picture in pictures])).mean() < 0.05


def test_maps_of_noised_pictures_and_of_runs(tabletop: RealCompo, tabletop_bundle: Path, tmp_path: Path) -> None:
    """With less noise a map knows more; and what is drawn is where the spatial model was told to draw it."""
    studio, vae, seen = studio_of(tabletop, tmp_path, 8), open_vae(tabletop, tabletop_bundle), list[int]()
    assert vae is not None
    looks = {(look.of, look.timestep): look for look in in_noised_pictures(studio, vae, seen.append)}
    assert len(looks) == 2 * len(TIMESTEPS) and sum(seen) == 8
    for model in ("text_to_image", "spatial"):
        assert looks[model, 301].lift.mean > looks[model, 901].lift.mean > 0.9
        assert looks[model, 301].lift.n == looks[model, 301].auc.n == 8
    drawn = while_drawing(studio, [Contender("spatial", "watched", {"gradient": "spatial"})], score, seen.append)
    assert {look.truth for look in drawn} == {"region", "found"} and len(drawn) == 2 * 5


def test_layers_are_told_apart(
    tabletop: RealCompo, tabletop_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the engines give of a region is the mean of what the layers have of it in PyTorch."""
    monkeypatch.setattr("benchmarks.study.looking.TIMESTEPS", (301,))
    studio, vae = studio_of(tabletop, tmp_path, 2), open_vae(tabletop, tabletop_bundle)
    eager, seen = open_eager(tabletop_bundle, tabletop.manifest), dict[str, list[torch.Tensor]]()
    assert vae is not None
    measured = looking.measure_maps

    def keep(pipe: RealCompo, maps: torch.Tensor, regions: Any) -> list[dict[str, float]]:
        seen.setdefault(which, []).append(maps)
        return measured(pipe, maps, regions)

    monkeypatch.setattr(looking, "measure_maps", keep)
    which = "engines"
    in_noised_pictures(studio, vae, lambda _: None)
    which = "layers"
    layers = in_each_layer(studio, vae, eager, lambda _: None)
    names = tabletop.manifest.maps.layers
    assert [(look.of, look.layer) for look in layers] == [(model, layer) for model in names for layer in names[model]]
    for i, own in enumerate(names.values()):
        mean = torch.stack(seen["layers"][i * len(own) : (i + 1) * len(own)]).mean(0)
        mean = mean / mean.sum(-1, keepdim=True)
        given = seen["engines"][i] / seen["engines"][i].sum(-1, keepdim=True)
        torch.testing.assert_close(given, mean, rtol=1e-3, atol=1e-6, equal_nan=True)  # padding has no attention


def test_tabletop_s_scorer_is_a_function_of_image_and_layout() -> None:
    case = held_out_cases(4)[3]
    for picture, realistic in zip(case.pictures.values(), (True, False), strict=True):
        scores = judge(open_scorer("benchmarks.study.tabletop:score"), picture, case.layout)
        assert scores["object_recall"] == scores["in_box"] == scores["count_accuracy"] == 1
        assert (scores["realism"] > 0.7) is realistic
        for found, region in zip(score.find(picture, case.layout), case.layout.regions, strict=True):
            assert found == pytest.approx(region.bounding_box(), abs=0.06)
    nothing = Image.new("RGB", picture.size, "grey")
    assert score.find(nothing, case.layout) == [None] * case.objects


def test_drawn_pictures_are_those_of_the_case_s_seed(tabletop: RealCompo, tmp_path: Path) -> None:
    studio = studio_of(tabletop, tmp_path)
    drawn: Drawn = studio.draw(EXACT, lambda _: None)
    case: Case = studio.cases[2]
    told = {**studio.sampling.knobs(), "gradient": "exact", "seed": 2}
    wanted = tabletop(case.prompt, layout=case.layout, **told).images[0]
    difference = np.asarray(drawn.images()[2], int) - np.asarray(wanted, int)
    assert np.abs(difference).mean() < 1  # of 255: batches round another way, which the scale of 1e6 enlarges
