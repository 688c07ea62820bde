"""What a benchmark is doing at the moment."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console


@contextmanager
def progress(first: str) -> Iterator[Callable[[str], None]]:
    """Tells on stderr what it is told: on a terminal in one line that changes, in a log a line each time."""
    console = Console(stderr=True)
    with console.status(first) as status:
        yield status.update if console.is_terminal else lambda what: print(what, file=console.file, flush=True)
