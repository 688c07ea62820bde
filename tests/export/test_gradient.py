"""Gradient engines against autograd through stock UNets in float64, and against finite differences of its loss."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention import GatedSelfAttentionDense
from diffusers.models.attention_processor import Attention
from torch import Tensor

from export.checkpoints.folders import ROOT, Checkpoints
from export.engines import signature
from export.graphs.attention import find_map_layers
from export.graphs.engine import Signature, example_inputs
from export.graphs.geometry import Geometry
from export.graphs.gradient import AttentionGradient
from export.graphs.models import NoiseOfEpsilon, Spatial, TextToImage
from export.measure import measure
from export.onnx.to_onnx import FOLDED_SIZE, export_onnx
from export.pairs import Pair
from runtime.bundle.manifest import TensorSpec, read_manifest
from runtime.words import MAX_REGIONS, Role
from tests.export.opening import open_checkpoints

Tensors = dict[str, Tensor]
ROLES: tuple[Role, ...] = ("text_to_image_gradient", "spatial_gradient")


class Watcher:
    """diffusers' plain attention, written out, keeping what it sees."""

    def __init__(self, seen: list[Tensor]) -> None:
        self.seen = seen

    def __call__(self, attn: Attention, hidden_states: Tensor, encoder_hidden_states: Tensor, **_: Any) -> Tensor:
        q, k, v = (
            attn.head_to_batch_dim(x)
            for x in (
                attn.to_q(hidden_states),
                attn.to_k(encoder_hidden_states),
                attn.to_v(encoder_hidden_states),
            )
        )
        scores = attn.get_attention_scores(q, k)  # (B*heads, P, L)
        self.seen.append(scores.unflatten(0, (len(hidden_states), -1)).mean(1))
        return attn.to_out[0](attn.batch_to_head_dim(scores @ v))


@dataclass
class Oracle:
    """The stock UNet in float64; its loss, region by region."""

    unet: UNet2DConditionModel
    layers: tuple[str, ...]

    def __post_init__(self) -> None:
        self.unet.double().requires_grad_(False)
        self.seen: list[Tensor] = []
        for layer in self.layers:
            self.unet.get_submodule(layer).set_processor(Watcher(self.seen))
        if hasattr(self.unet, "position_net"):  # its result is an engine's input
            self.unet.position_net.forward = lambda object_tokens: object_tokens

    def loss(self, inputs: Tensors, latents: Tensor) -> tuple[Tensor, Tensor]:
        """(B,) and region maps (B, R, P)."""
        self.seen.clear()
        self.run(inputs, latents)
        maps = torch.stack(self.seen).mean(0)
        losses, region_maps = torch.zeros(len(maps), dtype=torch.float64), torch.zeros(inputs["region_masks"].shape)
        for b, r in inputs["region_weights"].nonzero().tolist():
            attention = maps[b][:, inputs["region_tokens"][b, r] > 0].mean(1)
            inside = (inputs["region_masks"][b, r].double() * attention).sum() / attention.sum()
            losses[b] += inputs["region_weights"][b, r] * (1 - inside)
            region_maps[b, r] = attention.detach()
        return losses, region_maps

    def run(self, inputs: Tensors, latents: Tensor) -> None:
        kwargs = None
        if "object_tokens" in inputs:
            kwargs = {"gligen": {"object_tokens": inputs["object_tokens"].double()}}
        text = inputs["encoder_hidden_states"].double()
        self.unet(latents, inputs["timestep"], text, cross_attention_kwargs=kwargs)

    def gradient(self, inputs: Tensors) -> tuple[Tensor, Tensor, Tensor]:
        leaf = inputs["latents"].double().requires_grad_()
        losses, region_maps = self.loss(inputs, leaf)
        return losses.detach(), torch.autograd.grad(losses.sum(), leaf)[0], region_maps


@dataclass
class Case:
    """An engine, what it takes, and its oracle."""

    path: Path
    takes: Signature
    oracle: Oracle

    def __post_init__(self) -> None:
        self.session = onnxruntime.InferenceSession(self.path, providers=["CPUExecutionProvider"])

    @classmethod
    def of_shared_unet(cls, pair: Pair, bundle: Path, oracle: type[Oracle] = Oracle) -> "Case":
        """A grounded pair's gradient, where both models are one UNet."""
        geometry = measure(open_checkpoints(pair.text_to_image, pair.spatial))
        unet = UNet2DConditionModel.from_pretrained(Path(pair.spatial) / "unet")
        path = bundle / read_manifest(bundle).engines["spatial_gradient"].graph[0].name
        return cls(path, signature("spatial_gradient", geometry), oracle(unet, geometry.map_layers["spatial"]))

    def run(self, inputs: Tensors) -> dict[str, Tensor]:
        values = self.session.run(None, {name: tensor.numpy() for name, tensor in inputs.items()})
        return {tensor.name: torch.from_numpy(value) for tensor, value in zip(self.takes.outputs, values, strict=True)}

    def inputs(self, rows: int, regions: int = 2, seed: int = 0, boxes: bool = True) -> Tensors:
        """`regions` regions a row, every second one of two tokens, the rest padding; gates on."""
        generator = torch.Generator().manual_seed(seed)
        inputs = example_inputs(self.takes, rows, vocabulary=2)
        inputs["latents"] = torch.randn(inputs["latents"].shape, generator=generator)
        inputs["timestep"] = torch.randint(1000, (rows,), generator=generator).float()
        pixels, tokens = inputs["region_masks"].shape[2], inputs["region_tokens"].shape[2]
        for name in ("region_masks", "region_tokens", "region_weights"):
            inputs[name] = torch.zeros_like(inputs[name])
        for r in range(regions):
            inputs["region_masks"][:, r] = _box(pixels, r) if boxes else torch.rand(rows, pixels, generator=generator)
            inputs["region_tokens"][:, r, [1 + r % (tokens - 1), (2 + r) % tokens][: 1 + r % 2]] = 1
            inputs["region_weights"][:, r] = 1
        if "grounding_scale" in inputs:
            inputs["grounding_scale"] = torch.ones(rows)
        return inputs


def _box(pixels: int, r: int) -> Tensor:
    side, mask = round(pixels**0.5), torch.zeros(pixels)
    mask.view(side, side)[r % 2 : side // 2 + r, side // 4 : side - r % 3] = 1
    return mask


def relative_error(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).abs().max() / wanted.abs().max())


def check(case: Case, inputs: Tensors) -> None:
    found = case.run(inputs)
    loss, gradient, region_maps = case.oracle.gradient(inputs)
    assert gradient.abs().max() > 0
    assert relative_error(found["loss"], loss) < 1e-5
    assert relative_error(found["grad_latents"], gradient) < 1e-4
    present = inputs["region_weights"] > 0
    assert relative_error(found["region_maps"][present], region_maps[present]) < 1e-5


@pytest.fixture(scope="module", params=ROLES)
def tiny(request: pytest.FixtureRequest, bundle: Path, checkpoints: Checkpoints, geometry: Geometry) -> Case:
    return _case_of_bundle(request.param, bundle, checkpoints.spatial.folder.parent, geometry)


def _case_of_bundle(role: Role, bundle: Path, pair: Path, geometry: Geometry) -> Case:
    model = "spatial" if role == "spatial_gradient" else "text_to_image"
    unet = UNet2DConditionModel.from_pretrained(pair / model / "unet")
    path = bundle / read_manifest(bundle).engines[role].graph[0].name
    return Case(path, signature(role, geometry), Oracle(unet, geometry.map_layers[model]))


def narrow_unet(attention_type: str = "default") -> UNet2DConditionModel:
    """Stable Diffusion 1.x's, a fortieth as wide: four levels, maps at the third of them."""
    torch.manual_seed(0)
    return UNet2DConditionModel(
        sample_size=32,
        block_out_channels=(8, 16, 32, 32),
        cross_attention_dim=16,
        attention_head_dim=4,
        norm_num_groups=4,
        attention_type=attention_type,
    ).eval()


def narrow_geometry(unet: UNet2DConditionModel, kind: str = "gligen") -> Geometry:
    resolution, layers = find_map_layers(unet, (32, 32))
    return Geometry(
        family="sd1",
        kind=kind,
        latent_shape=(4, 32, 32),
        image_size=(256, 256),
        map_resolution=resolution,
        map_layers={"text_to_image": layers, "spatial": layers},
        max_tokens=7,
        text_width=16,
        pooled_width=16,
        phrase_width=16,
        vocabulary=2,
        scheduler={},
    )


@pytest.fixture(scope="module", params=ROLES)
def narrow(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    unet = narrow_unet("gated" if request.param == "spatial_gradient" else "default")
    for module in unet.modules():
        if isinstance(module, GatedSelfAttentionDense):
            torch.nn.init.constant_(module.alpha_attn, 0.7)
            torch.nn.init.constant_(module.alpha_dense, -0.4)
    geometry = narrow_geometry(unet)
    layers, takes = geometry.map_layers["spatial"], signature(request.param, geometry)
    path = tmp_path_factory.mktemp("narrow") / "gradient.onnx"
    kind = Spatial if request.param == "spatial_gradient" else TextToImage
    graph = AttentionGradient(kind(unet.requires_grad_(False), layers, NoiseOfEpsilon())).eval()
    export_onnx(graph, takes, example_inputs(takes, 2, 2), path)
    return Case(path, takes, Oracle(unet, layers))


@pytest.mark.parametrize("regions", [1, 2, 5])
@pytest.mark.parametrize("rows", [1, 2, 3])
def test_tiny_pair_against_autograd(tiny: Case, rows: int, regions: int) -> None:
    check(tiny, tiny.inputs(rows, regions, seed=rows))
    check(tiny, tiny.inputs(rows, regions, seed=10 + rows, boxes=False))


@pytest.mark.slow
def test_narrow_stable_diffusion_against_autograd(narrow: Case) -> None:
    check(narrow, narrow.inputs(1, 2))
    check(narrow, narrow.inputs(3, 3, seed=1, boxes=False))


@pytest.mark.parametrize("role", ROLES)
def test_tabletop_against_autograd(role: Role, tabletop_bundle: Path) -> None:
    from export.measure import measure

    pair = ROOT / "engines" / "tabletop"
    geometry = measure(open_checkpoints(str(pair / "text_to_image"), str(pair / "spatial")))
    case = _case_of_bundle(role, tabletop_bundle, pair, geometry)
    for rows, regions, timesteps in ((1, 1, [981]), (2, 3, [621, 301]), (3, 5, [901, 501, 21])):
        inputs = case.inputs(rows, regions, seed=rows, boxes=rows < 3)
        check(case, inputs | {"timestep": torch.tensor(timesteps, dtype=torch.float32)})
    check_by_finite_differences(case)


def test_tiny_pair_against_finite_differences(tiny: Case) -> None:
    check_by_finite_differences(tiny)


def check_by_finite_differences(case: Case) -> None:
    inputs, step = case.inputs(2, 3, seed=5), 1e-4
    gradient, latents = case.run(inputs)["grad_latents"].double(), inputs["latents"].double()
    for seed in range(3):
        direction = torch.randn(latents.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        with torch.no_grad():
            ahead, behind = (case.oracle.loss(inputs, latents + sign * step * direction)[0] for sign in (1, -1))
        slope = ((ahead - behind) / (2 * step)).sum()
        scale = gradient.norm() * direction.norm() / latents.numel() ** 0.5  # of a product of random directions
        assert abs((gradient * direction).sum() - slope) < 1e-3 * scale


def test_padding_weighs_nothing_and_rows_do_not_mix(tiny: Case) -> None:
    inputs = tiny.inputs(3, 2)
    whole = tiny.run(inputs)
    noisy = {name: tensor.clone() for name, tensor in inputs.items()}
    noisy["region_masks"][:, 2:] = torch.rand(3, MAX_REGIONS - 2, inputs["region_masks"].shape[2])
    noisy["region_tokens"][:, 2:, 0] = 1
    alone = tiny.run({name: tensor[1:2] for name, tensor in inputs.items()})
    for name in ("loss", "grad_latents"):
        torch.testing.assert_close(tiny.run(noisy)[name], whole[name])
        torch.testing.assert_close(alone[name][0], whole[name][1], rtol=1e-4, atol=1e-6)


def test_files_hold_each_weight_once_and_none_behind_the_last_map(tiny: Case) -> None:
    weights = {w.name: onnx.numpy_helper.to_array(w) for w in onnx.load(tiny.path).graph.initializer}
    large = {name: array for name, array in weights.items() if array.size > FOLDED_SIZE}
    contents = [array.tobytes() for array in large.values()]
    contents += [array.T.tobytes() for array in large.values() if array.ndim == 2]
    square = {array.T.tobytes() for array in large.values() if array.ndim == 2 and np.array_equal(array, array.T)}
    assert len(set(contents)) + len(square) >= len(contents)
    assert any("up_blocks_1" in name for name in weights)
    assert not [name for name in weights if "conv_out" in name or "conv_norm_out" in name]
    last = tiny.oracle.layers[-1].replace(".", "_")
    assert not [name for name in weights if last in name and ("to_v" in name or "to_out" in name)]


def test_signatures_share_their_tensors(geometry: Geometry) -> None:
    plain, spatial = (signature(role, geometry) for role in ROLES)
    extra = {"object_tokens", "grounding_scale"}
    assert [t for t in spatial.inputs if t.name not in extra] == list(plain.inputs)
    assert plain.outputs == spatial.outputs
    assert plain.outputs[1] == TensorSpec(name="grad_latents", dtype="float32", shape=("batch", *geometry.latent_shape))
