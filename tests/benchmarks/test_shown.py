"""What a benchmark shows while it works and at its end, on a terminal and in a log."""

import sys

import pytest

from benchmarks.progress import progress
from tests.terminal import column, on_terminal

SHOWN = """
from benchmarks.grids import Grid, show
show([Grid("Engines", ("engine", *"abcdef"), [("text_to_image_gradient", *["spatial_gradient"] * 6)])])
"""


def test_a_grid_on_a_narrow_terminal() -> None:
    shown = on_terminal([sys.executable, "-c", SHOWN])
    assert "text_to_image_gradient" in column(shown, 0)
    assert all("spatial_gradient" in column(shown, number) for number in range(1, 7))


def test_a_log_has_a_line_of_each_thing_that_is_done(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("loading") as report:
        report("round 1 of 2: exact")
        report("round 2 of 2: exact")
    assert capsys.readouterr().err == "round 1 of 2: exact\nround 2 of 2: exact\n"
