"""The repository's tests that are marked `gpu`, by pytest."""

import importlib.util
import subprocess
import sys
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from xml.etree import ElementTree

from benchmarks.acceptance.outcome import Job, NotHere, Outcome
from benchmarks.acceptance.parts.gpus import on_first_gpu
from benchmarks.machine import ROOT

NONE_COLLECTED = 5  # exit code of pytest


def run(job: Job) -> Outcome:
    if not on_first_gpu(job):
        raise NotHere("there is no GPU, or it is not to be used")
    return run_tests(ROOT / "tests", "gpu")


def run_tests(folder: Path, mark: str) -> Outcome:
    """The tests below a folder that are marked so.

    Raises:
        NotHere: neither pytest nor tests are here.
    """
    if not folder.is_dir():
        raise NotHere("the tests are not installed: run this in a clone of the repository")
    if importlib.util.find_spec("pytest") is None:
        raise NotHere("pytest is not installed: pip install '.[dev]'")
    with TemporaryDirectory() as work:
        file = Path(work) / "tests.xml"
        command = [sys.executable, "-m", "pytest", str(folder), "-m", mark, "--junitxml", str(file)]
        ended = subprocess.run([*command, "-p", "no:cacheprovider"], cwd=folder.parent)
        if ended.returncode == NONE_COLLECTED:
            raise NotHere(f"there are no tests marked {mark}")
        if not file.exists():
            return Outcome("failed", f"pytest ended with exit code {ended.returncode} and said nothing of its tests")
        tests = {_name(case): _ending(case) for case in ElementTree.parse(file).iter("testcase")}
    return _summarize(tests, ended.returncode)


def _summarize(tests: dict[str, tuple[str, str]], code: int) -> Outcome:
    counts = Counter(how for how, _ in tests.values())
    words = ", ".join(f"{count} {how}" for how, count in counts.items())
    firsts = [f"; {name}: {why}" for name, (how, why) in tests.items() if how in ("failed", "error")]
    found = {"tests": {name: {"ending": how, "why": why} for name, (how, why) in tests.items()}}
    return Outcome("failed" if code else "passed", (words + "".join(firsts[:1])) or f"exit code {code}", found)


def _name(case: ElementTree.Element) -> str:
    return f"{case.get('classname')}.{case.get('name')}"


def _ending(case: ElementTree.Element) -> tuple[str, str]:
    """How a test ended, and why if it did not pass."""
    for tag, how in (("failure", "failed"), ("error", "error"), ("skipped", "skipped")):
        if (found := case.find(tag)) is not None:
            lines = (found.get("message") or "").splitlines()
            return how, lines[0] if lines else ""
    return "passed", ""
