"""How well Tabletop's ControlNets and T2I-Adapter control, in diffusers' own pipelines:
`python -m benchmarks.quality.control_quality`.

A table goes to stdout; its last line is one JSON object.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import compress
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import numpy as np
import torch
import typer
from diffusers import (
    ControlNetModel,
    DPMSolverMultistepScheduler,
    StableDiffusionAdapterPipeline,
    StableDiffusionControlNetPipeline,
    T2IAdapter,
)
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.progress import track

from benchmarks.eager.stock import stock_text_to_image
from benchmarks.grids import show
from benchmarks.quality.tables import quality_grid
from benchmarks.tabletop.controls import Kind, control_images, control_map
from benchmarks.tabletop.scenes import Scene, held_out_scenes
from benchmarks.tabletop.score import Scores, mean_scores, score_image
from runtime.cli import plain_errors
from runtime.errors import RealCompoError

BATCH = 20
Mode = Literal["text_to_image", "segmentation", "depth", "both", "canny", "adapter"]
MODES: tuple[Mode, ...] = get_args(Mode)
CONTROLS: dict[Mode, tuple[Kind, ...]] = {
    "text_to_image": (),
    "segmentation": ("segmentation",),
    "depth": ("depth",),
    "both": ("segmentation", "depth"),
    "canny": ("canny",),
    "adapter": ("canny",),
}

Pictures = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Sampling:
    """How every mode draws its pictures."""

    steps: int
    guidance_scale: float = 2.5
    control_scale: float = 1.0  # of what each adds


def main(
    pair: Annotated[Path, typer.Option(help="Folder of text_to_image and what is attached.")] = Path(
        "engines/tabletop"
    ),
    scenes: Annotated[int, typer.Option(min=4, help="Held-out scenes, a quarter of each category.")] = 200,
    steps: Annotated[int, typer.Option(min=1, help="Of DPM-Solver++ 2M.")] = 20,
    guidance_scale: Annotated[float, typer.Option(help="Of captions; control images go to both rows.")] = 2.5,
    control_scale: Annotated[float, typer.Option(help="Of what each adds.")] = 1.0,
    mode: Annotated[Mode | None, typer.Option(help="What to score. Default: all.")] = None,
    captions: Annotated[bool, typer.Option(help="Without them, control images alone tell what to draw.")] = True,
    pictures: Annotated[Path | None, typer.Option(help="Folder for a sheet of each mode's pictures.")] = None,
) -> None:
    """Score pictures drawn from the captions and control images of held-out scenes.

    Scenes with one kind in several colours, whose places neither caption nor map settles, also have rows of their own.
    """
    with plain_errors():
        asked, rows = held_out_scenes(scenes), dict[str, dict[str, float]]()
        sampling = Sampling(steps, guidance_scale, control_scale)
        prompts = [scene.caption if captions else "" for scene in asked]
        for name in (mode,) if mode else MODES:
            drawn = draw_all(load_pipeline(pair, name), prompts, asked, name, sampling)
            rows[name] = asdict(score(drawn, asked))
            if any(unsettled := [is_unsettled(scene) for scene in asked]):
                rows[f"{name}, unsettled"] = asdict(score(drawn[unsettled], list(compress(asked, unsettled))))
            if pictures:
                save_sheet(pictures / f"{name}.png", drawn, asked, CONTROLS[name])
        show([quality_grid(f"{scenes} scenes, {steps} steps", rows)])
        print(json.dumps({"scenes": scenes, **asdict(sampling), "captions": captions, "rows": rows}))


def load_pipeline(pair: Path, mode: Mode) -> Any:
    """diffusers' own pipeline, in float32, with the mode's ControlNets or its T2I-Adapter.

    Raises:
        RealCompoError: the pair has no such model.
    """
    pipeline = stock_text_to_image(pair / "text_to_image")
    if CONTROLS[mode]:
        load = _with_adapter if mode == "adapter" else _with_controlnets
        pipeline = load(pipeline.components, pair, CONTROLS[mode])
        pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
    return pipeline


def _with_controlnets(parts: dict[str, Any], pair: Path, kinds: Sequence[Kind]) -> Any:
    controlnets = [_load(ControlNetModel, pair, "controlnet", kind) for kind in kinds]
    return StableDiffusionControlNetPipeline(**parts, controlnet=controlnets, requires_safety_checker=False)


def _with_adapter(parts: dict[str, Any], pair: Path, kinds: Sequence[Kind]) -> Any:
    adapter = _load(T2IAdapter, pair, "adapter", kinds[0])
    taken = {name: part for name, part in parts.items() if name != "image_encoder"}
    return StableDiffusionAdapterPipeline(**taken, adapter=adapter, requires_safety_checker=False)


def _load(kind_of_model: Any, pair: Path, name: str, kind: Kind) -> Any:
    folder = pair / f"{name}-{kind}"
    if not folder.is_dir():
        raise RealCompoError(f"{folder} is not there; python -m benchmarks.tabletop.train_{name} {kind} trains it")
    return kind_of_model.from_pretrained(folder, torch_dtype=torch.float32, low_cpu_mem_usage=False)


def draw_all(
    pipeline: Any, prompts: Sequence[str], scenes: Sequence[Scene], mode: Mode, sampling: Sampling
) -> Pictures:
    """(N, 128, 128, 3) in 0..1, from the same noise in every mode."""
    drawn = []
    for start in track(range(0, len(scenes), BATCH), mode, console=Console(stderr=True)):
        batch = slice(start, start + BATCH)
        told = _told(mode, [scene_controls(scenes[batch], kind) for kind in CONTROLS[mode]], sampling)
        latents = torch.randn(len(scenes[batch]), 4, 16, 16, generator=torch.Generator().manual_seed(start))
        output = pipeline(
            list(prompts[batch]),
            **told,
            latents=latents,
            num_inference_steps=sampling.steps,
            guidance_scale=sampling.guidance_scale,
            output_type="np",
        )
        drawn.append(output.images)
    return np.concatenate(drawn)


def _told(mode: Mode, images: Sequence[torch.Tensor], sampling: Sampling) -> dict[str, Any]:
    """What the mode's pipeline is given besides prompts."""
    match mode:
        case "text_to_image":
            return {}
        case "adapter":
            return {"image": images[0], "adapter_conditioning_scale": sampling.control_scale}
        case _:
            return {"image": list(images), "controlnet_conditioning_scale": sampling.control_scale}


def scene_controls(scenes: Sequence[Scene], kind: Kind) -> torch.Tensor:
    """Control images (N, 3, 128, 128) float32 in 0..1."""
    return control_images(torch.from_numpy(np.stack([control_map(scene, kind) for scene in scenes])), kind)


def is_unsettled(scene: Scene) -> bool:
    """Whether a kind is asked for in several colours: neither caption nor map says which of them goes where."""
    looks = {(thing.kind, thing.color) for thing in scene.things}
    return len(looks) > len({kind for kind, _ in looks})


def score(drawn: Pictures, scenes: Sequence[Scene]) -> Scores:
    return mean_scores(score_image(image, scene) for image, scene in zip(drawn, scenes, strict=True))


def save_sheet(path: Path, drawn: Pictures, scenes: Sequence[Scene], kinds: Sequence[Kind], columns: int = 12) -> None:
    """A PNG of the first scenes: a row of their control images of each kind, and one of what was drawn."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [*(scene_controls(scenes[:columns], kind).permute(0, 2, 3, 1).numpy() for kind in kinds), drawn[:columns]]
    sheet = np.concatenate([np.concatenate(list(row), axis=1) for row in rows])
    Image.fromarray((255 * sheet).round().astype(np.uint8)).save(path)


if __name__ == "__main__":
    typer.run(main)
