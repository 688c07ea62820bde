"""The node that draws."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from comfy.model_management import throw_exception_if_processing_interrupted
from comfy.utils import ProgressBar
from comfy_api.latest import io
from PIL.Image import Image
from torch import Tensor

from runtime import Layout, RealCompo, RealCompoError

from .boxes import read_boxes, read_text
from .options import option_inputs, read_options
from .types import CATEGORY, Bundle

MOST_IMAGES, MOST_SIDE, MOST_PREVIEWS = 64, 16384, 1000
PREVIEW_SIDE = 512


class DrawNode(io.ComfyNode):
    """Two models draw one picture, each object in its box."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RealCompo",
            display_name="RealCompo",
            category=CATEGORY,
            description="Draws a prompt with its objects in their boxes, by two models that are balanced per pixel.",
            search_aliases=["layout", "gligen", "boxes", "compositional"],
            inputs=[*_asked(), *option_inputs()],
            outputs=[io.Image.Output(display_name="image")],
        )

    @classmethod
    def execute(
        cls,
        bundle: RealCompo,
        prompt: str,
        boxes: Any = None,
        phrases: str = "",
        boxes_width: int = 0,
        boxes_height: int = 0,
        layout: str = "",
        negative_prompt: str = "",
        num_images: int = 1,
        previews: int = 0,
        **options: Any,
    ) -> io.NodeOutput:
        height, width = bundle.manifest.image_size
        size = (boxes_width or width, boxes_height or height)
        layouts = _layouts(boxes, _lines(phrases), size, layout, prompt)
        output = bundle(
            prompt.strip() or (layouts[0].prompt if layouts else None) or "",
            layout=[one for one in layouts for _ in range(num_images)] or None,
            num_images=num_images * (len(layouts) or 1),
            negative_prompt=negative_prompt,
            callback=Steps(bundle, previews),
            **bundle.preset(**read_options(options)),
        )
        return io.NodeOutput(_tensor(output.images))


class Steps:
    """Called after each evaluation: stops where ComfyUI asks for it, and moves its progress bar."""

    def __init__(self, pipe: RealCompo, previews: int) -> None:
        self._pipe, self._previews, self._shown = pipe, previews, 0

    def __call__(self, i: int, evaluations: int, latents: Tensor, coefficients: Tensor) -> None:
        throw_exception_if_processing_interrupted()
        if i == 1:
            self._bar = ProgressBar(evaluations)
        self._bar.update_absolute(i, evaluations, self._preview(i, evaluations, latents))

    def _preview(self, i: int, evaluations: int, latents: Tensor) -> tuple[str, Image, int] | None:
        """The first image as it is now, spread evenly over the run."""
        if i == evaluations or self._shown >= i * (self._previews + 1) // evaluations:
            return None
        self._shown += 1
        return "JPEG", self._pipe.decode(latents[:1])[0], PREVIEW_SIDE


def _asked() -> list[io.Input]:
    """All but the library's options."""
    return [
        Bundle.Input("bundle"),
        io.String.Input("prompt", multiline=True, tooltip="What to draw. Empty: the prompt that the layout has."),
        io.MultiType.Input(
            "boxes", [io.BoundingBox, io.Array], optional=True,
            tooltip="Bounding boxes in pixels, or elements of Create Bounding Boxes; a list for each image, or one.",
        ),
        io.String.Input(
            "phrases", multiline=True, optional=True,
            tooltip="The objects' words, as the prompt has them, one a line in the boxes' order. Empty: the boxes' "
            "labels.",
        ),
        io.Int.Input(
            "boxes_width", default=0, min=0, max=MOST_SIDE, optional=True,
            tooltip="Width of the canvas that the boxes' pixels count in. 0: the bundle's.",
        ),
        io.Int.Input(
            "boxes_height", default=0, min=0, max=MOST_SIDE, optional=True,
            tooltip="Height of that canvas. 0: the bundle's.",
        ),
        io.String.Input(
            "layout", multiline=True, optional=True,
            tooltip="A layout.json's text, instead of boxes. Its pictures are PNG in base64; a path is never read.",
        ),
        io.String.Input("negative_prompt", multiline=True, optional=True, tooltip="What to steer away from."),
        io.Int.Input(
            "num_images", default=1, min=1, max=MOST_IMAGES, optional=True,
            tooltip="Number of images; of each list of boxes.",
        ),
        io.Int.Input(
            "previews", default=0, min=0, max=MOST_PREVIEWS, optional=True, advanced=True,
            tooltip="Number of pictures on the way; each takes the time of decoding one.",
        ),
    ]  # fmt: skip


def _layouts(boxes: Any, phrases: Sequence[str], size: tuple[int, int], text: str, prompt: str) -> list[Layout]:
    """One for all images, or one each; none where nothing is placed."""
    if boxes is not None and text.strip():
        raise RealCompoError("boxes and layout are both given; give one")
    if boxes is not None:
        return read_boxes(boxes, size, prompt, phrases)
    return [read_text(text)] if text.strip() else []


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def _tensor(images: Sequence[Image]) -> Tensor:
    """(B,H,W,3) float32 in 0..1, as ComfyUI has images."""
    return torch.from_numpy(np.stack([np.asarray(image) for image in images]).astype(np.float32) / 255)
