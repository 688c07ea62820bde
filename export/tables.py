"""What a bundle holds, as tables on the terminal."""

import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import get_args

from rich.markup import escape
from rich.table import Table

from export.checkpoints.files import WeightsFile
from runtime.bundle.manifest import (
    FileSpec,
    Manifest,
    RecommendedSpec,
    TensorSpec,
    bundle_files,
    engine_files,
    read_manifest,
)
from runtime.cli import folding_table
from runtime.errors import RealCompoError
from runtime.messages import knob_words, shown
from runtime.spatial import KINDS
from runtime.words import Precision


def summary(folder: Path) -> tuple[str, ...]:
    """A bundle in a row: pair, backend, precision, image, size; or what is wrong with it."""
    try:
        manifest = read_manifest(folder)
    except RealCompoError as error:
        return str(error), "", "", "", ""
    height, width = manifest.image_size
    size = _megabytes(_bytes(folder, bundle_files(manifest)))
    return manifest.pair.name, manifest.backend, manifest.precision, f"{width}x{height}", size


def bundle_table(manifest: Manifest) -> Table:
    """Its models, sizes and maps, and the command that made it."""
    table = folding_table("", "", title=f"Pair {manifest.pair.name}", show_header=False)
    pair = manifest.pair
    attached = [
        (f"{KINDS[manifest.spatial.kind].single}, {kind}", model)
        for kind, model in zip(manifest.spatial.controls, pair.attached, strict=True)
    ]
    for name, model in (("text-to-image", pair.text_to_image), *(attached or [("spatial", pair.spatial)])):
        table.add_row(name, f"{model.pinned}, weights {model.sha256[:12]}")
    for lora in pair.loras:
        table.add_row("LoRA", f"{lora.source}, scale {lora.scale:g}, into {lora.into}, sha256 {lora.sha256[:12]}")
    if manifest.recipe:
        table.add_row("distilled", f"{manifest.recipe.name}: drawn by default with {knob_words(manifest.recipe.knobs)}")
    if manifest.shared_unet:
        table.add_row(
            "UNet", "one engine for both models, with the same weights: the text-to-image one is told of no layout"
        )
    table.add_row("made by", f"python -m export {shlex.join(manifest.command)}")
    if manifest.recommended:
        table.add_row("recommended", recommended_text(manifest.recommended))
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


def recommended_text(recommended: RecommendedSpec) -> str:
    """How to draw, why, and what found that out."""
    return f"{knob_words(recommended.knobs)}\n{escape(recommended.why)}\nfound by {escape(recommended.command)}"


def engine_table(folder: Path, manifest: Manifest) -> Table:
    """Each engine's precision, its size on disk but for weights that one above has too, and its errors."""
    table = folding_table("engine", "precision", "size", "relative error against PyTorch; 8-bit: fp32", title="Engines")
    above: set[str] = set()
    for role, engine in manifest.engines.items():
        precision = " ".join(filter(None, (engine.precision, engine.quantization)))
        own = [file for file in engine_files(engine) if file.name not in above]
        above |= {file.name for file in own}
        table.add_row(role, precision, _megabytes(_bytes(folder, own)), figures(engine.verification))
    return table


def tensor_table(manifest: Manifest) -> Table:
    """Each engine's inputs and outputs."""
    table = folding_table("engine", "inputs", "outputs", title="Inputs and outputs")
    for role, engine in manifest.engines.items():
        table.add_row(role, "\n".join(map(_signature, engine.inputs)), "\n".join(map(_signature, engine.outputs)))
    return table


def plan_table(manifest: Manifest) -> Table:
    """What plans were built with and for."""
    table = folding_table("plan", "TensorRT", "built for", "rows", "flags", title="Plans")
    for engine in manifest.engines.values():
        if plan := engine.plan:
            target = " ".join([*([plan.gpu] if plan.gpu else []), *plan.compute_capabilities])
            rows = ":".join(str(shape[0]) for shape in next(iter(plan.profile.values())))
            flags = ", ".join(f"{name}={value}" for name, value in plan.flags.items())
            table.add_row(plan.file.name, f"{plan.flavour} {plan.version}", target, rows, flags)
    return table


def layer_table(folder: Path, manifest: Manifest) -> Table:
    """How many operators of each engine compute in which type."""
    from export.onnx.audit import audit

    table = folding_table("engine", "operator", *get_args(Precision), title="What computes in which type")
    for role, engine in manifest.engines.items():
        for operator, counts in audit(folder / engine.graph[0].name, engine.precision).counts.items():
            table.add_row(role, operator, *(str(counts.get(name, "")) for name in get_args(Precision)))
        table.add_section()
    return table


def weights_table(file: WeightsFile) -> Table:
    """What a file of weights is, and what takes it."""
    table = folding_table("", "", title=escape(file.path.name) if file.path else None, show_header=False)
    dtypes = ", ".join(f"{dtype} ({count:,})" for dtype, count in sorted(file.dtypes.items()))
    rows = {
        "kind": file.kind.title if file.kind.place else f"{file.kind.title}, {file.kind.why}",
        "family": f"{file.family.title}{'' if file.family.supported else ', not supported'}"
        if file.family
        else "not told",
        "names": file.naming or "",
        "has": ", ".join(file.parts),
        "tensors": f"{file.tensors:,}, such as {shown(file.example)}" if file.tensors else "0",
        "types": dtypes,
        "size": _megabytes(file.size or 0),
        "option": file.place.title if file.place else "none",
    }
    for name, value in rows.items():
        table.add_row(name, escape(value))
    return table


def _bytes(folder: Path, files: Iterable[FileSpec]) -> int:
    return sum(path.stat().st_size for file in files if (path := folder / file.name).is_file())


def figures(errors: dict[str, float]) -> str:
    """Relative errors by output, for people."""
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
