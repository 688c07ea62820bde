"""How every benchmark hands over what it found: the last line of stdout, and a file for `report`."""

import json
import math
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
    result = as_result(benchmark, found, machine)
    if file:
        write_result(file, result)
    print(json.dumps(result))


def as_result(benchmark: str, found: dict[str, Any], machine: dict[str, Any]) -> dict[str, Any]:
    """What `report` reads; see `hand_over`."""
    result: dict[str, Any] = without_nan(
        {"benchmark": benchmark, "command": command_line(), "machine": machine, **found}
    )
    return result


def write_result(file: Path, result: dict[str, Any]) -> None:
    write_file(file, json.dumps(result, indent=1).encode() + b"\n")


def without_nan(value: Any) -> Any:
    """None for each number that is none, such as the mean of nothing: JSON has no NaN and no infinity."""
    match value:
        case float():
            return value if math.isfinite(value) else None
        case dict():
            return {key: without_nan(one) for key, one in value.items()}
        case list() | tuple():
            return [without_nan(one) for one in value]
        case _:
            return value


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
