"""A tiny random pair in diffusers' layout, and the bundle built from it once a session."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, ControlNetModel, DDIMScheduler, UNet2DConditionModel
from diffusers.models.attention import GatedSelfAttentionDense
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import CLIPTextConfig, CLIPTextModel

from export.build import Options, build
from export.checkpoints.folders import Checkpoints
from export.graphs.geometry import Geometry
from export.measure import measure
from export.pairs import Control, Pair
from tests.export.opening import open_checkpoints

TOKENS, WIDTH = 6, 16
WORDS = ["a", "red", "ball", "<|startoftext|>", "<|endoftext|>"]


def make_unet(*, grounded: bool) -> UNet2DConditionModel:
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8, 16),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=WIDTH,
        attention_head_dim=2,
        norm_num_groups=4,
        attention_type="gated" if grounded else "default",
    )
    return open_gates(unet).eval()


def open_gates(unet: UNet2DConditionModel) -> UNet2DConditionModel:
    """Freshly made ones are shut."""
    for fuser in (module for module in unet.modules() if isinstance(module, GatedSelfAttentionDense)):
        torch.nn.init.constant_(fuser.alpha_attn, 0.7)
        torch.nn.init.constant_(fuser.alpha_dense, -0.4)
    return unet


def make_controlnet(unet: UNet2DConditionModel, conditioning_channels: tuple[int, ...] = (4, 8)) -> ControlNetModel:
    """Untrained, but it does add something to what the UNet does."""
    controlnet = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=conditioning_channels)
    ends = (controlnet.controlnet_cond_embedding.conv_out, *controlnet.controlnet_down_blocks)
    for convolution in (*ends, controlnet.controlnet_mid_block):
        torch.nn.init.normal_(convolution.weight, std=0.5)
    return controlnet.eval()


def make_vae() -> AutoencoderKL:
    return AutoencoderKL(
        sample_size=16,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 8),
        layers_per_block=1,
        norm_num_groups=4,
        scaling_factor=0.5,
    ).eval()


def make_text_encoder() -> CLIPTextModel:
    config = CLIPTextConfig(
        vocab_size=len(WORDS),
        hidden_size=WIDTH,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=TOKENS,
        bos_token_id=WORDS.index("<|startoftext|>"),
        eos_token_id=WORDS.index("<|endoftext|>"),
    )
    return CLIPTextModel(config).eval()


def save_pair(folder: Path) -> Pair:
    torch.manual_seed(0)
    base = folder / "text_to_image"
    make_unet(grounded=False).save_pretrained(base / "unet")
    make_unet(grounded=True).half().save_pretrained(folder / "spatial" / "unet")
    make_vae().save_pretrained(base / "vae")
    make_text_encoder().save_pretrained(base / "text_encoder")
    DDIMScheduler(beta_schedule="scaled_linear").save_pretrained(base / "scheduler")
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="a"))
    tokenizer.pre_tokenizer = Whitespace()
    (base / "tokenizer").mkdir()
    tokenizer.save(str(base / "tokenizer" / "tokenizer.json"))
    (base / "tokenizer" / "tokenizer_config.json").write_text('{"pad_token": "<|endoftext|>"}')
    return Pair("tiny", str(base), str(folder / "spatial"), "")


@pytest.fixture(autouse=True, scope="package")
def one_thread() -> Iterator[None]:
    """Models this small only wait for the other threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return save_pair(tmp_path_factory.mktemp("pair"))


@pytest.fixture(scope="session")
def controlled_pair(pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """The tiny text-to-image model with two ControlNets."""
    folder = tmp_path_factory.mktemp("controls")
    unet = UNet2DConditionModel.from_pretrained(Path(pair.text_to_image) / "unet")
    kinds = ("segmentation", "depth")
    torch.manual_seed(7)
    for kind in kinds:
        make_controlnet(unet).save_pretrained(folder / kind)
    controls = tuple(Control(kind, str(folder / kind)) for kind in kinds)
    return Pair("tiny", pair.text_to_image, pair.text_to_image, "", "controlnet", controls)


@pytest.fixture
def own_pair(pair: Pair, tmp_path: Path) -> Pair:
    """A copy of the pair that a test may damage."""
    shutil.copytree(Path(pair.spatial).parent, tmp_path / "pair")
    return Pair("tiny", str(tmp_path / "pair" / "text_to_image"), str(tmp_path / "pair" / "spatial"), "")


@pytest.fixture(scope="session")
def checkpoints(pair: Pair) -> Checkpoints:
    return open_checkpoints(pair.text_to_image, pair.spatial)


@pytest.fixture(scope="session")
def geometry(checkpoints: Checkpoints) -> Geometry:
    return measure(checkpoints)


@pytest.fixture(scope="session")
def bundle(pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bundle")
    build(pair, out, Options())
    return out


@pytest.fixture(scope="session")
def controlled_bundle(controlled_pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("controlled")
    build(controlled_pair, out, Options())
    return out


@pytest.fixture(scope="module")
def unet(controlled_pair: Pair) -> UNet2DConditionModel:
    """Of the controlled pair, in diffusers."""
    return UNet2DConditionModel.from_pretrained(Path(controlled_pair.text_to_image) / "unet")


@pytest.fixture(scope="module")
def controlnets(controlled_pair: Pair) -> list[ControlNetModel]:
    """Those of the controlled pair, in diffusers."""
    return [ControlNetModel.from_pretrained(control.model) for control in controlled_pair.controls]


@pytest.fixture
def own_bundle(bundle: Path, tmp_path: Path) -> Path:
    """A copy of the bundle that a test may damage or build on."""
    return Path(shutil.copytree(bundle, tmp_path / "bundle"))
