"""One HTML page of saved results, with all that it shows inside: to send, to archive, to print."""

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from benchmarks.figures import DPI, draw_latency, draw_quality
from benchmarks.gradients.measure import Agreement, draw_figure
from benchmarks.machine import in_one_line
from benchmarks.tables import (
    Grid,
    Result,
    gradient_grids,
    latency_grids,
    parity_line,
    profile_grids,
    quality_grid,
    roofline_grids,
)
from runtime.errors import RealCompoError

CSS_DPI = 96


@dataclass(frozen=True)
class Key:
    """One figure that the reader should take away."""

    value: str
    meaning: str


@dataclass(frozen=True)
class Picture:
    caption: str
    image: str  # data URI
    width: int  # on the page; it has more pixels, for fine screens


@dataclass(frozen=True)
class Section:
    title: str
    about: str
    keys: tuple[Key, ...] = ()
    figure: Picture | None = None
    grids: tuple[Grid, ...] = ()
    details: tuple[Grid, ...] = ()  # folded away
    note: str = ""


def read_results(files: Sequence[Path]) -> list[Result]:
    """The results in the files, in the order of the page.

    Raises:
        RealCompoError: a file that is none of the benchmarks' results.
    """
    results = [_read(file) for file in files]
    return sorted(results, key=lambda result: list(SECTIONS).index(result["benchmark"]))


def render(title: str, results: Sequence[Result], pictures: Sequence[Path]) -> str:
    """The page.

    Raises:
        RealCompoError: a picture that cannot be read.
    """
    environment = Environment(
        loader=PackageLoader("benchmarks.report", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template("report.html.jinja").render(
        title=title,
        sections=[(SECTIONS[result["benchmark"]](result), result) for result in results],
        pictures=[_embed(file.stem.replace("_", " "), _read_picture(file)) for file in pictures],
        machine=in_one_line,
    )


def _read(file: Path) -> Result:
    try:
        result = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise RealCompoError(f"{file} cannot be read as JSON: {error}") from error
    if not isinstance(result, dict) or result.get("benchmark") not in SECTIONS:
        raise RealCompoError(f"{file} is no result: give files that {', '.join(SECTIONS)} wrote with --json")
    return result


def _read_picture(file: Path) -> bytes:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise RealCompoError(f"--picture {file} cannot be read: {error.strerror}") from error
    if not content.startswith(b"\x89PNG"):
        raise RealCompoError(f"--picture {file} is no PNG")
    return content


def _latency(found: Result) -> Section:
    settings, bundle = found["settings"], found["bundle"]
    height, width = bundle["image_size"]
    return Section(
        "Latency",
        f"{bundle['pair']}, {width}×{height} pixels, {bundle['precision']} engines beside PyTorch in "
        f"{settings['torch_dtype']}, {settings['device']}, threads: {settings['threads']}. Every contender draws the "
        f"same image from the same latents and checkpoints, {_order(settings)}.",
        keys=tuple(_latency_keys(found)),
        figure=_embed("Latency", draw_latency(found)),
        grids=tuple(latency_grids(found)),
        details=tuple(profile_grids(found)),
        note=f"{parity_line(found)}.",
    )


def _order(settings: Mapping[str, Any]) -> str:
    if settings["one_at_a_time"]:
        return f"in a process of its own, right after a run of the stock pipeline (such pairs: {settings['rounds']})"
    return f"in turns (rounds: {settings['rounds']})"


def _latency_keys(found: Result) -> list[Key]:
    meanings = {
        "eager_vs_exact": "as fast as RealCompo in eager PyTorch, the same images",
        "eager_vs_surrogate": "as fast as RealCompo in eager PyTorch, with the surrogate gradient",
        "exact_vs_stock": "the time of the stock text-to-image pipeline, the paper's method",
        "surrogate_vs_stock": "the time of the stock text-to-image pipeline, the surrogate gradient",
    }
    return [Key(f"{found['ratios'][k]:.2f}×", meaning) for k, meaning in meanings.items() if k in found["ratios"]]


def _quality(found: Result) -> Section:
    return Section(
        "Quality",
        f"{found['scenes']} held-out scenes, {found['steps']} steps of {found['sampler']}. All scores lie in 0 to 1, "
        "and higher is better.",
        figure=_embed("Quality", draw_quality(found)),
        grids=(quality_grid("All scenes", {row["mode"]: row for row in found["rows"]}),),
        details=tuple(quality_grid(f"{row['mode']} by category", row["categories"]) for row in found["rows"]),
    )


def _gradients(found: Result) -> Section:
    agreements = [Agreement(**row) for row in found["agreement"]]
    return Section(
        "Gradients",
        f"{found['scenes']} held-out scenes, {found['steps']} steps of {found['sampler']}: how cheap stand-ins compare "
        "with the exact gradient.",
        figure=_embed("Gradients", draw_figure(found["losses"], agreements)),
        grids=tuple(gradient_grids(found)),
    )


def _roofline(found: Result) -> Section:
    return Section(
        f"Roofline of {found['ceilings']['name']}",
        "The least time that each engine and each kind of step can take, from its operations, its memory traffic and "
        "the device's ceilings.",
        grids=tuple(roofline_grids(found)),
    )


def _embed(caption: str, png: bytes) -> Picture:
    width = Image.open(BytesIO(png)).width * CSS_DPI // DPI
    return Picture(caption, "data:image/png;base64," + base64.b64encode(png).decode(), width)


SECTIONS: dict[str, Callable[[Result], Section]] = {
    "latency": _latency,
    "quality": _quality,
    "gradients": _gradients,
    "roofline": _roofline,
}
