"""The graphs against the stock diffusers and transformers models."""

import json
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextModel

from export.checkpoints.folders import Checkpoints
from export.engines import engines_of, load_graph, signature
from export.graphs.engine import example_inputs
from export.graphs.geometry import Geometry
from export.graphs.models import NoiseOfVelocity
from export.measure import measure
from export.pairs import Pair
from runtime.errors import RealCompoError
from runtime.words import Role
from tests.export.conftest import TOKENS, WIDTH
from tests.export.opening import open_checkpoints

Tensors = dict[str, torch.Tensor]


@pytest.fixture
def stock_spatial(checkpoints: Checkpoints) -> UNet2DConditionModel:
    return UNet2DConditionModel.from_pretrained(checkpoints.spatial.folder / "unet", torch_dtype=torch.float32)


@pytest.fixture
def grounding() -> Tensors:
    """What diffusers' GLIGEN pipeline passes for three rows: two objects, one, none."""
    generator = torch.Generator().manual_seed(3)
    masks = torch.zeros(3, 30)
    masks[0, :2] = masks[1, :1] = 1
    return {
        "boxes": torch.rand(3, 30, 4, generator=generator),
        "positive_embeddings": torch.randn(3, 30, WIDTH, generator=generator),
        "masks": masks,
    }


@pytest.fixture
def step() -> Tensors:
    generator = torch.Generator().manual_seed(4)
    return {
        "latents": torch.randn(3, 4, 8, 8, generator=generator),
        "timestep": torch.tensor([3, 500, 981]),
        "encoder_hidden_states": torch.randn(3, TOKENS, WIDTH, generator=generator),
    }


def stock(unet: UNet2DConditionModel, step: Tensors, grounding: Tensors | None = None) -> torch.Tensor:
    kwargs = {"gligen": grounding} if grounding else None
    return unet(*step.values(), cross_attention_kwargs=kwargs).sample


@torch.no_grad()
def test_spatial_is_diffusers_gligen(
    checkpoints: Checkpoints, geometry: Geometry, stock_spatial: UNet2DConditionModel, step: Tensors, grounding: Tensors
) -> None:
    phrases = grounding["positive_embeddings"]
    tokens = load_graph("grounding", checkpoints, geometry)(grounding["boxes"], phrases, grounding["masks"])
    torch.testing.assert_close(tokens, stock_spatial.position_net(**grounding))
    noise_pred, _ = load_graph("spatial", checkpoints, geometry)(
        **step, object_tokens=tokens, grounding_scale=torch.ones(3)
    )
    torch.testing.assert_close(noise_pred, stock(stock_spatial, step, grounding))


@torch.no_grad()
def test_velocity_becomes_the_noise_that_diffusers_reads_from_it(step: Tensors) -> None:
    scheduler = DDIMScheduler(beta_schedule="scaled_linear", prediction_type="v_prediction")
    clean, noise = torch.randn(2, 3, 4, 8, 8, generator=torch.Generator().manual_seed(5))
    noisy = scheduler.add_noise(clean, noise, step["timestep"])
    velocity = scheduler.get_velocity(clean, noise, step["timestep"])
    found = NoiseOfVelocity(scheduler.alphas_cumprod)(velocity, noisy, step["timestep"])
    torch.testing.assert_close(found, noise)


@torch.no_grad()
def test_both_models_of_a_velocity_pair_give_noise(own_pair: Pair, step: Tensors) -> None:
    config = Path(own_pair.text_to_image) / "scheduler" / "scheduler_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"prediction_type": "v_prediction"}))
    checkpoints = open_checkpoints(own_pair.text_to_image, own_pair.spatial)
    unet = UNet2DConditionModel.from_pretrained(Path(own_pair.text_to_image) / "unet")
    alpha = DDIMScheduler.from_config(json.loads(config.read_text())).alphas_cumprod[step["timestep"]].view(3, 1, 1, 1)
    noise_pred, _ = load_graph("text_to_image", checkpoints, measure(checkpoints))(**step)
    torch.testing.assert_close(noise_pred, alpha.sqrt() * stock(unet, step) + (1 - alpha).sqrt() * step["latents"])
    off = {"object_tokens": torch.zeros(3, 30, WIDTH), "grounding_scale": torch.zeros(3)}
    spatial = UNet2DConditionModel.from_pretrained(Path(own_pair.spatial) / "unet", torch_dtype=torch.float32)
    noise_pred, _ = load_graph("spatial", checkpoints, measure(checkpoints))(**step, **off)
    torch.testing.assert_close(noise_pred, alpha.sqrt() * stock(spatial, step) + (1 - alpha).sqrt() * step["latents"])


@torch.no_grad()
def test_each_row_has_its_own_grounding_scale(
    checkpoints: Checkpoints, geometry: Geometry, stock_spatial: UNet2DConditionModel, step: Tensors, grounding: Tensors
) -> None:
    noise_pred, _ = load_graph("spatial", checkpoints, geometry)(
        **step, object_tokens=stock_spatial.position_net(**grounding), grounding_scale=torch.tensor([1.0, 0.0, 0.3])
    )
    full, off = stock(stock_spatial, step, grounding), stock(stock_spatial, step)
    for block in (module for module in stock_spatial.modules() if hasattr(module, "fuser")):
        for gate in (block.fuser.alpha_attn, block.fuser.alpha_dense):
            gate.copy_((0.3 * gate.tanh()).atanh())
    dimmed = stock(stock_spatial, step, grounding)
    torch.testing.assert_close(noise_pred, torch.stack([full[0], off[1], dimmed[2]]))
    assert (full[1] - off[1]).abs().max() > 1e-2  # the pair's gates do something


@torch.no_grad()
def test_text_to_image_is_diffusers_unet(checkpoints: Checkpoints, geometry: Geometry, step: Tensors) -> None:
    unet = UNet2DConditionModel.from_pretrained(checkpoints.text_to_image.folder / "unet")
    noise_pred, maps = load_graph("text_to_image", checkpoints, geometry)(**step)
    torch.testing.assert_close(noise_pred, stock(unet, step))
    torch.testing.assert_close(maps.sum(-1), torch.ones(3, 64))


@torch.no_grad()
def test_text_encoder_and_vae_are_the_stock_models(checkpoints: Checkpoints, geometry: Geometry) -> None:
    folder = checkpoints.text_to_image.folder
    ids = torch.tensor([[3, 0, 1, 2, 4, 4], [3, 4, 4, 4, 4, 4]])
    expected = CLIPTextModel.from_pretrained(folder / "text_encoder")(ids)
    hidden, pooled = load_graph("text_encoder", checkpoints, geometry)(ids)
    torch.testing.assert_close(hidden, expected.last_hidden_state)
    torch.testing.assert_close(pooled, hidden[[0, 1], [4, 1]])  # at the first end-of-text
    latents = torch.randn(2, 4, 8, 8)
    images = load_graph("vae_decoder", checkpoints, geometry)(latents)
    torch.testing.assert_close(images, AutoencoderKL.from_pretrained(folder / "vae").decode(latents).sample)


@torch.no_grad()
@pytest.mark.parametrize("role", tuple(engines_of("gligen")))
def test_outputs_have_the_signatures_shapes(role: Role, checkpoints: Checkpoints, geometry: Geometry) -> None:
    declared = signature(role, geometry)
    outputs = load_graph(role, checkpoints, geometry)(**example_inputs(declared, 2, geometry.vocabulary))
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    assert [(2, *tensor.shape[1:]) for tensor in declared.outputs] == [tuple(output.shape) for output in outputs]


def test_image_size_must_fit(checkpoints: Checkpoints) -> None:
    assert measure(checkpoints, 32, 16).latent_shape == (4, 16, 8)
    with pytest.raises(RealCompoError, match="--width 18 does not fit this pair; it must be a positive multiple of 4"):
        measure(checkpoints, 16, 18)
