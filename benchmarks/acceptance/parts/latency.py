"""`python -m benchmarks latency --quick`, of the contenders that a first look needs."""

from benchmarks.acceptance.outcome import Job, Outcome
from benchmarks.acceptance.parts.commands import run_command
from benchmarks.acceptance.parts.targets import find
from benchmarks.latency.contenders import contenders

CONTENDERS = (
    "stock",
    "stock_spatial",
    "eager",
    "text_to_image",
    "spatial",
    "handover",
    "surrogate",
    "fast",
    "exact",
)
KEYS = ("eager_vs_exact", "exact_vs_stock", "surrogate_vs_stock", "handover_vs_stock")


def run(job: Job, only: tuple[str, ...] = CONTENDERS) -> Outcome:
    target = find(job)
    chosen = [one.name for one in contenders(target) if one.name.partition("@")[0] in only]
    result = run_command(
        *("latency", str(job.bundle), "--quick", "--device", target.device),
        *("--steps", str(job.steps), "--rounds", str(job.rounds)),
        *(word for backend in target.backends for word in ("--backend", backend)),
        *(word for name in chosen for word in ("--only", name)),
    )
    ratios = [f"{name} {result['ratios'][name]:.2f}" for name in KEYS if name in result["ratios"]]
    return Outcome("passed", f"parity holds; {', '.join(ratios)}", result=dict(result))
