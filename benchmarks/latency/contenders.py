"""What is timed: each contender draws the same images from the same latents in its own way.

What a contender needs is imported when it is loaded, so that a cold load costs what it costs alone.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache, partial
from itertools import pairwise
from time import perf_counter
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import Module

from benchmarks.engines import differentiators, predictors
from runtime import Layout, RealCompo, Region
from runtime.errors import RealCompoError
from runtime.presets import PRESETS, preset_knobs
from runtime.stats import wait_for_device
from runtime.words import Precision

PROMPT = "a red ball and a blue cube"
LAYOUT = Layout(
    [Region("a red ball", box=(0.08, 0.50, 0.46, 0.88)), Region("a blue cube", box=(0.56, 0.12, 0.94, 0.50))]
)
SEED = 0
PARITY_STEPS = 4  # at most, in half precision
STOCK = "stock"  # the contender that all are compared with
# At large ones a rounding error grows from step to step, and parity would say nothing; the work is the same.
COEFFICIENT_SCALE = 3e4


class Mode(NamedTuple):
    """A way of the runtime to draw."""

    about: str
    options: dict[str, Any]
    batched: bool = False  # as of a contender


MODES = {
    "text_to_image": Mode("text-to-image model alone", {"gradient": "text_to_image"}),
    "spatial": Mode("spatial model alone", {"gradient": "spatial"}),
    "none": Mode("RealCompo, coefficients as drawn", {"gradient": "none"}),
    "surrogate": Mode("RealCompo, surrogate gradient", {"gradient": "surrogate"}, batched=True),
    "exact": Mode("RealCompo, the paper's gradient", {"gradient": "exact"}, batched=True),
    "fast": Mode("RealCompo, the preset fast", {**PRESETS["fast"].knobs}),
    "handover": Mode("the spatial model, then the other", {"gradient": "handover"}),
    "released": Mode("RealCompo, the released code's form", {"gradient": "exact", "form": "released"}),
}
# With distilled models, in their own steps
DISTILLED = {
    "handover_distilled": Mode("the spatial model, then the other; distilled", {"gradient": "handover"}),
    "exact_distilled": Mode("RealCompo, the paper's gradient; distilled", {"gradient": "exact"}),
}


@dataclass(frozen=True)
class Target:
    """A bundle, the checkpoints that it was built from, and where both run."""

    bundle: str
    text_to_image: str  # diffusers folders
    spatial: str
    latent_size: tuple[int, int]  # (h,w)
    backends: tuple[str, ...]  # of the runtime; the first is the one that contenders without a suffix use
    device: str
    dtype: str  # torch's name of the baselines' element type
    threads: int
    distilled: str = ""  # a bundle of the same pair with distilled models, or none

    @property
    def torch_dtype(self) -> torch.dtype:
        return getattr(torch, self.dtype)


@dataclass(frozen=True)
class Sampling:
    """PLMS, in every contender whose models are not distilled."""

    steps: int
    guidance_scale: float

    @property
    def evaluations(self) -> int:
        """Timesteps at which the models are asked: PLMS's first step takes two."""
        return self.steps + 1


def for_parity(sampling: Sampling, precision: Precision) -> Sampling:
    """The steps after which contenders are compared: in half precision rounding grows from step to step, so few."""
    return sampling if precision == "fp32" else replace(sampling, steps=min(sampling.steps, PARITY_STEPS))


@dataclass(frozen=True)
class Case:
    """B images to draw."""

    sampling: Sampling
    latents: Tensor  # (B,4,h,w) float32
    coefficients: Tensor  # (B,2,h,w) float32

    @property
    def count(self) -> int:
        return len(self.latents)


class Rows(NamedTuple):
    """Rows that went through a UNet: forward alone, or forward and backward."""

    forward: int
    gradient: int


@dataclass(frozen=True)
class Drawn:
    """What came out, and where the time went."""

    latents: Tensor  # (B,4,h,w) float32 on the CPU, final
    stages: dict[str, float]  # seconds
    rows: Rows | None  # None where counting would change what is timed
    evaluations: int  # timesteps at which the models were asked
    engine_seconds: dict[str, float] = field(default_factory=dict)  # by role; of the runtime alone, as is the next
    busy_seconds: dict[str, float] = field(default_factory=dict)  # by stage


Drawer = Callable[[Case], Drawn]


@dataclass(frozen=True)
class Contender:
    name: str
    about: str
    load: Callable[[Target], Drawer]
    most_rounds: int | None = None
    batched: bool = False  # whether its images a second are measured over batch sizes


def make_case(latent_shape: tuple[int, int, int], sampling: Sampling, count: int = 1) -> Case:
    """The same latents and coefficients for every contender."""
    generator = torch.Generator().manual_seed(SEED)
    channels, height, width = latent_shape
    latents = torch.randn(count, channels, height, width, generator=generator)
    return Case(sampling, latents, torch.randn(count, 2, height, width, generator=generator))


def contenders(target: Target, compiled: bool = False) -> list[Contender]:
    """Baselines first, then every mode of the runtime on every backend; those of a further one are `mode@backend`."""
    first, *others = target.backends
    bundles = {target.bundle: MODES, **({target.distilled: DISTILLED} if target.distilled else {})}
    modes = [(bundle, name, mode) for bundle, modes in bundles.items() for name, mode in modes.items()]
    ours = [_runtime(bundle, mode, first, name) for bundle, name, mode in modes]
    ours += [_runtime(bundle, mode, other, f"{name}@{other}") for other in others for bundle, name, mode in modes]
    return [*BASELINES, *([COMPILED] if compiled else []), *ours]


def choose(available: list[Contender], names: list[str]) -> list[Contender]:
    """Those of the names, or all without names.

    Raises:
        RealCompoError: a name that is none of the contenders'.
    """
    known = [contender.name for contender in available]
    if unknown := [name for name in names if name not in known]:
        raise RealCompoError(f"--only {unknown[0]}: there is no such contender; there are {', '.join(known)}")
    return [contender for contender in available if contender.name in names or not names]


class Observer:
    """Hooks on a PyTorch pipeline's models: when its stages began, its UNets' rows, its final latents."""

    def __init__(self, text_encoder: Module, unets: list[Module], vae: Any) -> None:
        self._latent_scale = vae.config.scaling_factor
        self._counts = bool(unets)
        text_encoder.register_forward_hook(lambda *_: self._begin("denoise"))  # the last text is the last call
        vae.post_quant_conv.register_forward_pre_hook(self._see_final)
        for unet in unets:
            unet.register_forward_pre_hook(self._count)

    def watch(self, case: Case, draw: Callable[[], object]) -> Drawn:
        self._begun: dict[str, float] = {}
        self._rows = Counter[str]()
        self._begin("text")
        draw()
        self._begin("end")
        rows = Rows(self._rows["forward"], self._rows["gradient"]) if self._counts else None
        return Drawn(self._final.cpu(), self._stages(), rows, case.sampling.evaluations)

    def _begin(self, stage: str) -> None:
        wait_for_device()
        self._begun[stage] = perf_counter()

    def _stages(self) -> dict[str, float]:
        names = ("text", "denoise", "decode", "end")
        return {name: self._begun[then] - self._begun[name] for name, then in pairwise(names)}

    def _see_final(self, _: Module, inputs: tuple[Tensor, ...]) -> None:
        self._begin("decode")
        self._final = (inputs[0] * self._latent_scale).float()

    def _count(self, _: Module, inputs: tuple[Tensor, ...]) -> None:
        self._rows["gradient" if inputs[0].requires_grad else "forward"] += len(inputs[0])


def _load_stock(target: Target, compiled: bool = False) -> Drawer:
    from benchmarks.eager.stock import stock_text_to_image

    pipeline = stock_text_to_image(target.text_to_image, target.torch_dtype, target.device)
    observer = Observer(pipeline.text_encoder, [] if compiled else [pipeline.unet], pipeline.vae)
    if compiled:
        pipeline.unet = torch.compile(pipeline.unet)
    return lambda case: observer.watch(case, partial(pipeline, **_of_stock(case, target)))


def _load_stock_spatial(target: Target) -> Drawer:
    from benchmarks.eager.stock import stock_spatial

    pipeline = stock_spatial(target.text_to_image, target.spatial, target.torch_dtype, target.device)
    observer = Observer(pipeline.text_encoder, [pipeline.unet], pipeline.vae)
    placed = {
        "gligen_phrases": [region.phrase for region in LAYOUT.regions],
        "gligen_boxes": [list(region.bounding_box()) for region in LAYOUT.regions],
        "gligen_scheduled_sampling_beta": 1.0,
    }
    return lambda case: observer.watch(case, partial(pipeline, **_of_stock(case, target), **placed))


def _of_stock(case: Case, target: Target) -> dict[str, Any]:
    return {
        "prompt": PROMPT,
        "num_inference_steps": case.sampling.steps,
        "guidance_scale": case.sampling.guidance_scale,
        "num_images_per_prompt": case.count,
        "latents": case.latents.to(target.device, target.torch_dtype),
    }


def _load_eager(target: Target, released: bool) -> Drawer:
    from benchmarks.eager.settings import PAPER, RELEASED_LAYOUT, Settings

    eager, observer = _open_eager(target)
    form = RELEASED_LAYOUT if released else PAPER

    def draw(case: Case) -> Drawn:
        sampling = case.sampling
        settings = Settings(sampling.steps, sampling.guidance_scale, coefficient_scale=COEFFICIENT_SCALE, form=form)
        prompts, layouts = [PROMPT] * case.count, [LAYOUT] * case.count
        return observer.watch(
            case, lambda: eager.decode(eager(prompts, layouts, case.latents, case.coefficients, settings).latents)
        )

    return draw


@cache
def _open_eager(target: Target) -> tuple[Any, Observer]:
    """Once, for both forms."""
    from benchmarks.eager.realcompo import EagerRealCompo

    eager = EagerRealCompo.load(
        target.text_to_image, target.spatial, target.torch_dtype, target.device, latent_size=target.latent_size
    )
    return eager, Observer(eager.texts.encoder, list(eager.unets.values()), eager.vae)


def _load_runtime(target: Target, bundle: str, mode: Mode, backend: str) -> Drawer:
    pipe = _open_bundle(bundle, target.device, backend)
    worked = predictors(pipe.manifest), differentiators(pipe.manifest)
    wanted = preset_knobs(None, pipe.manifest, {})  # nothing, unless its models are distilled

    def draw(case: Case) -> Drawn:
        sampling = {"steps": case.sampling.steps, "guidance_scale": case.sampling.guidance_scale, **wanted}
        output = pipe(
            PROMPT,
            layout=LAYOUT,
            num_images=case.count,
            latents=case.latents,
            coefficients=case.coefficients,
            coefficient_scale=COEFFICIENT_SCALE,
            **sampling,
            **mode.options,
        )
        stats = output.stats
        rows = Rows(*(sum(stats.rows[role] for role in roles) for roles in worked))
        evaluations = int(wanted["steps"]) if wanted else case.sampling.evaluations
        engines = dict(stats.engine_seconds)
        return Drawn(output.latents.cpu(), dict(stats.seconds), rows, evaluations, engines, stats.busy_seconds)

    return draw


@cache
def _open_bundle(bundle: str, device: str, backend: str) -> RealCompo:
    """Once, for all modes."""
    return RealCompo.load(bundle, backend=backend, device=device)


def _runtime(bundle: str, mode: Mode, backend: str, name: str) -> Contender:
    about, load = f"{mode.about}; engines, {backend}", partial(_load_runtime, bundle=bundle, mode=mode, backend=backend)
    return Contender(name, about, load, batched=mode.batched)


BASELINES = (
    Contender(STOCK, "diffusers' text-to-image pipeline", _load_stock, batched=True),
    Contender("stock_spatial", "diffusers' GLIGEN pipeline", _load_stock_spatial),
    Contender("eager", "RealCompo in eager PyTorch, the paper's form", partial(_load_eager, released=False)),
    Contender(
        "eager_released", "the same, the released code's form", partial(_load_eager, released=True), most_rounds=1
    ),
)
COMPILED = Contender("stock_compiled", "the stock pipeline, torch.compile", partial(_load_stock, compiled=True))
