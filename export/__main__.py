"""The command line: `python -m export build | list | inspect | quantize | widen | verify`."""

import shlex
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated, get_args

import typer
from rich.console import Console
from rich.table import Table

from export.pairs import PAIRS, parse_loras
from export.progress import PartProgress
from runtime.bundle.manifest import (
    MANIFEST,
    EngineSpec,
    Manifest,
    TensorSpec,
    engine_files,
    read_manifest,
)
from runtime.cli import plain_errors
from runtime.errors import RealCompoError
from runtime.words import Backend, Precision, Quantization

# What loads diffusers and ONNX is imported by the commands that need it, so that --help does not wait for them.

app = typer.Typer(
    help="Turn a text-to-image and a spatial-aware diffusion model into a bundle of engines for RealCompo's runtime.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
console = Console()
Bundle = Annotated[Path, typer.Argument(help="A bundle's folder, such as engines/tabletop.", show_default=False)]


@app.command(
    epilog="Examples:  python -m export build tabletop --out engines/tabletop  |  python -m export build sd15-gligen "
    "--text-to-image DIR --spatial DIR --out engines/sd15 --backend tensorrt-rtx --batch 1:2:8  |  python -m "
    "export build sd15-gligen --random-weights --precision fp16 --out outputs/sd15  |  python -m export build tabletop "
    "--lora engines/tabletop/lora-papercut.safetensors:0.8 --out outputs/papercut"
)
def build(
    pair: Annotated[str, typer.Argument(help=f"Which models: {', '.join(PAIRS)}.", show_default=False)],
    out: Annotated[Path, typer.Option(help="The bundle's folder.", show_default=False)],
    precision: Annotated[Precision, typer.Option(help="Of weights and activations.")] = "fp32",
    backend: Annotated[Backend, typer.Option(help="onnx alone, or TensorRT plans beside it.")] = "onnx",
    batch: Annotated[
        str,
        typer.Option(
            metavar="MIN:OPT:MAX", help="UNet rows that plans are made for, or one number; an image takes two."
        ),
    ] = "1:2:8",
    height: Annotated[
        int | None, typer.Option(help="Pixels; the pair's own size if not given.", show_default=False)
    ] = None,
    width: Annotated[
        int | None, typer.Option(help="Pixels; the pair's own size if not given.", show_default=False)
    ] = None,
    compute_capability: Annotated[
        list[str] | None,
        typer.Option(
            help="GPU generation of a tensorrt-rtx plan, such as 8.9; may be repeated; all from 8.0 if not given.",
            show_default=False,
        ),
    ] = None,
    optimization_level: Annotated[
        int | None,
        typer.Option(
            help="How long tensorrt looks for fast kernels: 0 least, 5 longest; 3 if not given.", show_default=False
        ),
    ] = None,
    refit: Annotated[
        bool, typer.Option("--refit", help="Plans whose weights can be replaced. Needs a GPU to build.")
    ] = False,
    strip_weights: Annotated[
        bool,
        typer.Option("--strip-weights", help="Plans without weights, refitted from the graph. Needs a GPU to build."),
    ] = False,
    version_compatible: Annotated[
        bool, typer.Option("--version-compatible", help="tensorrt plans that its later versions run too.")
    ] = False,
    timing_cache: Annotated[
        Path | None,
        typer.Option(help="File in which tensorrt keeps kernel times from build to build.", show_default=False),
    ] = None,
    text_to_image: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="Another text-to-image model: hub id, diffusers folder or .safetensors."),
    ] = None,
    spatial: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODEL",
            help="Another spatial model: hub id, diffusers folder or .safetensors. Of ControlNets, repeated, also "
            "KIND=MODEL, where KIND is openpose, segmentation or depth.",
        ),
    ] = None,
    lora: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE[:SCALE]",
            help="LoRA (.safetensors, diffusers' or kohya's) to fuse into the text-to-image model; may be repeated.",
        ),
    ] = None,
    tokenizer: Annotated[
        Path | None,
        typer.Option(help="CLIP's tokenizer folder, for a .safetensors text-to-image model.", show_default=False),
    ] = None,
    random_weights: Annotated[
        bool,
        typer.Option("--random-weights", help="Random numbers in the pair's shapes: to try what needs no pictures."),
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Build every part again, changed or not.")] = False,
) -> None:
    """Build a bundle. Stopped half-way, the same command resumes; what has not changed is not built again."""
    with plain_errors(interrupted="stopped; the same command resumes"):
        rows = _parse_batch(batch)
        from export.build import Options
        from export.build import build as build_bundle
        from export.engines import engines_of
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
            random_weights=random_weights,
            force=force,
        )
        started = time.monotonic()
        with PartProgress(console, len(engines_of(models.kind))) as progress:
            manifest = build_bundle(models, out, options, progress.report, progress.say)
        console.print(_engine_table(out, manifest))
        console.print(f"{out / MANIFEST} is ready, {time.monotonic() - started:.0f} s")


@app.command("list")
def list_() -> None:
    """Show the known pairs, and the bundles under engines/."""
    with plain_errors():
        table = Table("pair", "text-to-image", "spatial", "", title="Known pairs")
        for pair in PAIRS.values():
            controls = "\n".join(f"{control.kind}: {control.model}" for control in pair.controls)
            table.add_row(pair.name, pair.text_to_image, controls or pair.spatial, pair.about)
        console.print(table)
        bundles = Table("bundle", "pair", "backend", "precision", "image", "size", title="Bundles")
        for path in sorted(Path("engines").glob(f"*/{MANIFEST}")):
            bundles.add_row(str(path.parent), *_summary(path.parent))
        console.print(bundles if bundles.row_count else "No bundles under engines/.")


@app.command(epilog="Example:  python -m export inspect engines/tabletop")
def inspect(
    bundle: Bundle,
    layers: Annotated[
        bool, typer.Option("--layers", help="Also which operators of each engine compute in which type.")
    ] = False,
) -> None:
    """Show what a bundle holds: models, engines, attention maps, plans."""
    with plain_errors():
        manifest = read_manifest(bundle)
        console.print(_bundle_table(manifest))
        console.print(_engine_table(bundle, manifest))
        console.print(_tensor_table(manifest))
        if any(engine.plan for engine in manifest.engines.values()):
            console.print(_plan_table(manifest))
        if layers:
            console.print(_layer_table(bundle, manifest))


@app.command(
    epilog="Example:  python -m export quantize engines/tabletop --out outputs/int8 --mode int8 --layout "
    "examples/red_ball_blue_cube.json"
)
def quantize(
    bundle: Bundle,
    out: Annotated[Path, typer.Option(help="The new bundle's folder.", show_default=False)],
    mode: Annotated[Quantization, typer.Option(help="int8, or fp8 for GPUs from compute capability 8.9.")],
    layout: Annotated[
        list[Path],
        typer.Option(help="layout.json with a prompt, drawn for calibration; repeat it.", show_default=False),
    ],
    steps: Annotated[int, typer.Option(min=1, help="Of the runs that calibrate.")] = 20,
) -> None:
    """Write a bundle with 8-bit UNets beside an fp32 one, calibrated on what they see while it draws."""
    with plain_errors():
        from export.onnx.quantize import quantize_bundle

        with console.status("quantizing") as status:
            manifest = quantize_bundle(bundle, out, mode, layout, steps, status.update)
        console.print(_engine_table(out, manifest))
        console.print(f"{out / MANIFEST} is ready")


@app.command(epilog="Example:  python -m export widen outputs/bf16 --out outputs/bf16-on-cpu")
def widen(
    bundle: Bundle, out: Annotated[Path, typer.Option(help="The new bundle's folder.", show_default=False)]
) -> None:
    """Write a bf16 bundle that runs without bf16 arithmetic, as on CPUs: the same rounding, fp32 in between."""
    with plain_errors():
        from export.onnx.widen import widen_bundle

        console.print(_engine_table(out, widen_bundle(bundle, out)))
        console.print(f"{out / MANIFEST} is ready")


@app.command(epilog="Example:  python -m export verify engines/tabletop")
def verify(bundle: Bundle) -> None:
    """Check a bundle's hashes and graphs, and measure its errors again where the checkpoints are at hand."""
    with plain_errors():
        from export.onnx.verify import verify_bundle

        for check in verify_bundle(bundle):
            figures = _figures(check.errors) if check.errors else "outputs are finite"
            console.print(f"{check.role}: {figures}{f'; {check.why}' if check.why else ''}")
        console.print(f"{bundle} is in order")


def _parse_batch(text: str) -> tuple[int, int, int]:
    try:
        numbers = tuple(map(int, text.split(":")))
        smallest, usual, largest = numbers * 3 if len(numbers) == 1 else numbers
    except ValueError as error:
        raise RealCompoError(f"--batch {text} is not of the form MIN:OPT:MAX, such as 1:2:8, or 2") from error
    return smallest, usual, largest


def _summary(folder: Path) -> tuple[str, ...]:
    try:
        manifest = read_manifest(folder)
    except RealCompoError as error:
        return str(error), "", "", "", ""
    height, width = manifest.image_size
    size = sum(_engine_bytes(folder, engine) for engine in manifest.engines.values())
    return manifest.pair.name, manifest.backend, manifest.precision, f"{width}x{height}", _megabytes(size)


def _bundle_table(manifest: Manifest) -> Table:
    table = Table(title=f"Pair {manifest.pair.name}", show_header=False)
    pair = manifest.pair
    controlnets = [
        (f"ControlNet, {kind}", model) for kind, model in zip(manifest.spatial.controls, pair.attached, strict=True)
    ]
    for name, model in (("text-to-image", pair.text_to_image), *(controlnets or [("spatial", pair.spatial)])):
        revision = f"@{model.revision}" if model.revision else ""
        table.add_row(name, f"{model.source}{revision}, weights {model.sha256[:12]}")
    for lora in pair.loras:
        table.add_row("LoRA", f"{lora.source}, scale {lora.scale:g}, sha256 {lora.sha256[:12]}")
    if manifest.shared_unet:
        table.add_row(
            "UNet", "one engine for both models, with the same weights: the text-to-image one is told of no layout"
        )
    table.add_row("made by", f"python -m export {shlex.join(manifest.command)}")
    table.add_row("backend", f"{manifest.backend}, {manifest.precision}, batch {':'.join(map(str, manifest.batch))}")
    table.add_row(
        "image", f"{_shape(manifest.image_size)} pixels (height x width), at most {manifest.max_regions} regions"
    )
    table.add_row("latents", f"{_shape(manifest.latent_shape)}, scale {manifest.latent_scale}")
    table.add_row("prompt", f"{manifest.max_tokens} tokens")
    table.add_row(
        "noise schedule", f"{manifest.scheduler.get('_class_name')}, {manifest.scheduler.get('beta_schedule')}"
    )
    for model_name, layers in manifest.maps.layers.items():
        table.add_row(f"maps of {model_name}", f"{_shape(manifest.maps.resolution)} from\n" + "\n".join(layers))
    return table


def _engine_table(folder: Path, manifest: Manifest) -> Table:
    table = Table("engine", "precision", "size", "relative error against PyTorch; 8-bit: fp32", title="Engines")
    for role, engine in manifest.engines.items():
        precision = " ".join(filter(None, (engine.precision, engine.quantization)))
        table.add_row(role, precision, _megabytes(_engine_bytes(folder, engine)), _figures(engine.verification))
    return table


def _tensor_table(manifest: Manifest) -> Table:
    table = Table("engine", "inputs", "outputs", title="Inputs and outputs")
    for role, engine in manifest.engines.items():
        table.add_row(role, "\n".join(map(_signature, engine.inputs)), "\n".join(map(_signature, engine.outputs)))
    return table


def _plan_table(manifest: Manifest) -> Table:
    table = Table("plan", "TensorRT", "built for", "rows", "flags", title="Plans")
    for engine in manifest.engines.values():
        if plan := engine.plan:
            target = " ".join([*([plan.gpu] if plan.gpu else []), *plan.compute_capabilities])
            rows = ":".join(str(shape[0]) for shape in next(iter(plan.profile.values())))
            flags = ", ".join(f"{name}={value}" for name, value in plan.flags.items())
            table.add_row(plan.file.name, f"{plan.flavour} {plan.version}", target, rows, flags)
    return table


def _layer_table(folder: Path, manifest: Manifest) -> Table:
    from export.onnx.audit import audit

    table = Table("engine", "operator", *get_args(Precision), title="What computes in which type")
    for role, engine in manifest.engines.items():
        for operator, counts in audit(folder / engine.graph[0].name, engine.precision).counts.items():
            table.add_row(role, operator, *(str(counts.get(name, "")) for name in get_args(Precision)))
        table.add_section()
    return table


def _engine_bytes(folder: Path, engine: EngineSpec) -> int:
    paths = [folder / file.name for file in engine_files(engine)]
    return sum(path.stat().st_size for path in paths if path.is_file())


def _figures(errors: dict[str, float]) -> str:
    worst: dict[str, float] = {}
    for output, error in errors.items():
        name = output.rstrip("_0123456789")  # all of a ControlNet's down_residual_00 and so on in one
        worst[name] = max(worst.get(name, 0.0), error)
    return ", ".join(f"{name} {error:.1e}" for name, error in worst.items())


def _signature(tensor: TensorSpec) -> str:
    return f"{tensor.name} {tensor.dtype} ({', '.join(map(str, tensor.shape))})"


def _shape(sizes: tuple[int, ...]) -> str:
    return "x".join(map(str, sizes))


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.1f} MB"


if __name__ == "__main__":
    app(prog_name="python -m export")
