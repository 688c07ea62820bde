"""What stands in for slow work: exports that are finished graphs of another bundle, and Model Optimizer."""

import shutil
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import onnx
import pytest

import export.build
import export.onnx.quantize
import export.parts
from export.parts import Part
from export.plans.plan_options import BuilderOptions, PlanOptions, Rows
from export.publish import store_graph
from runtime.bundle.manifest import FileSpec, PlanSpec, read_manifest, sha256_of, write_manifest
from runtime.words import Flavour


def can_exports(patch: pytest.MonkeyPatch, source: Path, mark: str = "") -> None:
    """Builds take the graphs of a finished bundle, unseen; `mark`, written into each, makes other files of them."""
    manifest = read_manifest(source)
    any_engine = manifest.engines["spatial"]

    def export_part(part: Part, precision: str, job: Any) -> Any:
        engine = manifest.engines.get(part.role, any_engine)
        files = [copy_marked(source / engine.graph[0].name, job.scratch / f"{part.role}.onnx", mark)]
        return export.build._Exported(files, files, part.signature, manifest.image_size, {})

    patch.setattr(export.build, "_export_part", export_part)
    patch.setattr(export.build, "check_precision", lambda *_: None)
    patch.setattr(export.build, "relative_errors", lambda *_: {})
    patch.setattr(export.build, "release_memory", lambda: None)


def copy_marked(graph: Path, target: Path, mark: str) -> Path:
    model = onnx.load(graph)
    model.doc_string = mark
    onnx.save(model, target)
    return target


def stub_plans(patch: pytest.MonkeyPatch) -> None:
    """Plans that hold nothing but what they are asked to be, of any TensorRT."""

    def build_plan(files: Any, takes: Any, options: PlanOptions, rows: Any, path: Path, tell: Any = None) -> PlanSpec:
        asked = options.flavour, options.compute_capabilities, options.builder.flags(), rows
        path.write_text(f"{path.name} {asked}")
        return PlanSpec(
            file=FileSpec(name=path.name, sha256=sha256_of(path)),
            flavour=options.flavour,
            version=options.version,
            compute_capabilities=options.compute_capabilities,
            flags=options.builder.flags(),
            profile={"latents": tuple((count, 4, 8, 8) for count in rows)},
        )

    def plan_options(
        flavour: Flavour, capabilities: tuple[str, ...], batch: Rows, builder: BuilderOptions
    ) -> PlanOptions:
        return PlanOptions(flavour, "10.0", capabilities, None, batch, builder)

    for module in (export.build, export.onnx.quantize):
        patch.setattr(module, "build_plan", build_plan)
        patch.setattr(module, "plan_options", plan_options)


def another_exporter(patch: pytest.MonkeyPatch) -> None:
    """Every part's key is another one, as after a change of the exporter's code."""
    patch.setattr(export.parts, "_code_digest", lambda modules: f"{export.parts.HASH}another")


def write_marked(source: Path, folder: Path, mark: str, precision: str) -> Path:
    """A bundle with marked graphs, said to be of a precision; without sidecars and golden values."""
    folder.mkdir()
    manifest, engines = read_manifest(source), {}
    for role, engine in manifest.engines.items():
        graph = store_graph(role, [copy_marked(source / engine.graph[0].name, folder / f"{role}.onnx", mark)])
        engines[role] = engine.model_copy(
            update={"graph": graph, "fused": None, "precision": precision, "golden": None}
        )
    for file in manifest.tokenizers:
        shutil.copy(source / file.name, folder / file.name)
    write_manifest(folder, manifest.model_copy(update={"engines": engines, "precision": precision}))
    return folder


def stub_model_optimizer(patch: pytest.MonkeyPatch) -> None:
    """It leaves graphs as they are, but for a mark."""

    def quantize(graph: str, *, quantize_mode: str, output_path: str, **_: Any) -> None:
        model = onnx.load(graph)
        model.doc_string += quantize_mode
        onnx.save(model, output_path)

    module = ModuleType("modelopt")
    module.__spec__ = ModuleSpec("modelopt", None)
    module.quantize = quantize  # type: ignore[attr-defined]
    for name in ("modelopt", "modelopt.onnx.quantization"):
        patch.setitem(sys.modules, name, module)
    patch.setattr("export.onnx.quantize.version", lambda package: "0")
