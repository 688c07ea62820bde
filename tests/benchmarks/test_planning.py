"""Planners judged: counts and boxes that are worked out by hand, and files as the benchmarks have them."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from benchmarks.__main__ import app
from benchmarks.planning.cases import Free
from benchmarks.planning.nsr1k import Counting, Spatial, relation_of
from benchmarks.planning.prompts import read_prompts
from benchmarks.planning.t2i_compbench import Pair, numeracy_in, overlap, pair_in
from runtime import Layout, RealCompoError, Region
from tests.runtime.chat_server import chat_server, says
from tests.runtime.test_planner_chat import answer

LEFT, RIGHT, BELOW = (0.1, 0.4, 0.3, 0.6), (0.7, 0.4, 0.9, 0.6), (0.1, 0.7, 0.3, 0.9)


def layout(*phrases: str) -> Layout:
    return Layout([Region(phrase, box=LEFT) for phrase in phrases])


@pytest.mark.parametrize(
    ("objects", "phrases", "expected"),
    [
        # 3 of 4 asked are there, of 5 planned: what LayoutGPT's script printed for these files, commit fc31954
        ([("dog", 3), ("cat", 1)], ["dog"] * 3 + ["tree"] * 2, (0, 0.6, 0.75, 0.75, 0.5)),
        ([("dog", 2)], ["dog", "a large dog"], (1, 1, 1, 1, 0)),
        ([("dog", 2)], ["cat"], (0, 0, 0, 0, 2)),
        ([("apple", 1), ("teddy bear", 1)], ["an apple", "a brown teddy bear"], (1, 1, 1, 1, 0)),
        ([("bus", 2)], ["buss", "buss"], (1, 1, 1, 1, 0)),
        ([("dog", 1)], [], (0, 0, 0, 0, 1)),
    ],
)
def test_counting(objects: list[tuple[str, int]], phrases: list[str], expected: tuple[float, ...]) -> None:
    figures = Counting("", "real", objects).figures(layout(*phrases))
    names = ("accuracy", "precision", "recall", "IoU", "MAE")
    assert tuple(figures[name] for name in names) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("cars", "buses", "planned", "right"),
    [(4, 1, (4, 3), 1), (4, 1, (4, 4), 0), (4, 1, (5, 1), 0), (2, 2, (2, 2), 1), (2, 2, (3, 3), 0), (1, 5, (1, 2), 1)],
)
def test_comparisons(cars: int, buses: int, planned: tuple[int, int], right: int) -> None:
    case = Counting("", "comparison", [("car", cars), ("bus", buses)])
    assert case.figures(layout(*["car"] * planned[0], *["bus"] * planned[1])) == {"accuracy": right}


def test_where_a_box_lies_of_another() -> None:
    assert relation_of(LEFT, RIGHT) == "left"
    assert relation_of(RIGHT, LEFT) == "right"
    assert relation_of(LEFT, BELOW) == "top"
    assert relation_of(BELOW, LEFT) == "bottom"
    assert relation_of(LEFT, LEFT) == "diagonal"


def test_spatial_by_name_and_by_spelling() -> None:
    placed = Layout([Region("a large black cat", box=LEFT), Region("a dog", box=RIGHT)])
    figures = Spatial("", "left", "cat", "dog", "left").figures(placed)
    assert figures == {"accuracy": 1, "strict": 0, "missing": 0}
    assert Spatial("", "", "dog", "cat", "next to").figures(placed)["accuracy"] == 1
    assert Spatial("", "", "dog", "cat", "top").figures(placed)["accuracy"] == 0
    assert Spatial("", "", "dog", "zebra", "left").figures(placed) == {"accuracy": 0, "strict": 0, "missing": 1}


def test_overlap() -> None:
    assert overlap((0, 0, 0.5, 1), (0.25, 0, 0.75, 1)) == pytest.approx(1 / 3)
    assert overlap(LEFT, RIGHT) == 0


@pytest.mark.parametrize(
    ("phrase", "first", "second", "right"),
    [
        ("on the left of", (LEFT, 0), (RIGHT, 0), 1),
        ("on the right of", (LEFT, 0), (RIGHT, 0), 0),
        ("on the top of", (LEFT, 0), (BELOW, 0), 1),
        ("on the bottom of", (BELOW, 0), (LEFT, 0), 1),
        ("next to", (LEFT, 0), (RIGHT, 0), 1),
        ("hidden by", ((0.1, 0.1, 0.8, 0.8), 0), ((0.1, 0.2, 0.8, 0.9), 1), 1),
        ("hidden by", ((0.1, 0.1, 0.8, 0.8), 1), ((0.1, 0.2, 0.8, 0.9), 0), 0),
        ("in front of", ((0.1, 0.1, 0.8, 0.8), 1), ((0.1, 0.2, 0.8, 0.9), 0), 1),
        ("behind", (LEFT, 0), (RIGHT, 1), 0),
    ],
)
def test_pairs(phrase: str, first: Any, second: Any, right: int) -> None:
    regions = [Region("a cat", box=first[0], layer=first[1]), Region("a cup", box=second[0], layer=second[1])]
    case = pair_in(f"a cat {phrase} a cup")
    assert isinstance(case, Pair)
    assert case.figures(Layout(regions)) == {"accuracy": right, "objects": 1}
    assert case.figures(Layout(regions[::-1]))["accuracy"] == right
    assert case.figures(Layout([*regions, Region("a dog", box=RIGHT)]))["accuracy"] == 0
    assert case.figures(Layout([regions[0], Region("side of a cup", box=RIGHT)]))["objects"] == 0


def test_numeracy_counts_a_before_things_that_others_count() -> None:
    first, second, third = numeracy_in(["two mice", "three guitars", "a guitar and two mice played a soothing melody"])
    assert (first.objects, second.objects) == ((("mouse", 2),), (("guitar", 3),))
    assert third.objects == (("guitar", 1), ("mouse", 2))
    assert third.figures(layout("a guitar", "mouse", "mice")) == {"accuracy": 1, "counts": 1}
    assert third.figures(layout("guitar", "mouse", "mouse played")) == {"accuracy": 0, "counts": 0.5}


OWN_COUNTING = [{"id": 1, "prompt": "two dogs", "num_object": [["dog", 2]], "sub-type": "single-category"}]
OWN_SPATIAL = [
    {"id": 1, "prompt": "p", "obj1": ["cat", [0, 0, 1, 1]], "obj2": ["dog", [0, 0, 1, 1]], "relation": "top"}
]
LINES = [
    {"id": 1, "prompt": "two dogs", "objects": [["dog", 2]], "type": "real"},
    {"id": 2, "prompt": "p", "first": "cat", "second": "dog", "relation": "left"},
]


def test_files_as_they_come(tmp_path: Path) -> None:
    (tmp_path / "counting.val.json").write_text(json.dumps(OWN_COUNTING))
    (tmp_path / "spatial.val.json").write_text(json.dumps(OWN_SPATIAL))
    (tmp_path / "both.jsonl").write_text("\n".join(map(json.dumps, LINES)) + "\n")
    (tmp_path / "3d_spatial_val.txt").write_bytes(b"a cat behind a dog\r\nsomething else")
    (tmp_path / "non_spatial_val.txt").write_text("\ufeffa cat behind a dog\n\n")
    assert read_prompts(tmp_path / "counting.val.json") == [Counting("two dogs", "single-category", (("dog", 2),))]
    assert read_prompts(tmp_path / "spatial.val.json") == [Spatial("p", "top", "cat", "dog", "top")]
    assert read_prompts(tmp_path / "both.jsonl") == [
        Counting("two dogs", "real", (("dog", 2),)),
        Spatial("p", "left", "cat", "dog", "left"),
    ]
    assert read_prompts(tmp_path / "3d_spatial_val.txt") == [
        Pair("a cat behind a dog", "behind", "cat", "dog"),
        Free("something else", "no rule"),
    ]
    assert read_prompts(tmp_path / "non_spatial_val.txt") == [Free("a cat behind a dog")]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", "{", "is not JSON"),
        ("a.json", '[{"prompt": "a cat"}]', "none of NSR-1K's"),
        ("a.jsonl", '{"objects": [["dog", "two"]], "prompt": "", "type": ""}', "none of NSR-1K's"),
        ("a.json", "[1]", "none of NSR-1K's"),
        ("a.txt", " \n", "has no prompts"),
    ],
)
def test_other_files(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(RealCompoError, match=message):
        read_prompts(tmp_path / name)
    with pytest.raises(RealCompoError, match="cannot read the prompts"):
        read_prompts(tmp_path / "missing.txt")


def run(*arguments: object) -> dict[str, Any]:
    result = CliRunner().invoke(app, ["planning", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout.splitlines()[-1])


def test_the_command(tmp_path: Path) -> None:
    prompts, saved = tmp_path / "spatial.txt", tmp_path / "out" / "planning.json"
    prompts.write_text("a cat on the left of a dog\na dog on the top of a cat\nin the park\n")
    found = run(prompts, "--json", saved)
    assert json.loads(saved.read_text()) == found
    (file,) = found["files"]
    assert (file["prompts"], file["refused"]) == (3, 1)
    assert file["types"]["all"]["accuracy"] == pytest.approx(2 / 3)
    (wrong,) = file["wrong"]
    assert wrong["prompt"] == "in the park" and "no object was found" in wrong["planned"]
    report = tmp_path / "report.html"
    assert CliRunner().invoke(app, ["report", str(saved), "--out", str(report)]).exit_code == 0
    assert "in the park" in report.read_text()


def test_the_chat_planner_is_judged_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_MODEL", "OPENAI_BASE_URL", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "a.jsonl").write_text(
        json.dumps({"prompt": "two red balls left of a blue cube", "objects": [["red ball", 2]], "type": "real"})
    )
    with chat_server(says(answer())) as server:
        found = run(tmp_path / "a.jsonl", "--planner", "chat", "--base-url", server.url, "--model", "tiny")
    assert found["files"][0]["types"]["all"]["recall"] == 1
    assert len(server.requests) == 1
