"""What the three command lines share: one plain line for what a user can mend, and exit codes."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from runtime.errors import RealCompoError


@contextmanager
def plain_errors(interrupted: str = "interrupted") -> Iterator[None]:
    """Instead of a traceback, one line on stderr: exit code 2 for a RealCompoError, 130 for Ctrl-C."""
    warnings.showwarning = lambda message, *_, **__: typer.echo(f"warning: {message}", err=True)
    try:
        yield
    except RealCompoError as error:
        _exit(f"error: {' '.join(str(error).split())}", 2)
    except KeyboardInterrupt:
        _exit(interrupted, 130)


def _exit(line: str, code: int) -> None:
    typer.echo(line, err=True)
    raise typer.Exit(code)
