"""`python -m benchmarks memory`."""

from benchmarks.acceptance.outcome import Job, Outcome
from benchmarks.acceptance.parts.commands import run_command


def run(job: Job) -> Outcome:
    result = run_command("memory", str(job.bundle), "--device", job.device)
    held = [f"{mode} {_megabytes(row)}" for mode, row in result["modes"].items()]
    return Outcome("passed", f"the bundle's own: {', '.join(held)}", result=dict(result))


def _megabytes(row: dict[str, int]) -> str:
    gpu = f" and {row['gpu'] / 1e6:.0f} MB of the GPU" if row["gpu"] else ""
    return f"{row['loaded'] / 1e6:.0f} MB{gpu}"
