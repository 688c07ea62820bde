"""The command line: `python -m export build | list | inspect | quantize | widen | verify`."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from export.checkpoints.files import identify
from export.checkpoints.lora_options import parse_loras
from export.checkpoints.source import is_weights
from export.pairs import PAIRS
from export.progress import PartProgress
from export.tables import (
    bundle_table,
    engine_table,
    figures,
    layer_table,
    plan_table,
    summary,
    tensor_table,
    weights_table,
)
from runtime.bundle.manifest import (
    MANIFEST,
    read_manifest,
)
from runtime.cli import folding_table, plain_errors
from runtime.errors import RealCompoError
from runtime.spatial.control_images import CONTROL_KINDS
from runtime.words import Backend, Precision, Quantization

# What loads diffusers and ONNX is imported by the commands that need it, so that --help does not wait for them.

app = typer.Typer(
    help="Turn a text-to-image and a spatial-aware diffusion model into a bundle of engines for RealCompo's runtime.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
console = Console()
Bundle = Annotated[Path, typer.Argument(help="Folder of a bundle, such as engines/tabletop.", show_default=False)]


@app.command(
    epilog="""
Examples:

    python -m export build tabletop --out engines/tabletop

    python -m export build sd15-gligen --text-to-image DIR --spatial DIR --out engines/sd15 --backend tensorrt-rtx

    python -m export build sd15-gligen --spatial masterful/gligen-1-4-generation-text-box@refs/pr/2 --out outputs/sd15

    python -m export build sd15-gligen --random-weights --precision fp16 --out outputs/sd15

    python -m export build tabletop --lora engines/tabletop/lora-papercut.safetensors:0.8 --out outputs/papercut
"""
)
def build(
    pair: Annotated[str, typer.Argument(help=f"Name of a known pair: {', '.join(PAIRS)}.", show_default=False)],
    out: Annotated[
        Path, typer.Option(help="Folder of the bundle to write, such as engines/tabletop.", show_default=False)
    ],
    precision: Annotated[
        Precision, typer.Option(help="Precision of weights and activations: fp32, fp16 or bf16.")
    ] = "fp32",
    backend: Annotated[
        Backend,
        typer.Option(
            help="Engines to build: onnx (ONNX graphs alone), or tensorrt-rtx or tensorrt (graphs, and plans "
            "made from them)."
        ),
    ] = "onnx",
    batch: Annotated[
        str,
        typer.Option(
            metavar="MIN:OPT:MAX",
            help="Range of UNet rows that the plans take, MIN:OPT:MAX or one number; one image with guidance "
            "takes two rows.",
        ),
    ] = "1:2:8",
    height: Annotated[
        int | None, typer.Option(help="Height of the image in pixels. Default: the pair's own.", show_default=False)
    ] = None,
    width: Annotated[
        int | None, typer.Option(help="Width of the image in pixels. Default: the pair's own.", show_default=False)
    ] = None,
    compute_capability: Annotated[
        list[str] | None,
        typer.Option(
            help="Compute capability that tensorrt-rtx plans are built for, such as 8.9; repeat it for more. "
            "Default: all from 8.0.",
            show_default=False,
        ),
    ] = None,
    optimization_level: Annotated[
        int | None,
        typer.Option(
            help="Level of tensorrt's search for fast kernels, 0 (least) to 5 (longest). Default: 3.",
            show_default=False,
        ),
    ] = None,
    refit: Annotated[
        bool, typer.Option("--refit", help="Build plans whose weights can be replaced later; needs a GPU.")
    ] = False,
    strip_weights: Annotated[
        bool,
        typer.Option(
            "--strip-weights", help="Build plans without weights, which are read from the graph at load; needs a GPU."
        ),
    ] = False,
    version_compatible: Annotated[
        bool,
        typer.Option("--version-compatible", help="Build tensorrt plans that later versions of TensorRT can run too."),
    ] = False,
    timing_cache: Annotated[
        Path | None,
        typer.Option(help="File in which tensorrt keeps kernel timings from build to build.", show_default=False),
    ] = None,
    text_to_image: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Text-to-image model to use instead of the pair's: diffusers folder, file of weights, or on a hub "
            r"REPO\[@REVISION][:PATH], PATH being a folder or a file of weights.",
        ),
    ] = None,
    spatial: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODEL",
            help="Spatial model to use instead of the pair's: diffusers folder, file of weights, or on a hub "
            r"REPO\[@REVISION][:PATH]. "
            "For ControlNets and T2I-Adapters write KIND=MODEL, openpose:thick=MODEL if trained with thick people "
            f"(KIND is {', '.join(CONTROL_KINDS)}); repeat it for more.",
        ),
    ] = None,
    lora: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE[:SCALE][@MODEL]",
            help="LoRA file (LoCon, LoHa, LoKr and DoRA too) to fuse, with its scale (default 1), into text_to_image "
            "(default), spatial or both; a distillation belongs into both. Repeat it for more.",
        ),
    ] = None,
    tokenizer: Annotated[
        Path | None,
        typer.Option(
            help="Folder with CLIP's vocab.json and merges.txt; needed when the text-to-image model is a single file.",
            show_default=False,
        ),
    ] = None,
    vae: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE_OR_DIR",
            help="VAE to use instead of that of a single-file text-to-image model, or where it has none: a file of "
            "weights or a diffusers folder.",
            show_default=False,
        ),
    ] = None,
    random_weights: Annotated[
        bool,
        typer.Option(
            "--random-weights",
            help="Fill the pair's architecture with random weights, to try a build or time it without a download.",
        ),
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Build every part again, even those that have not changed.")
    ] = False,
) -> None:
    """Build a bundle. If it stops half-way, the same command resumes; parts that have not changed are kept."""
    with plain_errors(interrupted="stopped; the same command resumes"):
        rows = _parse_batch(batch)
        from export.build import Options
        from export.build import build as build_bundle
        from export.plans.plan_options import BuilderOptions
        from export.spatial import find_pair

        models = replace(find_pair(pair, text_to_image, spatial or ()), loras=parse_loras(lora or ()))
        options = Options(
            backend=backend,
            precision=precision,
            batch=rows,
            height=height,
            width=width,
            compute_capabilities=tuple(compute_capability or ()),
            builder=BuilderOptions(optimization_level, refit, strip_weights, version_compatible, timing_cache),
            tokenizer=tokenizer,
            vae=vae,
            random_weights=random_weights,
            force=force,
        )
        started = time.monotonic()
        with PartProgress(console) as progress:
            manifest = build_bundle(models, out, options, progress.report, progress.say, progress.expect, progress.tell)
        console.print(engine_table(out, manifest))
        console.print(f"{out / MANIFEST} is ready, {time.monotonic() - started:.0f} s")


@app.command("list")
def list_() -> None:
    """List the known pairs, and the bundles under engines/."""
    with plain_errors():
        table = folding_table("pair", "text-to-image", "spatial", "", title="Known pairs")
        for pair in PAIRS.values():
            controls = "\n".join(f"{control.kind}: {control.model}" for control in pair.controls)
            table.add_row(pair.name, pair.text_to_image, controls or pair.spatial, pair.about)
        console.print(table)
        bundles = folding_table("bundle", "pair", "backend", "precision", "image", "size", title="Bundles")
        for path in sorted(Path("engines").glob(f"*/{MANIFEST}")):
            bundles.add_row(str(path.parent), *summary(path.parent))
        console.print(bundles if bundles.row_count else "No bundles under engines/.")


@app.command(
    epilog="""
Examples:

    python -m export inspect engines/tabletop

    python -m export inspect engines/tabletop/lora-papercut.safetensors
"""
)
def inspect(
    bundle: Annotated[
        Path,
        typer.Argument(help="Folder of a bundle, or a file of weights.", metavar="BUNDLE|FILE", show_default=False),
    ],
    layers: Annotated[
        bool, typer.Option("--layers", help="Show also how many operators of each engine compute in which type.")
    ] = False,
) -> None:
    """Show what a bundle holds: models, engines, attention maps, plans; or what a file of weights is."""
    with plain_errors():
        if not bundle.is_dir() and is_weights(bundle):
            console.print(weights_table(identify(bundle)))
            return
        manifest = read_manifest(bundle)
        console.print(bundle_table(manifest))
        console.print(engine_table(bundle, manifest))
        console.print(tensor_table(manifest))
        if any(engine.plan for engine in manifest.engines.values()):
            console.print(plan_table(manifest))
        if layers:
            console.print(layer_table(bundle, manifest))


@app.command(
    epilog="Example:  python -m export quantize engines/tabletop --out outputs/int8 --mode int8 --layout "
    "examples/red_ball_blue_cube.json"
)
def quantize(
    bundle: Bundle,
    out: Annotated[Path, typer.Option(help="Folder of the new bundle.", show_default=False)],
    mode: Annotated[
        Quantization, typer.Option(help="Type of the 8-bit numbers: int8, or fp8 (GPUs from compute capability 8.9).")
    ],
    layout: Annotated[
        list[Path],
        typer.Option(
            help="File layout.json with a prompt, drawn to calibrate; repeat it for more.", show_default=False
        ),
    ],
    steps: Annotated[
        int, typer.Option(min=1, help="Number of denoising steps of the runs that calibrate, 1 or more.")
    ] = 20,
) -> None:
    """Write a copy of an fp32 bundle with 8-bit UNets, calibrated on what they see while the bundle draws."""
    with plain_errors():
        from export.onnx.quantize import quantize_bundle

        with console.status("quantizing") as status:
            manifest = quantize_bundle(bundle, out, mode, layout, steps, status.update)
        console.print(engine_table(out, manifest))
        console.print(f"{out / MANIFEST} is ready")


@app.command(epilog="Example:  python -m export widen outputs/bf16 --out outputs/bf16-on-cpu")
def widen(
    bundle: Bundle, out: Annotated[Path, typer.Option(help="Folder of the new bundle.", show_default=False)]
) -> None:
    """Write a copy of a bf16 bundle that runs without bf16 arithmetic, as on CPUs: it rounds alike, in fp32."""
    with plain_errors():
        from export.onnx.widen import widen_bundle

        console.print(engine_table(out, widen_bundle(bundle, out)))
        console.print(f"{out / MANIFEST} is ready")


@app.command(epilog="Example:  python -m export verify engines/tabletop")
def verify(bundle: Bundle) -> None:
    """Check a bundle's hashes and graphs, and measure its errors again if its checkpoints are on this machine."""
    with plain_errors():
        from export.onnx.verify import verify_bundle

        for check in verify_bundle(bundle):
            found = figures(check.errors) if check.errors else "outputs are finite"
            console.print(f"{check.role}: {found}{f'; {check.why}' if check.why else ''}")
        console.print(f"{bundle} is in order")


def _parse_batch(text: str) -> tuple[int, int, int]:
    try:
        numbers = tuple(map(int, text.split(":")))
        smallest, usual, largest = numbers * 3 if len(numbers) == 1 else numbers
    except ValueError as error:
        raise RealCompoError(f"--batch {text} is not of the form MIN:OPT:MAX, such as 1:2:8, or 2") from error
    return smallest, usual, largest


if __name__ == "__main__":
    app(prog_name="python -m export")
