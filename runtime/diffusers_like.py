"""The arguments of diffusers' `StableDiffusionGLIGENPipeline`, drawn by a bundle: a program changes one line.

from runtime.diffusers_like import RealCompoPipeline

pipe = RealCompoPipeline.from_pretrained("engines/tabletop")
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from runtime.errors import RealCompoError
from runtime.layouts.layout import Layout, Region
from runtime.pipeline import RealCompo
from runtime.sampling import make_table

OUTPUTS = ("pil", "np", "pt", "latent")
MOST_SEED = 2**62
StepEnd = Callable[["RealCompoPipeline", int, float, dict[str, Any]], Mapping[str, Any] | None]


@dataclass(frozen=True)
class PipelineOutput:
    """As diffusers' `StableDiffusionPipelineOutput`: fields by name, and as a tuple."""

    images: Any  # PIL images; (B,H,W,3) or (B,3,H,W) in 0..1; or latents (B,4,h,w)
    nsfw_content_detected: list[bool] | None = None  # nothing is checked

    def __getitem__(self, key: int | str) -> Any:
        return getattr(self, key) if isinstance(key, str) else self.to_tuple()[key]

    def to_tuple(self) -> tuple[Any, ...]:
        return (self.images, self.nsfw_content_detected)


class _Interrupted(Exception):
    def __init__(self, latents: Tensor) -> None:
        self.latents = latents


class RealCompoPipeline:
    """A `RealCompo` behind diffusers' arguments. As there, a callback may set `_interrupt` to end a run early."""

    def __init__(self, pipe: RealCompo) -> None:
        self.realcompo = pipe
        self._interrupt = False

    @classmethod
    def from_pretrained(cls, path: Path | str, **options: Any) -> "RealCompoPipeline":
        """Open a bundle; the options are those of `RealCompo.load`."""
        return cls(RealCompo.load(path, **options))

    def __call__(
        self,
        prompt: str | Sequence[str],
        height: int | None = None,
        width: int | None = None,
        num_inference_steps: int = 50,
        guidance_scale: float = 7.5,
        gligen_scheduled_sampling_beta: float = 0.3,
        gligen_phrases: Sequence[str] = (),
        gligen_boxes: Sequence[Sequence[float]] = (),
        negative_prompt: str | Sequence[str] | None = None,
        num_images_per_prompt: int = 1,
        generator: Generator | Sequence[Generator] | None = None,
        latents: Tensor | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: StepEnd | None = None,
        **options: Any,
    ) -> PipelineOutput | tuple[Any, ...]:
        """Draw as `RealCompo.__call__`, whose other options may follow, such as gradient and sampler.

        Args:
            gligen_phrases: a region's each, in words of the prompt, of all images.
            gligen_boxes: (x0, y0, x1, y1) in 0..1 each.
            generator: draws the latents as diffusers does, then the coefficients; one, or one for each image.
            output_type: pil, np, pt or latent.
            callback_on_step_end: called with this pipeline, the evaluation's number (from 0), its timestep and
                {"latents": (B,4,h,w)}. It cannot change latents.

        Raises:
            RealCompoError: a value out of its range, or what this pipeline has not.
            TypeError: an unknown argument.
        """
        self._check(height, width, output_type, gligen_phrases, gligen_boxes)
        count = (1 if isinstance(prompt, str) else len(prompt)) * num_images_per_prompt
        start = self._draw(count, generator, latents)
        self._interrupt = False
        told = {"sampler": "plms", **options}
        scheduler = self.realcompo.manifest.scheduler
        table = make_table(told["sampler"], num_inference_steps, scheduler, told.get("spacing"))
        try:
            output = self.realcompo(
                prompt,
                layout=Layout([_region(*pair) for pair in zip(gligen_phrases, gligen_boxes, strict=True)]),
                negative_prompt=negative_prompt or "",
                num_images=num_images_per_prompt,
                steps=num_inference_steps,
                guidance_scale=guidance_scale,
                grounding_fraction=gligen_scheduled_sampling_beta,
                callback=self._callback(callback_on_step_end, [step.timestep for step in table]),
                **start,
                **told,
            )
            final, images = output.latents, output.images
        except _Interrupted as interrupted:
            final, images = interrupted.latents, self.realcompo.decode(interrupted.latents)
        found = PipelineOutput(_as(output_type, final, images))
        return found if return_dict else found.to_tuple()

    def _check(
        self,
        height: int | None,
        width: int | None,
        output_type: str,
        phrases: Sequence[str],
        boxes: Sequence[Sequence[float]],
    ) -> None:
        made = self.realcompo.manifest.image_size
        if (height or made[0], width or made[1]) != made:
            raise RealCompoError(f"height={height}, width={width}: this bundle draws {made[1]}x{made[0]} alone")
        if output_type not in OUTPUTS:
            raise RealCompoError(f"output_type={output_type!r} is unknown; use one of {', '.join(OUTPUTS)}")
        if len(phrases) != len(boxes):
            raise RealCompoError(f"{len(phrases)} gligen_phrases for {len(boxes)} gligen_boxes; give one each")

    def _draw(
        self, count: int, generator: Generator | Sequence[Generator] | None, latents: Tensor | None
    ) -> dict[str, Any]:
        """Latents, coefficients, and the seed of fresh noise."""
        channels, height, width = self.realcompo.manifest.latent_shape
        drawn = _randn((count, channels, height, width), generator) if latents is None else latents
        coefficients = _randn((count, 2, height, width), generator)
        first = generator[0] if isinstance(generator, Sequence) else generator
        return {
            "latents": drawn.float(),
            "coefficients": coefficients,
            "seed": int(torch.randint(MOST_SEED, (1,), generator=first)),
        }

    def _callback(
        self, step_end: StepEnd | None, timesteps: Sequence[float]
    ) -> Callable[[int, int, Tensor, Tensor], None] | None:
        if step_end is None:
            return None

        def call(i: int, evaluations: int, latents: Tensor, coefficients: Tensor) -> None:
            step_end(self, i - 1, timesteps[i - 1], {"latents": latents})
            if self._interrupt and i < evaluations:
                raise _Interrupted(latents)

        return call


def _region(phrase: str, box: Sequence[float]) -> Region:
    if len(box) != 4:
        raise RealCompoError(f"the gligen box of {phrase!r} is {list(box)}; give x0, y0, x1, y1")
    x0, y0, x1, y1 = box
    return Region(phrase, box=(x0, y0, x1, y1))


def _randn(shape: tuple[int, ...], generator: Generator | Sequence[Generator] | None) -> Tensor:
    """As diffusers' `randn_tensor`: all at once, or each image from a generator of its own."""
    if not isinstance(generator, Sequence):
        return torch.randn(shape, generator=generator)
    if len(generator) != shape[0]:
        raise RealCompoError(f"{len(generator)} generators for {shape[0]} images; give one, or one each")
    return torch.cat([torch.randn((1, *shape[1:]), generator=one) for one in generator])


def _as(output_type: str, latents: Tensor, images: Sequence[Any]) -> Any:
    if output_type == "latent":
        return latents
    if output_type == "pil":
        return list(images)
    array = np.stack([np.asarray(image) for image in images]).astype(np.float32) / 255
    return array if output_type == "np" else torch.from_numpy(array).permute(0, 3, 1, 2)
