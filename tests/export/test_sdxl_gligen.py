"""GLIGEN for SDXL: phrases of both text encoders, and a UNet that is also told of the whole text and the sizes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionXLPipeline, UNet2DConditionModel
from torch import Tensor
from transformers import AutoTokenizer, CLIPTextModel, CLIPTextModelWithProjection

from benchmarks.eager.realcompo import EagerRealCompo
from benchmarks.eager.settings import Settings
from export.build import Options, build
from export.checkpoints.random_weights import ARCHITECTURES
from export.families.sdxl import SDXL
from export.pairs import Pair
from export.spatial import share_unet
from runtime import Layout, RealCompo, Region
from runtime.bundle.manifest import read_manifest
from runtime.errors import RealCompoError
from runtime.words import MAX_REGIONS
from tests.export.conftest import make_unet, make_vae, open_gates
from tests.export.opening import open_checkpoints
from tests.export.test_controlled_runs import assert_follows, relative_distance, start
from tests.export.test_gradient import Case, Oracle, check, check_by_finite_differences
from tests.export.test_sdxl import SCHEDULER, SCHEDULERS, save_tokenizer, text_config

PROMPT = "a red ball"
BOXES = [(0.1, 0.1, 0.6, 0.6), (0.5, 0.4, 0.9, 1.0)]
PHRASES = ["red ball", "ball"]
LAYOUT = Layout([Region(phrase, box=box) for phrase, box in zip(PHRASES, BOXES, strict=True)])
WIDTHS = (16, 24)
UNET: dict[str, Any] = {
    "sample_size": 8,
    "block_out_channels": (8, 16),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2),
    "layers_per_block": 1,
    "cross_attention_dim": sum(WIDTHS),
    "attention_head_dim": (2, 4),
    "use_linear_projection": True,
    "norm_num_groups": 4,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 4,
    "projection_class_embeddings_input_dim": WIDTHS[1] + 6 * 4,
}


def save_pair(folder: Path, projection: int = WIDTHS[1]) -> Pair:
    base = folder / "text_to_image"
    torch.manual_seed(0)
    told = UNET | {"projection_class_embeddings_input_dim": projection + 6 * 4}
    unet, grounded = UNet2DConditionModel(**told), UNet2DConditionModel(**told, attention_type="gated")
    grounded.load_state_dict(unet.state_dict(), strict=False)
    unet.save_pretrained(base / "unet")
    open_gates(grounded).save_pretrained(folder / "spatial" / "unet")
    make_vae().save_pretrained(base / "vae")
    CLIPTextModel(text_config(WIDTHS[0])).save_pretrained(base / "text_encoder")
    second = text_config(WIDTHS[1])
    second.projection_dim = projection
    CLIPTextModelWithProjection(second).save_pretrained(base / "text_encoder_2")
    SCHEDULERS["ddim"][0].from_config(SCHEDULER).save_pretrained(base / "scheduler")
    save_tokenizer(base / "tokenizer", "<|endoftext|>")
    save_tokenizer(base / "tokenizer_2", "!")
    return Pair("tiny-xl-gligen", str(base), str(folder / "spatial"), "")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return save_pair(tmp_path_factory.mktemp("sdxl-gligen"))


@pytest.fixture(scope="module")
def bundle(pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bundle")
    build(pair, out, Options())
    return out


@pytest.fixture(scope="module")
def pipe(bundle: Path) -> RealCompo:
    return RealCompo.load(bundle)


def stock(pair: Pair, sampler: str) -> Any:
    folder = Path(pair.text_to_image)
    scheduler, settings = SCHEDULERS[sampler]
    pipeline = StableDiffusionXLPipeline(
        vae=make_vae(),
        text_encoder=CLIPTextModel.from_pretrained(folder / "text_encoder"),
        text_encoder_2=CLIPTextModelWithProjection.from_pretrained(folder / "text_encoder_2"),
        tokenizer=AutoTokenizer.from_pretrained(folder / "tokenizer"),
        tokenizer_2=AutoTokenizer.from_pretrained(folder / "tokenizer_2"),
        unet=UNet2DConditionModel.from_pretrained(Path(pair.spatial) / "unet"),
        scheduler=scheduler.from_config(SCHEDULER, **settings),
        add_watermarker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def grounding(pipeline: Any) -> dict[str, Tensor]:
    """What IGLIGEN-XL's pipeline tells the UNet, for one image with guidance: the first encoder's pooled output and the
    second one's projection of each phrase; no object in the unconditional row."""

    def ids(tokenizer: Any) -> Tensor:
        options = {"padding": "max_length", "max_length": tokenizer.model_max_length, "return_tensors": "pt"}
        found: Tensor = tokenizer(PHRASES, **options).input_ids
        return found

    with torch.no_grad():
        first = pipeline.text_encoder(ids(pipeline.tokenizer)).pooler_output
        second = pipeline.text_encoder_2(ids(pipeline.tokenizer_2)).text_embeds
    boxes, embeddings, masks = (torch.zeros(2, MAX_REGIONS, *shape) for shape in ((4,), (sum(WIDTHS),), ()))
    boxes[:, : len(BOXES)], masks[1, : len(BOXES)] = torch.tensor(BOXES), 1
    embeddings[:, : len(BOXES)] = torch.cat([first, second], dim=-1)
    return {"boxes": boxes, "positive_embeddings": embeddings, "masks": masks}


@pytest.mark.parametrize("sampler", SCHEDULERS)
def test_the_spatial_model_alone_is_diffusers_unet_told_of_boxes(pipe: RealCompo, pair: Pair, sampler: str) -> None:
    """diffusers has no GLIGEN pipeline for SDXL, but its UNet has the layers, and its pipeline hands on what they
    take."""
    pipeline = stock(pair, sampler)
    theirs = pipeline(
        PROMPT,
        negative_prompt="a ball",
        height=16,
        width=16,
        num_inference_steps=8,
        guidance_scale=5.0,
        generator=torch.Generator().manual_seed(3),
        cross_attention_kwargs={"gligen": grounding(pipeline)},
        output_type="latent",
    )
    told = {"steps": 8, "guidance_scale": 5.0, "sampler": sampler, "seed": 3, "gradient": "spatial"}
    ours = pipe(PROMPT, negative_prompt="a ball", layout=LAYOUT, **told)
    assert relative_distance(ours.latents, theirs.images) < 1e-3
    without = pipe(PROMPT, negative_prompt="a ball", layout=LAYOUT, **told, grounding_fraction=0.0)
    assert relative_distance(without.latents, theirs.images) > 1e-2


def test_exact_follows_the_eager_run(pipe: RealCompo, pair: Pair) -> None:
    eager = EagerRealCompo.load(pair.text_to_image, pair.spatial)
    settings = Settings(6, 3.0, switch_step=2, coefficient_scale=2e7)
    output = assert_follows(pipe, eager, settings, layout=LAYOUT, switch_step=2)
    assert (output.trace[-1].coefficients - start()[1]).abs().max() > 0.1


class GroundedXL(Oracle):
    """The stock UNet in float64, told of the text and the sizes."""

    def run(self, inputs: dict[str, Tensor], latents: Tensor) -> None:
        self.unet(
            latents,
            inputs["timestep"],
            inputs["encoder_hidden_states"].double(),
            added_cond_kwargs={name: inputs[name].double() for name in ("text_embeds", "time_ids")},
            cross_attention_kwargs={"gligen": {"object_tokens": inputs["object_tokens"].double()}},
        )


@pytest.fixture(scope="module")
def gradient(bundle: Path, pair: Pair) -> Case:
    return Case.of_shared_unet(pair, bundle, GroundedXL)


def test_gradient_against_autograd(gradient: Case) -> None:
    check(gradient, gradient.inputs(1, 2))
    check(gradient, gradient.inputs(3, 5, seed=1, boxes=False))


def test_gradient_against_finite_differences(gradient: Case) -> None:
    check_by_finite_differences(gradient)


def test_one_unet_serves_both(pair: Pair, bundle: Path) -> None:
    opened = open_checkpoints(pair.text_to_image, pair.spatial)
    assert opened.spatial.family is SDXL and share_unet(opened) and read_manifest(bundle).shared_unet


def test_gligen_of_another_family_is_refused_with_both_names(pair: Pair, tmp_path: Path) -> None:
    make_unet(grounded=True).save_pretrained(tmp_path / "unet")
    with pytest.raises(
        RealCompoError, match=r"made for Stable Diffusion 1\.x, and the text-to-image model .* is SDXL: a"
    ):
        open_checkpoints(pair.text_to_image, str(tmp_path))


def test_phrases_of_another_width_are_refused(tmp_path: Path) -> None:
    """The position net takes phrases as wide as the UNet's text, and here they are not."""
    narrow = save_pair(tmp_path, projection=12)
    with pytest.raises(RealCompoError, match=r"its cross_attention_dim is 40, not 28"):
        open_checkpoints(narrow.text_to_image, narrow.spatial)


def test_shapes_of_the_published_model() -> None:
    """GLIGEN's layers in SDXL's UNet: phrases of 768 + 1280, as the pipeline beside gligen-xl-1024 makes them."""
    architecture = ARCHITECTURES["sdxl-gligen"]
    with torch.device("meta"):
        unet = UNet2DConditionModel(**architecture.unet, attention_type="gated")
    weights = unet.state_dict()
    assert architecture.text_encoder_2
    width = architecture.text_encoder["hidden_size"] + architecture.text_encoder_2["projection_dim"]
    assert weights["position_net.null_positive_feature"].shape == (width,) == (2048,)
    assert sum("fuser.alpha_attn" in name for name in weights) == 70  # SDXL's transformer blocks
