"""Pairs with T2I-Adapters: graphs and runs against diffusers' adapters and pipelines, gradients against autograd."""

import copy
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DPMSolverMultistepScheduler,
    PNDMScheduler,
    StableDiffusionAdapterPipeline,
    StableDiffusionXLAdapterPipeline,
    T2IAdapter,
    UNet2DConditionModel,
)
from torch import Tensor
from transformers import AutoTokenizer, CLIPTextModel

from benchmarks.eager.realcompo import EagerRealCompo
from benchmarks.eager.settings import Form, Settings
from export.build import Options, build
from export.checkpoints.folders import Checkpoints
from export.checkpoints.random_weights import ARCHITECTURES
from export.engines import engines_of, load_graph, signature
from export.graphs.engine import example_inputs
from export.graphs.geometry import Geometry
from export.graphs.gradient import AttentionGradient
from export.graphs.models import AdaptedUNet, NoiseOfEpsilon
from export.measure import measure
from export.onnx.audit import audit
from export.onnx.to_onnx import export_onnx
from export.onnx.verify import verify_bundle
from export.pairs import Control, Pair
from export.spatial import find_pair, open_checkpoints
from runtime import Layout, RealCompo, RealCompoError, Region
from runtime.bundle.manifest import read_manifest
from runtime.words import Role
from tests.export.conftest import TOKENS
from tests.export.test_controlled_runs import assert_follows, relative_distance, start
from tests.export.test_gradient import (
    Case,
    Oracle,
    check,
    check_by_finite_differences,
    narrow_geometry,
    narrow_unet,
)
from tests.export.test_sdxl import SCHEDULERS as XL_SCHEDULERS
from tests.export.test_sdxl import make_unet as make_unet_xl
from tests.export.test_sdxl import pair as xl_pair  # noqa: F401
from tests.export.test_sdxl import stock as stock_xl

Tensors = dict[str, Tensor]
SIDE = 16
KINDS = ("canny", "depth")
SAMPLERS: dict[str, Any] = {
    "plms": (PNDMScheduler, {"skip_prk_steps": True}),
    "dpm++2m": (DPMSolverMultistepScheduler, {}),
}
_NOISE = np.random.default_rng(3).integers(0, 256, (SIDE, SIDE), dtype=np.uint8)
PICTURES = {"canny": np.dstack([_NOISE] * 3), "depth": np.dstack([_NOISE.T] * 3)}
LAYOUT = Layout([Region("red ball", box=(0.1, 0.1, 0.6, 0.6))], control=PICTURES)


def shown(kind: str) -> Tensor:
    """(1,3,H,W) in 0..1, as diffusers' pipelines take it."""
    return torch.from_numpy(PICTURES[kind]).permute(2, 0, 1)[None] / 255


def make_adapter(**config: Any) -> T2IAdapter:
    """Untrained, but it does add something to what the UNet does."""
    defaults = {"channels": [8, 16], "num_res_blocks": 1, "downscale_factor": 2}
    adapter = T2IAdapter(**(defaults | config))
    with torch.no_grad():
        for weight in adapter.parameters():
            weight.mul_(2.0)
    return adapter.eval()


@pytest.fixture(scope="module")
def adapted_pair(pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """The tiny text-to-image model with two adapters, of which the second sees grey alone."""
    folder = tmp_path_factory.mktemp("adapters")
    torch.manual_seed(5)
    make_adapter().save_pretrained(folder / "canny")
    make_adapter(in_channels=1, adapter_type="full_adapter").save_pretrained(folder / "depth")
    controls = tuple(Control(kind, str(folder / kind), "adapter") for kind in KINDS)
    return Pair("tiny", pair.text_to_image, pair.text_to_image, "", "t2i_adapter", controls)


@pytest.fixture(scope="module")
def checkpoints(adapted_pair: Pair) -> Checkpoints:
    return open_checkpoints(adapted_pair)


@pytest.fixture(scope="module")
def geometry(checkpoints: Checkpoints) -> Geometry:
    return measure(checkpoints)


@pytest.fixture(scope="module")
def bundle(adapted_pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("adapted")
    build(adapted_pair, out, Options())
    return out


@pytest.fixture(scope="module")
def pipe(bundle: Path) -> RealCompo:
    return RealCompo.load(bundle)


@pytest.fixture(scope="module")
def adapters(adapted_pair: Pair) -> list[T2IAdapter]:
    return [T2IAdapter.from_pretrained(control.model) for control in adapted_pair.controls]


@pytest.fixture(scope="module")
def unet(adapted_pair: Pair) -> UNet2DConditionModel:
    return UNet2DConditionModel.from_pretrained(Path(adapted_pair.text_to_image) / "unet")


@torch.no_grad()
def test_graphs_are_diffusers_adapters_and_unet(
    checkpoints: Checkpoints, geometry: Geometry, unet: UNet2DConditionModel, adapters: list[T2IAdapter]
) -> None:
    images = example_inputs(signature("adapter", geometry), 3, geometry.vocabulary)["control_images"]
    seen = load_graph("adapter", checkpoints, geometry)(images)
    first, second = adapters[0](images[:, :3]), adapters[1](images[:, 3:4])
    for found, *wanted in zip(seen, first, second, strict=True):
        torch.testing.assert_close(found, torch.stack(wanted, dim=1))
    inputs = example_inputs(signature("spatial", geometry), 3, geometry.vocabulary)
    step = [inputs[name] for name in ("latents", "timestep", "encoder_hidden_states")]
    features = [inputs[name] for name in geometry.residuals]
    noise_pred, _ = load_graph("spatial", checkpoints, geometry)(**inputs)
    adapted = unet(*step, down_intrablock_additional_residuals=[feature.clone() for feature in features]).sample
    torch.testing.assert_close(noise_pred, adapted)
    plain = unet(*step).sample
    assert (adapted - plain).abs().max() > 0.1
    nothing = inputs | {name: torch.zeros_like(inputs[name]) for name in geometry.residuals}
    torch.testing.assert_close(load_graph("spatial", checkpoints, geometry)(**nothing)[0], plain)


def test_bundle_tells_the_adapters(bundle: Path, adapted_pair: Pair) -> None:
    manifest = read_manifest(bundle)
    assert manifest.shared_unet and manifest.spatial.kind == "t2i_adapter" and manifest.spatial.controls == KINDS
    assert [model.source for model in manifest.pair.attached] == [c.model for c in adapted_pair.controls]
    assert tuple(manifest.engines) == tuple(engines_of("t2i_adapter", shared_unet=True))
    assert [tensor.shape for tensor in manifest.engines["adapter"].outputs] == [
        ("batch", 2, 8, 8, 8),
        ("batch", 2, 16, 4, 4),
    ]
    assert "control_images" not in {tensor.name for tensor in manifest.engines["spatial_gradient"].inputs}
    checks = list(verify_bundle(bundle))
    assert all(error < 1e-4 for one in checks for error in (one.errors or {"none": 1.0}).values())


def stock(
    pair: Pair, unet: UNet2DConditionModel, adapters: Sequence[T2IAdapter], sampler: str
) -> StableDiffusionAdapterPipeline:
    folder = Path(pair.text_to_image)
    tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer")
    tokenizer.model_max_length = TOKENS
    scheduler, settings = SAMPLERS[sampler]
    pipeline = StableDiffusionAdapterPipeline(
        vae=AutoencoderKL.from_pretrained(folder / "vae"),
        text_encoder=CLIPTextModel.from_pretrained(folder / "text_encoder"),
        tokenizer=tokenizer,
        unet=unet,
        adapter=list(adapters) if len(adapters) > 1 else adapters[0],
        scheduler=scheduler.from_pretrained(folder / "scheduler", **settings),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_spatial_alone_is_the_stock_pipeline_with_two_adapters(
    pipe: RealCompo, adapted_pair: Pair, unet: UNet2DConditionModel, adapters: list[T2IAdapter], sampler: str
) -> None:
    scales = (0.6, 1.3)
    ours = pipe("a red ball", layout=LAYOUT, gradient="spatial", steps=8, sampler=sampler, seed=3, control_scale=scales)
    theirs = stock(adapted_pair, unet, adapters, sampler)(
        "a red ball",
        image=[shown("canny"), shown("depth")[:, :1]],
        height=SIDE,
        width=SIDE,
        num_inference_steps=8,
        guidance_scale=7.5,
        generator=torch.Generator().manual_seed(3),
        adapter_conditioning_scale=list(scales),
        output_type="latent",
    )
    assert relative_distance(ours.latents, theirs.images) < 1e-3
    alone = pipe("a red ball", gradient="text_to_image", steps=8, sampler=sampler, seed=3)
    assert relative_distance(ours.latents, alone.latents) > 1e-2
    assert ours.stats.calls["adapter"] == ours.stats.rows["adapter"] == 1  # once an image
    assert alone.stats.calls["adapter"] == 0


def test_both_models_in_one_call_are_the_two_alone(pipe: RealCompo) -> None:
    """A constant weight of the spatial model: 0 and 1 are what each model alone draws."""
    options: dict[str, Any] = {"layout": LAYOUT, "steps": 6, "seed": 1, "num_images": 2, "switch_step": 0}
    for weight, mode in (("0", "text_to_image"), ("1", "spatial")):
        mixed, alone = (pipe("a red ball", gradient=one, **options) for one in (f"fixed:{weight}", mode))
        assert relative_distance(mixed.latents, alone.latents) < 1e-3
    exact = pipe("a red ball", gradient="exact", **options)
    assert exact.stats.calls["adapter"] == 1 and exact.stats.rows["adapter"] == 2
    assert relative_distance(exact.latents, alone.latents) > 1e-3


@pytest.mark.parametrize("form", [Form(), Form(trial_guidance=True)], ids=["paper", "released keypoint code"])
def test_exact_follows_the_eager_run(pipe: RealCompo, adapted_pair: Pair, form: Form) -> None:
    """Coefficients and latents, against diffusers' adapters and UNet, and autograd through them."""
    base = adapted_pair.text_to_image
    eager = EagerRealCompo.load(base, base, controls=adapted_pair.controls)
    eager.texts.tokenizer.model_max_length = TOKENS
    settings = Settings(8, 3.0, switch_step=0, coefficient_scale=2e7, form=form, control_scale=0.8)
    output = assert_follows(pipe, eager, settings, LAYOUT)
    assert (output.trace[-1].coefficients - start()[1]).abs().max() > 0.3
    assert output.stats.rows["adapter"] == 2 and output.stats.rows["spatial"] == 4 * 2 * 9


def test_strengths(pipe: RealCompo) -> None:
    options: dict[str, Any] = {"layout": LAYOUT, "steps": 8, "seed": 1, "gradient": "spatial", "sampler": "dpm++2m"}
    nothing = pipe("a red ball", **options, control_scale=0.0)
    alone = pipe("a red ball", **(options | {"gradient": "text_to_image"}))
    assert relative_distance(nothing.latents, alone.latents) < 1e-4
    whole, half = (pipe("a red ball", **options, control_end=end) for end in (1.0, 0.5))
    assert relative_distance(whole.latents, half.latents) > 1e-3
    with pytest.raises(RealCompoError, match=r"3 numbers for the 2 T2I-Adapters of this bundle \(canny, depth\)"):
        pipe("a red ball", **options, control_scale=(1, 1, 1))
    with pytest.raises(
        RealCompoError, match=r"grounding_fraction=0.5 is for GLIGEN, .* T2I-Adapters; use control_start"
    ):
        pipe("a red ball", **options, grounding_fraction=0.5)
    with pytest.raises(RealCompoError, match=r"the layout has no control\.canny"):
        pipe("a red ball", **(options | {"layout": Layout(LAYOUT.regions)}))


@dataclass
class AdaptedOracle(Oracle):
    """The stock UNet in float64 with given features."""

    names: Sequence[str] = ("feature_00", "feature_01")

    def run(self, inputs: Tensors, latents: Tensor) -> None:
        text = inputs["encoder_hidden_states"].double()
        features = [inputs[name].double() for name in self.names]
        self.unet(latents, inputs["timestep"], text, down_intrablock_additional_residuals=features)


@pytest.fixture(scope="module")
def gradient(bundle: Path, adapted_pair: Pair, geometry: Geometry) -> Case:
    unet = UNet2DConditionModel.from_pretrained(Path(adapted_pair.text_to_image) / "unet")
    path = bundle / read_manifest(bundle).engines["spatial_gradient"].graph[0].name
    return Case(path, signature("spatial_gradient", geometry), AdaptedOracle(unet, geometry.map_layers["spatial"]))


@pytest.mark.parametrize("rows", [1, 3])
def test_gradient_against_autograd(gradient: Case, rows: int) -> None:
    check(gradient, gradient.inputs(rows, 2, seed=rows))
    check(gradient, gradient.inputs(rows, 5, seed=10 + rows, boxes=False))


def test_gradient_against_finite_differences(gradient: Case) -> None:
    check_by_finite_differences(gradient)


def test_features_turn_the_gradient(gradient: Case) -> None:
    inputs = gradient.inputs(2, 2)
    with_features = gradient.run(inputs)["grad_latents"]
    without = gradient.run(inputs | {name: torch.zeros_like(inputs[name]) for name in ("feature_00", "feature_01")})
    assert (with_features - without["grad_latents"]).norm() > 1e-2 * with_features.norm()


@pytest.mark.slow
def test_narrow_stable_diffusion_with_an_adapter_against_autograd(tmp_path: Path) -> None:
    """Its UNet and TencentARC's adapter of four levels, a fortieth as wide."""
    unet, adapter = narrow_unet(), make_adapter(channels=[8, 16, 32, 32], downscale_factor=8)
    shapes = {f"feature_{i:02}": tuple(one.shape[1:]) for i, one in enumerate(adapter(torch.rand(1, 3, 256, 256)))}
    geometry = replace(narrow_geometry(unet, "t2i_adapter"), attached=1, residuals=shapes)
    layers, takes = geometry.map_layers["spatial"], signature("spatial_gradient", geometry)
    model = AdaptedUNet(unet, layers, NoiseOfEpsilon()).requires_grad_(False)
    path = tmp_path / "gradient.onnx"
    export_onnx(AttentionGradient(copy.deepcopy(model)).eval(), takes, example_inputs(takes, 2, 2), path)
    case = Case(path, takes, AdaptedOracle(unet, layers, tuple(shapes)))
    check(case, case.inputs(1, 2))
    check(case, case.inputs(3, 3, seed=1, boxes=False))


def make_unet_of_three() -> UNet2DConditionModel:
    """With SDXL's three blocks down, so that an adapter's fourth feature goes to the middle."""
    return UNet2DConditionModel.from_config(
        dict(make_unet_xl().config)
        | {
            "block_out_channels": (8, 16, 16),
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            "transformer_layers_per_block": (1, 1, 1),
            "attention_head_dim": (2, 4, 4),
        }
    ).eval()


@pytest.fixture(scope="module")
def adapted_xl(xl_pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Pair:  # noqa: F811
    folder = tmp_path_factory.mktemp("xl")
    base = shutil.copytree(xl_pair.text_to_image, folder / "base")
    torch.manual_seed(6)
    make_unet_of_three().save_pretrained(base / "unet")
    adapter = make_adapter(channels=[8, 16, 16, 16], downscale_factor=4, adapter_type="full_adapter_xl")
    adapter.save_pretrained(folder / "canny")
    controls = (Control("canny", str(folder / "canny"), "adapter"),)
    return Pair("tiny-xl", str(base), str(base), "", "t2i_adapter", controls)


@pytest.fixture(scope="module")
def xl_bundle(adapted_xl: Pair, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("xl-bundle")
    build(adapted_xl, out, Options())
    return out


@pytest.fixture(scope="module")
def xl_pipe(xl_bundle: Path) -> RealCompo:
    return RealCompo.load(xl_bundle)


@pytest.mark.parametrize("sampler", XL_SCHEDULERS)
def test_spatial_alone_is_the_stock_xl_pipeline(xl_pipe: RealCompo, adapted_xl: Pair, sampler: str) -> None:
    parts = stock_xl(adapted_xl, sampler, controlled=False).components
    kept = ("vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "unet", "scheduler")
    adapter = T2IAdapter.from_pretrained(adapted_xl.controls[0].model)
    pipeline = StableDiffusionXLAdapterPipeline(**{name: parts[name] for name in kept}, adapter=adapter)
    pipeline.set_progress_bar_config(disable=True)
    theirs = pipeline(
        "a red ball",
        image=shown("canny"),
        height=SIDE,
        width=SIDE,
        num_inference_steps=8,
        guidance_scale=5.0,
        generator=torch.Generator().manual_seed(3),
        adapter_conditioning_scale=0.7,
        adapter_conditioning_factor=0.5,
        output_type="latent",
    )
    ours = xl_pipe(
        "a red ball",
        layout=LAYOUT,
        gradient="spatial",
        steps=8,
        guidance_scale=5.0,
        sampler=sampler,
        seed=3,
        control_scale=0.7,
        control_end=0.5 if sampler == "ddim" else 4 / 9,  # PLMS evaluates nine times
    )
    assert relative_distance(ours.latents, theirs.images) < 1e-3


class XLOracle(AdaptedOracle):
    def run(self, inputs: Tensors, latents: Tensor) -> None:
        added = {name: inputs[name].double() for name in ("text_embeds", "time_ids")}
        self.unet(
            latents,
            inputs["timestep"],
            inputs["encoder_hidden_states"].double(),
            added_cond_kwargs=added,
            down_intrablock_additional_residuals=[inputs[name].double() for name in self.names],
        )


def test_xl_gradient_against_autograd_and_finite_differences(xl_bundle: Path, adapted_xl: Pair) -> None:
    geometry = measure(open_checkpoints(adapted_xl))
    unet = UNet2DConditionModel.from_pretrained(Path(adapted_xl.text_to_image) / "unet")
    path = xl_bundle / read_manifest(xl_bundle).engines["spatial_gradient"].graph[0].name
    oracle = XLOracle(unet, geometry.map_layers["spatial"], tuple(geometry.residuals))
    case = Case(path, signature("spatial_gradient", geometry), oracle)
    check(case, case.inputs(2, 3))
    check_by_finite_differences(case)


def test_half_precision(adapted_pair: Pair, pipe: RealCompo, tmp_path: Path) -> None:
    manifest = build(adapted_pair, tmp_path, Options(precision="fp16"))
    roles: tuple[Role, ...] = ("adapter", "spatial", "spatial_gradient")
    assert all(not audit(tmp_path / manifest.engines[role].graph[0].name, "fp16").violations for role in roles)
    options: dict[str, Any] = {"layout": LAYOUT, "steps": 4, "gradient": "spatial"}
    half, full = (one("a red ball", **options).latents for one in (RealCompo.load(tmp_path), pipe))
    assert 0 < relative_distance(half, full) < 5e-2


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"channels": [8, 8]}, r"does not fit .*unet: it gives features of 8x8x8, 8x4x4"),
        ({"channels": [8, 16, 16]}, "does not fit"),
        ({"channels": [8]}, "does not fit"),
        ({"downscale_factor": 4}, "does not fit"),
        ({"downscale_factor": 32}, "takes images whose sides are multiples of 32 pixels"),
        ({"in_channels": 2}, "its in_channels is 2, not 3 or 1"),
    ],
)
def test_adapters_that_do_not_fit(adapted_pair: Pair, tmp_path: Path, config: dict[str, Any], message: str) -> None:
    make_adapter(**config).save_pretrained(tmp_path)
    pair = replace(adapted_pair, controls=(Control("canny", str(tmp_path), "adapter"),))
    with pytest.raises(RealCompoError, match=message) as refusal:
        measure(open_checkpoints(pair))
    assert "\n" not in str(refusal.value)


def test_full_size_adapters_fit_their_unets() -> None:
    """TencentARC's shapes, without weights."""
    for name in ("sd15-adapter", "sdxl-adapter"):
        pair = find_pair(name)
        assert pair.kind == "t2i_adapter" and pair.controls[0].component == "adapter" and name in ARCHITECTURES


def test_light_adapters_fit(adapted_pair: Pair, tmp_path: Path) -> None:
    """They give one feature more than they have channels, which the UNet's last block takes."""
    T2IAdapter(channels=[8], num_res_blocks=1, downscale_factor=2, adapter_type="light_adapter").save_pretrained(
        tmp_path
    )
    pair = replace(adapted_pair, controls=(Control("canny", str(tmp_path), "adapter"),))
    with pytest.raises(RealCompoError, match="features of 8x8x8, 8x4x4"):
        measure(open_checkpoints(pair))
