"""How long do images take? RealCompo's engines beside stock pipelines and eager PyTorch, on the same checkpoints.

Contenders that fit into memory together are timed in turns: each round draws one image with every contender, in an
order that shifts from round to round. Full-size ones do not fit. There each is timed in a process of its own, right
after one of the stock pipeline, and both make a pair; two others are compared by what each is to its stock run.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks.latency import probe
from benchmarks.latency.contenders import (
    COEFFICIENT_SCALE,
    SEED,
    STOCK,
    Contender,
    Drawer,
    Sampling,
    Target,
    choose,
    contenders,
    for_parity,
    make_case,
)
from benchmarks.latency.timing import Sample, paired_ratios, percentiles, take
from export.onnx.verify import checkpoints_at_hand
from runtime.backends.devices import check_device
from runtime.bundle.manifest import Manifest, how_to_rebuild, read_manifest
from runtime.errors import RealCompoError
from runtime.spatial import kind_of
from runtime.spatial.gligen import GLIGEN
from runtime.words import Precision, Role

# (ours, what it must equal): relative error of the final latents, from the same start.
PARITY = (
    ("text_to_image", STOCK),
    ("spatial", "stock_spatial"),
    ("exact", "eager"),
    ("released", "eager_released"),
    ("stock_compiled", STOCK),
)
PARITY_TOLERANCE: dict[Precision, float] = {"fp32": 1e-3, "fp16": 5e-2, "bf16": 2e-1}

Report = Callable[[str], None]  # told what is being done


@dataclass(frozen=True)
class Settings:
    """How to measure."""

    sampling: Sampling
    rounds: int
    batches: tuple[int, ...]
    only: tuple[str, ...] = ()
    compiled: bool = False
    one_at_a_time: bool = False
    quick: bool = False  # nothing in processes of their own


DEFAULTS = Settings(Sampling(steps=20, guidance_scale=7.5), rounds=10, batches=(1, 2, 4, 8))
FULL_SIZE = Settings(Sampling(steps=4, guidance_scale=7.5), rounds=1, batches=(), one_at_a_time=True)


class Timed(NamedTuple):
    """What the contenders took, by name."""

    parity: dict[str, float]
    samples: dict[str, list[Sample]]  # of single images
    findings: dict[str, probe.Finding]  # none of a quick measurement
    rounds: dict[str, list[float]]  # what is compared: seconds, or how many times the stock pipeline's


def find_target(
    bundle: Path, backends: Sequence[str], device: str, threads: int, distilled: Path | None = None
) -> Target:
    """The bundle with its checkpoints; without `backends`, all that its manifest and this machine have.

    Raises:
        RealCompoError: no such device, not a bundle of GLIGEN, its checkpoints are not here or not those that it was
            built from, or a bundle without distilled models as `distilled`.
    """
    check_device(device)
    manifest = read_manifest(bundle)
    if (kind := kind_of(manifest)) is not GLIGEN:
        raise RealCompoError(
            f"{bundle} has {kind.title}; this benchmark compares GLIGEN bundles with GLIGEN's pipelines"
        )
    checkpoints = checkpoints_at_hand(bundle, manifest)
    if checkpoints is None:
        raise RealCompoError(
            f"the checkpoints that {bundle} was built from, {manifest.pair.text_to_image.source} and "
            f"{manifest.pair.spatial.source}, are not on this machine or have changed. "
            f"{how_to_rebuild(bundle, manifest)}"
        )
    on_gpu = device != "cpu" and torch.cuda.is_available()
    half = on_gpu and manifest.precision != "fp32"  # on a CPU half precision makes PyTorch slower, not faster
    return Target(
        bundle=str(bundle.resolve()),
        text_to_image=str(checkpoints.text_to_image.folder.resolve()),
        spatial=str(checkpoints.spatial.folder.resolve()),
        latent_size=manifest.latent_shape[1:],
        backends=tuple(backends) or _available_backends(manifest, on_gpu),
        device=("cuda:0" if device == "auto" else device) if on_gpu else "cpu",
        dtype={"fp16": "float16", "bf16": "bfloat16"}[manifest.precision] if half else "float32",
        threads=threads,
        distilled=str(_of_distilled(distilled).resolve()) if distilled else "",
    )


def _of_distilled(bundle: Path) -> Path:
    if read_manifest(bundle).recipe is None:
        raise RealCompoError(
            f"--distilled {bundle}: no distilled models are in that bundle; build one with: python -m export build "
            "PAIR --lora FILE@both"
        )
    return bundle


def measure(target: Target, settings: Settings, report: Report = lambda what: None) -> dict[str, Any]:
    """Time the contenders, parity first, and return the fields of the JSON result.

    Raises:
        RealCompoError: an unknown contender, or one that does not draw what it must.
    """
    manifest = read_manifest(Path(target.bundle))
    chosen = choose(contenders(target, settings.compiled), list(settings.only))
    torch.set_num_threads(target.threads)
    how = _one_at_a_time if settings.one_at_a_time else _in_turns
    timed = how(chosen, target, settings, manifest, report)
    roles = [role for role, spec in manifest.engines.items() if spec.model]
    ratios = {f"{a}_vs_{b}": found for (a, b), found in paired_ratios(timed.rounds).items()}
    return {
        "bundle": {"pair": manifest.pair.name, "precision": manifest.precision, "image_size": manifest.image_size},
        "settings": {
            **asdict(settings),
            "sampler": "plms",
            "seed": SEED,
            "coefficient_scale": COEFFICIENT_SCALE,
            "device": target.device,
            "backends": target.backends,
            "torch_dtype": target.dtype,
            "threads": target.threads,
        },
        "parity": timed.parity,
        "contenders": {one.name: _as_row(one, timed, roles, target.device) for one in chosen},
        "ratios": {name: found.median for name, found in ratios.items()},
        "ratio_quartiles": {name: [found.low, found.high] for name, found in ratios.items()},
    }


def check_parity(latents: dict[str, Tensor], precision: Precision) -> dict[str, float]:
    """The relative error of each of `PARITY` whose both contenders are here.

    Raises:
        RealCompoError: one is too far off.
    """
    found, limit = {}, PARITY_TOLERANCE[precision]
    for ours, reference in PARITY:
        if ours in latents and reference in latents:
            error = float((latents[ours] - latents[reference]).norm() / latents[reference].norm())
            found[f"{ours} and {reference}"] = error
            if not error <= limit:  # NaN fails too
                raise RealCompoError(
                    f"no parity, so nothing is timed: the final latents of {ours} differ from those of {reference} by "
                    f"{error:.1e}; at most {limit:.0e} is accepted in {precision}. Look for the engine that is wrong "
                    "with: python -m export verify BUNDLE"
                )
    return found


def interleave(chosen: Sequence[Contender], rounds: int) -> Iterator[Contender]:
    """Who draws when: everyone once a round, each time starting one further; a slow one in its first rounds alone."""
    for i in range(rounds):
        shift = i % len(chosen)
        for contender in (*chosen[shift:], *chosen[:shift]):
            if contender.most_rounds is None or i < contender.most_rounds:
                yield contender


def _in_turns(
    chosen: Sequence[Contender], target: Target, settings: Settings, manifest: Manifest, report: Report
) -> Timed:
    """All of them loaded: warm-up images, parity, the rounds, then each once more in a process of its own, unless
    it has to be quick."""
    case = make_case(manifest.latent_shape, settings.sampling)
    sampling = for_parity(settings.sampling, manifest.precision)
    parity_case = case if sampling == settings.sampling else make_case(manifest.latent_shape, sampling)
    drawers: dict[str, Drawer] = {}
    latents: dict[str, Tensor] = {}
    for contender in chosen:
        report(f"loading and warming up {contender.name}")
        drawers[contender.name] = contender.load(target)
        warm = take(drawers[contender.name], case)[1]
        latents[contender.name] = (warm if parity_case is case else drawers[contender.name](parity_case)).latents
    parity = check_parity(latents, manifest.precision)
    samples: dict[str, list[Sample]] = {contender.name: [] for contender in chosen}
    for contender in interleave(chosen, settings.rounds):
        so_far = samples[contender.name]
        report(f"round {len(so_far) + 1} of {settings.rounds}: {contender.name}")
        so_far.append(take(drawers[contender.name], case)[0])
    findings = {}
    for contender in () if settings.quick else chosen:
        report(f"in a process of its own: {contender.name}")
        findings[contender.name] = probe.run(contender, target, settings.sampling, 0, settings.batches)
    rounds = {name: [sample.seconds for sample in taken] for name, taken in samples.items()}
    return Timed(parity, samples, findings, rounds)


def _one_at_a_time(
    chosen: Sequence[Contender], target: Target, settings: Settings, manifest: Manifest, report: Report
) -> Timed:
    """Each right after the stock pipeline, both in processes of their own; parity of their first or of shorter runs."""
    (stock,) = choose(contenders(target), [STOCK])
    samples, rounds = defaultdict[str, list[Sample]](list), defaultdict[str, list[float]](list)
    findings: dict[str, probe.Finding] = {}
    parity: dict[str, float] = {}
    for contender in interleave([c for c in chosen if c is not stock] or [stock], settings.rounds):
        for one in (stock, contender):
            report(f"pair {len(rounds[contender.name]) + 1} of {settings.rounds} with {contender.name}: {one.name}")
            found = probe.run(one, target, settings.sampling, 1, () if one.name in findings else settings.batches)
            findings.setdefault(one.name, found)
            samples[one.name] += found.steady
        parity = check_parity({name: torch.tensor(f.latents) for name, f in findings.items()}, manifest.precision)
        rounds[contender.name].append(samples[contender.name][-1].seconds / samples[STOCK][-1].seconds)
    rounds[STOCK] = [1.0] * settings.rounds
    return Timed(parity, samples, findings, rounds)


def _as_row(contender: Contender, timed: Timed, roles: Sequence[Role], device: str) -> dict[str, Any]:
    """A contender's part of the JSON result: seconds an image, milliseconds a step, bytes. `roles` work every step."""
    samples, finding = timed.samples[contender.name], timed.findings.get(contender.name)
    on_cpu = device == "cpu"  # on a GPU the host's time in a call is not the engine's, and a replay has none
    in_denoising = [role for role in roles if on_cpu and role in samples[0].engines]
    row = {
        "about": contender.about,
        "images": len(samples),
        "seconds": [sample.seconds for sample in samples],
        **asdict(percentiles([sample.seconds for sample in samples])),
        **_alone(finding),
        "stages": {stage: median(sample.stages[stage] for sample in samples) for stage in samples[0].stages},
        "step_ms": _per_step(samples, [sample.stages["denoise"] for sample in samples]),
        "engines_ms": {role: _per_step(samples, [sample.engines[role] for sample in samples]) for role in in_denoising},
    }
    if in_denoising:
        row["between_engines_ms"] = _per_step(samples, [sample.between_engines for sample in samples])
        row["between_engines_share"] = median(sample.between_engines / sample.stages["denoise"] for sample in samples)
    return row


def _alone(finding: probe.Finding | None) -> dict[str, Any]:
    """What takes a process of its own; empty where there was none."""
    names = ("cold_load", "first_image", "peak_rss", "gpu_memory", "images_per_second")
    row = {name: getattr(finding, name, None) for name in names}
    return row | {"rows": finding.rows._asdict() if finding and finding.rows else None}


def _per_step(samples: Sequence[Sample], seconds: Sequence[float]) -> float:
    """Milliseconds an evaluation, from the median over images."""
    return 1000 * median(each / sample.evaluations for sample, each in zip(samples, seconds, strict=True))


def _available_backends(manifest: Manifest, on_gpu: bool) -> tuple[str, ...]:
    return (manifest.backend, "onnx") if on_gpu and manifest.backend != "onnx" else ("onnx",)
