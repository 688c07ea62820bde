"""The benchmarks: a folder of this package each, and a row here."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from benchmarks.grids import Result
from benchmarks.sections import Section


@dataclass(frozen=True)
class Benchmark:
    """A folder is opened only when it is asked for: each takes libraries that others do without.

    Args:
        name: of the folder, of the command, and of the function in the folder's `command.py`.
        example: what may follow the name.
        reported: whether the folder has a `section.py`, with which `report` shows what the command handed over.
    """

    name: str
    example: str
    reported: bool = False

    def command(self) -> Callable[..., None]:
        return self._open("command", self.name)

    def section(self, found: Result) -> Section:
        """What `report` shows of a result."""
        section: Section = self._open("section", "section")(found)
        return section

    def _open(self, module: str, name: str) -> Any:
        return getattr(import_module(f"benchmarks.{self.name}.{module}"), name)


BENCHMARKS = {
    row.name: row
    for row in (
        Benchmark("acceptance", "engines/tabletop --out outputs/acceptance.html", reported=True),
        Benchmark("latency", "engines/tabletop --json outputs/latency.json", reported=True),
        Benchmark("quality", "engines/tabletop --scenes 200", reported=True),
        Benchmark("study", "engines/tabletop --json outputs/study.json", reported=True),
        Benchmark("balancing", "engines/tabletop --json outputs/balancing.json", reported=True),
        Benchmark("gradients", "engines/tabletop --plot outputs/gradients.png", reported=True),
        Benchmark("scenes", "outputs/depth --scenes 60 --plot outputs/scenes.png"),
        Benchmark("gallery", "engines/tabletop --out outputs/gallery.png"),
        Benchmark("roofline", "engines/tabletop --gpu h100", reported=True),
        Benchmark("memory", "engines/tabletop --mode surrogate --mode exact", reported=True),
        Benchmark("planning", "prompts/*.txt --planner offline --json outputs/planning.json", reported=True),
        Benchmark("suite", "t2i-compbench BUNDLE --checkout T2I-CompBench --out outputs/t2i", reported=True),
        Benchmark("serving", "engines/tabletop --seconds 5", reported=True),
        Benchmark("capacity", "engines/tabletop --load 1 --load 100 --within 10 --gpu-hour 2.5", reported=True),
        Benchmark("report", "outputs/*.json --out outputs/report.html"),
    )
}
