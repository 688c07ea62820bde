"""The suites: a file each, and a row here."""

from benchmarks.suite.hrs import HRS
from benchmarks.suite.kind import Suite
from benchmarks.suite.nsr_1k import NSR1K
from benchmarks.suite.overlaybench import OverLayBench
from benchmarks.suite.t2i_compbench import T2ICompBench
from runtime.errors import RealCompoError

SUITES: dict[str, Suite] = {row.name: row for row in (T2ICompBench(), NSR1K(), HRS(), OverLayBench())}


def find_suite(name: str) -> Suite:
    """Raises: RealCompoError: there is none of that name."""
    if name not in SUITES:
        raise RealCompoError(f"there is no suite {name!r}; use {', '.join(SUITES)}")
    return SUITES[name]
