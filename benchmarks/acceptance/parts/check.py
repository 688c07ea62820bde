"""Every engine on one backend against its golden values, in every way in which this machine can call it."""

from dataclasses import asdict

from benchmarks.acceptance.outcome import Job, NotHere, Outcome
from benchmarks.acceptance.parts.backends import why_not
from runtime.bundle.manifest import read_manifest
from runtime.check import Finding, Skipped, check_bundle


def run(job: Job, backend: str) -> Outcome:
    if why := why_not(job.bundle, backend, job.device):
        raise NotHere(why)
    if not any(spec.golden for spec in read_manifest(job.bundle).engines.values()):
        raise NotHere("the bundle has no golden values: it was built before there were any; build it again")
    said = [_tell(one) for one in check_bundle(job.bundle, backend, job.device)]
    findings = [one for one in said if isinstance(one, Finding)]
    off = [one for one in findings if not one.passed]
    found = {
        "backend": backend,
        "findings": [asdict(one) for one in findings],
        "skipped": {one.what: one.why for one in said if isinstance(one, Skipped)},
    }
    return Outcome("failed" if off else "passed", _first(off) if off else _all(findings), found)


def _tell(one: Finding | Skipped) -> Finding | Skipped:
    """In the part's log, which shows how far it came if it is ended."""
    print(f"{one.role}, {one.way}: {one.output}" if isinstance(one, Finding) else f"not {one.what}")
    return one


def _all(findings: list[Finding]) -> str:
    worst = max(findings, key=lambda one: one.error / one.limit)
    ways, rows = dict.fromkeys(one.way for one in findings), max(max(one.batches) for one in findings)
    return (
        f"{len(findings)} outputs, {', '.join(ways)}, batches up to {rows}; nearest to its limit: {worst.output} of "
        f"{worst.role}, {worst.error:.1e} of {worst.limit:.1e}"
    )


def _first(off: list[Finding]) -> str:
    one = max(off, key=lambda one: one.error / one.limit)
    return (
        f"{len(off)} outputs are off: {one.output} of {one.role}, {one.way}, a batch of {one.worst}, "
        f"by {one.error:.1e}; at most {one.limit:.1e}"
    )
