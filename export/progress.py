"""A build's progress on the terminal."""

import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from runtime.words import Role


class PartProgress:
    """A bar over the parts, and lines that stay: what is built again and why, what takes memory, what is done."""

    def __init__(self, console: Console) -> None:
        columns = BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}")
        self._progress = Progress(*columns, console=console, transient=True)
        self._task = self._progress.add_task("reading checkpoints", total=None)
        self._started = time.monotonic()
        self._at = ("", "")  # role and stage

    def __enter__(self) -> "PartProgress":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def expect(self, parts: int) -> None:
        self._progress.update(self._task, total=parts)

    def tell(self, line: str) -> None:
        self._progress.console.print(line, soft_wrap=True, highlight=False, markup=False)

    def say(self, stage: str) -> None:
        self._progress.update(self._task, description=stage)

    def note(self, line: str) -> None:
        self._progress.console.print(line)

    def report(self, role: Role, stage: str, detail: str = "") -> None:
        line = f"{role}: {stage}{f', {detail}' if detail else ''}"
        self.say(line)
        if stage == "kept":
            self._finish(f"{role}: unchanged, kept")
        elif stage == "built":
            self._finish(f"{role}: built in {time.monotonic() - self._started:.0f} s")
        elif detail and self._at != (role, stage):
            self._progress.console.print(line)
        self._at = (role, stage)

    def _finish(self, line: str) -> None:
        self._progress.console.print(line)
        self._progress.advance(self._task)
        self._started = time.monotonic()
