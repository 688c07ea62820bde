"""Stable Diffusion 2.1 and its GLIGEN: diffusers' pipelines, autograd, and files in OpenCLIP's names."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    PNDMScheduler,
    StableDiffusionGLIGENPipeline,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from safetensors.torch import save_file
from tokenizers import Tokenizer
from transformers import AutoTokenizer, CLIPTextConfig, CLIPTextModel

from benchmarks.eager.realcompo import EagerRealCompo
from benchmarks.eager.settings import Settings
from export.build import Options, build
from export.checkpoints.folders import load_text_encoder, load_unet, load_vae
from export.checkpoints.random_weights import ARCHITECTURES, Architecture, with_random_weights
from export.checkpoints.single_file import convert_single_files
from export.checkpoints.tokenizer import tokenizer_json
from export.families.sd2 import SD2
from export.graphs.attention import find_map_layers
from export.pairs import Pair
from export.spatial import find_pair, share_unet
from runtime import Layout, RealCompo, Region
from runtime.bundle.manifest import read_manifest
from tests.export.conftest import make_vae
from tests.export.opening import open_checkpoints
from tests.export.sd2_pair import LAYERS, SCHEDULER, TEXT, UNET, WIDTH, save_pair
from tests.export.test_controlled_runs import assert_follows, relative_distance, start
from tests.export.test_gradient import Case, check, check_by_finite_differences
from tests.export.test_pickled_folders import assert_same
from tests.export.test_sdxl import TOKENS
from tests.export.test_sdxl_file import open_clip_names, unet_weights, vae_weights

TRAINED = {name: value for name, value in SCHEDULER.items() if name != "clip_sample"}  # which PNDM does not know
PROMPT = "a red ball"
BOXES = [(0.1, 0.1, 0.6, 0.6), (0.5, 0.4, 0.9, 1.0)]
PHRASES = ["red ball", "ball"]
LAYOUT = Layout([Region(phrase, box=box) for phrase, box in zip(PHRASES, BOXES, strict=True)])
SCHEDULERS: dict[str, Any] = {"plms": (PNDMScheduler, {"skip_prk_steps": True}), "ddim": (DDIMScheduler, {})}
UNCHECKED: dict[str, Any] = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return save_pair(tmp_path_factory.mktemp("sd2"))


@pytest.fixture(scope="module")
def bundle(pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bundle")
    build(pair, out, Options())
    return out


@pytest.fixture(scope="module")
def pipe(bundle: Path) -> RealCompo:
    return RealCompo.load(bundle)


def stock(pair: Pair, sampler: str, *, grounded: bool) -> Any:
    folder = Path(pair.text_to_image)
    scheduler, settings = SCHEDULERS[sampler]
    kind = StableDiffusionGLIGENPipeline if grounded else StableDiffusionPipeline
    pipeline: Any = kind(
        vae=AutoencoderKL.from_pretrained(folder / "vae"),
        text_encoder=CLIPTextModel.from_pretrained(folder / "text_encoder"),
        tokenizer=AutoTokenizer.from_pretrained(folder / "tokenizer"),
        unet=UNet2DConditionModel.from_pretrained(Path(pair.spatial if grounded else folder) / "unet"),
        scheduler=scheduler.from_config(SCHEDULER, **settings),
        **UNCHECKED,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.mark.parametrize("sampler", SCHEDULERS)
@pytest.mark.parametrize("grounded", [True, False], ids=["spatial", "text_to_image"])
def test_each_model_alone_is_its_stock_pipeline(pipe: RealCompo, pair: Pair, sampler: str, grounded: bool) -> None:
    """Velocities, the last layer's states and the padding all show in the latents."""
    boxes = {"gligen_phrases": PHRASES, "gligen_boxes": BOXES, "gligen_scheduled_sampling_beta": 0.5}
    theirs = stock(pair, sampler, grounded=grounded)(
        PROMPT,
        negative_prompt="a ball",
        height=16,
        width=16,
        num_inference_steps=8,
        guidance_scale=5.0,
        generator=torch.Generator().manual_seed(3),
        output_type="latent",
        **(boxes if grounded else {}),
    )
    ours = pipe(
        PROMPT,
        negative_prompt="a ball",
        layout=LAYOUT,
        gradient="spatial" if grounded else "text_to_image",
        steps=8,
        guidance_scale=5.0,
        sampler=sampler,
        seed=3,
        grounding_fraction=0.5,
    )
    tolerance = 1e-3 if sampler == "ddim" else 2e-2  # PLMS mixes velocities in diffusers, and noise here
    assert relative_distance(ours.latents, theirs.images) < tolerance


def test_exact_follows_the_eager_run(pipe: RealCompo, pair: Pair) -> None:
    eager = EagerRealCompo.load(pair.text_to_image, pair.spatial)
    settings = Settings(6, 3.0, switch_step=2, coefficient_scale=2e7)
    output = assert_follows(pipe, eager, settings, layout=LAYOUT, switch_step=2)
    assert (output.trace[-1].coefficients - start()[1]).abs().max() > 0.1


@pytest.fixture(scope="module")
def gradient(bundle: Path, pair: Pair) -> Case:
    return Case.of_shared_unet(pair, bundle)


def test_gradient_against_autograd(gradient: Case) -> None:
    check(gradient, gradient.inputs(1, 2))
    check(gradient, gradient.inputs(3, 5, seed=1, boxes=False))


def test_gradient_against_finite_differences(gradient: Case) -> None:
    check_by_finite_differences(gradient)


def test_the_family_is_told_and_one_unet_serves_both(pair: Pair, bundle: Path) -> None:
    opened = open_checkpoints(pair.text_to_image, pair.spatial)
    assert opened.text_to_image.family is SD2 and opened.spatial.family is SD2 and share_unet(opened)
    assert read_manifest(bundle).shared_unet


def test_texts_are_padded_with_exclamation_marks_where_the_folder_does_not_say(pair: Pair, tmp_path: Path) -> None:
    base = Path(shutil.copytree(pair.text_to_image, tmp_path / "base"))
    config = base / "tokenizer" / "tokenizer_config.json"
    said = json.loads(config.read_text())
    config.write_text(json.dumps({name: value for name, value in said.items() if name != "pad_token"}))
    opened = open_checkpoints(str(base), pair.spatial).text_to_image
    assert Tokenizer.from_str(tokenizer_json(opened, TOKENS).decode()).encode(PROMPT).ids == [4, 0, 1, 2, 5, 3]


@pytest.fixture
def single_file(pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As Stability's files are: OpenCLIP's encoder whole, with the layer and the projection that nothing uses."""
    base = open_checkpoints(pair.text_to_image, pair.spatial).text_to_image
    torch.manual_seed(5)
    longer = CLIPTextModel(CLIPTextConfig(**TEXT | {"num_hidden_layers": LAYERS + 1}))
    longer.load_state_dict(load_text_encoder(base).state_dict(), strict=False)
    encoder = open_clip_names({name.removeprefix("text_model."): one for name, one in longer.state_dict().items()})
    encoder |= {"text_projection": torch.ones(WIDTH, WIDTH), "attn_mask": torch.zeros(TOKENS, TOKENS)}
    prefixed = {f"cond_stage_model.model.{name}": weight for name, weight in encoder.items()}
    whole = unet_weights(base) | vae_weights(base) | prefixed
    file = tmp_path / "sd2.safetensors"
    save_file({name: weight.contiguous() for name, weight in whole.items()}, file)
    vae = {name: value for name, value in make_vae().config.items() if name[0] != "_"}
    monkeypatch.setitem(ARCHITECTURES, "tiny-2", Architecture(UNET, vae, TEXT, TRAINED))
    return file


def test_a_single_file_comes_back(pair: Pair, single_file: Path, tmp_path: Path) -> None:
    base = open_checkpoints(pair.text_to_image, pair.spatial).text_to_image
    given = Pair("tiny-2", str(single_file), pair.spatial, "")
    converted = convert_single_files(given, tmp_path / "out", base.folder / "tokenizer")
    found = open_checkpoints(converted.text_to_image, pair.spatial).text_to_image
    assert_same(load_text_encoder(found), load_text_encoder(base))
    assert_same(load_unet(found), load_unet(base))
    assert_same(load_vae(found), load_vae(base))
    assert found.schedule()["prediction_type"] == "v_prediction"
    assert tokenizer_json(found, TOKENS) == tokenizer_json(base, TOKENS)


def test_random_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vae = {name: value for name, value in make_vae().config.items() if name[0] != "_"}
    text = ARCHITECTURES["sd21-gligen"].text_encoder | {
        name: TEXT[name] for name in ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    }
    tiny = Architecture(UNET, vae, text, ARCHITECTURES["sd21-gligen"].scheduler, shared_unet=True)
    monkeypatch.setitem(ARCHITECTURES, "sd21-gligen", tiny)
    random = with_random_weights(find_pair("sd21-gligen"), tmp_path)
    opened = open_checkpoints(random.text_to_image, random.spatial)
    assert opened.text_to_image.family is SD2 and share_unet(opened)
    tokenizer = AutoTokenizer.from_pretrained(Path(random.text_to_image) / "tokenizer")
    assert tokenizer.pad_token == "!"


def test_shapes_of_the_published_models() -> None:
    """Parameters of Stable Diffusion 2.1's UNet and text encoder, and where its maps are at 512 and 768 pixels."""
    architecture = ARCHITECTURES["sd21-gligen"]
    with torch.device("meta"):
        unet, text = (
            UNet2DConditionModel(**architecture.unet),
            CLIPTextModel(CLIPTextConfig(**architecture.text_encoder)),
        )
    assert sum(weight.numel() for weight in unet.parameters()) == 865_910_724
    assert sum(weight.numel() for weight in text.parameters()) == 340_387_840
    assert find_map_layers(unet, (64, 64))[0] == (16, 16)
    assert find_map_layers(unet, (96, 96))[0] == (24, 24)
