"""Build a bundle: prepare what it is made of, build every part whose key has changed, publish it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch

from export.checkpoints.digests import Digests, weight_digests
from export.checkpoints.fetching import fetch_pair
from export.checkpoints.folders import Checkpoint, Checkpoints
from export.checkpoints.lora_options import check_lora
from export.checkpoints.prepare import Say, prepare
from export.checkpoints.recipes import recipe_of
from export.checkpoints.single_file import check_single_files
from export.checkpoints.source import recorded
from export.checkpoints.tokenizer import tokenizer_files
from export.engines import engines_of, load_graph, signature
from export.graphs.engine import Signature, example_inputs
from export.graphs.geometry import Geometry
from export.measure import measure
from export.onnx.audit import check_precision
from export.onnx.fuse import fuse_attention
from export.onnx.precision import LOSS_SCALES, lower
from export.onnx.to_onnx import export_onnx
from export.onnx.twin import check_twin, runnable_geometry
from export.onnx.verify import Expected, check_errors, expected_outputs, loaded_type, relative_errors
from export.pairs import Lora, Pair
from export.parts import Part, plan_parts
from export.plans.memory import WAYS_OUT, available_memory, gigabytes, release_memory
from export.plans.plan_options import (
    TENSORRTS_OWN,
    BuilderOptions,
    PlanOptions,
    option_name,
    plan_options,
)
from export.plans.to_engine import build_plan
from export.provenance import build_command, located, own_models
from export.publish import (
    name_plan,
    publish,
    publish_part,
    store_fused,
    store_golden,
    store_graph,
    write_tokenizers,
)
from export.resume import finished, reason, recommended_before
from export.spatial import KINDS, open_checkpoints, share_unet
from export.staging import check_space, disk_errors, scratch_folder
from runtime.bundle.manifest import (
    FORMAT_VERSION,
    EngineSpec,
    FileSpec,
    LoraSpec,
    Manifest,
    MapSpec,
    ModelSpec,
    PairSpec,
    PlanSpec,
    RecommendedSpec,
    sha256_of,
)
from runtime.errors import RealCompoError
from runtime.messages import knob_words
from runtime.sampling import unable
from runtime.words import MAX_REGIONS, Backend, Precision, Role

RANDOM = "random weights"  # where they come from
TRACED_ROWS = 2
PLAN_OVERHEAD = 20_000_000  # bytes of every TensorRT-RTX plan that are not weights

# Of memory in a part's export: sd15-gligen, whose largest part has 4.3 GB of fp32 weights, took 10.6 GB.
EXPORT_OVERHEAD = 1_000_000_000
EXPORT_COPIES = 2.5


class Report(Protocol):
    """Told what is being done to a part."""

    def __call__(self, role: Role, stage: str, detail: str = "") -> None:
        """A stage is "kept", or "exporting", "verifying", "building plan" and "built"; details of one may follow each
        other."""


def _silent(role: Role, stage: str, detail: str = "") -> None: ...


@dataclass(frozen=True)
class Options:
    backend: Backend = "onnx"
    precision: Precision = "fp32"
    batch: tuple[int, int, int] = (1, 2, 8)  # min, opt, max rows; ONNX graphs take any number
    height: int | None = None  # pixels; None is the pair's native size
    width: int | None = None
    compute_capabilities: tuple[str, ...] = ()
    builder: BuilderOptions = TENSORRTS_OWN
    tokenizer: Path | None = None  # folder, for a text-to-image model that is a single file
    vae: Path | None = None  # file or folder, in place of that file's
    random_weights: bool = False
    force: bool = False


@dataclass(frozen=True)
class _Job:
    """What every part's build needs to know."""

    pair: Pair  # as it was asked for
    checkpoints: Checkpoints
    geometry: Geometry
    options: Options
    plan: PlanOptions | None
    out: Path
    scratch: Path
    report: Report


def build(
    pair: Pair,
    out: Path,
    options: Options,
    report: Report = _silent,
    say: Say = lambda doing: None,
    expect: Callable[[int], None] = lambda parts: None,
    tell: Say = lambda line: None,
) -> Manifest:
    """Build the bundle of `pair` in the folder `out` and return its manifest.

    Parts that are finished and whose key has not changed are kept. Until everything is there, the folder's last good
    bundle stays as it is; a build that stopped half-way resumes.

    Args:
        report: told what is done to each part.
        say: told what is done before there are parts.
        expect: told how many parts there are.
        tell: told lines for the user to read: what has to be fetched, what the bundle will not do.

    Raises:
        RealCompoError: an option, a checkpoint or the disk does not allow it, another build is at work in `out`, or a
            graph does not compute what PyTorch does.
    """
    plan = _check_options(pair, options)
    pair = replace(located(pair), fp16_files=options.precision != "fp32")
    with scratch_folder(out, build_command(pair, options)) as scratch:
        with disk_errors(out):
            if not options.random_weights:
                check_single_files(pair, options.tokenizer, options.vae)
                pair = fetch_pair(pair, KINDS[pair.kind].component, say, tell)
            models, used = prepare(pair, out, options.random_weights, options.tokenizer, say, options.vae)
        checkpoints = open_checkpoints(models)
        geometry = measure(checkpoints, options.height, options.width)
        for line in _about_distillation(pair, geometry.scheduler):
            tell(line)
        for sampler, why in unable(geometry.scheduler).items():
            tell(f"the sampler {sampler} cannot draw with this model: {why}")
        tokenizers = tokenizer_files(checkpoints.text_to_image, geometry.max_tokens)
        digests = weight_digests(checkpoints)
        shared = share_unet(checkpoints)
        engines = engines_of(pair.kind, shared).values()
        parts = plan_parts(engines, checkpoints, digests, geometry, options.precision, plan)
        expect(len(parts))
        kept = {} if options.force else {part.role: engine for part in parts if (engine := finished(part, out))}
        needed = _space_needed([part for part in parts if part.role not in kept], plan)
        check_space(out, needed)
        with disk_errors(out, needed):
            job = _Job(pair, checkpoints, geometry, options, plan, out, scratch, report)
            built = _build_parts(parts, kept, job)
            files = write_tokenizers(tokenizers.values(), scratch, out)
            manifest = _manifest(_pair_spec(digests, job), built, files, shared, job)
            recommended = recommended_before(manifest, out) or _studied(job)
            manifest = manifest.model_copy(update={"recommended": recommended})
            publish(manifest, scratch, out, [part.sidecar for part in parts], used)
    return manifest


def _studied(job: _Job) -> RecommendedSpec | None:
    """What a study found for the known pair, if these are its models at its size."""
    options = job.options
    changed = job.pair.loras or options.random_weights or options.vae or options.height or options.width
    return None if changed else job.pair.recommended


def _check_options(pair: Pair, options: Options) -> PlanOptions | None:
    smallest, usual, largest = options.batch
    if not 1 <= smallest <= usual <= largest:
        raise RealCompoError(
            f"--batch {smallest}:{usual}:{largest} is not of the form MIN:OPT:MAX, 1 <= MIN <= OPT <= MAX"
        )
    for lora in pair.loras:
        check_lora(lora)
    if options.random_weights and (own := [model for _, model in own_models(pair)]):
        raise RealCompoError(f"--random-weights goes with no checkpoint of your own: leave {', '.join(own)} out")
    if options.backend != "onnx":
        return plan_options(options.backend, options.compute_capabilities, options.batch, options.builder)
    if options.compute_capabilities:
        raise RealCompoError("--compute-capability is for --backend tensorrt-rtx, not onnx")
    if given := options.builder.given():
        raise RealCompoError(
            f"{option_name(next(iter(given)))} is for plans; choose --backend tensorrt or tensorrt-rtx"
        )
    return None


def _space_needed(parts: list[Part], plan: PlanOptions | None) -> int:
    copies, overhead = (2, PLAN_OVERHEAD) if plan else (1, 2_000_000)
    return sum(copies * part.weight_bytes + overhead for part in parts)


@dataclass(frozen=True)
class _Exported:
    """A graph's files, and those to verify: the same or a twin's, what they take for an image of what size, and what
    PyTorch makes of it."""

    files: list[Path]
    tested: list[Path]
    takes: Signature
    size: tuple[int, int]
    expected: Expected


def _build_parts(parts: list[Part], kept: dict[Role, EngineSpec], job: _Job) -> dict[Role, EngineSpec]:
    engines: dict[Role, EngineSpec] = {}
    for part in parts:
        if part.role in kept:
            engines[part.role] = kept[part.role]
            job.report(part.role, "kept")
            continue
        why = "--force was given" if job.options.force else reason(part, job.out)
        job.report(part.role, "exporting", f"again, because {why}" if why else "")
        engines[part.role] = _build_part(part, list(engines.values()), job)
        publish_part(engines[part.role], part.sidecar, job.scratch, job.out)
        job.report(part.role, "built")
    return engines


def _build_part(part: Part, earlier: Sequence[EngineSpec], job: _Job) -> EngineSpec:
    """Export, verify and build one part in the scratch folder; the earlier ones are in the bundle's."""
    precision = part.engine.precision(job.options.precision, job.geometry)
    exported = _export_part(part, precision, job)
    release_memory()  # verifying and building the plan want it
    check_precision(part.role, exported.files[0], precision)
    check_twin(exported.files[0], exported.tested[0])
    job.report(part.role, "verifying")
    errors = _verify(exported, exported.tested[0], job)
    check_errors(part.role, errors, precision)
    fused = _verify_fused(part, exported, precision, job)
    check_errors(part.role, fused, precision)
    plan = _build_plan(part, exported.files, job.plan, job) if job.plan else None
    graph = store_graph(part.role, exported.files, earlier, job.out)
    return EngineSpec(
        role=part.role,
        model=part.engine.model,
        alone=part.engine.alone,
        key=part.key,
        graph=graph,
        fused=store_fused(part.role, graph[0], job.scratch) if fused else None,
        plan=plan,
        inputs=part.signature.inputs,
        outputs=part.signature.outputs,
        precision=precision,
        verification={name: max(error, fused.get(name, 0.0)) for name, error in errors.items()},
        verified_size=exported.size if exported.tested is not exported.files else None,
        golden=_store_golden(part, exported, job),
        depends=part.depends,
    )


def _verify(exported: _Exported, path: Path, job: _Job) -> dict[str, float]:
    return relative_errors(exported.expected, path, exported.takes, job.geometry.vocabulary, job.scratch)


def _verify_fused(part: Part, exported: _Exported, precision: Precision, job: _Job) -> dict[str, float]:
    """The errors of the graph with ONNX Runtime's attention; none where there is none, as in bf16, which that has
    not."""
    path = job.scratch / f"{part.role}.fused"
    if precision == "bf16" or not fuse_attention(exported.tested[0], path):
        return {}
    try:
        return _verify(exported, path, job)
    finally:
        path.unlink()


def _store_golden(part: Part, exported: _Exported, job: _Job) -> FileSpec | None:
    """What PyTorch made of the most rows that it was asked for; nothing where a twin stood for the graph."""
    if exported.tested is not exported.files or not exported.expected:
        return None
    rows, targets = max(exported.expected.items())
    inputs = example_inputs(exported.takes, rows, job.geometry.vocabulary)
    outputs = {tensor.name: target for tensor, target in zip(exported.takes.outputs, targets, strict=True)}
    return store_golden(part.role, inputs, outputs, job.scratch)


def _build_plan(part: Part, files: Sequence[Path], options: PlanOptions, job: _Job) -> PlanSpec:
    path = job.scratch / f"{part.role}.engine"
    tell, rows = partial(job.report, part.role, "building plan"), part.engine.rows(options.batch)
    return name_plan(part.role, build_plan(files, part.signature, options, rows, path, tell), job.scratch)


def _export_part(part: Part, precision: Precision, job: _Job) -> _Exported:
    dtype, geometry = loaded_type(part.weight_bytes // 4, precision), job.geometry
    _check_memory(part, dtype)
    graph = load_graph(part.role, job.checkpoints, geometry, LOSS_SCALES[job.options.precision], dtype)
    runnable = runnable_geometry(graph, part.role, geometry)
    takes = signature(part.role, runnable)
    expected = expected_outputs(graph, takes, geometry.vocabulary)
    lower(graph, precision)

    def export(takes: Signature, path: Path) -> list[Path]:
        return export_onnx(graph, takes, example_inputs(takes, TRACED_ROWS, geometry.vocabulary), path, precision)

    files = export(part.signature, job.scratch / f"{part.role}.onnx")
    tested = files if runnable is geometry else export(takes, job.scratch / "twin.onnx")
    return _Exported(files, tested, takes, runnable.image_size, expected)


def _check_memory(part: Part, dtype: torch.dtype) -> None:
    """Refuse before the work what the system would kill in the middle of it."""
    weight_bytes = part.weight_bytes // 4 * dtype.itemsize
    needed, available = int(EXPORT_OVERHEAD + EXPORT_COPIES * weight_bytes), available_memory()
    if available is not None and available < needed:
        raise RealCompoError(
            f"{part.role}: its export takes about {gigabytes(needed)} of memory, {gigabytes(available)} are available; "
            f"{WAYS_OUT}"
        )


def _distillable(pair: Pair) -> list[str]:
    """What may be a distilled model: LoRAs first."""
    return [*(lora.file for lora in _at_work(pair)), pair.text_to_image]


def _at_work(pair: Pair) -> list[Lora]:
    """LoRAs that do what they were trained to; with a scale of 0 one does nothing."""
    return [lora for lora in pair.loras if lora.scale > 0]


def _about_distillation(pair: Pair, scheduler: Mapping[str, Any]) -> Iterator[str]:
    """Of LoRAs that look like distillations: what they want, and whether one model is left without."""
    distilled = {lora: recipe for lora in _at_work(pair) if (recipe := recipe_of([lora.file], scheduler))}
    for lora, recipe in distilled.items():
        drawn = f"generate draws with {knob_words(recipe.knobs)}, unless told otherwise"
        yield f"{lora.file} looks like a distillation ({recipe.name}): {drawn}"
    into = {lora.into for lora in distilled}
    if len(into) == 1 and "both" not in into and not pair.is_over_base:
        (lora, *_) = distilled
        yield f"it goes into one model alone; for both write --lora {lora.file}:{lora.scale:g}@both"


def _pair_spec(digests: Digests, job: _Job) -> PairSpec:
    pair, checkpoints = job.pair, job.checkpoints

    def spec(asked: str, checkpoint: Checkpoint, digest: str) -> ModelSpec:
        prepared = None if checkpoint.source == asked else str(checkpoint.folder.relative_to(job.out))
        source, revision = (RANDOM, None) if job.options.random_weights else recorded(asked)
        return ModelSpec(source=source, revision=revision, sha256=digest, prepared=prepared)

    return PairSpec(
        name=pair.name,
        text_to_image=spec(pair.text_to_image, checkpoints.text_to_image, digests.of("text_to_image")),
        spatial=spec(pair.spatial, checkpoints.spatial, digests.of("spatial")),
        attached=tuple(map(spec, (c.model for c in pair.controls), checkpoints.attached, digests.attached)),
        loras=tuple(
            LoraSpec(source=lora.file, sha256=sha256_of(Path(lora.file)), scale=lora.scale, into=lora.into)
            for lora in pair.loras
        ),
    )


def _manifest(
    models: PairSpec,
    engines: dict[Role, EngineSpec],
    tokenizers: dict[str, FileSpec],
    shared_unet: bool,
    job: _Job,
) -> Manifest:
    geometry, model = job.geometry, job.checkpoints.text_to_image
    return Manifest(
        format_version=FORMAT_VERSION,
        command=build_command(job.pair, replace(job.options, force=False)),
        pair=models,
        backend=job.options.backend,
        precision=job.options.precision,
        batch=job.options.batch,
        shared_unet=shared_unet,
        spatial=KINDS[job.pair.kind].spec(job.pair, job.checkpoints),
        engines=engines,
        maps=MapSpec(resolution=geometry.map_resolution, layers=geometry.map_layers),
        loss_scale=LOSS_SCALES[job.options.precision],
        latent_shape=geometry.latent_shape,
        latent_scale=model.config("vae").get("scaling_factor", 0.18215),
        image_size=geometry.image_size,
        max_regions=MAX_REGIONS,
        **tokenizers,
        zero_negative=model.zero_negative,
        max_tokens=geometry.max_tokens,
        scheduler=geometry.scheduler,
        recommended=None,
        recipe=recipe_of(_distillable(job.pair), geometry.scheduler),
    )
