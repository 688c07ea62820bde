"""The page: self-contained, with every figure of its results, and safe against what results hold."""

import base64
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from benchmarks.__main__ import app
from export.checkpoints.folders import ROOT

MACHINE = {
    "cpu": "<b>A CPU & more</b>",
    "cores": 2,
    "memory_gib": 24.0,
    "gpus": [],
    "system": "Linux 6",
    "python": "3.11",
    "threads": 2,
    "load": 0.1,
    "commit": "abc",
    "packages": {"torch": "2.13.0"},
}
ROW = {
    "about": "",
    "images": 2,
    "seconds": [1.111, 1.333],
    "p50": 1.222,
    "p95": 1.322,
    "p99": 1.331,
    "cold_load": 4.4,
    "first_image": 1.777,
    "peak_rss": 123_000_000,
    "gpu_memory": 0,
    "rows": {"forward": 60, "gradient": 0},
    "stages": {"text": 0.01, "denoise": 1.0, "decode": 0.2},
    "step_ms": 47.6,
    "engines_ms": {},
    "images_per_second": {"1": 0.9, "2": 1.6},
}
LATENCY = {
    "benchmark": "latency",
    "command": "python -m benchmarks latency engines/tabletop",
    "machine": MACHINE,
    "bundle": {"pair": "tabletop", "precision": "fp32", "image_size": [64, 64]},
    "settings": {
        "sampling": {"steps": 20},
        "rounds": 2,
        "one_at_a_time": False,
        "device": "cpu",
        "torch_dtype": "float32",
        "threads": 2,
    },
    "parity": {"exact and eager": 8e-7},
    "contenders": {
        "stock": ROW,
        "exact": ROW
        | {"engines_ms": {"spatial": 40.0}, "between_engines_ms": 0.8, "between_engines_share": 0.017, "rows": None},
    },
    "ratios": {"stock_vs_exact": 0.52, "exact_vs_stock": 1.91},
    "ratio_quartiles": {"stock_vs_exact": [0.5, 0.55], "exact_vs_stock": [1.88, 1.97]},
}
SCORES = {"object_recall": 0.9, "in_box": 0.7, "realism": 0.4}
QUALITY = {
    "benchmark": "quality",
    "command": "python -m benchmarks quality engines/tabletop",
    "machine": MACHINE,
    "scenes": 4,
    "steps": 20,
    "sampler": "dpm++2m",
    "rows": [{"mode": "exact", **SCORES, "categories": {"spatial": SCORES | {"in_box": 0.123}}}],
}
GRADIENTS = {
    "benchmark": "gradients",
    "command": "python -m benchmarks gradients engines/tabletop",
    "machine": MACHINE,
    "scenes": 4,
    "steps": 5,
    "sampler": "dpm++2m",
    "losses": {"none": [0.9, 0.8], "exact": [0.9, 0.7]},
    "agreement": [{"name": "surrogate", "cosine": [0.1, 0.345], "norm_ratio": [0.01, 0.02]}],
}


class Page(HTMLParser):
    """What is in the page: its words, and where its images and links come from."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.sources, self.tags = "", [], set[str]()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.sources += [value for name, value in attrs if name in ("src", "href", "srcset")]

    def handle_data(self, data: str) -> None:
        self.words += data


def write(folder: Path, *results: dict[str, Any]) -> list[str]:
    files = [folder / f"{i}.json" for i in range(len(results))]
    for file, result in zip(files, results, strict=True):
        file.write_text(json.dumps(result))
    return list(map(str, files))


@pytest.fixture
def page(tmp_path: Path) -> tuple[str, Page]:
    out, picture = tmp_path / "new" / "report.html", ROOT / "docs" / "images" / "layout.png"
    files = write(tmp_path, GRADIENTS, QUALITY, LATENCY)
    result = CliRunner().invoke(app, ["report", *files, "--out", str(out), "--picture", str(picture)])
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1] == str(out)
    parsed = Page()
    parsed.feed(out.read_text())
    return out.read_text(), parsed


def test_nothing_is_fetched(page: tuple[str, Page]):
    text, parsed = page
    assert not re.search(r"https?:|url\(|@import|<script|<link", text)
    assert len(parsed.sources) == 4
    for source in parsed.sources:
        kind, content = source.split(",")
        assert kind == "data:image/png;base64" and base64.b64decode(content).startswith(b"\x89PNG")


def test_figures_and_where_they_come_from(page: tuple[str, Page]):
    words = page[1].words
    for figure in ("1.222 s", "1.91 (1.88 to 1.97)", "1.91×", "123 MB", "0.80 ms (1.7%)", "0.123", "0.345", "8.0e-07"):
        assert figure in words
    for result in (LATENCY, QUALITY, GRADIENTS):
        assert result["command"] in words
    assert words.index("Latency") < words.index("Quality") < words.index("Gradients")


def test_words_are_not_markup(page: tuple[str, Page]):
    assert "<b>A CPU & more</b>" in page[1].words


@pytest.mark.parametrize("content", ['{"benchmark": "cooking"}', "[1]", "not JSON"])
def test_another_file_is_one_line(tmp_path: Path, content: str):
    file = tmp_path / "other.json"
    file.write_text(content)
    result = CliRunner().invoke(app, ["report", str(file), "--out", str(tmp_path / "report.html")])
    assert result.exit_code == 2 and str(file) in result.stderr and not (tmp_path / "report.html").exists()


LOAD = {"rate": 4.5, "drawn": 90, "refused": 7, "lost": 0, "others": 0, "requests": 97}
TIMES = {"p50": 0.411, "p95": 0.955, "p99": 1.234, "mean_batch": 2.5}
SERVING = {
    "benchmark": "serving",
    "command": "python -m benchmarks serving engines/tabletop",
    "machine": MACHINE,
    "bundle": {"pair": "tabletop", "path": "engines/tabletop"},
    "settings": {"steps": 10, "max_batch": 8, "threads": 1},
    "lone": {
        "added_ms": 3.21,
        "outside_run_ms": 7.5,
        "run_vs_library": 1.01,
        "seconds": 0.345,
        "library_seconds": 0.34,
    },
    "saturated": {"throughput": 9.7, "library_throughput": 10.0, "vs_library": 0.97, "mean_batch": 8.0},
    "rates": [LOAD | TIMES | {"share": 0.5}],
    "overload": LOAD | TIMES | {"wrong": 0, "memory_growth": 0.012, "recovery_seconds": 0.1},
    "soak": {"requests": 30, "cancelled": 10, "memory_growth": 0.0, "threads_before": 9, "threads_after": 9},
    "exit_code": 0,
}
CAPACITY = {
    "benchmark": "capacity",
    "command": "python -m benchmarks capacity engines/tabletop",
    "machine": MACHINE,
    "steps": 50,
    "curve": {"1": 0.5, "8": 2.0},
    "rows": [TIMES | {"load": 100, "replicas": 37, "busy": 0.676, "cost_of_1000": 0.257}],
    "within": 10,
    "gpu_hour": 2.5,
}


def test_pages_of_serving_and_capacity(tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    result = CliRunner().invoke(app, ["report", *write(tmp_path, CAPACITY, SERVING), "--out", str(out)])
    assert result.exit_code == 0, result.output
    parsed = Page()
    parsed.feed(out.read_text())
    for figure in ("0.97×", "3.2 ms", "1.2%", "0.411", "1.234", "37", "68%", "0.26", "4.00"):
        assert figure in parsed.words
    assert parsed.words.index("Serving") < parsed.words.index("Capacity")
    assert len(parsed.sources) == 2
