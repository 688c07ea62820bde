"""All parts, one after another, within the time that there is."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from time import monotonic
from typing import Any

from benchmarks.acceptance.outcome import Job, Outcome
from benchmarks.acceptance.process import Ended, run_part
from benchmarks.acceptance.table import MINUTES, PARTS, Part
from runtime.bundle.manifest import read_manifest
from runtime.errors import RealCompoError

LEAST = 5.0  # seconds that a part needs at the least: Python and torch alone take as long to start


def choose(names: Sequence[str]) -> list[Part]:
    """Those of the names, or all without names.

    Raises:
        RealCompoError: a name that is none of the parts'.
    """
    if unknown := [name for name in names if name not in PARTS]:
        raise RealCompoError(f"--only {unknown[0]}: there is no such part; there are {', '.join(PARTS)}")
    return [part for name, part in PARTS.items() if name in names or not names]


def run_parts(
    parts: Sequence[Part], job: Job, minutes: float, report: Callable[[str], None] = lambda what: None
) -> Iterator[Ended]:
    """Each part as it ends; those for which no time is left are skipped. A few parts share all the time there is."""
    deadline = monotonic() + 60 * minutes
    share = max(minutes / MINUTES, 60 * minutes / sum(part.seconds for part in parts))
    for i, part in enumerate(parts):
        limit = min(part.seconds * share, deadline - monotonic())
        if limit < LEAST:
            yield skip(part, _no_time(part, minutes))
            continue
        report(f"{i + 1} of {len(parts)}: {part.name}: {part.about} (at most {limit:.0f} s)")
        yield run_part(part, job, limit)


def _no_time(part: Part, minutes: float) -> str:
    enough = max(minutes, part.seconds / 60)
    return f"no time was left of {minutes:g} minutes; run it with --only '{part.name}' --minutes {enough:g}"


def skip(part: Part, why: str) -> Ended:
    return Ended(part, Outcome("skipped", why))


def as_json(job: Job, ended: Sequence[Ended]) -> dict[str, Any]:
    """The fields of the JSON result; what other benchmarks handed over stands in `results`."""
    manifest = read_manifest(job.bundle)
    return {
        "bundle": {"path": str(job.bundle), "pair": manifest.pair.name, "precision": manifest.precision},
        "device": job.device,
        "counts": Counter(one.outcome.status for one in ended),
        "parts": [_as_row(one) for one in ended],
        "results": [one.outcome.result for one in ended if one.outcome.result],
    }


def _as_row(ended: Ended) -> dict[str, Any]:
    outcome, part = asdict(ended.outcome), ended.part
    del outcome["result"]
    return {
        "name": part.name,
        "about": part.about,
        **outcome,
        "seconds": round(ended.seconds, 1),
        "log": ended.log,
    }
