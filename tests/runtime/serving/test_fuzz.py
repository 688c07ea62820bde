"""Bodies made up by hypothesis: whatever is sent, the answer is never a 5xx or a traceback, and the next one works."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.runtime.serving.server import Answer, Server, png
from tests.runtime.serving.test_server import BOMB, SHORT

FEW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
ALLOWED = {200, 400, 413, 415}

NUMBERS = st.one_of(
    st.integers(),
    st.sampled_from([10**30, -(10**300), 2**63, 2**31, 0, -1]),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([1e308, 5e-324, -0.0, 3.5e38]),
)
PATHS = st.sampled_from(
    ["/etc/passwd", "../../x.png", "file:///etc/hosts", "C:\\x.png", "\0", "http://localhost/a.png"]
)
PICTURES = st.sampled_from([BOMB, png(np.zeros((2, 2), dtype=np.uint8)), "aGVsbG8=", "====", "data:image/png;base64,"])
TEXTS = st.one_of(st.text(max_size=40), PATHS, PICTURES, st.just("a red ball " * 500))
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
POSE = st.fixed_dictionaries(
    {"people": st.lists(st.fixed_dictionaries({"pose_keypoints_2d": st.lists(NUMBERS, min_size=54, max_size=54)}))},
    optional={"canvas_width": NUMBERS, "canvas_height": NUMBERS},
)
REGION = st.fixed_dictionaries(
    {"phrase": st.sampled_from(["a red ball", "", "ball", "\ud83d"]) | TEXTS},
    optional={
        "box": st.lists(NUMBERS | st.floats(0, 1), min_size=4, max_size=4) | ANYTHING,
        "mask": PICTURES | PATHS | ANYTHING,
        "keypoints": st.lists(st.none() | st.lists(NUMBERS, min_size=2, max_size=2), max_size=25) | ANYTHING,
        "openpose": POSE | ANYTHING,
        "person": NUMBERS,
        "tokens": st.lists(NUMBERS, max_size=4),
        "label": SCALARS,
    },
)
LAYOUT = st.fixed_dictionaries(
    {"regions": st.lists(REGION, max_size=3)},
    optional={"segmentation": PICTURES | PATHS, "depth": PICTURES | PATHS, "background": SCALARS, "prompt": SCALARS},
)
TRIPLE = st.lists(st.floats(-3, 3) | NUMBERS, min_size=3, max_size=3)
OBJECT = st.fixed_dictionaries(
    {
        "phrase": st.sampled_from(["a red ball", "a blue cube", ""]),
        "size": st.lists(st.floats(0.1, 2), min_size=3, max_size=3) | TRIPLE,
    },
    optional={
        "shape": st.sampled_from(["sphere", "cone", "torus", "x"]),
        "position": TRIPLE | ANYTHING,
        "rotation": TRIPLE,
        "label": SCALARS,
    },
)
RELATION = st.fixed_dictionaries(
    {name: st.sampled_from(["a red ball", "a blue cube", "camera", "on", "behind"]) for name in ("subject", "object")}
    | {"relation": st.sampled_from(["on", "left of", "next to", "facing", "x"])},
    optional={"gap": NUMBERS},
)
SCENE = st.fixed_dictionaries(
    {"objects": st.lists(OBJECT, max_size=3)},
    optional={
        "relations": st.lists(RELATION, max_size=3),
        "camera": st.fixed_dictionaries({"position": TRIPLE, "look_at": TRIPLE}, optional={"field_of_view": NUMBERS}),
        "ground": SCALARS,
    },
)
FIELDS: Mapping[str, st.SearchStrategy[Any]] = {
    "scene": SCENE | ANYTHING,
    "layout": LAYOUT | ANYTHING,
    "prompt": TEXTS | ANYTHING,
    "negative_prompt": TEXTS | ANYTHING,
    "n": NUMBERS | st.integers(1, 3),
    "seed": NUMBERS,
    "num_inference_steps": st.integers(-3, 6) | st.sampled_from([True, "4", 1e9]),  # more would take long, not fail
    "sampler": st.sampled_from(["plms", "ddim", "dpm++2m", "euler", "lcm", "tcd", "x"]),
    "gradient": st.sampled_from(["exact", "surrogate", "none", "fixed:0.5", "fixed:nan", "fixed:", "text_to_image"]),
    "guidance_scale": NUMBERS,
    "guidance_interval": st.lists(st.floats(-1, 2) | NUMBERS, max_size=3),
    "switch_step": NUMBERS | st.integers(0, 6),
    "coefficient_scale": NUMBERS,
    "update_every": NUMBERS,
    "gradient_from": st.lists(st.sampled_from(["spatial", "text_to_image", "x"]), max_size=3),
    "trial_guidance": SCALARS,
    "grounding_fraction": NUMBERS,
    "control_scale": NUMBERS | st.lists(NUMBERS, max_size=3),
    "coefficients": st.sampled_from(["normal", "equal", "x"]),
    "plan": SCALARS,
    "size": TEXTS,
    "partial_images": NUMBERS,
    "trace": SCALARS,
    "model": TEXTS,
    "response_format": TEXTS,
    "x" * 500: ANYTHING,
}


def assert_sound(answer: Answer) -> None:
    assert answer.status in ALLOWED, answer
    assert "Traceback" not in answer.text and "\n" not in answer.text
    if answer.status != 200:
        assert set(answer.error) == {"message", "type", "param", "code"}
        assert 0 < len(answer.error["message"]) <= 300 and " object at 0x" not in answer.error["message"]


def assert_still_works(server: Server) -> None:
    assert server.draw(SHORT).status == 200


@FEW
@given(st.fixed_dictionaries({}, optional=dict(FIELDS)), st.booleans())
def test_fields_of_any_kind(server: Server, changes: dict[str, Any], from_a_good_one: bool) -> None:
    body = (SHORT if from_a_good_one else {}) | changes
    body.setdefault("num_inference_steps", 2)
    assert_sound(server.draw(body))
    assert_still_works(server)


@FEW
@given(st.sampled_from(sorted(FIELDS)), st.data())
def test_one_field_that_is_odd(server: Server, name: str, data: st.DataObject) -> None:
    assert_sound(server.draw(SHORT | {name: data.draw(FIELDS[name])}))
    assert_still_works(server)


@FEW
@given(ANYTHING | st.binary(max_size=200))
def test_bodies_that_are_no_request(server: Server, body: Any) -> None:
    encoded = body if isinstance(body, bytes) else json.dumps(body).encode()
    assert_sound(server.draw(encoded))


def test_nested_bombs(server: Server) -> None:
    deep = '{"layout":' * 900 + "1" + "}" * 900
    wide = json.dumps({"layout": {"regions": [{"phrase": "a"}] * 40_000}})
    number = '{"seed": ' + "9" * 900_000 + "}"
    for body in (deep, wide, number, '{"prompt": "\\ud800"}', '{"guidance_scale": 1e999}', "\ufeff{}"):
        assert_sound(server.draw(body.encode("utf-8", "surrogatepass")))
    assert_still_works(server)
