"""How well Tabletop's ControlNets control, in diffusers' own pipeline: `python -m benchmarks.tabletop.control_quality`.

Tables go to stdout; its last line is one JSON object.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from diffusers import (
    ControlNetModel,
    DPMSolverMultistepScheduler,
    StableDiffusionControlNetPipeline,
    StableDiffusionPipeline,
)
from numpy.typing import NDArray
from PIL import Image
from rich.progress import track

from benchmarks.commands.options import tables_console
from benchmarks.quality import held_out_scenes
from benchmarks.tables import quality_grid, to_rich
from benchmarks.tabletop.controls import Kind, control_images, control_map
from benchmarks.tabletop.scenes import Scene
from benchmarks.tabletop.score import mean_scores, score_image
from runtime.cli import plain_errors

GUIDANCE_SCALE = 2.5
BATCH = 20
MODES: dict[str, tuple[Kind, ...]] = {
    "text_to_image": (),
    "segmentation": ("segmentation",),
    "depth": ("depth",),
    "segmentation, depth": ("segmentation", "depth"),
}

Pictures = NDArray[np.float32]


def main(
    pair: Annotated[Path, typer.Option(help="Folder with text_to_image and the ControlNets.")] = Path(
        "engines/tabletop"
    ),
    scenes: Annotated[int, typer.Option(min=4, help="Held-out scenes, a quarter of each category.")] = 100,
    steps: Annotated[int, typer.Option(min=1, help="Of DPM-Solver++ 2M.")] = 20,
    mode: Annotated[list[str] | None, typer.Option(help=f"{'; '.join(MODES)}. Repeat it. Default: all.")] = None,
    captions: Annotated[bool, typer.Option(help="Without, the control images alone tell what to draw.")] = True,
    pictures: Annotated[Path | None, typer.Option(help="Where to put sheets of what was drawn.")] = None,
) -> None:
    """Score pictures drawn from captions and control images of held-out scenes."""
    with plain_errors():
        asked, rows = held_out_scenes(scenes), {}
        for name in mode or MODES:
            drawn = np.concatenate(list(track(draw(pair, MODES[name], asked, steps, captions), name, scenes // BATCH)))
            rows[name] = asdict(mean_scores(map(score_image, drawn, asked)))
            if pictures:
                save_sheet(pictures / f"{name}.png", drawn, asked, MODES[name])
        tables_console().print(to_rich(quality_grid(f"{scenes} scenes, {steps} steps", rows)))
        print(json.dumps({"scenes": scenes, "steps": steps, "captions": captions, "rows": rows}))


def draw(
    pair: Path, kinds: Sequence[Kind], scenes: Sequence[Scene], steps: int, captions: bool = True
) -> Iterator[Pictures]:
    """Pictures (N, 64, 64, 3) in 0..1 of a batch of scenes after the other, from the same noise whatever the kinds."""
    pipeline = load_pipeline(pair, kinds)
    for start in range(0, len(scenes), BATCH):
        chunk = scenes[start : start + BATCH]
        yield pipeline(
            [scene.caption if captions else "" for scene in chunk],
            **({"image": [_images(chunk, kind) for kind in kinds]} if kinds else {}),
            latents=torch.randn(len(chunk), 4, 16, 16, generator=torch.Generator().manual_seed(start)),
            num_inference_steps=steps,
            guidance_scale=GUIDANCE_SCALE,
            output_type="np",
        ).images


def load_pipeline(pair: Path, kinds: Sequence[Kind]) -> Any:
    """diffusers' own pipeline, in float32, with a ControlNet of each kind."""
    stock = StableDiffusionPipeline.from_pretrained(pair / "text_to_image", torch_dtype=torch.float32)
    controlnets = [
        ControlNetModel.from_pretrained(pair / f"controlnet-{kind}", torch_dtype=torch.float32) for kind in kinds
    ]
    parts = {**stock.components, "scheduler": DPMSolverMultistepScheduler.from_config(stock.scheduler.config)}
    if controlnets:
        parts["controlnet"] = controlnets
    kind = StableDiffusionControlNetPipeline if controlnets else StableDiffusionPipeline
    pipeline = kind(**parts, requires_safety_checker=False)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def save_sheet(path: Path, drawn: Pictures, scenes: Sequence[Scene], kinds: Sequence[Kind], columns: int = 12) -> None:
    """A PNG of the first scenes: their control images, one row a kind, above what was drawn."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [*(_images(scenes[:columns], kind).permute(0, 2, 3, 1).numpy() for kind in kinds), drawn[:columns]]
    sheet = np.concatenate([np.concatenate(list(row), axis=1) for row in rows])
    Image.fromarray((255 * sheet).round().astype(np.uint8)).save(path)


def _images(scenes: Sequence[Scene], kind: Kind) -> torch.Tensor:
    return control_images(torch.from_numpy(np.stack([control_map(scene, kind) for scene in scenes])), kind)


if __name__ == "__main__":
    typer.run(main)
