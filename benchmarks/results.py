"""How every benchmark hands over what it found: the last line of stdout, and a file for `report`."""

import json
import shlex
import sys
from pathlib import Path
from typing import Any

from runtime.bundle.manifest import write_atomically


def hand_over(benchmark: str, found: dict[str, Any], machine: dict[str, Any], file: Path | None) -> None:
    """Print the result as one JSON object on one line, and write it to `file` if there is one.

    Args:
        benchmark: its command's name, by which `report` knows what it reads.
        found: the benchmark's own fields.
        machine: `machine.describe()` from before the work, for its load says who else was at work.
        file: the `--json` option.
    """
    result = {"benchmark": benchmark, "command": command_line(), "machine": machine, **found}
    if file:
        write_file(file, json.dumps(result, indent=1).encode() + b"\n")
    print(json.dumps(result))


def command_line() -> str:
    """The command that is running."""
    return shlex.join(["python", "-m", "benchmarks", *sys.argv[1:]])


def write_picture(file: Path, png: bytes) -> None:
    """Write it, and say so."""
    write_file(file, png)
    print(f"{file} is written")


def write_file(file: Path, content: bytes) -> None:
    """Write a file whole, in a folder that need not be there yet."""
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, content)
