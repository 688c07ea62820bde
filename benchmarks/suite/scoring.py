"""A suite's own scorer, unchanged, in the Python that it is given; and what it found, read."""

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from benchmarks.results import write_file
from benchmarks.suite.kind import Command, Read, Run, Suite, pictures_of
from runtime.errors import RealCompoError

RECORD = "scored.json"
OURS = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")  # of the environment: a scorer has a Python of its own


def score(suite: Suite, run: Run, python: Path | None) -> Read | None:
    """What the scorer found of these very pictures, now or earlier; None where it is to be run, and there is no Python.

    Raises:
        RealCompoError: the scorer fails, or its results are not of the pictures.
    """
    record, pictures = run.results / RECORD, digest(suite, run)
    if not (record.is_file() and json.loads(record.read_text())["pictures"] == pictures):
        if python is None:
            return None
        record.unlink(missing_ok=True)
        _judge(suite, run, python)
        found = suite.read(run)
        write_file(record, json.dumps({"pictures": pictures}).encode())
        return found
    return suite.read(run)


def carry_out(commands: Sequence[Command], python: Path, logs: Path) -> list[Path]:
    """Run one after the other; what they say is in the files returned.

    Raises:
        RealCompoError: one that is needed fails.
    """
    return [_run(command, python, logs / f"{i}.log") for i, command in enumerate(commands)]


def digest(suite: Suite, run: Run) -> str:
    """Of all pictures of a run, their names too."""
    found = hashlib.sha256()
    for _, _, name in pictures_of(suite, run.task):
        found.update(f"{name}\0".encode() + hashlib.sha256((run.drawn / name).read_bytes()).digest())
    return found.hexdigest()


def _judge(suite: Suite, run: Run, python: Path) -> None:
    run.results.mkdir(parents=True, exist_ok=True)
    for path in suite.old(run):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    carry_out(suite.commands(run), python, run.results)


def _run(command: Command, python: Path, log: Path) -> Path:
    program = python.absolute() if len(python.parts) > 1 else python  # for another folder; a bare name is looked for
    environment = {name: value for name, value in os.environ.items() if name not in OURS}
    try:
        with log.open("wb") as file:
            ended = subprocess.run(
                [str(program), *command.arguments], cwd=command.folder, env=environment, stdout=file, stderr=file
            )
    except OSError as error:
        raise RealCompoError(f"the scorer cannot be run with {python} in {command.folder}: {error.strerror}") from error
    if ended.returncode and command.needed:
        last = (log.read_text(errors="replace").strip().splitlines() or [""])[-1]
        raise RealCompoError(f"{command.arguments[0]} of the suite ended with {ended.returncode}: {last}; see {log}")
    return log
