"""Command line of the benchmarks: `python -m benchmarks NAME`, a command for each of `benchmarks.table`.

The last line of stdout is one JSON object.
"""

import typer
from typer.core import TyperCommand, TyperGroup

from benchmarks.table import BENCHMARKS, Benchmark


class Commands(TyperGroup):
    """Opens a benchmark's folder once its command is called, or its help is."""

    def list_commands(self, ctx: object) -> list[str]:
        return list(BENCHMARKS)

    def get_command(self, ctx: object, cmd_name: str) -> TyperCommand | None:
        return _command(BENCHMARKS[cmd_name]) if cmd_name in BENCHMARKS else None


def _command(benchmark: Benchmark) -> TyperCommand:
    alone = typer.Typer(add_completion=False)
    example = f"Example: python -m benchmarks {benchmark.name} {benchmark.example}"
    alone.command(benchmark.name, epilog=example)(benchmark.command())
    command = typer.main.get_command(alone)
    assert isinstance(command, TyperCommand)
    return command


app = typer.Typer(cls=Commands, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def benchmarks() -> None:
    """Measure a bundle. Tables go to stdout; its last line is one JSON object."""


if __name__ == "__main__":
    app(prog_name="python -m benchmarks")
