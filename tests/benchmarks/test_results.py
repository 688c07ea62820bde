"""What benchmarks print last is JSON that any parser reads."""

import json
import math
from pathlib import Path
from typing import Any, NoReturn

import pytest

from benchmarks.results import hand_over


def refuse(constant: str) -> NoReturn:
    raise AssertionError(f"{constant} is no JSON")


def test_numbers_that_are_none_are_null(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found: dict[str, Any] = {"rows": ({"p50": math.nan}, [math.inf, -math.inf, 1.5, 2]), "name": "x", "flag": True}
    hand_over("quality", found, {"load": math.nan}, tmp_path / "new" / "found.json")
    printed = json.loads(capsys.readouterr().out, parse_constant=refuse)
    assert printed["rows"] == [{"p50": None}, [None, None, 1.5, 2]]
    assert (printed["name"], printed["flag"], printed["machine"]) == ("x", True, {"load": None})
    assert json.loads((tmp_path / "new" / "found.json").read_text(), parse_constant=refuse) == printed
