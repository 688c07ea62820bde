"""A bundle behind a URL, `python -m runtime serve`."""

import base64
import binascii
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

from PIL import Image

from benchmarks.suite.artists import Batch, Knobs, Picture, draw, in_order
from runtime.errors import RealCompoError
from runtime.knobs import make
from runtime.options import FORMS, Options
from runtime.presets import PRESETS

KEY = "REALCOMPO_API_KEY"
PATIENCE = 3600.0  # seconds for a picture
TRIES = 5
NAMES = {"steps": "num_inference_steps"}  # of knobs, as a server has them


@dataclass(frozen=True)
class Server:
    """`python -m runtime serve` at a URL: it makes batches itself."""

    url: str
    side: int = field(init=False)
    model: str = field(init=False)

    def __post_init__(self) -> None:
        (model,) = self._ask("/v1/models")["data"]
        width, _, height = model["size"].partition("x")
        if width != height:
            raise RealCompoError(f"{self.url} draws {model['size']} pixels; suites take square pictures")
        object.__setattr__(self, "side", int(width))
        object.__setattr__(self, "model", model["id"])

    def identity(self) -> Any:
        return self.model

    def knobs(self, mode: str, given: Knobs, everything: Knobs) -> Knobs:
        if mode in PRESETS:
            raise RealCompoError(f"a server does not say its {mode} mode; name gradients, or give the bundle's folder")
        make(Options, {**everything, "gradient": mode})
        return {**everything, "gradient": mode}

    def batch(self, most: int) -> int:
        return 1

    def draw_all(self, batches: Sequence[Batch], processes: int) -> Iterator[int]:
        with ThreadPoolExecutor(processes) as pool:
            yield from in_order(pool, lambda batch: draw(self._draw, batch), batches)

    def _draw(self, pictures: Sequence[Picture], knobs: Knobs) -> list[Image.Image]:
        return [self._draw_one(picture, knobs) for picture in pictures]

    def _draw_one(self, picture: Picture, knobs: Knobs) -> Image.Image:
        regions = [
            {"phrase": region.phrase, "box": list(region.bounding_box()), "layer": region.layer}
            for region in picture.layout.regions
        ]
        mine = {name: value for name, value in knobs.items() if value is not None or name not in FORMS["paper"]}
        told = {NAMES.get(name, name): value for name, value in mine.items()}  # none of them is left to a recipe
        body = {**told, "prompt": picture.prompt, "seed": picture.seed, "layout": {"regions": regions}}
        answer = self._ask("/v1/images/generations", body)
        try:
            return Image.open(BytesIO(base64.b64decode(answer["data"][0]["b64_json"])))
        except (KeyError, IndexError, TypeError, binascii.Error, OSError) as error:
            raise RealCompoError(f"{self.url} answers without a picture: {error!r}") from error

    def _ask(self, path: str, body: Any = None) -> Any:
        """An answer; a server that is full or gone is asked again."""
        for k in range(TRIES):
            try:
                return self._ask_once(path, body)
            except urllib.error.HTTPError as error:
                if error.code not in (429, 503) or k == TRIES - 1:
                    raise RealCompoError(f"{self.url} answers {error.code}: {_message(error)}") from error
                time.sleep(float(error.headers.get("Retry-After") or 1))
            except (OSError, ValueError) as error:
                if k == TRIES - 1:
                    raise RealCompoError(f"no answer from {self.url}: {error}") from error
                time.sleep(2.0**k / 10)
        raise AssertionError  # the last try returns or raises

    def _ask_once(self, path: str, body: Any) -> Any:
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get(KEY):
            headers["Authorization"] = f"Bearer {key}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url.rstrip("/") + path, data, headers)
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return json.load(answer)


def _message(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.load(error)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return str(error.reason)
