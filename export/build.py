"""Build a bundle: every part whose key has changed, then the manifest, last and in one step."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from export.checkpoints import Checkpoints, open_checkpoints
from export.geometry import Geometry, measure
from export.pairs import Pair
from export.parts import Digests, Part, plan_parts, weight_digests
from export.precision import LOSS_SCALES, engine_precision, lower
from export.roles import MAX_REGIONS, example_inputs, load_graph
from export.staging import check_space, disk_errors, remove_stale, scratch_folder
from export.to_engine import PlanOptions, build_plan, plan_options
from export.to_onnx import export_onnx
from export.tokenizer import tokenizer_json
from export.verify import TOLERANCE, check_errors, expected_outputs, relative_errors
from runtime.bundle import (
    FORMAT_VERSION,
    MANIFEST,
    Backend,
    EngineSpec,
    FileSpec,
    Manifest,
    MapSpec,
    ModelSpec,
    PairSpec,
    Precision,
    Role,
    bundle_files,
    sha256_of,
    write_atomically,
    write_manifest,
)
from runtime.errors import RealCompoError

TOKENIZER = "tokenizer.json"
TRACED_ROWS = 2
PLAN_OVERHEAD = 20_000_000  # bytes of every TensorRT-RTX plan that are not weights

Report = Callable[[Role, str], None]  # told what is being done to a part: "kept", "exporting", ..., "built"


@dataclass(frozen=True)
class Options:
    backend: Backend = "onnx"
    precision: Precision = "fp32"
    batch: tuple[int, int, int] = (1, 2, 8)  # min, opt, max rows; ONNX graphs take any number
    height: int | None = None  # pixels; None is the pair's native size
    width: int | None = None
    compute_capabilities: tuple[str, ...] = ()
    force: bool = False


@dataclass(frozen=True)
class _Job:
    """What every part's build needs to know."""

    checkpoints: Checkpoints
    geometry: Geometry
    options: Options
    plan: PlanOptions | None
    out: Path
    scratch: Path
    report: Report


def build(pair: Pair, out: Path, options: Options, report: Report = lambda role, stage: None) -> Manifest:
    """Build the bundle of `pair` in the folder `out` and return its manifest.

    Parts that are finished and whose key has not changed are kept. Until everything is there, the folder's last good
    bundle stays as it is; a build that stopped half-way resumes.

    Raises:
        RealCompoError: an option, a checkpoint or the disk does not allow it, or a graph does not compute what PyTorch
            does.
    """
    plan = _check_options(options)
    checkpoints = open_checkpoints(pair.text_to_image, pair.spatial)
    geometry = measure(checkpoints, options.height, options.width)
    tokenizer = tokenizer_json(checkpoints.text_to_image, geometry.max_tokens)
    with scratch_folder(out) as scratch:
        digests = weight_digests(checkpoints)
        parts = plan_parts(checkpoints, digests, geometry, options.precision, plan)
        finished = {} if options.force else {part.role: e for part in parts if (e := _finished(part, out))}
        needed = _space_needed([part for part in parts if part.role not in finished], plan)
        check_space(out, needed)
        with disk_errors(out, needed):
            job = _Job(checkpoints, geometry, options, plan, out, scratch, report)
            engines = _build_parts(parts, finished, job)
            (scratch / TOKENIZER).write_bytes(tokenizer)
            manifest = _manifest(_pair_spec(pair, checkpoints, digests), engines, job)
            _publish_manifest(manifest, job)
        remove_stale(out, [*(file.name for file in bundle_files(manifest)), *(part.file("json") for part in parts)])
    return manifest


def _check_options(options: Options) -> PlanOptions | None:
    if options.precision not in TOLERANCE:
        raise RealCompoError(f"--precision {options.precision} is not supported yet; supported: {', '.join(TOLERANCE)}")
    smallest, usual, largest = options.batch
    if not 1 <= smallest <= usual <= largest:
        raise RealCompoError(
            f"--batch {smallest}:{usual}:{largest} is not of the form MIN:OPT:MAX, 1 <= MIN <= OPT <= MAX"
        )
    if options.backend != "onnx":
        return plan_options(options.backend, options.compute_capabilities, options.batch)
    if options.compute_capabilities:
        raise RealCompoError("--compute-capability is for --backend tensorrt-rtx, not onnx")
    return None


def _finished(part: Part, out: Path) -> EngineSpec | None:
    """The part as an earlier build left it, if it is whole."""
    try:
        engine = EngineSpec.model_validate_json((out / part.file("json")).read_bytes())
    except (OSError, ValidationError):
        return None
    whole = engine.key == part.key and all(_is_whole(out, file) for file in _files(engine))
    return engine if whole else None


def _is_whole(out: Path, file: FileSpec) -> bool:
    path = out / file.name
    return path.is_file() and sha256_of(path) == file.sha256


def _space_needed(parts: list[Part], plan: PlanOptions | None) -> int:
    copies, overhead = (2, PLAN_OVERHEAD) if plan else (1, 2_000_000)
    return sum(copies * part.weight_bytes + overhead for part in parts)


def _build_parts(parts: list[Part], finished: dict[Role, EngineSpec], job: _Job) -> dict[Role, EngineSpec]:
    engines: dict[Role, EngineSpec] = {}
    for part in parts:
        if part.role in finished:
            engines[part.role] = finished[part.role]
            job.report(part.role, "kept")
            continue
        engines[part.role] = _build_part(part, job)
        if not job.options.force:
            _publish_part(part, engines[part.role], job)
        job.report(part.role, "built")
    if job.options.force:  # under the same names as the last good bundle, so not before all are there
        for part in parts:
            _publish_part(part, engines[part.role], job)
    return engines


def _build_part(part: Part, job: _Job) -> EngineSpec:
    """Export, verify and build one part in the scratch folder."""
    job.report(part.role, "exporting")
    graph = load_graph(part.role, job.checkpoints, job.geometry, LOSS_SCALES[job.options.precision])
    inputs = example_inputs(part.signature, TRACED_ROWS, job.geometry.vocabulary)
    precision = engine_precision(part.role, job.options.precision)
    expected = expected_outputs(graph, part.signature, job.geometry.vocabulary)
    lower(graph, precision)
    files = export_onnx(graph, part.signature, inputs, job.scratch / part.file("onnx"))
    del graph  # what follows wants the memory
    job.report(part.role, "verifying")
    errors = relative_errors(expected, files[0], part.signature, job.geometry.vocabulary)
    check_errors(part.role, errors, precision)
    plan = None
    if job.plan:
        job.report(part.role, f"building {job.plan.flavour} plan")
        plan = build_plan(files[0], part.signature, job.plan, job.scratch / part.file("engine"))
    return EngineSpec(
        role=part.role,
        key=part.key,
        graph=tuple(FileSpec(name=file.name, sha256=sha256_of(file)) for file in files),
        plan=plan,
        inputs=part.signature.inputs,
        outputs=part.signature.outputs,
        precision=precision,
        verification=errors,
    )


def _publish_part(part: Part, engine: EngineSpec, job: _Job) -> None:
    """Move a finished part out of the scratch folder; its sidecar, written last, says that it is whole."""
    for file in _files(engine):
        (job.scratch / file.name).replace(job.out / file.name)
    write_atomically(job.out / part.file("json"), engine.model_dump_json(indent=2).encode() + b"\n")


def _publish_manifest(manifest: Manifest, job: _Job) -> None:
    """Both files are written before either replaces what the last good bundle has."""
    write_manifest(job.scratch, manifest)
    for name in (TOKENIZER, MANIFEST):
        (job.scratch / name).replace(job.out / name)


def _files(engine: EngineSpec) -> list[FileSpec]:
    return [*engine.graph, *([engine.plan.file] if engine.plan else [])]


def _pair_spec(pair: Pair, checkpoints: Checkpoints, digests: Digests) -> PairSpec:
    text_to_image, spatial = (
        ModelSpec(source=checkpoint.source, revision=checkpoint.revision, sha256=digests.of(checkpoint.model))
        for checkpoint in (checkpoints.text_to_image, checkpoints.spatial)
    )
    return PairSpec(name=pair.name, text_to_image=text_to_image, spatial=spatial)


def _manifest(pair: PairSpec, engines: dict[Role, EngineSpec], job: _Job) -> Manifest:
    geometry, model = job.geometry, job.checkpoints.text_to_image
    return Manifest(
        format_version=FORMAT_VERSION,
        pair=pair,
        backend=job.options.backend,
        precision=job.options.precision,
        batch=job.options.batch,
        engines=engines,
        maps=MapSpec(resolution=geometry.map_resolution, layers=geometry.map_layers),
        loss_scale=LOSS_SCALES[job.options.precision],
        latent_shape=geometry.latent_shape,
        latent_scale=model.config("vae").get("scaling_factor", 0.18215),
        image_size=geometry.image_size,
        max_regions=MAX_REGIONS,
        tokenizer=FileSpec(name=TOKENIZER, sha256=sha256_of(job.scratch / TOKENIZER)),
        max_tokens=geometry.max_tokens,
        scheduler=geometry.scheduler,
    )
