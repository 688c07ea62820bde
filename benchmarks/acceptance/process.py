"""A part in a process of its own, which may crash or hang without taking the others along.

`run_part` starts `python -m benchmarks.acceptance.process REQUEST`, where REQUEST is JSON; the outcome comes in a file.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic

from pydantic import TypeAdapter

from benchmarks.acceptance.outcome import Job, NotHere, Outcome
from benchmarks.acceptance.table import Part
from benchmarks.machine import ROOT
from runtime.errors import RealCompoError
from runtime.messages import one_line

LONGEST = 240  # characters of a last line
LOG_LINES = 30  # that are kept of a part that failed
GRACE = 5.0  # seconds for a process to end in once it is told to
ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",  # there may be no network to wait for
    "TRANSFORMERS_OFFLINE": "1",
    "PYTHONUNBUFFERED": "1",  # what a part has said before it hangs is in the log
}


@dataclass(frozen=True)
class Request:
    part: Part
    job: Job
    outcome: Path  # file to write


@dataclass(frozen=True)
class Ended:
    """A part that is over.

    Args:
        seconds: that it took.
        log: the last lines that it printed, if it failed.
    """

    part: Part
    outcome: Outcome
    seconds: float = 0.0
    log: tuple[str, ...] = ()


def run_part(part: Part, job: Job, limit: float) -> Ended:
    """Run a part in a process of its own, for at most `limit` seconds. Whatever ends this function ends the process,
    and those that it has started."""
    started = monotonic()
    with TemporaryDirectory() as folder:
        request, log = Request(part, job, Path(folder) / "outcome.json"), Path(folder) / "log"
        code, printed = _run(request, log, limit)
        outcome = _read(request.outcome) if code == 0 else Outcome("failed", _why(code, limit, printed))
    return Ended(part, outcome, monotonic() - started, printed if outcome.status == "failed" else ())


def _run(request: Request, log: Path, limit: float) -> tuple[int | None, tuple[str, ...]]:
    """The exit code, None for a process that took too long, and its last lines: what it answers to being ended is none
    of them."""
    text = TypeAdapter(Request).dump_json(request).decode()
    command = [sys.executable, "-m", "benchmarks.acceptance.process", text]
    with (
        log.open("wb") as out,
        subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a group of its own, which ends as a whole; Ctrl-C goes to this process
        ) as process,
    ):
        try:
            return process.wait(limit), _last_lines(log)
        except subprocess.TimeoutExpired:
            return None, _last_lines(log)
        finally:
            _end(process)


def _last_lines(log: Path) -> tuple[str, ...]:
    return tuple(line for line in log.read_text(errors="replace").splitlines() if line.strip())[-LOG_LINES:]


def _end(process: subprocess.Popen[bytes]) -> None:
    """End what is left of the process's group: as by Ctrl-C, so that its parts end theirs, and then for certain."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _read(file: Path) -> Outcome:
    return TypeAdapter(Outcome).validate_json(file.read_bytes())


def _why(code: int | None, limit: float, printed: Sequence[str]) -> str:
    last = one_line(printed[-1])[:LONGEST] if printed else "it printed nothing"
    if code is None:
        return f"it was ended after {limit:.0f} s; its last words: {last}"
    if code < 0:
        return f"its process crashed ({signal.Signals(-code).name}); its last words: {last}"
    return last if printed else f"its process ended with exit code {code}"


def main(text: str) -> None:
    """What the new process does."""
    request = TypeAdapter(Request).validate_json(text)
    try:
        outcome = request.part.run(request.job)
    except NotHere as reason:
        outcome = Outcome("skipped", str(reason))
    except RealCompoError as error:
        sys.exit(one_line(f"error: {error}"))
    request.outcome.write_bytes(TypeAdapter(Outcome).dump_json(outcome))


if __name__ == "__main__":
    main(sys.argv[1])
