"""A bundle's folder, drawn from in this process or in several."""

import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from benchmarks.suite.artists import Batch, Draws, Knobs, Picture, draw, in_order
from runtime import RealCompo
from runtime.bundle.manifest import bundle_files, read_manifest
from runtime.errors import RealCompoError
from runtime.presets import PRESETS, preset_knobs
from runtime.request import read_knobs
from runtime.spatial import kind_of


@dataclass(frozen=True)
class Local:
    """A bundle's folder, each process with engines of its own."""

    bundle: Path
    backend: str = "auto"
    device: str = "auto"
    side: int = field(init=False)

    def __post_init__(self) -> None:
        height, width = read_manifest(self.bundle).image_size
        if height != width:
            raise RealCompoError(f"{self.bundle} draws {width}x{height} pixels; suites take square pictures")
        object.__setattr__(self, "side", height)

    def identity(self) -> Any:
        return sorted(file.sha256 for file in bundle_files(read_manifest(self.bundle)))

    def knobs(self, mode: str, given: Knobs, everything: Knobs) -> Knobs:
        manifest = read_manifest(self.bundle)
        own = preset_knobs(mode, manifest, given) if mode in PRESETS else {"gradient": mode}
        read_knobs({**everything, **own}, kind_of(manifest))
        return {**everything, **own}

    def batch(self, most: int) -> int:
        return most

    def draw_all(self, batches: Sequence[Batch], processes: int) -> Iterator[int]:
        if processes == 1:
            draws = self.open()
            yield from (draw(draws, batch) for batch in batches)
            return
        context = get_context("spawn")
        with ProcessPoolExecutor(processes, context, _open_here, (self, processes, context.Value("i", 0))) as pool:
            yield from in_order(pool, _draw_here, batches)

    def open(self) -> Draws:
        pipe = RealCompo.load(self.bundle, backend=self.backend, device=self.device)

        def draws(pictures: Sequence[Picture], knobs: Knobs) -> list[Image.Image]:
            with warnings.catch_warnings(action="ignore"):  # of words, which `fit` has counted
                return pipe(
                    [picture.prompt for picture in pictures],
                    layout=[picture.layout for picture in pictures],
                    seeds=[picture.seed for picture in pictures],
                    **knobs,
                ).images

        return draws


_draws: list[Draws] = []  # of a process of the pool


def _open_here(local: Local, processes: int, opened: Any) -> None:
    with opened.get_lock():
        number, opened.value = opened.value, opened.value + 1
    torch.set_num_threads(max(1, torch.get_num_threads() // processes))
    _draws.append(_on_a_gpu_of_its_own(local, number).open())


def _on_a_gpu_of_its_own(local: Local, number: int) -> Local:
    if local.device not in ("auto", "cuda") or not torch.cuda.is_available():
        return local
    return Local(local.bundle, local.backend, f"cuda:{number % torch.cuda.device_count()}")


def _draw_here(batch: Batch) -> int:
    with _plain():
        return draw(_draws[0], batch)


@contextmanager
def _plain() -> Iterator[None]:
    """A user's errors as they go from process to process: those with more fields cannot."""
    try:
        yield
    except RealCompoError as error:
        raise RealCompoError(str(error)) from None
