"""The known pairs of models: which text-to-image and which spatial-aware checkpoint belong together."""

from dataclasses import dataclass, replace

from runtime.errors import RealCompoError


@dataclass(frozen=True)
class Pair:
    """Two models that RealCompo composes. Each is a hub id, or a folder (relative to the repository's root)."""

    name: str
    text_to_image: str
    spatial: str
    about: str


_TABLE = (
    Pair(
        "tabletop",
        text_to_image="engines/tabletop/text_to_image",
        spatial="engines/tabletop/spatial",
        about="the demo pair of this repository, 64x64 pixels",
    ),
    Pair(
        "sd15-gligen",
        text_to_image="stable-diffusion-v1-5/stable-diffusion-v1-5",
        spatial="masterful/gligen-1-4-generation-text-box",
        about="Stable Diffusion 1.5 and GLIGEN (boxes), 512x512 pixels",
    ),
    Pair(
        "sd14-gligen",
        text_to_image="CompVis/stable-diffusion-v1-4",
        spatial="masterful/gligen-1-4-generation-text-box",
        about="Stable Diffusion 1.4 and the GLIGEN made from it: one UNet engine for both, 512x512 pixels",
    ),
)
PAIRS = {pair.name: pair for pair in _TABLE}


def find_pair(name: str, text_to_image: str | None = None, spatial: str | None = None) -> Pair:
    """The pair called `name`, with one or both of its models replaced.

    Raises:
        RealCompoError: no pair has that name.
    """
    if name not in PAIRS:
        raise RealCompoError(f"unknown pair {name!r}; known pairs: {', '.join(PAIRS)}")
    pair = PAIRS[name]
    return replace(pair, text_to_image=text_to_image or pair.text_to_image, spatial=spatial or pair.spatial)
