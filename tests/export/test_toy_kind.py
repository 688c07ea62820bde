"""A kind of spatial model that this test makes up goes all the way: build, verify, generate, the exact gradient.

It knows of layouts by a hint: how much of each latent pixel the regions cover is added to the latents that the
text-to-image model's own UNet sees, times a strength of its own.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from export import spatial as exported
from export.build import Options, build
from export.checkpoints.folders import Checkpoint, Checkpoints
from export.engines import load_graph
from export.graphs.engine import Loader, Specs, denoiser, denoiser_inputs, differentiated, tensor
from export.graphs.geometry import Geometry
from export.graphs.models import Denoiser
from export.measure import measure
from export.onnx.verify import verify_bundle
from export.pairs import Pair
from runtime import Layout, RealCompo, RealCompoError, Region, spatial
from runtime.bundle.manifest import Manifest, read_manifest
from runtime.knobs import Knobs, knob
from runtime.runner import Runner
from runtime.spatial.kind import Call, RunEngine, SpatialKind, Tensors
from runtime.stats import Stats
from runtime.words import Role

PROMPT = "a red ball"
LAYOUT = Layout([Region("a red ball", box=(0.1, 0.2, 0.6, 0.9))])


class Hinted(Denoiser):
    """The UNet on latents (B, 4, h, w) with a hint (B, 1, h, w) added."""

    def forward(
        self, latents: Tensor, timestep: Tensor, encoder_hidden_states: Tensor, hint: Tensor
    ) -> tuple[Tensor, Tensor]:
        return self.predict(latents + hint, timestep, encoder_hidden_states)


def hinted(load: Loader) -> Hinted:
    return Hinted(load.unet("spatial"), load.map_layers("spatial"), load.noise_of())


def inputs(geometry: Geometry) -> Specs:
    return *denoiser_inputs(geometry), tensor("hint", 1, *geometry.latent_shape[1:])


class ExportedToy(exported.SpatialKind):
    name = "toy"
    engines = (
        denoiser("spatial", "spatial", inputs, hinted, alone=True),
        differentiated("spatial_gradient", "spatial", inputs, hinted),
    )

    def replace(self, pair: Pair, given: Sequence[str]) -> Pair:
        return pair

    def open(self, pair: Pair, base: Checkpoint, download: bool) -> Checkpoints:
        return Checkpoints(self.name, base, base)

    def check(self, checkpoints: Checkpoints) -> None: ...

    def shares_unet(self, checkpoints: Checkpoints) -> bool:
        return True


@dataclass(frozen=True, kw_only=True)
class Strengths(Knobs):
    toy_strength: float = knob(1.0, "Factor of the hint.", low=0, high=5)


@dataclass(frozen=True)
class Hint:
    covered: Tensor  # (B or 2B,1,h,w)

    def tensors(self) -> list[Tensor]:
        return [self.covered]

    def inputs(self, call: Call, run: RunEngine) -> Tensors:
        each = torch.cat([self.covered[-call.count :]] * len(call.models))
        return {"hint": each * call.row_scales()[:, :, None, None]}


@dataclass(frozen=True)
class Toy:
    manifest: Manifest
    runners: Mapping[Role, Runner]
    device: torch.device

    def scales(self, strengths: Strengths, evaluations: int) -> list[tuple[float, ...]]:
        return [(strengths.toy_strength,)] * evaluations

    def phrases(self, layouts: Sequence[Layout]) -> list[str]:
        return []

    def condition(self, layouts: Sequence[Layout], pooled: Mapping[str, Tensor], guided: bool, stats: Stats) -> Hint:
        size = self.manifest.latent_shape[1:]
        masks = [np.max([region.mask_at(size) for region in layout.regions], axis=0) for layout in layouts]
        covered = torch.tensor(np.array(masks))[:, None]
        return Hint(torch.cat([covered, covered]) if guided else covered)

    def no_condition(self, rows: int) -> Hint:
        return Hint(torch.zeros(rows, 1, *self.manifest.latent_shape[1:]))


TOY = SpatialKind("toy", "a toy", roles=(), alone=0.25, strengths=Strengths, instead="toy_strength", open=Toy)


@pytest.fixture(scope="module", autouse=True)
def registered() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(exported.KINDS, "toy", ExportedToy())
        patch.setitem(spatial.KINDS, "toy", TOY)
        yield


@pytest.fixture(scope="module")
def toy_bundle(pair: Pair, registered: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("toy")
    build(Pair("tiny", pair.text_to_image, pair.text_to_image, "", "toy"), out, Options())
    return out


@pytest.fixture(scope="module")
def toy(toy_bundle: Path) -> RealCompo:
    return RealCompo.load(toy_bundle)


def test_the_manifest_tells_the_kind_and_its_engines(toy_bundle: Path) -> None:
    manifest = read_manifest(toy_bundle)
    assert manifest.spatial.kind == "toy" and manifest.shared_unet
    assert set(manifest.engines) == {"text_encoder", "spatial", "spatial_gradient", "vae_decoder"}
    assert "hint" in {given.name for given in manifest.engines["spatial"].inputs}


def test_it_verifies(toy_bundle: Path) -> None:
    assert all(max((check.errors or {"": 1.0}).values()) < 1e-4 for check in verify_bundle(toy_bundle))


def test_it_draws_and_its_strength_counts(toy: RealCompo) -> None:
    options = {"layout": LAYOUT, "steps": 4, "seed": 2, "gradient": "spatial"}
    shut, usual, strong = (toy(PROMPT, **options, toy_strength=strength) for strength in (0, 1, 3))
    alone = toy(PROMPT, steps=4, seed=2, gradient="text_to_image")
    torch.testing.assert_close(shut.latents, alone.latents, rtol=1e-4, atol=1e-5)  # one UNet, told of no layout
    assert not torch.allclose(usual.latents, shut.latents) and not torch.allclose(usual.latents, strong.latents)
    assert usual.images[0].size == (16, 16)


def test_its_own_share_of_the_steps_is_drawn_alone(toy: RealCompo) -> None:
    trace = toy(PROMPT, layout=LAYOUT, steps=8, trace=True).trace
    assert [bool((step.spatial_weight == 1).all()) for step in trace] == [True] * 2 + [False] * 7  # PLMS has one more


def test_the_exact_gradient_is_the_slope_of_the_loss(toy: RealCompo, pair: Pair) -> None:
    """Of what the coefficients change, by finite differences of whole trial steps; the loss is PyTorch's in float64."""
    checkpoints = exported.open_checkpoints(Pair("tiny", pair.text_to_image, pair.text_to_image, "", "toy"))
    exact = load_graph("spatial_gradient", checkpoints, measure(checkpoints)).double()
    generator = torch.Generator().manual_seed(4)
    latents, coefficients = (torch.randn(1, count, 8, 8, generator=generator) for count in (4, 2))
    direction = torch.randn(1, 2, 8, 8, generator=generator)

    def run(start: Tensor) -> tuple[float, Tensor]:
        seen: list[float] = []
        engine = toy._runners["spatial_gradient"]

        class Spy:
            spec = engine.spec

            def __call__(self, **tensors: Tensor) -> dict[str, Tensor]:
                seen.append(float(exact(**{name: tensor.double() for name, tensor in tensors.items()})[0].sum()))
                return engine(**tensors)

        options = {"steps": 1, "switch_step": 0, "guidance_scale": 1.0, "trace": True}
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(toy._runners, "spatial_gradient", Spy())  # type: ignore[arg-type]
            output = toy(PROMPT, layout=LAYOUT, latents=latents, coefficients=start, toy_strength=2.0, **options)
        gradient = output.trace[0].gradient
        assert gradient is not None and len(seen) == 1
        return seen[0], gradient

    _, gradient = run(coefficients)
    step = 0.02
    above, below = (run(coefficients + sign * step * direction)[0] for sign in (1, -1))
    slope = float((gradient * direction).sum())
    assert slope == pytest.approx((above - below) / (2 * step), rel=1e-3)


def test_wrong_strengths_are_told(toy: RealCompo) -> None:
    with pytest.raises(RealCompoError, match="toy_strength=7 is out of range; use 0 to 5"):
        toy(PROMPT, layout=LAYOUT, toy_strength=7)
    with pytest.raises(RealCompoError, match=r"grounding_fraction=0.5 is for GLIGEN, .* is a toy; use toy_strength"):
        toy(PROMPT, layout=LAYOUT, grounding_fraction=0.5)
