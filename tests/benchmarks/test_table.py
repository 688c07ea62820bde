"""The table of benchmarks against the folders, and what the command line makes of it."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

import benchmarks
from benchmarks.__main__ import app
from benchmarks.table import BENCHMARKS

FOLDER = Path(benchmarks.__file__).parent


def test_a_row_for_each_folder_with_a_command():
    assert {file.parent.name for file in FOLDER.glob("*/command.py")} == set(BENCHMARKS)
    reported = {name for name, benchmark in BENCHMARKS.items() if benchmark.reported}
    assert {file.parent.name for file in FOLDER.glob("*/section.py")} == reported


@pytest.mark.parametrize("name", BENCHMARKS)
def test_help_of_a_command_ends_with_its_example(name: str):
    result = CliRunner().invoke(app, [name, "--help"])
    assert result.exit_code == 0
    assert f"Example: python -m benchmarks {name} {BENCHMARKS[name].example}" in " ".join(result.stdout.split())


def test_an_unknown_command_is_named():
    result = CliRunner().invoke(app, ["cook"])
    assert result.exit_code == 2 and "No such command 'cook'" in result.stderr
