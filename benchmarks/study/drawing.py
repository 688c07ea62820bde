"""Pictures of every contender, kept on disk: a stopped study goes on, and another scorer needs no new pictures."""

import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from benchmarks.drawing import Sampling
from benchmarks.engines import differentiators, predictors
from benchmarks.results import write_file
from benchmarks.study.cases import Case
from benchmarks.study.contenders import Contender
from benchmarks.study.placebo import CHANGES, Changes
from runtime import RealCompo
from runtime.bundle.manifest import bundle_files
from runtime.output import Output
from runtime.spatial import kind_of

RECORD = "drawn.json"
Advance = Callable[[int], None]  # told of so many pictures more


@dataclass(frozen=True)
class Drawn:
    """A contender's pictures, in the order of the cases, and what one of them took."""

    folder: Path
    count: int
    seconds: float  # drawn in batches
    rows: dict[str, float]  # of each engine

    def images(self) -> list[Image.Image]:
        return [Image.open(_picture(self.folder, i)).convert("RGB") for i in range(self.count)]


@dataclass(frozen=True)
class Studio:
    """A bundle, what it is to draw and how, and where the pictures are kept."""

    pipe: RealCompo
    cases: Sequence[Case]
    sampling: Sampling
    folder: Path
    changes: Changes = field(default_factory=lambda: CHANGES)

    def draw(self, contender: Contender, advance: Advance) -> Drawn:
        """A contender's pictures, drawn or found."""
        told = {**self.sampling.knobs(), **contender.knobs}
        key = self._key(contender, told)
        folder = self.folder / f"{_plain(contender.name)}-{key[:8]}"
        if (kept := _read_record(folder, key)) is None:
            kept = self._draw(contender, folder, advance)
            write_file(folder / RECORD, json.dumps({"key": key, "told": told, **kept}).encode())
        else:
            advance(len(self.cases))
        return Drawn(folder, len(self.cases), kept["seconds"], kept["rows"])

    def outputs(self, contender: Contender, trace: bool = False) -> Iterator[tuple[Sequence[Case], Output]]:
        """A batch of cases after the other. Case i starts from the noise and coefficients of seed i, whatever draws."""
        change = self.changes[contender.change] if contender.change else None
        for batch in batches(len(self.cases), self.sampling.batch):
            cases = [self.cases[i] for i in batch]
            latents, coefficients = map(torch.stack, zip(*(self._start(i) for i in batch), strict=True))
            start = None if contender.starts_itself else _led(coefficients, contender.lead)
            output = self.pipe(
                [case.prompt for case in cases],
                layout=[case.layout for case in cases],
                latents=latents,
                trace=trace,
                change_gradient=change() if change else None,
                **{**self.sampling.knobs(), "coefficients": start, **contender.knobs},
            )
            yield cases, output

    def first(self, most: int) -> "Studio":
        """With its first cases alone."""
        return replace(self, cases=self.cases[:most])

    def steps(self, contender: Contender) -> int:
        return int(contender.knobs.get("steps", self.sampling.steps))

    def switch_step(self, contender: Contender) -> int | None:
        """Up to which the spatial model is alone; None of one model's own mode."""
        if not contender.switches:
            return None
        default = round(kind_of(self.pipe.manifest).alone * self.steps(contender))
        return int(contender.knobs.get("switch_step", default))

    def unet_rows(self, drawn: Drawn) -> float:
        """Rows of the UNets' engines that a picture took; a row of a gradient engine counts as one."""
        manifest = self.pipe.manifest
        return sum(drawn.rows.get(role, 0) for role in {*predictors(manifest), *differentiators(manifest)})

    def _draw(self, contender: Contender, folder: Path, advance: Advance) -> dict[str, Any]:
        count, seconds, rows = 0, 0.0, Counter[str]()
        started = time.perf_counter()
        for cases, output in self.outputs(contender):
            seconds += time.perf_counter() - started
            rows.update(output.stats.rows)
            for image in output.images:
                _save(image, _picture(folder, count))
                count += 1
            advance(len(cases))
            started = time.perf_counter()
        return {"seconds": seconds / count, "rows": {role: total / count for role, total in rows.items()}}

    def _start(self, i: int) -> tuple[Tensor, Tensor]:
        """What a call with seed i starts from: latents (4,h,w) and coefficients (2,h,w)."""
        channels, height, width = self.pipe.manifest.latent_shape
        generator = torch.Generator().manual_seed(i)
        latents, coefficients = (torch.randn(1, n, height, width, generator=generator)[0] for n in (channels, 2))
        return latents, coefficients

    def _key(self, contender: Contender, told: dict[str, Any]) -> str:
        """Of all that the pictures depend on."""
        files = [file.sha256 for file in bundle_files(self.pipe.manifest)]
        cases = [case.digest() for case in self.cases]
        depends = [files, cases, told, contender.change, contender.lead, asdict(self.sampling)]
        return hashlib.sha256(json.dumps(depends, sort_keys=True).encode()).hexdigest()


def _led(coefficients: Tensor, lead: float | None) -> Tensor:
    """The coefficients (B,2,h,w) as drawn, or with the text-to-image one so far above the spatial one everywhere."""
    if lead is None:
        return coefficients
    return torch.tensor([lead / 2, -lead / 2])[:, None, None].expand_as(coefficients)


def batches(count: int, most: int) -> list[range]:
    """Numbers 0 to count in batches as alike as can be: none is left with one, which would have no other's gradient."""
    parts = -(-count // most)
    edges = [round(part * count / parts) for part in range(parts + 1)]
    return [range(start, end) for start, end in pairwise(edges)]


def _read_record(folder: Path, key: str) -> dict[str, Any] | None:
    try:
        record = json.loads((folder / RECORD).read_text())
    except (OSError, ValueError):
        return None
    return record if record["key"] == key else None


def _picture(folder: Path, i: int) -> Path:
    return folder / f"{i:04}.png"


def _save(image: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def _plain(name: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in name)
