"""Answers: OpenAI's object of a finished image, and server-sent events while it grows. Encoded off the event loop."""

import base64
import json
import time
from io import BytesIO
from typing import Any

from PIL import Image

from runtime.layouts.writing import layout_json
from runtime.serving.errors import Refusal
from runtime.serving.jobs import Done, Job, Partial, Seen

HEARTBEAT_COMMENT = b": still at it\n\n"  # of no meaning to who reads events
QUICK = 3  # of PNG's levels: Pillow's own, 6, takes up to 14 times as long and saves an eighth of the bytes
SMALL = 256  # the longer side of a partial picture in pixels, at most


def answer(job: Job, done: Done, model: str) -> dict[str, Any]:
    """What `POST /v1/images/generations` answers."""
    order, first = job.order, done.images[0]
    data: list[dict[str, Any]] = [{"b64_json": png(image)} for image in done.images]
    for one, seen in zip(data, done.seen, strict=False):
        one |= {"trace": _trace(seen)}
    found = {
        "id": job.id,
        "created": int(time.time()),
        "model": model,
        "size": f"{first.width}x{first.height}",
        "output_format": "png",
        "seed": order.seed,
        "batch": done.batch,
        "seconds": {stage: round(seconds, 4) for stage, seconds in done.seconds.items()},
        "warnings": list(order.warnings),
        "data": data,
    }
    if order.planned and order.layout:
        found["layout"] = json.loads(layout_json(order.layout))
    return found


def partial_event(job: Job, partial: Partial) -> bytes:
    pictures = [png(_small(image)) for image in partial.images]
    return event(
        "image_generation.partial_image",
        {
            "id": job.id,
            "partial_image_index": partial.index,
            "step": partial.step,
            "steps": partial.steps,
            "loss": partial.losses[-1] if partial.losses else None,
            "losses": partial.losses,
            "b64_json": pictures[0],
            "data": [{"b64_json": picture} for picture in pictures],
        },
    )


def completed_event(job: Job, done: Done, model: str) -> bytes:
    whole = answer(job, done, model)
    return event("image_generation.completed", {**whole, "b64_json": whole["data"][0]["b64_json"]})


def error_event(refusal: Refusal) -> bytes:
    return event("error", refusal.body())


def event(name: str, data: dict[str, Any]) -> bytes:
    return f"event: {name}\ndata: {json.dumps({'type': name, **data})}\n\n".encode()


def png(image: Image.Image) -> str:
    """In base64."""
    buffer = BytesIO()
    image.save(buffer, format="PNG", compress_level=QUICK)
    return base64.b64encode(buffer.getvalue()).decode()


def _small(image: Image.Image) -> Image.Image:
    copy = image.copy()
    copy.thumbnail((SMALL, SMALL))
    return copy


def _trace(seen: Seen) -> dict[str, Any]:
    return {
        "losses": seen.losses,
        "spatial_weight": png(seen.spatial_weight),
        "attention": [png(one) for one in seen.attention],
    }
