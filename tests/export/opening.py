"""Opening checkpoints by their folders."""

from collections.abc import Sequence

from export import spatial
from export.checkpoints.folders import Checkpoints
from export.pairs import Control, Pair


def open_checkpoints(
    text_to_image: str, spatial_model: str, controlnets: Sequence[str] = (), *, download: bool = True
) -> Checkpoints:
    """A pair's with GLIGEN, or with ControlNets if there are any."""
    controls = tuple(Control("segmentation", model) for model in controlnets)
    kind = "controlnet" if controls else "gligen"
    pair = Pair("tiny", text_to_image, spatial_model, "", kind, controls)
    return spatial.open_checkpoints(pair, download=download)
