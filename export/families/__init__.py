"""Families of text-to-image models: one file and one row of `FAMILIES` each."""

from collections.abc import Mapping
from typing import Any

from export.families.family import Family
from export.families.sd1 import SD1
from export.families.sd2 import SD2
from export.families.sdxl import SDXL

FAMILIES: dict[str, Family] = {family.name: family for family in (SD1, SD2, SDXL)}


def family_of(unet: Mapping[str, Any]) -> Family:
    """The family that a UNet's or a ControlNet's config tells; of an unknown one, the first, whose rules it breaks."""
    embed_type, linear = unet.get("addition_embed_type"), bool(unet.get("use_linear_projection"))
    of_type = [family for family in FAMILIES.values() if family.embed_type == embed_type]
    return next((family for family in of_type if family.linear_projection == linear), (*of_type, SD1)[0])
