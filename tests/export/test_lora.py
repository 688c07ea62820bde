"""LoRA files fused at build, against diffusers' pipeline with the same files loaded beside the weights."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import CLIPTextModel

from export.checkpoints.folders import ROOT
from export.checkpoints.lora import fuse_loras
from export.checkpoints.lora_options import parse_loras
from export.pairs import Lora, Pair
from export.spatial import share_unet
from runtime.errors import RealCompoError
from tests.export.opening import open_checkpoints

LAYERS = ["to_q", "to_out.0", "conv1", "q_proj", "out_proj"]
PAPERCUT = ROOT / "engines" / "tabletop" / "lora-papercut.safetensors"


def add_lora(model: Any, seed: int) -> dict[str, Any]:
    """Random matrices that change a model visibly, at twice their product."""
    torch.manual_seed(seed)
    model.add_adapter(LoraConfig(r=3, lora_alpha=6, target_modules=LAYERS, init_lora_weights="gaussian"))
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.3)
    return {"layers": get_peft_model_state_dict(model), "adapter_metadata": model.peft_config["default"].to_dict()}


@pytest.fixture(scope="module")
def lora(pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the tiny pair's UNet and text encoder, as diffusers writes it."""
    base, folder = Path(pair.text_to_image), tmp_path_factory.mktemp("lora")
    given = {
        f"{component}_lora_{name}": value
        for seed, (component, load) in enumerate(STOCK.items())
        for name, value in add_lora(load(base / component), seed).items()
    }
    StableDiffusionPipeline.save_lora_weights(folder, weight_name="lora.safetensors", **given)
    return folder / "lora.safetensors"


STOCK: dict[str, Callable[[Path], Any]] = {
    "unet": UNet2DConditionModel.from_pretrained,
    "text_encoder": CLIPTextModel.from_pretrained,
}


def stock(pair: Pair) -> StableDiffusionPipeline:
    models = {name: load(Path(pair.text_to_image) / name) for name, load in STOCK.items()}
    absent = dict.fromkeys(("vae", "tokenizer", "scheduler", "safety_checker", "feature_extractor"))
    return StableDiffusionPipeline(**models, **absent, requires_safety_checker=False)


@torch.no_grad()
def outputs(pipeline: StableDiffusionPipeline) -> tuple[Tensor, Tensor]:
    """Of the text encoder and of the UNet."""
    generator = torch.Generator().manual_seed(0)
    text = pipeline.text_encoder(torch.tensor([[3, 0, 1, 2, 4, 4]])).last_hidden_state
    latents = torch.randn(1, 4, 8, 8, generator=generator)
    return text, pipeline.unet(latents, 500, torch.randn(1, 6, 16, generator=generator)).sample


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_a_fused_model_is_the_stock_one_with_the_lora_beside_it(
    pair: Pair, lora: Path, tmp_path: Path, scale: float
) -> None:
    fused = fuse_loras(replace(pair, loras=(Lora(str(lora), scale),)), tmp_path)
    beside = stock(pair)
    plain = outputs(beside)
    beside.load_lora_weights(lora, adapter_name="x")
    beside.set_adapters("x", scale)
    for found, wanted, before in zip(outputs(stock(fused)), outputs(beside), plain, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
        assert (wanted - before).abs().max() > 1e-2


def test_two_loras_add_up(pair: Pair, lora: Path, tmp_path: Path) -> None:
    once = fuse_loras(replace(pair, loras=(Lora(str(lora), 1.0),)), tmp_path)
    twice = fuse_loras(replace(pair, loras=(Lora(str(lora), 0.4), Lora(str(lora), 0.6))), tmp_path)
    assert once.text_to_image != twice.text_to_image
    for found, wanted in zip(outputs(stock(twice)), outputs(stock(once)), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_kohya_s_names_are_read(pair: Pair, lora: Path, tmp_path: Path) -> None:
    """lora_unet_..., lora_te_..., and an alpha for each layer."""
    renamed = {}
    for name, weight in load_file(lora).items():
        component, _, path = name.partition(".")
        layer, _, matrix = path.partition(".lora_")
        prefix = {"unet": "lora_unet", "text_encoder": "lora_te"}[component]
        end = {"A.weight": "lora_down.weight", "B.weight": "lora_up.weight"}[matrix]
        renamed[f"{prefix}_{layer.replace('.', '_')}.{end}"] = weight
        renamed[f"{prefix}_{layer.replace('.', '_')}.alpha"] = torch.tensor(6.0)
    save_file(renamed, tmp_path / "kohya.safetensors")
    kohya = fuse_loras(replace(pair, loras=(Lora(str(tmp_path / "kohya.safetensors"), 1.0),)), tmp_path / "kohya")
    peft = fuse_loras(replace(pair, loras=(Lora(str(lora), 1.0),)), tmp_path / "peft")
    for found, wanted in zip(outputs(stock(kohya)), outputs(stock(peft)), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_it_is_fused_once_and_leaves_the_spatial_model_alone(pair: Pair, lora: Path, tmp_path: Path) -> None:
    stages: list[str] = []
    fused = fuse_loras(replace(pair, loras=(Lora(str(lora), 1.0),)), tmp_path, stages.append)
    assert fused.spatial == pair.spatial and "fusing LoRAs: lora.safetensors" in stages
    stages.clear()
    assert fuse_loras(replace(pair, loras=(Lora(str(lora), 1.0),)), tmp_path, stages.append) == fused
    assert stages == ["fusing LoRAs: reading"]
    assert not share_unet(open_checkpoints(fused.text_to_image, fused.spatial))


def test_controlnets_stand_over_the_fused_model(controlled_pair: Pair, lora: Path, tmp_path: Path) -> None:
    fused = fuse_loras(replace(controlled_pair, loras=(Lora(str(lora), 1.0),)), tmp_path)
    assert fused.spatial == fused.text_to_image != controlled_pair.text_to_image


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("nothing.safetensors", "the file does not exist"),
        ("model.ckpt", "the file does not exist"),
        ("model.zip", "is no file of weights"),
        ("lora.safetensors:much", "'much' is no scale; write FILE:SCALE, such as lora.safetensors:0.8"),
        ("dir:colon/lora.safetensors", "--lora dir:colon/lora.safetensors: the file does not exist"),
        ("dir:colon/lora", "--lora dir:colon/lora is no file of weights"),
        ("me@host:dir/lora.safetensors:0.5", "--lora me@host:dir/lora.safetensors: the file does not exist"),
        ("x@y:z.safetensors:much", "'much' is no scale; write FILE:SCALE, such as x@y:z.safetensors:0.8"),
        ("me@host/lora.safetensors@text", "'text' is no model; write @text_to_image, @spatial, @both"),
        ("lora.safetensors:0.5@both:1", "'both:1' is no model"),
    ],
)
def test_options_that_are_none(given: str, message: str) -> None:
    with pytest.raises(RealCompoError, match=message):
        parse_loras([given])


def test_a_scale_is_told_from_a_name(lora: Path) -> None:
    assert parse_loras([str(lora), f"{lora}:0.5"]) == (Lora(str(lora), 1.0), Lora(str(lora), 0.5))


@pytest.mark.parametrize("name", ["dir:colon/k", "a:0.5", "me@host:dir/k", "x@y:z", "dir@both/k", "a@both"])
def test_names_with_what_options_are_made_of(lora: Path, name: str, tmp_path: Path) -> None:
    file = tmp_path / f"{name}.safetensors"
    file.parent.mkdir(exist_ok=True)
    file.symlink_to(lora)
    assert parse_loras([f"{file}", f"{file}:0.5", f"{file}@spatial", f"{file}:0.5@both"]) == (
        Lora(str(file), 1.0),
        Lora(str(file), 0.5),
        Lora(str(file), 1.0, "spatial"),
        Lora(str(file), 0.5, "both"),
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda weights: {"conv_in.weight": torch.zeros(2)}, "it is no LoRA; it has weights such as conv_in.weight"),
        (lambda weights: {f"unet.strange.{name}": w for name, w in weights.items()}, "no place for unet.strange"),
        (
            lambda weights: {name: torch.cat([w, w], -1) if w.ndim else w for name, w in weights.items()},
            r"out_proj\.lora_A\.weight: its matrices do not fit each other: down \[3, 32\], up \[16, 6\]",
        ),
    ],
    ids=["no LoRA", "another architecture", "other sizes"],
)
def test_files_that_do_not_fit(
    pair: Pair, lora: Path, tmp_path: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]], message: str
) -> None:
    save_file(change(load_file(lora)), tmp_path / "bad.safetensors")
    with pytest.raises(RealCompoError, match=f"--lora .*bad.safetensors does not fit .*{message}"):
        fuse_loras(replace(pair, loras=(Lora(str(tmp_path / "bad.safetensors"), 1.0),)), tmp_path / "out")
    assert not list((tmp_path / "out").glob("text_to_image-*"))


def test_damaged_file(pair: Pair, tmp_path: Path) -> None:
    (tmp_path / "bad.safetensors").write_bytes(b"12345678")
    with pytest.raises(RealCompoError, match="is damaged"):
        fuse_loras(replace(pair, loras=(Lora(str(tmp_path / "bad.safetensors"), 1.0),)), tmp_path)


@pytest.mark.parametrize("scale", ["nan", "inf", "-inf"])
def test_scales_that_are_no_numbers(lora: Path, scale: str) -> None:
    with pytest.raises(RealCompoError, match=r"lora\.safetensors:-?(nan|inf): the scale is not finite"):
        parse_loras([f"{lora}:{scale}"])


def test_weights_that_are_not_finite_are_told_in_one_line(pair: Pair, lora: Path, tmp_path: Path) -> None:
    """PEFT refuses to fuse them with a ValueError of its own."""
    weights = load_file(lora)
    next(iter(weights.values()))[0] = float("nan")
    save_file(weights, tmp_path / "broken.safetensors")
    with pytest.raises(RealCompoError, match=r"--lora .*broken\.safetensors does not fit the text-to-image model: \w+"):
        fuse_loras(replace(pair, loras=(Lora(str(tmp_path / "broken.safetensors"), 1.0),)), tmp_path / "loras")
