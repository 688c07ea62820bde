"""Known pairs, built by their names from a hub on localhost.

Repositories have the published ones' files by name (tests/export/data/repositories.json), with tiny models behind them.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import PNDMScheduler, UNet2DConditionModel
from huggingface_hub import constants
from safetensors.torch import load, save
from transformers import CLIPTextModel, CLIPTextModelWithProjection
from typer.testing import CliRunner

from export.__main__ import app
from export.checkpoints import hub as exported
from export.checkpoints.folders import ROOT, Checkpoint, load_unet, open_text_to_image
from export.checkpoints.hub import fetch
from export.checkpoints.source import HubSource
from export.checkpoints.variants import Want
from export.onnx.verify import checkpoints_at_hand
from export.pairs import PAIRS
from runtime import Layout, RealCompo, Region
from runtime.bundle.manifest import Manifest, read_manifest
from tests.export.conftest import WORDS, make_controlnet, make_text_encoder, make_unet, make_vae
from tests.export.hub_server import Fault, Files, Hub, serve, status, use
from tests.export.stubs import can_exports
from tests.export.test_sdxl import SCHEDULER, text_config
from tests.export.test_sdxl import make_unet as make_sdxl_unet

SD15, SD14 = "stable-diffusion-v1-5/stable-diffusion-v1-5", "CompVis/stable-diffusion-v1-4"
GLIGEN, SDXL = "masterful/gligen-1-4-generation-text-box", "stabilityai/stable-diffusion-xl-base-1.0"
NAMES: dict[str, dict[str, list[str]]] = json.loads((Path(__file__).parent / "data/repositories.json").read_text())
SD15_CONTROLS = ("control_v11p_sd15_openpose", "control_v11p_sd15_seg", "control_v11f1p_sd15_depth")
VOCABULARY = ["a</w>", "b</w>", "c</w>", *WORDS[3:]]  # as many as the tiny text encoders know
BESIDE = ["model_index.json", "scheduler/scheduler_config.json"]
TEXTS = ["merges.txt", "special_tokens_map.json", "tokenizer_config.json", "vocab.json"]


def written(folder: Path) -> Files:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def tokenizer(words: list[str], folder: str, pad: str) -> Files:
    files = {"vocab.json": {word: i for i, word in enumerate(words)}, "special_tokens_map.json": {}}
    files |= {"tokenizer_config.json": {"pad_token": pad}}
    told = {f"{folder}/{name}": json.dumps(content).encode() for name, content in files.items()}
    return told | {f"{folder}/merges.txt": b"#version: 0.2\n"}


def base(folder: Path, unet: Any, *encoders: Any) -> Files:
    """A text-to-image model's files, without variants."""
    names = ("text_encoder", "text_encoder_2")
    vae = make_vae()
    vae.register_to_config(force_upcast=len(encoders) == 2)
    for name, model in {"unet": unet, "vae": vae, **dict(zip(names, encoders, strict=False))}.items():
        model.save_pretrained(folder / name)
    return written(folder) | {"model_index.json": b"{}"}


def filled(names: list[str], files: Files) -> Files:
    """The files of these names: plain ones and their halves; whatever else there is holds nothing of use."""
    return {name: _content(name, files) for name in names}


def _content(name: str, files: Files) -> bytes:
    plain = files.get(name.replace(".fp16", ""))
    if plain is None:
        return f"never asked for: {name}".encode()
    if ".fp16" not in name:
        return plain
    return save({key: weight.half() for key, weight in load(plain).items()}, {"format": "pt"})


@pytest.fixture(scope="module")
def repositories(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Files]]:
    folder = tmp_path_factory.mktemp("repositories")
    torch.manual_seed(0)
    unet, spatial = make_unet(grounded=False), make_unet(grounded=True)
    PNDMScheduler(beta_schedule="scaled_linear", skip_prk_steps=True).save_pretrained(folder / "sd15" / "scheduler")
    sd15 = base(folder / "sd15", unet, make_text_encoder()) | tokenizer(VOCABULARY, "tokenizer", WORDS[4])
    spatial.save_pretrained(folder / "gligen" / "unet")
    spatial.load_state_dict(unet.state_dict(), strict=False)  # GLIGEN's was made from Stable Diffusion 1.4
    spatial.save_pretrained(folder / "made" / "unet")
    make_controlnet(unet).save_pretrained(folder / "controlnet")
    control = written(folder / "controlnet")
    xl, words = make_sdxl_unet(), [*VOCABULARY[:3], "!", *VOCABULARY[3:]]
    encoders = CLIPTextModel(text_config(16)), CLIPTextModelWithProjection(text_config(24))
    sdxl = base(folder / "sdxl", xl, *encoders) | {BESIDE[1]: json.dumps(SCHEDULER).encode()}
    sdxl |= tokenizer(words, "tokenizer", WORDS[4]) | tokenizer(words, "tokenizer_2", "!")
    make_controlnet(xl).save_pretrained(folder / "sdxl-controlnet")
    models = {SD15: sd15, SD14: sd15, GLIGEN: written(folder / "made"), SDXL: sdxl}
    models |= {f"lllyasviel/{name}": control for name in SD15_CONTROLS}
    models |= {"xinsir/controlnet-openpose-sdxl-1.0": written(folder / "sdxl-controlnet")}
    return {
        repo: {revision: filled(names, models.get(repo, {})) for revision, names in revisions.items()}
        for repo, revisions in NAMES.items()
    }


@pytest.fixture
def hub(repositories: dict[str, dict[str, Files]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    asked = Hub(dict(repositories))
    monkeypatch.setattr(exported, "RESUMED_BYTES", 1)
    with serve(asked) as address:
        use(monkeypatch, address, tmp_path / "cache")
        yield asked


def run(*arguments: object) -> str:
    result = CliRunner(env={"COLUMNS": "300"}).invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    return result.stdout


def taken(*stems: str, variant: str = "", beside: bool = False, tokenizers: tuple[str, ...] = ()) -> set[str]:
    """Of each component the config, and one file of weights."""
    configs = {f"{stem.rpartition('/')[0]}/config.json".removeprefix("/") for stem in stems}
    texts = {f"{folder}/{name}" for folder in tokenizers for name in TEXTS}
    return configs | {f"{stem}{variant}.safetensors" for stem in stems} | texts | set(BESIDE if beside else ())


SPATIAL = {
    "sd15-gligen": GLIGEN,
    "sd14-gligen": GLIGEN,
    "sd15-openpose": "lllyasviel/control_v11p_sd15_openpose",
    "sd15-seg": "lllyasviel/control_v11p_sd15_seg",
    "sd15-depth": "lllyasviel/control_v11f1p_sd15_depth",
    "sdxl-openpose": "xinsir/controlnet-openpose-sdxl-1.0",
}
UNET, VAE, WEIGHTS = "unet/diffusion_pytorch_model", "vae/diffusion_pytorch_model", "diffusion_pytorch_model"
TEXT, SECOND = "text_encoder/model", "text_encoder_2/model"


def expected(name: str, variant: str) -> dict[str, set[str]]:
    """The files that a known pair's build may fetch, by repository."""
    xl = name == "sdxl-openpose"
    stems, folders = (TEXT, SECOND, UNET, VAE) if xl else (TEXT, UNET, VAE), ("tokenizer", "tokenizer_2")
    own = SPATIAL[name]
    return {
        PAIRS[name].text_to_image: taken(*stems, variant=variant, beside=True, tokenizers=folders[: 2 if xl else 1]),
        own: taken(UNET if own == GLIGEN else WEIGHTS, variant="" if xl else variant),  # which has no fp16
    }


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("name", SPATIAL)
def test_a_known_pair_fetches_what_it_needs_and_no_more(
    name: str, precision: str, hub: Hub, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    can_exports(monkeypatch, bundle)
    printed = run("build", name, "--precision", precision, "--out", tmp_path / "out")
    files = expected(name, ".fp16" if precision == "fp16" else "")
    assert {repo: hub.fetched(repo) for repo in NAMES if hub.fetched(repo)} == files
    listings = [request for request in hub.requests if "/api/" in request]
    assert len(listings) == 2 and hub.requests[:2] == listings
    assert all(f"to fetch of {repo}: {len(names)} files" in printed for repo, names in files.items())
    again_alike(tmp_path / "out", hub)


def again_alike(out: Path, hub: Hub) -> None:
    """The command of the manifest names commits, and makes the same bundle when the branches have moved on."""
    manifest = read_manifest(out)
    names = [word for word in manifest.command if "@" in word]
    assert [word.partition("@")[2] for word in names] == [
        hub.commit(model.source, model.revision or "")
        for model in (manifest.pair.text_to_image, *(manifest.pair.attached or (manifest.pair.spatial,)))
    ]
    assert checkpoints_at_hand(out, manifest)
    hub.requests.clear()
    run(*manifest.command, "--out", out.with_name("again"))
    assert read_manifest(out.with_name("again")) == manifest
    assert all("/api/" in request for request in hub.requests)


def test_a_pair_of_a_hub_draws(hub: Hub, tmp_path: Path) -> None:
    run("build", "sd14-gligen", "--out", tmp_path / "out")
    manifest: Manifest = read_manifest(tmp_path / "out")
    assert manifest.shared_unet and manifest.pair.spatial.source == GLIGEN
    pipe = RealCompo.load(tmp_path / "out", backend="onnx")
    drawn = pipe("a b", layout=Layout([Region("b", box=(0.1, 0.1, 0.6, 0.6))]), steps=2, seed=0)
    assert drawn.images[0].size == (16, 16)


def test_the_variant_that_was_asked_for_is_read_whatever_the_cache_has(
    hub: Hub, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    can_exports(monkeypatch, bundle)
    digests = []
    for place, precision in enumerate(("fp32", "fp16", "fp32", "bf16")):
        run("build", "sd15-depth", "--precision", precision, "--out", tmp_path / str(place))
        pair = read_manifest(tmp_path / str(place)).pair
        digests.append((pair.text_to_image.sha256, pair.attached[0].sha256))
    assert digests[0] == digests[2] != digests[1] == digests[3]


def test_a_revision_without_safetensors_gives_its_pickle(hub: Hub, tmp_path: Path) -> None:
    fetch([Want("spatial", HubSource(GLIGEN), ("unet",))])
    assert hub.fetched(GLIGEN) == {"unet/config.json", "unet/diffusion_pytorch_model.bin"}


def test_a_file_of_a_repository_is_a_model(
    hub: Hub, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is handed on as a file on this machine is."""
    given: list[str] = []

    def convert(pair: Any, folder: Path, tokenizer: Path | None, report: Any, vae: Path | None) -> Any:
        given.append(pair.controls[0].model)
        return pair.with_models(lambda model: str(folder) if model == given[0] else model)

    monkeypatch.setattr("export.checkpoints.prepare.convert_single_files", convert)
    can_exports(monkeypatch, bundle)
    folder = tmp_path / "out" / "single-files"
    folder.mkdir(parents=True)
    for name in ("config.json", "diffusion_pytorch_model.safetensors"):
        (folder / name).write_bytes(hub.repositories[SPATIAL["sd15-seg"]]["main"][name])
    model = "lllyasviel/ControlNet-v1-1:control_v11p_sd15_seg.pth"
    run("build", "sd15-seg", "--spatial", model, "--out", tmp_path / "out")
    assert Path(given[0]).read_bytes() == hub.repositories["lllyasviel/ControlNet-v1-1"]["main"][model.split(":")[1]]
    manifest = read_manifest(tmp_path / "out")
    assert (manifest.pair.attached[0].source, manifest.pair.attached[0].prepared) == (model, "single-files")
    commit = hub.commit("lllyasviel/ControlNet-v1-1", "main")
    assert f"segmentation=lllyasviel/ControlNet-v1-1@{commit}:control_v11p_sd15_seg.pth" in manifest.command


def test_what_is_wrong_here_is_told_before_a_hub_is_asked(hub: Hub, tmp_path: Path) -> None:
    for given, line in (
        ("/nowhere", "the folder /nowhere of the"),
        ("none.safetensors", "the file none.safetensors does"),
    ):
        result = CliRunner().invoke(app, ["build", "sd15-gligen", "--spatial", given, "--out", str(tmp_path / "out")])
        assert result.exit_code == 2 and result.stderr.startswith(f"error: {line}")
    assert hub.requests == []


def test_a_command_is_told_of_the_hub_by_its_environment(hub: Hub, tmp_path: Path) -> None:
    """A gated repository: one line, before anything large has come."""
    repo = SPATIAL["sd15-seg"]
    hub.faults.append(Fault(f"{repo}/resolve", status(403, X_Error_Code="GatedRepo")))
    own = {"HF_ENDPOINT": constants.ENDPOINT, "HF_HOME": str(tmp_path / "home"), "HF_TOKEN": "hf_secret"}
    command = [sys.executable, "-m", "export", "build", "sd15-seg", "--out", str(tmp_path / "out")]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | own, capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert done.stderr.startswith(f"error: {repo} is gated (403): accept its terms at {constants.ENDPOINT}/{repo}")
    assert not any("/blobs/" in request for request in hub.requests)
    assert set(hub.tokens) == {"Bearer hf_secret"}


def test_opened_alone_a_model_is_fetched(hub: Hub) -> None:
    opened: Checkpoint = open_text_to_image(SD15, fp16_files=True)
    assert opened.weights("unet")[0] == "fp16"
    assert isinstance(load_unet(opened), UNet2DConditionModel)
