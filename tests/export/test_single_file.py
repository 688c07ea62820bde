"""Single .safetensors files: written here in the original code's names by a map of our own, and read back."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from typer.testing import CliRunner

from export.__main__ import app
from export.checkpoints.folders import Checkpoints, load_attached, load_text_encoder, load_unet, load_vae
from export.checkpoints.random_weights import ARCHITECTURES, Architecture, make_controlnet
from export.checkpoints.single_file import convert_single_files
from export.checkpoints.tokenizer import tokenizer_json
from export.graphs.geometry import Geometry
from export.measure import measure
from export.pairs import Control, Pair
from export.spatial import find_pair
from runtime.errors import RealCompoError
from tests.export.opening import open_checkpoints

Weights = dict[str, Tensor]
LAYERS = 1  # per block, in the tiny pair
UNET_PARTS = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
UNET_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}


def ldm_unet_name(name: str, has_attention: set[int]) -> str:
    """CompVis/stable-diffusion's name, in openaimodel.py, of a diffusers UNet's weight."""
    part, _, kind = name.rpartition(".")
    if part in UNET_PARTS:
        return f"{UNET_PARTS[part]}.{kind}"
    if match := re.match(r"(down|up)_blocks\.(\d+)\.(resnets|attentions)\.(\d+)\.(.*)", name):
        way, block, what, layer, rest = match.groups()
        if way == "down":
            place = f"input_blocks.{1 + int(block) * (LAYERS + 1) + int(layer)}"
        else:
            place = f"output_blocks.{int(block) * (LAYERS + 1) + int(layer)}"
        return f"{place}.1.{rest}" if what == "attentions" else f"{place}.0.{ldm_resnet_name(rest)}"
    if match := re.match(r"down_blocks\.(\d+)\.downsamplers\.0\.conv\.(.*)", name):
        return f"input_blocks.{(int(match[1]) + 1) * (LAYERS + 1)}.0.op.{match[2]}"
    if match := re.match(r"up_blocks\.(\d+)\.upsamplers\.0\.conv\.(.*)", name):
        block = int(match[1])
        return f"output_blocks.{block * (LAYERS + 1) + LAYERS}.{2 if block in has_attention else 1}.conv.{match[2]}"
    if match := re.match(r"mid_block\.attentions\.0\.(.*)", name):
        return f"middle_block.1.{match[1]}"
    if match := re.match(r"mid_block\.resnets\.(\d)\.(.*)", name):
        return f"middle_block.{2 * int(match[1])}.{ldm_resnet_name(match[2])}"
    assert name.startswith("position_net."), name
    return name


def ldm_resnet_name(rest: str) -> str:
    part, _, kind = rest.rpartition(".")
    return f"{UNET_RESNET[part]}.{kind}"


def ldm_vae_name(name: str, blocks: int) -> str:
    """CompVis/latent-diffusion's name, in autoencoder.py, of a diffusers VAE's weight."""
    name = name.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
    name = re.sub(r"mid_block\.resnets\.(\d)", lambda match: f"mid.block_{int(match[1]) + 1}", name)
    if match := re.match(r"(.*)mid_block\.attentions\.0\.(.*)\.(weight|bias)", name):
        return f"{match[1]}mid.attn_1.{VAE_ATTENTION[match[2]]}.{match[3]}"
    name = re.sub(r"down_blocks\.(\d+)\.resnets", r"down.\1.block", name)
    name = re.sub(r"down_blocks\.(\d+)\.downsamplers\.0", r"down.\1.downsample", name)
    name = re.sub(r"up_blocks\.(\d+)\.resnets", lambda match: f"up.{blocks - 1 - int(match[1])}.block", name)
    return re.sub(r"up_blocks\.(\d+)\.upsamplers\.0", lambda match: f"up.{blocks - 1 - int(match[1])}.upsample", name)


def ldm_unet(checkpoints: Checkpoints, model: str) -> Weights:
    weights = load_unet(checkpoints.of(model)).state_dict()
    attention = {int(match[1]) for name in weights if (match := re.match(r"up_blocks\.(\d+)\.attentions", name))}
    return {f"model.diffusion_model.{ldm_unet_name(name, attention)}": w for name, w in weights.items()}


def ldm_vae(checkpoints: Checkpoints) -> Weights:
    named = {ldm_vae_name(n, 2): w for n, w in load_vae(checkpoints.text_to_image).state_dict().items()}
    convolutional = {n: w[:, :, None, None] if ".attn_1." in n and w.ndim == 2 else w for n, w in named.items()}
    return {f"first_stage_model.{name}": weight for name, weight in convolutional.items()}


def ldm_text_encoder(checkpoints: Checkpoints) -> Weights:
    weights = load_text_encoder(checkpoints.text_to_image).state_dict()
    named = {f"cond_stage_model.transformer.text_model.{n.removeprefix('text_model.')}": w for n, w in weights.items()}
    return named | {"cond_stage_model.transformer.text_model.embeddings.position_ids": torch.arange(6)[None]}


@pytest.fixture(scope="module")
def files(checkpoints: Checkpoints, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """The tiny pair as two single files; the first with what training leaves in such files."""
    folder = tmp_path_factory.mktemp("files")
    whole = ldm_unet(checkpoints, "text_to_image") | ldm_vae(checkpoints) | ldm_text_encoder(checkpoints)
    whole |= {"alphas_cumprod": torch.ones(1000), "model_ema.decay": torch.ones(())}
    for name, weights in (("whole", whole), ("gligen", ldm_unet(checkpoints, "spatial"))):
        save_file({key: weight.contiguous().half() for key, weight in weights.items()}, folder / f"{name}.safetensors")
    return Pair("tiny", str(folder / "whole.safetensors"), str(folder / "gligen.safetensors"), "")


@pytest.fixture(autouse=True)
def known_architecture(checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch) -> None:
    def public(config: dict) -> dict:
        return {key: value for key, value in config.items() if not key.startswith("_") and key != "attention_type"}

    base = checkpoints.text_to_image
    parts = {name: public(base.config(name)) for name in ("unet", "vae", "text_encoder")}
    scheduler = {"beta_schedule": "scaled_linear", "skip_prk_steps": True}
    monkeypatch.setitem(ARCHITECTURES, "tiny", Architecture(**parts, scheduler=scheduler))


@pytest.fixture
def tokenizer(pair: Pair) -> Path:
    return Path(pair.text_to_image) / "tokenizer"


def assert_same(found: torch.nn.Module, expected: torch.nn.Module) -> None:
    """Weights that went through half precision, in a checkpoint that is full precision."""
    weights = found.state_dict()
    assert weights.keys() == expected.state_dict().keys()
    for name, weight in expected.state_dict().items():
        assert torch.equal(weights[name], weight.half().float()), name


def test_weights_come_back_under_diffusers_names(
    files: Pair, checkpoints: Checkpoints, geometry: Geometry, tokenizer: Path, tmp_path: Path
) -> None:
    converted = convert_single_files(files, tmp_path, tokenizer)
    opened = open_checkpoints(converted.text_to_image, converted.spatial)
    assert_same(load_unet(opened.text_to_image), load_unet(checkpoints.text_to_image))
    assert_same(load_unet(opened.spatial), load_unet(checkpoints.spatial))
    assert_same(load_vae(opened.text_to_image), load_vae(checkpoints.text_to_image))
    assert_same(load_text_encoder(opened.text_to_image), load_text_encoder(checkpoints.text_to_image))
    assert tokenizer_json(opened.text_to_image, 6) == tokenizer_json(checkpoints.text_to_image, 6)
    found = measure(opened)
    assert (found.map_layers, found.latent_shape) == (geometry.map_layers, geometry.latent_shape)


def test_a_unet_in_diffusers_names_is_taken_as_it_is(
    files: Pair, pair: Pair, checkpoints: Checkpoints, tokenizer: Path, tmp_path: Path
) -> None:
    own = Path(pair.spatial) / "unet" / "diffusion_pytorch_model.safetensors"
    converted = convert_single_files(Pair("tiny", files.text_to_image, str(own), ""), tmp_path, tokenizer)
    opened = open_checkpoints(converted.text_to_image, converted.spatial)
    assert_same(load_unet(opened.spatial), load_unet(checkpoints.spatial))


def test_a_file_is_converted_once(
    files: Pair, tokenizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = convert_single_files(files, tmp_path, tokenizer)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        Path(folder).name for folder in (first.text_to_image, first.spatial)
    )
    monkeypatch.setattr("export.checkpoints.single_file._convert", None)  # would fail if it were called
    assert convert_single_files(files, tmp_path, tokenizer) == first


def test_a_conversion_that_stopped_leaves_no_folder(
    files: Pair, tokenizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(stage: str) -> None:
        if stage.endswith("vae"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert_single_files(files, tmp_path, tokenizer, stop)
    assert all(path.name.startswith(".") for path in tmp_path.iterdir())
    converted = convert_single_files(files, tmp_path, tokenizer)
    open_checkpoints(converted.text_to_image, converted.spatial)


def test_folders_and_hub_ids_stay(pair: Pair, tmp_path: Path) -> None:
    hub = Pair("sd15-gligen", "some/model", "other/model-v1.5", "")
    assert convert_single_files(pair, tmp_path, None) == pair
    assert convert_single_files(hub, tmp_path, None) == hub


def ldm_controlnet_name(name: str) -> str:
    """lllyasviel/ControlNet's name, in cldm.py, of a diffusers ControlNet's weight."""
    name = name.replace("controlnet_mid_block", "middle_block_out.0")
    if match := re.match(r"controlnet_down_blocks\.(\d+)\.(.*)", name):
        return f"zero_convs.{match[1]}.0.{match[2]}"
    if match := re.match(r"controlnet_cond_embedding\.blocks\.(\d+)\.(.*)", name):
        return f"input_hint_block.{2 * int(match[1]) + 2}.{match[2]}"
    if match := re.match(r"controlnet_cond_embedding\.conv_(in|out)\.(.*)", name):
        return f"input_hint_block.{0 if match[1] == 'in' else 14}.{match[2]}"
    return name if name.startswith("middle_block_out") else ldm_unet_name(name, set())


@pytest.mark.parametrize("prefix", ["control_model.", "", None], ids=["whole", "alone", "diffusers"])
def test_a_controlnet_comes_back_under_diffusers_names(pair: Pair, tmp_path: Path, prefix: str | None) -> None:
    torch.manual_seed(3)
    controlnet = make_controlnet(ARCHITECTURES["tiny"])
    weights = {name: torch.randn_like(weight) for name, weight in controlnet.state_dict().items()}
    named = weights if prefix is None else {prefix + ldm_controlnet_name(name): w for name, w in weights.items()}
    save_file(named, tmp_path / "control.safetensors")
    given = Pair(
        "tiny",
        pair.text_to_image,
        pair.text_to_image,
        "",
        "controlnet",
        (Control("depth", f"{tmp_path}/control.safetensors"),),
    )
    converted = convert_single_files(given, tmp_path / "out", None)
    assert (converted.text_to_image, converted.spatial) == (given.text_to_image, given.spatial)
    opened = open_checkpoints(converted.text_to_image, converted.spatial, [converted.controls[0].model])
    found = load_attached(opened.attached[0]).state_dict()
    assert found.keys() == weights.keys()
    assert all(torch.equal(found[name], weight) for name, weight in weights.items())


def test_a_single_text_to_image_file_is_both_models_with_controlnets(
    files: Pair, controlled_pair: Pair, tokenizer: Path, tmp_path: Path
) -> None:
    given = replace(controlled_pair, text_to_image=files.text_to_image, spatial=files.text_to_image)
    converted = convert_single_files(given, tmp_path, tokenizer)
    assert converted.spatial == converted.text_to_image != files.text_to_image
    assert converted.controls == controlled_pair.controls


def damaged(files: Pair, folder: Path, damage: str) -> Pair:
    path = folder / "damaged.safetensors"
    content = Path(files.spatial).read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    if damage == "short":
        path.write_bytes(content[:-100])
    else:
        text = json.dumps(header).replace(damage, "x" * len(damage)).encode()
        path.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + size :])
    return Pair("tiny", files.text_to_image, str(path), "")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("short", "damaged.safetensors is no whole .safetensors file: its tensors take"),
        ("position_net", "its unet lacks weights, 8 of them, such as position_net.linears.0.bias"),
        ("model.diffusion_model", "its unet lacks weights, .* such as conv_in.bias"),
    ],
)
def test_files_that_do_not_fit(files: Pair, tokenizer: Path, tmp_path: Path, damage: str, message: str) -> None:
    with pytest.raises(RealCompoError, match=message):
        convert_single_files(damaged(files, tmp_path, damage), tmp_path / "out", tokenizer)


@pytest.mark.parametrize("option", ["text_to_image", "spatial", "control"])
def test_a_pickle_in_the_wrong_place_is_told(files: Pair, tokenizer: Path, tmp_path: Path, option: str) -> None:
    lora = str(tmp_path / "style.pt")
    layer = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k"
    torch.save({f"{layer}.lora_down.weight": torch.zeros(4, 768), f"{layer}.lora_up.weight": torch.zeros(320, 4)}, lora)
    controlled = replace(files, spatial=files.text_to_image, controls=(Control("depth", lora),))
    given = controlled if option == "control" else replace(files, **{option: lora})
    with pytest.raises(RealCompoError, match=r"style\.pt is a LoRA for Stable Diffusion 1\.x, which goes with --lora;"):
        convert_single_files(given, tmp_path / "out", tokenizer)


def test_wrong_shapes_are_named(files: Pair, tokenizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = ARCHITECTURES["tiny"]
    wider = Architecture(tiny.unet | {"cross_attention_dim": 32}, tiny.vae, tiny.text_encoder, tiny.scheduler)
    monkeypatch.setitem(ARCHITECTURES, "tiny", wider)
    with pytest.raises(RealCompoError, match=r"its unet has wrongly shaped weights, .*attn2\.to_k"):
        convert_single_files(files, tmp_path, tokenizer)


def run_build(pair: str, text_to_image: str, *arguments: object) -> str:
    given = ["build", pair, "--text-to-image", text_to_image, "--out", "unused", *map(str, arguments)]
    result = CliRunner(env={"COLUMNS": "200"}).invoke(app, given)
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    return result.stderr


def test_command_says_what_to_do(
    files: Pair, pair: Pair, tokenizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "the file model.ckpt does not exist" in run_build("sd15-gligen", "model.ckpt")
    assert "the file none.safetensors does not exist" in run_build("sd15-gligen", "none.safetensors")
    assert "whole.safetensors holds no tokenizer. Give CLIP's with --tokenizer DIR" in run_build(
        "sd15-gligen", files.text_to_image
    )
    assert f"{tmp_path} has none of tokenizer.json" in run_build(
        "sd15-gligen", files.text_to_image, "--tokenizer", tmp_path
    )
    assert "goes with a single file as --text-to-image" in run_build(
        "sd15-gligen", pair.text_to_image, "--tokenizer", tokenizer
    )
    assert (
        "those of tabletop are not known. Build a pair of Stable Diffusion with it, such as sd15-gligen"
        in run_build("tabletop", files.text_to_image, "--tokenizer", tokenizer)
    )


@pytest.mark.parametrize(
    ("name", "given"),
    [("tabletop", "{}"), ("tabletop-adapter", "canny={}"), ("sd15-adapter", "depth={}")],
)
def test_a_pickled_t2i_adapter_is_told_to_be_one(name: str, given: str, tmp_path: Path) -> None:
    """TencentARC's first files; whether configs of the pair's models are known makes no difference."""
    shapes = {"body.0.in_conv.weight": (4, 192, 1, 1), "body.0.block1.weight": (4, 4, 3, 3)}
    torch.save({name: torch.zeros(shape) for name, shape in shapes.items()}, tmp_path / "t2iadapter.pth")
    asked = find_pair(name, spatial=[given.format(tmp_path / "t2iadapter.pth")])
    with pytest.raises(RealCompoError, match=r"is a T2I-Adapter for Stable Diffusion 1\.x, which is taken as a diffus"):
        convert_single_files(asked, tmp_path / "out", None)
