"""The known pairs of models: which text-to-image and which spatial-aware checkpoint belong together."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from runtime.errors import RealCompoError
from runtime.spatial.control_images import CONTROL_KINDS, ControlKind


@dataclass(frozen=True)
class Control:
    """A ControlNet, and what it reads. The model is a hub id or a folder, as in `Pair`."""

    kind: ControlKind
    model: str


@dataclass(frozen=True)
class Lora:
    """A .safetensors file, and how much of it is fused into the text-to-image model."""

    file: str
    scale: float


@dataclass(frozen=True)
class Pair:
    """Two models that RealCompo composes. Each is a hub id, or a folder (relative to the repository's root).

    The spatial one is GLIGEN, or where there are controls the text-to-image one again, with these ControlNets.
    """

    name: str
    text_to_image: str
    spatial: str
    about: str
    controls: tuple[Control, ...] = ()
    loras: tuple[Lora, ...] = ()


def _controlled(name: str, text_to_image: str, control: Control, about: str) -> Pair:
    return Pair(name, text_to_image, text_to_image, about, (control,))


_SD15, _TABLETOP = "stable-diffusion-v1-5/stable-diffusion-v1-5", "engines/tabletop"
_TABLE = (
    Pair(
        "tabletop",
        text_to_image=f"{_TABLETOP}/text_to_image",
        spatial=f"{_TABLETOP}/spatial",
        about="the demo pair of this repository, 64x64 pixels",
    ),
    _controlled(
        "tabletop-segmentation",
        text_to_image=f"{_TABLETOP}/text_to_image",
        control=Control("segmentation", f"{_TABLETOP}/controlnet-segmentation"),
        about="the demo model and a ControlNet of label maps, 64x64 pixels",
    ),
    _controlled(
        "tabletop-depth",
        text_to_image=f"{_TABLETOP}/text_to_image",
        control=Control("depth", f"{_TABLETOP}/controlnet-depth"),
        about="the demo model and a ControlNet of depth maps, 64x64 pixels",
    ),
    Pair(
        "sd15-gligen",
        text_to_image=_SD15,
        spatial="masterful/gligen-1-4-generation-text-box",
        about="Stable Diffusion 1.5 and GLIGEN (boxes), 512x512 pixels",
    ),
    Pair(
        "sd14-gligen",
        text_to_image="CompVis/stable-diffusion-v1-4",
        spatial="masterful/gligen-1-4-generation-text-box",
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
    _controlled(
        "sdxl-openpose",
        text_to_image="stabilityai/stable-diffusion-xl-base-1.0",
        control=Control("openpose", "xinsir/controlnet-openpose-sdxl-1.0"),
        about="SDXL and a ControlNet of people's keypoints, 1024x1024 pixels",
    ),
)
PAIRS = {pair.name: pair for pair in _TABLE}


def find_pair(name: str, text_to_image: str | None = None, spatial: Sequence[str] = ()) -> Pair:
    """The pair called `name`, with one or both of its models replaced.

    Args:
        spatial: GLIGEN's model, or ControlNets: KIND=MODEL each, or MODEL alone for one of the kind that the pair has
            in its place.

    Raises:
        RealCompoError: no pair has that name, or it takes no such spatial models.
    """
    if name not in PAIRS:
        raise RealCompoError(f"unknown pair {name!r}; known pairs: {', '.join(PAIRS)}")
    pair = PAIRS[name]
    base = text_to_image or pair.text_to_image
    if pair.controls:
        controls = tuple(_control(pair, i, model) for i, model in enumerate(spatial)) or pair.controls
        return replace(pair, text_to_image=base, spatial=base, controls=controls)
    if len(spatial) > 1:
        raise RealCompoError(
            f"--spatial is given {len(spatial)} times; {name} has GLIGEN as spatial model, so give one"
        )
    return replace(pair, text_to_image=base, spatial=spatial[0] if spatial else pair.spatial)


def _control(pair: Pair, i: int, given: str) -> Control:
    """The ControlNet that is given in the i-th place."""
    named = next((kind for kind in CONTROL_KINDS if given.startswith(f"{kind}=")), None)
    if named:
        return Control(named, given.removeprefix(f"{named}="))
    if i < len(pair.controls):
        return Control(pair.controls[i].kind, given)
    raise RealCompoError(
        f"--spatial {given}: {pair.name} has {len(pair.controls)} ControlNet, so say what this one reads: "
        f"--spatial KIND={given}, KIND being {', '.join(CONTROL_KINDS)}"
    )


def parse_loras(given: Sequence[str]) -> tuple[Lora, ...]:
    """LoRAs from FILE or FILE:SCALE.

    Raises:
        RealCompoError: not a number, or not a .safetensors file.
    """
    return tuple(map(_parse, given))


def _parse(given: str) -> Lora:
    file, separator, scale = given.rpartition(":")
    if not separator:
        file, scale = given, "1"
    try:
        lora = Lora(file, float(scale))
    except ValueError as error:
        raise RealCompoError(f"--lora {given}: {scale!r} is no scale; write FILE:SCALE, such as {file}:0.8") from error
    check_lora(lora)
    return lora


def check_lora(lora: Lora) -> None:
    """Raise RealCompoError if it is not there, or not a .safetensors file."""
    path = Path(lora.file).expanduser()
    if path.suffix != ".safetensors":
        raise RealCompoError(f"--lora {lora.file} is no .safetensors file; others may run code as they are read")
    if not path.is_file():
        raise RealCompoError(f"--lora {lora.file}: the file does not exist")
