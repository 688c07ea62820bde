"""SDXL: two text encoders, what they add to the UNet and to ControlNets, one batch for both models."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    DDIMScheduler,
    PNDMScheduler,
    StableDiffusionXLControlNetPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from torch import Tensor
from transformers import AutoTokenizer, CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from benchmarks.eager.maps import find_map_layers
from benchmarks.eager.realcompo import EagerRealCompo
from benchmarks.eager.settings import Form, Settings
from export.build import Options, build
from export.checkpoints.lora import fuse_loras
from export.checkpoints.random_weights import ARCHITECTURES, Architecture, with_random_weights
from export.engines import engine_of, signature
from export.families.sdxl import SDXL
from export.graphs.attention import find_map_layers as exported_map_layers
from export.graphs.geometry import Geometry
from export.measure import measure
from export.onnx.audit import audit
from export.onnx.verify import verify_bundle
from export.pairs import Control, Lora, Pair
from export.spatial import find_pair
from runtime import Layout, RealCompo, Region
from runtime.bundle.manifest import read_manifest, write_manifest
from runtime.errors import RealCompoError
from tests.export.conftest import make_controlnet, make_vae
from tests.export.opening import open_checkpoints
from tests.export.test_controlled_runs import assert_follows, relative_distance, start
from tests.export.test_gradient import Case, Oracle, check, check_by_finite_differences
from tests.export.test_lora import add_lora

TOKENS = 6
WORDS = ["a", "red", "ball", "!", "<|startoftext|>", "<|endoftext|>"]
PROMPT = "a red ball"
LAYOUT = Layout(
    [Region("red ball", box=(0.1, 0.1, 0.6, 0.6)), Region("ball", box=(0.5, 0.4, 0.9, 1.0))], depth=np.eye(16)
)
SCHEDULER = {  # what of SDXL's file has an effect
    "_class_name": "EulerDiscreteScheduler",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "clip_sample": False,
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "timestep_spacing": "leading",
    "use_karras_sigmas": False,
}
SCHEDULERS: dict[str, Any] = {"plms": (PNDMScheduler, {"skip_prk_steps": True}), "ddim": (DDIMScheduler, {})}


def make_unet() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8, 16),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 2),
        layers_per_block=1,
        cross_attention_dim=16 + 24,
        attention_head_dim=(2, 4),
        use_linear_projection=True,
        norm_num_groups=4,
        addition_embed_type="text_time",
        addition_time_embed_dim=4,
        projection_class_embeddings_input_dim=12 + 6 * 4,
    ).eval()


def text_config(width: int) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(WORDS),
        hidden_size=width,
        intermediate_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        max_position_embeddings=TOKENS,
        projection_dim=12,
        bos_token_id=WORDS.index("<|startoftext|>"),
        eos_token_id=WORDS.index("<|endoftext|>"),
    )


def save_tokenizer(folder: Path, pad_token: str) -> None:
    ids = {word: i for i, word in enumerate(WORDS)}
    tokenizer = Tokenizer(WordLevel(ids, unk_token=WORDS[5]))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.add_special_tokens(WORDS[4:])
    special = [(token, ids[token]) for token in WORDS[4:]]
    tokenizer.post_processor = TemplateProcessing(single=f"{WORDS[4]} $A {WORDS[5]}", special_tokens=special)
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"pad_token": pad_token, "model_max_length": TOKENS, "tokenizer_class": "PreTrainedTokenizerFast"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    folder = tmp_path_factory.mktemp("sdxl")
    base = folder / "text_to_image"
    torch.manual_seed(0)
    unet = make_unet()
    unet.save_pretrained(base / "unet")
    vae = make_vae()
    vae.register_to_config(force_upcast=True)
    vae.save_pretrained(base / "vae")
    CLIPTextModel(text_config(16)).save_pretrained(base / "text_encoder")
    CLIPTextModelWithProjection(text_config(24)).save_pretrained(base / "text_encoder_2")
    (base / "scheduler").mkdir()
    (base / "scheduler" / "scheduler_config.json").write_text(json.dumps(SCHEDULER))
    save_tokenizer(base / "tokenizer", "<|endoftext|>")
    save_tokenizer(base / "tokenizer_2", "!")
    make_controlnet(unet).save_pretrained(folder / "depth")
    return Pair("tiny-xl", str(base), str(base), "", "controlnet", (Control("depth", str(folder / "depth")),))


@pytest.fixture(scope="module")
def bundle(pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bundle")
    build(pair, out, Options())
    return out


@pytest.fixture(scope="module")
def pipe(bundle: Path) -> RealCompo:
    return RealCompo.load(bundle)


@pytest.fixture(scope="module")
def geometry(pair: Pair) -> Geometry:
    return measure(open_checkpoints(pair.text_to_image, pair.spatial, [control.model for control in pair.controls]))


def stock(pair: Pair, sampler: str, *, controlled: bool) -> Any:
    folder = Path(pair.text_to_image)
    scheduler, settings = SCHEDULERS[sampler]
    parts = {
        "vae": AutoencoderKL.from_pretrained(folder / "vae"),
        "text_encoder": CLIPTextModel.from_pretrained(folder / "text_encoder"),
        "text_encoder_2": CLIPTextModelWithProjection.from_pretrained(folder / "text_encoder_2"),
        "tokenizer": AutoTokenizer.from_pretrained(folder / "tokenizer"),
        "tokenizer_2": AutoTokenizer.from_pretrained(folder / "tokenizer_2"),
        "unet": UNet2DConditionModel.from_pretrained(folder / "unet"),
        "scheduler": scheduler.from_config(SCHEDULER, **settings),
        "add_watermarker": False,
    }
    if controlled:
        parts["controlnet"] = ControlNetModel.from_pretrained(pair.controls[0].model)
        pipeline: Any = StableDiffusionXLControlNetPipeline(**parts)
    else:
        pipeline = StableDiffusionXLPipeline(**parts)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.mark.parametrize("sampler", SCHEDULERS)
@pytest.mark.parametrize("negative", [None, "a ball"], ids=["none", "given"])
@pytest.mark.parametrize("controlled", [True, False], ids=["spatial", "text_to_image"])
def test_each_model_alone_is_its_stock_pipeline(
    pipe: RealCompo, pair: Pair, sampler: str, negative: str | None, controlled: bool
) -> None:
    image = torch.eye(16).expand(1, 3, 16, 16)
    theirs = stock(pair, sampler, controlled=controlled)(
        PROMPT,
        negative_prompt=negative,
        height=16,
        width=16,
        num_inference_steps=8,
        guidance_scale=5.0,
        num_images_per_prompt=2,
        generator=torch.Generator().manual_seed(3),
        output_type="latent",
        **({"image": image, "controlnet_conditioning_scale": 0.7} if controlled else {}),
    )
    ours = pipe(
        PROMPT,
        negative_prompt=negative or "",
        layout=LAYOUT,
        gradient="spatial" if controlled else "text_to_image",
        steps=8,
        guidance_scale=5.0,
        sampler=sampler,
        seed=3,
        num_images=2,
        control_scale=0.7,
    )
    assert relative_distance(ours.latents, theirs.images) < 1e-3


def test_negative_prompts_and_their_absence_differ(pipe: RealCompo) -> None:
    """An empty one is zeros, and no text is."""
    zeros, given = (pipe(PROMPT, negative_prompt=n, gradient="text_to_image", steps=2).latents for n in ("", "!"))
    assert relative_distance(zeros, given) > 1e-2
    assert pipe.manifest.zero_negative


def test_without_zeros_an_empty_negative_prompt_is_a_text(pair: Pair, bundle: Path, tmp_path: Path) -> None:
    """`force_zeros_for_empty_prompt` of model_index.json."""
    base = Path(shutil.copytree(pair.text_to_image, tmp_path / "base"))
    (base / "model_index.json").write_text('{"force_zeros_for_empty_prompt": false}')
    assert not open_checkpoints(str(base), str(base), [pair.controls[0].model]).text_to_image.zero_negative
    theirs = stock(pair, "ddim", controlled=False)(
        PROMPT,
        negative_prompt="",
        height=16,
        width=16,
        num_inference_steps=4,
        generator=torch.Generator().manual_seed(0),
        output_type="latent",
    )
    shutil.copytree(bundle, tmp_path / "bundle")
    write_manifest(tmp_path / "bundle", read_manifest(bundle).model_copy(update={"zero_negative": False}))
    ours = RealCompo.load(tmp_path / "bundle")(
        PROMPT, gradient="text_to_image", steps=4, sampler="ddim", guidance_scale=5
    )
    assert relative_distance(ours.latents, theirs.images) < 1e-3


def test_second_tokenizer_pads_in_its_own_way(bundle: Path) -> None:
    manifest = read_manifest(bundle)
    first, second = (Tokenizer.from_file(str(bundle / file.name)).encode(PROMPT) for file in manifest.tokenizers)
    assert first.ids == [4, 0, 1, 2, 5, 5] and second.ids == [4, 0, 1, 2, 5, 3]


def test_maps_are_of_up_blocks_alone(geometry: Geometry) -> None:
    layers = geometry.map_layers["spatial"]
    assert len(layers) == 4 and all(layer.startswith("up_blocks.0") for layer in layers)
    assert find_map_layers(make_unet(), (8, 8)) == (geometry.map_resolution, layers)


def test_bundle_verifies_again(bundle: Path) -> None:
    assert all(max((check.errors or {"": 1.0}).values()) < 1e-4 for check in verify_bundle(bundle))


def test_full_size_maps_are_those_of_the_paper() -> None:
    with torch.device("meta"):
        unet = UNet2DConditionModel(**ARCHITECTURES["sdxl-openpose"].unet)
    assert sum(weight.numel() for weight in unet.parameters()) == 2_567_463_684  # as SDXL has
    resolution, layers = exported_map_layers(unet, (128, 128), SDXL.map_rule)
    assert resolution == (32, 32) and len(layers) == 30 and all(layer.startswith("up_blocks.0") for layer in layers)


@pytest.fixture(scope="module")
def eager(pair: Pair) -> EagerRealCompo:
    return EagerRealCompo.load(pair.text_to_image, pair.spatial, controls=pair.controls)


@pytest.mark.parametrize("form", [Form(), Form(trial_guidance=True)], ids=["paper", "released keypoint code"])
def test_exact_follows_the_eager_run(pipe: RealCompo, eager: EagerRealCompo, form: Form) -> None:
    settings = Settings(6, 3.0, switch_step=0, coefficient_scale=2e7, form=form, control_scale=0.8)
    output = assert_follows(pipe, eager, settings, layout=LAYOUT)
    assert (output.trace[-1].coefficients - start()[1]).abs().max() > 0.1
    assert output.stats.calls["spatial"] == output.stats.calls["controlnet"] == 7  # both models in one batch
    assert output.stats.rows["spatial"] == 2 * output.stats.rows["controlnet"]


class XLOracle(Oracle):
    """The stock UNet and ControlNet in float64."""

    def __init__(self, unet: UNet2DConditionModel, layers: tuple[str, ...], controlnet: ControlNetModel) -> None:
        super().__init__(unet, layers)
        self.controlnet = controlnet.double().requires_grad_(False)

    def run(self, inputs: dict[str, Tensor], latents: Tensor) -> None:
        text = inputs["encoder_hidden_states"].double()
        added = {name: inputs[name].double() for name in ("text_embeds", "time_ids")}
        rows = [
            self.controlnet(
                latents[b : b + 1],
                inputs["timestep"][b : b + 1],
                text[b : b + 1],
                inputs["control_images"][b : b + 1].double(),
                conditioning_scale=float(inputs["control_scales"][b, 0]),
                added_cond_kwargs={name: tensor[b : b + 1] for name, tensor in added.items()},
                return_dict=False,
            )
            for b in range(len(text))
        ]
        down = [torch.cat(parts) for parts in zip(*(row[0] for row in rows), strict=True)]
        self.unet(
            latents,
            inputs["timestep"],
            text,
            added_cond_kwargs=added,
            down_block_additional_residuals=down,
            mid_block_additional_residual=torch.cat([row[1] for row in rows]),
        )


@pytest.fixture(scope="module")
def gradient(bundle: Path, pair: Pair, geometry: Geometry) -> Case:
    unet = UNet2DConditionModel.from_pretrained(Path(pair.text_to_image) / "unet")
    controlnet = ControlNetModel.from_pretrained(pair.controls[0].model)
    path = bundle / read_manifest(bundle).engines["spatial_gradient"].graph[0].name
    oracle = XLOracle(unet, geometry.map_layers["spatial"], controlnet)
    return Case(path, signature("spatial_gradient", geometry), oracle)


def test_gradient_against_autograd(gradient: Case) -> None:
    check(gradient, gradient.inputs(1, 2))
    check(gradient, gradient.inputs(3, 5, seed=1, boxes=False))


def test_gradient_against_finite_differences(gradient: Case) -> None:
    check_by_finite_differences(gradient)


def test_vae_that_overflows_stays_wide(geometry: Geometry) -> None:
    """diffusers widens it too."""
    assert geometry.wide_vae
    assert engine_of("vae_decoder", geometry).precision("fp16", geometry) == "fp32"
    assert engine_of("vae_decoder", geometry).precision("bf16", geometry) == "bf16"
    assert engine_of("spatial", geometry).precision("fp16", geometry) == "fp16"


@pytest.mark.slow
def test_half_precision(pair: Pair, tmp_path: Path) -> None:
    manifest = build(pair, tmp_path, Options(precision="fp16"))
    assert {role: engine.precision for role, engine in manifest.engines.items()} == {
        role: "fp32" if role == "vae_decoder" else "fp16" for role in manifest.engines
    }
    for role in ("spatial", "controlnet", "spatial_gradient"):
        assert not audit(tmp_path / manifest.engines[role].graph[0].name, "fp16").violations


TINY = Architecture(
    unet=dict(make_unet().config) | {"down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"]},
    vae=dict(make_vae().config),
    text_encoder=ARCHITECTURES["sdxl-openpose"].text_encoder
    | {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2},
    text_encoder_2=(ARCHITECTURES["sdxl-openpose"].text_encoder_2 or {})
    | {
        "hidden_size": 24,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "projection_dim": 12,
    },
    scheduler=ARCHITECTURES["sdxl-openpose"].scheduler,
)


@torch.no_grad()
def test_loras_of_sdxl_are_fused(pair: Pair, tmp_path: Path) -> None:
    """Into the UNet and the second text encoder, as the stock pipeline has them beside the weights."""
    beside = stock(pair, "ddim", controlled=False)
    given = {
        f"{part}_lora_{name}": value
        for seed, part in enumerate(("unet", "text_encoder_2"))
        for name, value in add_lora(getattr(stock(pair, "ddim", controlled=False), part), seed).items()
    }
    StableDiffusionXLPipeline.save_lora_weights(tmp_path, weight_name="lora.safetensors", **given)
    fused = fuse_loras(replace(pair, loras=(Lora(str(tmp_path / "lora.safetensors"), 0.7),)), tmp_path / "loras")
    assert open_checkpoints(fused.text_to_image, fused.spatial, [pair.controls[0].model]).text_to_image.family is SDXL
    plain = beside.text_encoder_2(torch.tensor([[4, 0, 1, 2, 5, 3]])).text_embeds
    beside.load_lora_weights(tmp_path / "lora.safetensors", adapter_name="x")
    beside.set_adapters("x", 0.7)
    options: dict[str, Any] = {
        "height": 16,
        "width": 16,
        "num_inference_steps": 2,
        "generator": torch.Generator().manual_seed(0),
        "output_type": "latent",
    }
    found = stock(fused, "ddim", controlled=False)(PROMPT, **options).images
    options["generator"].manual_seed(0)
    torch.testing.assert_close(found, beside(PROMPT, **options).images, rtol=1e-3, atol=1e-4)
    assert (beside.text_encoder_2(torch.tensor([[4, 0, 1, 2, 5, 3]])).text_embeds - plain).abs().max() > 1e-2


def test_random_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ARCHITECTURES, "sdxl-openpose", TINY)
    random = with_random_weights(find_pair("sdxl-openpose"), tmp_path)
    opened = open_checkpoints(random.text_to_image, random.spatial, [control.model for control in random.controls])
    assert opened.text_to_image.family is SDXL and measure(opened).added == {"text_embeds": (12,), "time_ids": (6,)}
    tokenizer = AutoTokenizer.from_pretrained(Path(random.text_to_image) / "tokenizer_2")
    assert tokenizer.pad_token_id != tokenizer.eos_token_id


@pytest.mark.parametrize(
    ("component", "change", "message"),
    [
        ("text_encoder_2", {"projection_dim": 13}, "projection_class_embeddings_input_dim is 36, not 37"),
        ("text_encoder_2", {"hidden_size": 32}, "cross_attention_dim is 40, not 48"),
        ("unet", {"addition_embed_type": "image"}, 'addition_embed_type is "image", not null or "text_time"'),
    ],
)
def test_what_does_not_fit_is_refused(
    pair: Pair, tmp_path: Path, component: str, change: dict[str, Any], message: str
) -> None:
    base = Path(shutil.copytree(pair.text_to_image, tmp_path / "base"))
    config = base / component / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | change))
    with pytest.raises(RealCompoError, match=message):
        open_checkpoints(str(base), str(base), [pair.controls[0].model])


def test_a_missing_text_encoder_is_named(pair: Pair, tmp_path: Path) -> None:
    base = Path(shutil.copytree(pair.text_to_image, tmp_path / "base"))
    shutil.rmtree(base / "text_encoder_2")
    with pytest.raises(RealCompoError, match=r"text_encoder_2/config\.json is missing"):
        open_checkpoints(str(base), str(base), [pair.controls[0].model])


def test_a_controlnet_of_another_family_is_refused(pair: Pair, tmp_path: Path) -> None:
    control = Path(shutil.copytree(pair.controls[0].model, tmp_path / "control"))
    config = json.loads((control / "config.json").read_text()) | {"addition_embed_type": None}
    (control / "config.json").write_text(json.dumps(config))
    with pytest.raises(RealCompoError, match=r"made for Stable Diffusion 2\.x, and the text-to-image model .* is SDXL"):
        open_checkpoints(pair.text_to_image, pair.text_to_image, [str(control)])
