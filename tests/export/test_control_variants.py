"""ControlNets of other forms: without attention, for conditional rows alone, and unions that read several kinds."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    ControlNetUnionModel,
    PNDMScheduler,
    StableDiffusionControlNetPipeline,
    StableDiffusionXLControlNetUnionPipeline,
    UNet2DConditionModel,
)
from torch import Tensor
from transformers import AutoTokenizer, CLIPTextModel

from export.build import Options, build
from export.checkpoints.configs import public
from export.checkpoints.folders import load_attached
from export.engines import signature
from export.measure import measure
from export.onnx.verify import verify_bundle
from export.pairs import Control, Pair
from export.spatial import find_pair, open_checkpoints
from runtime import Layout, RealCompo, RealCompoError, Region
from runtime.bundle.manifest import ControlSpec
from tests.export.conftest import TOKENS, make_controlnet
from tests.export.test_controlled_runs import relative_distance
from tests.export.test_controlnets import ControlledOracle
from tests.export.test_gradient import Case, Oracle, check, check_by_finite_differences
from tests.export.test_sdxl import pair as xl_pair  # noqa: F401
from tests.export.test_sdxl import stock as stock_xl

SIDE, STEPS = 16, 6
_NOISE = np.random.default_rng(3).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
PICTURES = {
    "shuffle": _NOISE,
    **{kind: np.repeat(_NOISE[:, :, i : i + 1], 3, axis=2) for i, kind in enumerate(("canny", "depth"))},
}
LAYOUT = Layout([Region("red ball", box=(0.1, 0.1, 0.6, 0.6))], control=PICTURES)


def shown(kind: str) -> Tensor:
    """(1,3,H,W) in 0..1."""
    return torch.from_numpy(PICTURES[kind]).permute(2, 0, 1)[None] / 255


def save_small(unet: UNet2DConditionModel, folder: Path) -> None:
    """As diffusers/controlnet-canny-sdxl-1.0-small is: no transformer blocks, wherever the UNet has them."""
    config = dict(make_controlnet(unet).config)
    config |= {"down_block_types": ["DownBlock2D"] * 2, "mid_block_type": "UNetMidBlock2D"}
    open_convolutions(ControlNetModel.from_config(config)).save_pretrained(folder)


def save_pooled(unet: UNet2DConditionModel, folder: Path) -> None:
    """As lllyasviel/control_v11e_sd15_shuffle is."""
    controlnet = make_controlnet(unet)
    controlnet.register_to_config(global_pool_conditions=True)
    controlnet.save_pretrained(folder)


def open_convolutions(controlnet: Any) -> Any:
    ends = (controlnet.controlnet_cond_embedding.conv_out, *controlnet.controlnet_down_blocks)
    for convolution in (*ends, controlnet.controlnet_mid_block):
        torch.nn.init.normal_(convolution.weight, std=0.5)
    return controlnet.eval()


@pytest.fixture(scope="module")
def variant_pair(pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    folder = tmp_path_factory.mktemp("variants")
    unet = UNet2DConditionModel.from_pretrained(Path(pair.text_to_image) / "unet")
    torch.manual_seed(9)
    save_small(unet, folder / "small")
    save_pooled(unet, folder / "pooled")
    controls = (Control("canny", str(folder / "small")), Control("shuffle", str(folder / "pooled")))
    return Pair("tiny", pair.text_to_image, pair.text_to_image, "", "controlnet", controls)


@pytest.fixture(scope="module")
def variant_bundle(variant_pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("variant-bundle")
    build(variant_pair, out, Options())
    return out


@pytest.fixture(scope="module")
def pipe(variant_bundle: Path) -> RealCompo:
    return RealCompo.load(variant_bundle)


def test_the_manifest_tells_who_is_for_conditional_rows_alone(pipe: RealCompo) -> None:
    assert pipe.manifest.spatial.controls == ("canny", "shuffle")
    assert pipe.manifest.spatial.details == (ControlSpec(), ControlSpec(conditional_alone=True))


def test_they_verify(variant_bundle: Path) -> None:
    assert all(max((one.errors or {"": 1.0}).values()) < 1e-4 for one in verify_bundle(variant_bundle))


@pytest.mark.parametrize(("i", "kind"), [(0, "canny"), (1, "shuffle")])
def test_each_alone_is_the_stock_pipeline(pipe: RealCompo, variant_pair: Pair, i: int, kind: str) -> None:
    """diffusers hides the picture from unconditional rows where the ControlNet's config says that it pools."""
    folder = Path(variant_pair.text_to_image)
    tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer")
    tokenizer.model_max_length = TOKENS
    pipeline = StableDiffusionControlNetPipeline(
        vae=AutoencoderKL.from_pretrained(folder / "vae"),
        text_encoder=CLIPTextModel.from_pretrained(folder / "text_encoder"),
        tokenizer=tokenizer,
        unet=UNet2DConditionModel.from_pretrained(folder / "unet"),
        controlnet=ControlNetModel.from_pretrained(variant_pair.controls[i].model),
        scheduler=PNDMScheduler.from_pretrained(folder / "scheduler", skip_prk_steps=True),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    options: dict[str, Any] = {"guidance_scale": 7.5, "generator": torch.Generator().manual_seed(3)}
    theirs = pipeline(
        "a red ball",
        image=shown(kind),
        height=SIDE,
        width=SIDE,
        num_inference_steps=STEPS,
        controlnet_conditioning_scale=0.7,
        output_type="latent",
        **options,
    )
    told: dict[str, Any] = {"layout": LAYOUT, "steps": STEPS, "seed": 3}
    ours = pipe("a red ball", gradient="spatial", **told, control_scale=tuple(0.7 * (j == i) for j in range(2)))
    assert relative_distance(ours.latents, theirs.images) < 1e-3
    alone = pipe("a red ball", gradient="text_to_image", **told)
    assert relative_distance(ours.latents, alone.latents) > 1e-2


def test_gradient_through_them_against_autograd(variant_bundle: Path, variant_pair: Pair, pipe: RealCompo) -> None:
    geometry = measure(open_checkpoints(variant_pair))
    unet = UNet2DConditionModel.from_pretrained(Path(variant_pair.text_to_image) / "unet")
    controls = [
        ControlNetModel.from_pretrained(one.model).double().requires_grad_(False) for one in variant_pair.controls
    ]
    path = variant_bundle / pipe.manifest.engines["spatial_gradient"].graph[0].name
    oracle = ControlledOracle(unet, geometry.map_layers["spatial"], controls)
    case = Case(path, signature("spatial_gradient", geometry), oracle)
    check(case, case.inputs(2, 3))
    check_by_finite_differences(case)


def make_union(unet: UNet2DConditionModel, kinds: int = 6) -> ControlNetUnionModel:
    empty = ControlNetUnionModel.from_unet(
        unet, conditioning_embedding_out_channels=(4, 8), load_weights_from_unet=False
    )
    width = unet.config.block_out_channels[0]
    narrow = {"num_trans_channel": width, "num_trans_head": 2, "num_proj_channel": width, "num_control_type": kinds}
    union = ControlNetUnionModel.from_config(public(empty.config) | narrow)
    torch.nn.init.normal_(union.task_embedding)
    torch.nn.init.normal_(union.spatial_ch_projs.weight)
    return open_convolutions(union)


def tell_as_xinsir_does(folder: Path) -> None:
    """The published union's config is a plain ControlNet's; that of ProMax says how many kinds it reads."""
    config = json.loads((folder / "config.json").read_text()) | {"_class_name": "ControlNetModel"}
    del config["num_control_type"]
    (folder / "config.json").write_text(json.dumps(config))


@pytest.fixture(scope="module")
def union_pair(xl_pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Pair:  # noqa: F811
    """One union, put to two uses."""
    folder = tmp_path_factory.mktemp("union")
    torch.manual_seed(8)
    make_union(UNet2DConditionModel.from_pretrained(Path(xl_pair.text_to_image) / "unet")).save_pretrained(folder)
    tell_as_xinsir_does(folder)
    controls = tuple(Control(kind, str(folder)) for kind in ("canny", "depth"))
    return Pair("tiny-xl", xl_pair.text_to_image, xl_pair.text_to_image, "", "controlnet", controls)


@pytest.fixture(scope="module")
def union_bundle(union_pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("union-bundle")
    build(union_pair, out, Options())
    return out


@pytest.fixture(scope="module")
def union_pipe(union_bundle: Path) -> RealCompo:
    return RealCompo.load(union_bundle)


@pytest.mark.parametrize("told", [True, False])
def test_a_union_says_by_its_weights_how_many_kinds_it_reads(union_pair: Pair, tmp_path: Path, told: bool) -> None:
    """A ProMax, whatever its config says."""
    unet = UNet2DConditionModel.from_pretrained(Path(union_pair.text_to_image) / "unet")
    make_union(unet, kinds=8).save_pretrained(tmp_path)
    if not told:
        tell_as_xinsir_does(tmp_path)
    pair = replace(union_pair, controls=(Control("tile", str(tmp_path)),))
    checkpoints = open_checkpoints(pair)
    assert measure(checkpoints).union_types == (6,)
    loaded = load_attached(checkpoints.attached[0])
    assert isinstance(loaded, ControlNetUnionModel) and loaded.task_embedding.shape[0] == 8


def told_union(count: int) -> dict[str, Any]:
    return {"layout": LAYOUT, "steps": STEPS, "sampler": "ddim", "seed": 3, "guidance_scale": 5.0, "num_images": count}


def test_a_union_is_the_stock_pipeline(union_pipe: RealCompo, union_pair: Pair) -> None:
    """Its kinds have xinsir's numbers: edges are 3, depth is 1."""
    parts = stock_xl(union_pair, "ddim", controlled=False).components
    kept = ("vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "unet", "scheduler")
    models = [ControlNetUnionModel.from_pretrained(union_pair.controls[0].model) for _ in range(2)]
    pipeline = StableDiffusionXLControlNetUnionPipeline(
        **{name: parts[name] for name in kept}, controlnet=models, add_watermarker=False
    )
    pipeline.set_progress_bar_config(disable=True)
    theirs = pipeline(
        "a red ball",
        control_image=[shown("canny"), shown("depth")],
        control_mode=[3, 1],
        height=SIDE,
        width=SIDE,
        num_inference_steps=STEPS,
        guidance_scale=5.0,
        controlnet_conditioning_scale=[0.7, 1.2],
        generator=torch.Generator().manual_seed(3),
        output_type="latent",
    )
    ours = union_pipe("a red ball", gradient="spatial", **told_union(1), control_scale=(0.7, 1.2))
    assert relative_distance(ours.latents, theirs.images) < 1e-3
    swapped = Layout(LAYOUT.regions, control={"canny": PICTURES["depth"], "depth": PICTURES["canny"]})
    others = union_pipe(
        "a red ball", gradient="spatial", **told_union(1) | {"layout": swapped}, control_scale=(0.7, 1.2)
    )
    assert relative_distance(others.latents, ours.latents) > 2e-3  # it matters which picture is of which kind


def test_a_union_s_pictures_do_not_look_at_each_other(union_pipe: RealCompo) -> None:
    """In diffusers they do: its attention is over the batch."""
    together, alone = (union_pipe("a red ball", gradient="spatial", **told_union(count)).latents for count in (2, 1))
    torch.testing.assert_close(together[:1], alone, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_a_union_in_half_precision_draws_alike(union_pipe: RealCompo, union_pair: Pair, tmp_path: Path) -> None:
    """The build's audit refuses a mean over all pixels in fp16."""
    build(union_pair, tmp_path, Options(precision="fp16"))
    half = RealCompo.load(tmp_path)("a red ball", gradient="exact", **told_union(1))
    assert relative_distance(half.latents, union_pipe("a red ball", gradient="exact", **told_union(1)).latents) < 2e-2


class UnionOracle(Oracle):
    """The stock UNet in float64 with the stock union, a row at a time."""

    def __init__(self, unet: UNet2DConditionModel, layers: tuple[str, ...], union: ControlNetUnionModel) -> None:
        super().__init__(unet, layers)
        self.union = union.double().requires_grad_(False)

    def run(self, inputs: dict[str, Tensor], latents: Tensor) -> None:
        added = {name: inputs[name].double() for name in ("text_embeds", "time_ids")}
        text = inputs["encoder_hidden_states"].double()
        rows = [self._row(inputs, latents, text, added, slice(b, b + 1)) for b in range(len(text))]
        *down, mid = (torch.cat(parts) for parts in zip(*rows, strict=True))
        self.unet(
            latents,
            inputs["timestep"],
            text,
            added_cond_kwargs=added,
            down_block_additional_residuals=down,
            mid_block_additional_residual=mid,
        )

    def _row(
        self, inputs: dict[str, Tensor], latents: Tensor, text: Tensor, added: dict[str, Tensor], row: slice
    ) -> list[Tensor]:
        each = []
        for i, kind in enumerate((3, 1)):
            down, mid = self.union(
                latents[row],
                inputs["timestep"][row],
                text[row],
                controlnet_cond=[inputs["control_images"][row, 3 * i : 3 * i + 3].double()],
                control_type=torch.eye(6, dtype=torch.float64)[kind : kind + 1],
                control_type_idx=[kind],
                conditioning_scale=float(inputs["control_scales"][row.start, i]),
                added_cond_kwargs={name: tensor[row] for name, tensor in added.items()},
                return_dict=False,
            )
            each.append([*down, mid])
        return [sum(parts) for parts in zip(*each, strict=True)]


def test_gradient_through_a_union_against_autograd(union_bundle: Path, union_pair: Pair, union_pipe: RealCompo) -> None:
    geometry = measure(open_checkpoints(union_pair))
    assert geometry.union_types == (3, 1)
    unet = UNet2DConditionModel.from_pretrained(Path(union_pair.text_to_image) / "unet")
    union = ControlNetUnionModel.from_pretrained(union_pair.controls[0].model)
    path = union_bundle / union_pipe.manifest.engines["spatial_gradient"].graph[0].name
    oracle = UnionOracle(unet, geometry.map_layers["spatial"], union)
    case = Case(path, signature("spatial_gradient", geometry), oracle)
    check(case, case.inputs(1, 2))
    check(case, case.inputs(3, 3, seed=1))
    check_by_finite_differences(case)


@pytest.mark.parametrize("kind", ["ip2p", "shuffle", "inpaint"])
def test_kinds_that_a_union_does_not_read(union_pair: Pair, kind: str) -> None:
    """Filling came with ProMax, which has eight."""
    control = Control(kind, union_pair.controls[0].model)
    pair = Pair("tiny-xl", union_pair.text_to_image, union_pair.text_to_image, "", "controlnet", (control,))
    with pytest.raises(
        RealCompoError, match=f"cannot read {kind}: it reads openpose, depth, scribble, softedge, canny"
    ):
        measure(open_checkpoints(pair))


@pytest.mark.parametrize(
    ("given", "control", "pen"),
    [
        ("openpose=a", Control("openpose", "a"), "thin"),
        ("openpose:thick=a", Control("openpose", "a", pen="thick"), "thick"),
        ("openpose=xinsir/controlnet-union-sdxl-1.0", Control("openpose", "xinsir/controlnet-union-sdxl-1.0"), "thick"),
        ("openpose:thin=xinsir/b", Control("openpose", "xinsir/b", pen="thin"), "thin"),
        ("lineart_anime=a=b", Control("lineart_anime", "a=b"), "thin"),
    ],
)
def test_pens(given: str, control: Control, pen: str) -> None:
    from export.spatial.attached import _pen

    (found,) = find_pair("sdxl-openpose", spatial=[given]).controls
    assert found == control and found.words == given and _pen(found) == pen
    assert _pen(find_pair("sdxl-openpose").controls[0]) == "thick"
    assert _pen(find_pair("sd15-openpose").controls[0]) == "thin"
