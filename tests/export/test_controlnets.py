"""Pairs with ControlNets: graphs and engines against diffusers' ControlNets, pipelines and autograd."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from torch import Tensor

from export.checkpoints.folders import Checkpoints
from export.engines import engines_of, load_graph, signature
from export.graphs.engine import example_inputs
from export.graphs.geometry import Geometry
from export.graphs.gradient import AttentionGradient
from export.graphs.models import ControlNet, ControlNetAndUNet, NoiseOfEpsilon
from export.measure import measure
from export.onnx.to_onnx import export_onnx
from export.onnx.verify import verify_bundle
from export.pairs import Pair
from runtime import Layout, Region
from runtime.bundle.manifest import read_manifest
from runtime.spatial.controlnet import ControlNets
from runtime.stats import Stats
from tests.export.conftest import make_controlnet
from tests.export.opening import open_checkpoints
from tests.export.test_gradient import (
    Case,
    Oracle,
    check,
    check_by_finite_differences,
    narrow_geometry,
    narrow_unet,
    relative_error,
)

Tensors = dict[str, Tensor]


def open_pair(pair: Pair) -> Checkpoints:
    return open_checkpoints(pair.text_to_image, pair.spatial, [control.model for control in pair.controls])


@pytest.fixture(scope="module")
def checkpoints(controlled_pair: Pair) -> Checkpoints:
    return open_pair(controlled_pair)


@pytest.fixture(scope="module")
def geometry(checkpoints: Checkpoints) -> Geometry:
    return measure(checkpoints)


def add_up(controlnets: Sequence[ControlNetModel], inputs: Tensors) -> tuple[list[Tensor], Tensor]:
    """What diffusers' ControlNets add, one row at a time, for each row has a scale of its own."""
    images, text = inputs["control_images"].split(3, dim=1), inputs["encoder_hidden_states"]
    rows = []
    for b in range(len(text)):
        row = slice(b, b + 1)
        each = [
            controlnet(
                inputs["latents"][row].to(controlnet.dtype),
                inputs["timestep"][row],
                text[row].to(controlnet.dtype),
                image[row].to(controlnet.dtype),
                conditioning_scale=float(inputs["control_scales"][b, i]),
                return_dict=False,
            )
            for i, (controlnet, image) in enumerate(zip(controlnets, images, strict=True))
        ]
        rows.append([sum(parts) for parts in zip(*([*down, mid] for down, mid in each), strict=True)])
    *down, mid = (torch.cat(parts) for parts in zip(*rows, strict=True))
    return down, mid


@pytest.mark.parametrize("count", [1, 2])
@torch.no_grad()
def test_graphs_are_diffusers_controlnets_and_unet(
    controlled_pair: Pair, unet: UNet2DConditionModel, controlnets: list[ControlNetModel], count: int
) -> None:
    models = [control.model for control in controlled_pair.controls[:count]]
    some = open_checkpoints(controlled_pair.text_to_image, controlled_pair.text_to_image, models)
    geometry = measure(some)
    takes = signature("controlnet", geometry)
    inputs = example_inputs(takes, 3, geometry.vocabulary)
    added = load_graph("controlnet", some, geometry)(**inputs)
    down, mid = add_up(controlnets[:count], inputs)
    for found, wanted in zip(added, (*down, mid), strict=True):
        torch.testing.assert_close(found, wanted)
    step = {name: inputs[name] for name in ("latents", "timestep", "encoder_hidden_states")}
    residuals = dict(zip((tensor.name for tensor in takes.outputs), added, strict=True))
    noise_pred, maps = load_graph("spatial", some, geometry)(**step, **residuals)
    controlled = unet(*step.values(), down_block_additional_residuals=down, mid_block_additional_residual=mid).sample
    torch.testing.assert_close(noise_pred, controlled)
    torch.testing.assert_close(maps.sum(-1), torch.ones(3, 64))
    assert (controlled - unet(*step.values()).sample).abs().max() > 0.1  # the ControlNets do something


@torch.no_grad()
def test_unet_with_nothing_added_is_the_text_to_image_one(
    checkpoints: Checkpoints, geometry: Geometry, unet: UNet2DConditionModel
) -> None:
    inputs = example_inputs(signature("spatial", geometry), 2, geometry.vocabulary)
    inputs |= {name: torch.zeros_like(tensor) for name, tensor in inputs.items() if "residual" in name}
    noise_pred, _ = load_graph("spatial", checkpoints, geometry)(**inputs)
    step = [inputs[name] for name in ("latents", "timestep", "encoder_hidden_states")]
    torch.testing.assert_close(noise_pred, unet(*step).sample)


def test_bundle_tells_the_controlnets(controlled_bundle: Path, controlled_pair: Pair) -> None:
    manifest = read_manifest(controlled_bundle)
    assert manifest.shared_unet and manifest.spatial.controls == ("segmentation", "depth")
    assert [model.source for model in manifest.pair.attached] == [c.model for c in controlled_pair.controls]
    assert tuple(manifest.engines) == tuple(engines_of("controlnet", shared_unet=True))
    names = [tensor.name for tensor in manifest.engines["controlnet"].outputs]
    assert names == [*(f"down_residual_{i:02}" for i in range(4)), "mid_residual"]
    assert [tensor.name for tensor in manifest.engines["spatial"].inputs[3:]] == names
    assert manifest.engines["controlnet"].input("control_images").shape == ("batch", 6, 16, 16)
    assert manifest.engines["controlnet"].input("control_scales").shape == ("batch", 2)
    checks = list(verify_bundle(controlled_bundle))
    assert all(error < 1e-4 for check in checks for error in (check.errors or {"none": 1.0}).values())


def test_controlnets_are_shown_the_layouts_in_the_order_of_their_kinds(controlled_bundle: Path) -> None:
    manifest = read_manifest(controlled_bundle)
    depth = np.linspace(0, 1, 16 * 16, dtype=np.float32).reshape(16, 16)
    layouts = [
        Layout([Region("red ball", box=(0, 0, 0.5, 1), label="wall")], depth=depth, background="sky"),
        Layout([Region("red ball", box=(0, 0.5, 1, 1), label="wall")], depth=depth.T, background="sky"),
    ]
    condition = ControlNets(manifest, {}, torch.device("cpu")).condition(layouts, {}, guided=True, stats=Stats())
    wall, sky = (torch.tensor(colour)[:, None, None] / 255 for colour in ((120, 120, 120), (6, 230, 230)))  # ADE20K's
    assert condition.images.shape == (4, 6, 16, 16)
    for images in condition.images.split(2):  # unconditional rows, and conditional ones
        torch.testing.assert_close(images[0, :3], torch.cat([wall.expand(3, 16, 8), sky.expand(3, 16, 8)], dim=2))
        torch.testing.assert_close(images[1, :3], torch.cat([sky.expand(3, 8, 16), wall.expand(3, 8, 16)], dim=1))
        torch.testing.assert_close(images[0, 3:], torch.from_numpy(depth).expand(3, 16, 16))
        torch.testing.assert_close(images[1, 3:], torch.from_numpy(depth.T).expand(3, 16, 16))


@dataclass
class ControlledOracle(Oracle):
    """The stock UNet in float64 with stock ControlNets; its loss, region by region."""

    controlnets: Sequence[ControlNetModel]
    constant: bool = False  # what ControlNets add is no function of the latents

    def run(self, inputs: Tensors, latents: Tensor) -> None:
        seen = latents.detach() if self.constant else latents
        down, mid = add_up(self.controlnets, inputs | {"latents": seen})
        text = inputs["encoder_hidden_states"].double()
        kwargs = {"down_block_additional_residuals": down, "mid_block_additional_residual": mid}
        self.unet(latents, inputs["timestep"], text, **kwargs)


@pytest.fixture(scope="module")
def gradient(controlled_bundle: Path, controlled_pair: Pair, geometry: Geometry) -> Case:
    unet = UNet2DConditionModel.from_pretrained(Path(controlled_pair.text_to_image) / "unet")
    controls = [
        ControlNetModel.from_pretrained(control.model).double().requires_grad_(False)
        for control in controlled_pair.controls
    ]
    path = controlled_bundle / read_manifest(controlled_bundle).engines["spatial_gradient"].graph[0].name
    oracle = ControlledOracle(unet, geometry.map_layers["spatial"], controls)
    return Case(path, signature("spatial_gradient", geometry), oracle)


@pytest.fixture
def narrow(tmp_path: Path) -> Case:
    """Stable Diffusion 1.x's UNet and a ControlNet, a fortieth as wide."""
    unet = narrow_unet()
    controlnet = make_controlnet(unet, conditioning_channels=(4, 4, 8, 8))
    graph = ControlNet([controlnet])
    down, mid = controlnet(
        torch.randn(1, 4, 32, 32), 1, torch.randn(1, 7, 16), torch.rand(1, 3, 256, 256), return_dict=False
    )
    shapes = {f"down_residual_{i:02}": tuple(added.shape[1:]) for i, added in enumerate(down)}
    geometry = narrow_geometry(unet, "controlnet")
    geometry = replace(geometry, attached=1, residuals=shapes | {"mid_residual": tuple(mid.shape[1:])})
    layers = geometry.map_layers["spatial"]
    assert len(shapes) == 12
    takes, path = signature("spatial_gradient", geometry), tmp_path / "gradient.onnx"
    model = ControlNetAndUNet(unet, layers, NoiseOfEpsilon(), graph).requires_grad_(False)
    export_onnx(AttentionGradient(copy.deepcopy(model)).eval(), takes, example_inputs(takes, 2, 2), path)
    return Case(path, takes, ControlledOracle(unet, layers, [controlnet.double()]))


@pytest.mark.slow
def test_narrow_stable_diffusion_with_a_controlnet_against_autograd(narrow: Case) -> None:
    check(narrow, narrow.inputs(1, 2))
    check(narrow, narrow.inputs(3, 3, seed=1, boxes=False))


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_gradient_through_controlnets_against_autograd(gradient: Case, rows: int) -> None:
    check(gradient, gradient.inputs(rows, 2, seed=rows))
    inputs = gradient.inputs(rows, 5, seed=10 + rows, boxes=False)
    inputs["control_scales"][0] = 0  # a row of the text-to-image model
    check(gradient, inputs)


def test_gradient_through_controlnets_against_finite_differences(gradient: Case) -> None:
    check_by_finite_differences(gradient)


def test_gradient_passes_through_the_controlnets(gradient: Case) -> None:
    inputs = gradient.inputs(2, 2)
    assert isinstance(gradient.oracle, ControlledOracle)
    _, partial, _ = replace(gradient.oracle, constant=True).gradient(inputs)
    whole = gradient.run(inputs)["grad_latents"]
    assert relative_error(partial, whole) > 1e-2
