"""A real server over a socket, against the library called alone."""

import json
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from runtime import Layout, RealCompo, Region
from runtime.__main__ import app
from runtime.request import every_knob
from runtime.scenes import Relation, Scene, SceneObject
from runtime.serving.inline import InlineLayout, Pixels, read_layout
from tests.runtime.bundles import IMAGE
from tests.runtime.serving.server import PATIENCE, Answer, Server, finish, pixels, png, read_events, serving, until

PROMPT = "a red ball and a blue cube"
BOXES = {"a red ball": (0.05, 0.5, 0.45, 0.9), "a blue cube": (0.5, 0.1, 0.9, 0.6)}
LAYOUT = {"regions": [{"phrase": phrase, "box": box} for phrase, box in BOXES.items()]}
SHORT = {"prompt": PROMPT, "layout": LAYOUT, "num_inference_steps": 4, "sampler": "ddim"}
LONG = SHORT | {"num_inference_steps": 900}
NAMES = {"num_inference_steps": "steps", "n": "num_images"}


def library(pipe: RealCompo, body: dict[str, Any], **more: Any) -> Any:
    """The same, called alone."""
    told = {NAMES.get(name, name): value for name, value in body.items() if name not in ("prompt", "layout")}
    regions = [Region(one["phrase"], box=one["box"]) for one in body["layout"]["regions"]]
    return pipe(body["prompt"], layout=Layout(regions), **told, **more)


def assert_same(answer: Answer, found: Any) -> None:
    assert answer.status == 200, answer.text
    for k, image in enumerate(found.images):
        assert np.array_equal(answer.pixels(k), np.asarray(image))


def wish(k: int) -> dict[str, Any]:
    """Seeds, numbers of images, layouts, negative prompts and modes; some can share a run and some cannot."""
    kind = [{}, {"gradient": "surrogate"}, {"guidance_scale": 1.0}][k % 3]
    box = (0.05 + 0.02 * k, 0.5, 0.45 + 0.02 * k, 0.9)
    layout = {"regions": [{"phrase": "a red ball", "box": box}]} if k % 2 else LAYOUT
    return SHORT | kind | {"layout": layout, "seed": k, "n": 1 + k % 3, "negative_prompt": ["", "a ring"][k % 2]}


def test_parallel_clients_get_the_bits_that_the_library_gives_alone(server: Server, pipe: RealCompo) -> None:
    wishes = [wish(k) for k in range(24)]
    with ThreadPoolExecutor(12) as clients:
        answers = list(clients.map(server.draw, wishes))
    for body, answer in zip(wishes, answers, strict=True):
        assert_same(answer, library(pipe, body))
    assert max(answer.body["batch"] for answer in answers) > 3  # more than one request asks for


def test_defaults_are_the_librarys(server: Server, pipe: RealCompo) -> None:
    body = {"prompt": PROMPT, "layout": LAYOUT}
    assert_same(server.draw(body), library(pipe, body))


def test_a_stream_tells_the_loss_and_shows_the_picture_grow(server: Server, pipe: RealCompo) -> None:
    body = SHORT | {"num_inference_steps": 10, "seed": 3}
    events = server.events(body | {"partial_images": 4, "trace": True})
    decoded = []
    found = library(
        pipe, body, trace=True, callback=lambda i, n, latents, _: decoded.append(np.asarray(pipe.decode(latents)[0]))
    )
    losses = [float(step.loss) for step in found.trace]
    partials = [data for name, data in events if name == "image_generation.partial_image"]
    assert [data["step"] for data in partials] == [2, 4, 6, 8]
    assert [loss for data in partials for loss in data["losses"]] == losses[:8]
    for data in partials:
        assert data["loss"] == losses[data["step"] - 1]
        assert np.array_equal(pixels(data["b64_json"]), decoded[data["step"] - 1])
    name, done = events[-1]
    assert name == "image_generation.completed"
    assert np.array_equal(pixels(done["b64_json"]), np.asarray(found.images[0]))
    trace = done["data"][0]["trace"]
    assert trace["losses"] == losses
    weight = found.trace[-1].spatial_weight[0].numpy()
    assert np.abs(pixels(trace["spatial_weight"]) / 255 - weight).max() <= 0.5 / 255 + 1e-6
    assert len(trace["attention"]) == 2


def test_a_stream_without_pictures_has_the_last_event_alone(server: Server) -> None:
    assert [name for name, _ in server.events(SHORT | {"partial_images": 0})] == ["image_generation.completed"]


def test_a_plan_is_drawn_and_handed_back(server: Server, pipe: RealCompo) -> None:
    body: dict[str, Any] = SHORT | {"prompt": "a red ball left of a blue cube", "plan": True}
    del body["layout"]
    answer = server.draw(body)
    layout = answer.body["layout"]
    ball, cube = (region["box"] for region in layout["regions"])
    assert ball[2] < cube[0]
    del body["plan"]
    found = library(pipe, body | {"layout": layout})
    assert_same(answer, found)
    assert_same(server.draw(body | {"layout": layout}), found)


def test_pictures_and_poses_come_inline(server: Server, pipe: RealCompo) -> None:
    """A mask of the left half, and what OpenPose writes of someone in the right half, in pixels."""
    mask = np.zeros((40, 60), dtype=np.uint8)
    mask[:, :30] = 255
    pose = [value for k in range(18) for value in (60 + k, 10 + 2 * k, 1)]
    openpose = {"people": [{"pose_keypoints_2d": pose}], "canvas_width": 100, "canvas_height": 50}
    regions = [
        {"phrase": "a red ball", "mask": png(mask)},
        {"phrase": "a blue cube", "openpose": openpose},
    ]
    same = Layout(
        [
            Region("a red ball", mask=mask),
            Region("a blue cube", keypoints=[((60 + k) / 100, (10 + 2 * k) / 50) for k in range(18)]),
        ]
    )
    answer = server.draw(SHORT | {"layout": {"regions": regions}})
    assert_same(answer, pipe(PROMPT, layout=same, steps=4, sampler="ddim"))
    with_prefix = [{"phrase": "a red ball", "mask": f"data:image/png;base64,{png(mask)}"}, regions[1]]
    assert_same(
        server.draw(SHORT | {"layout": {"regions": with_prefix}}), pipe(PROMPT, layout=same, steps=4, sampler="ddim")
    )


def test_warnings_come_with_the_answer(server: Server) -> None:
    answer = server.draw(SHORT | {"prompt": f"{PROMPT} zebra"})
    assert answer.body["warnings"] == ["the text encoder does not know these words: zebra"]


def region(**fields: Any) -> dict[str, Any]:
    return {"layout": {"regions": [{"phrase": "a red ball"} | fields]}}


BOMB = png(np.zeros((12000, 12000), dtype=bool))  # 18 kB
BAD = [
    ({"num_inference_steps": 0}, "num_inference_steps", "out of range; use 1 or more"),
    ({"num_inference_steps": 1001}, "num_inference_steps", "use 1 to 1000"),
    ({"num_inference_steps": "4"}, "num_inference_steps", "valid integer"),
    ({"n": 9}, "n", "use 1 to 8"),
    ({"n": 0}, "n", "greater than or equal to 1"),
    ({"seed": -1}, "seed", "out of range"),
    ({"seed": 2**63}, "seed", "out of range"),
    ({"size": "1024x1024"}, "size", f"draws {IMAGE}x{IMAGE}"),
    ({"model": "dall-e-3"}, "model", "this server has tiny"),
    ({"response_format": "url"}, "response_format", "b64_json"),
    ({"guidance_scal": 3}, "guidance_scal", "did you mean guidance_scale?"),
    ({"gradient": "best"}, "gradient", "use one of exact, surrogate"),
    ({"sampler": "best"}, "sampler", "use one of ddim, plms"),
    ({"control_scale": 0.5}, None, "for ControlNets"),
    ({"plan": True}, "plan", "give one"),
    ({"prompt": ""}, "prompt", "say what to draw"),
    ({"prompt": "x" * 5000}, "prompt", "at most 4000"),
    ({"prompt": "a ring"}, "layout.regions.0.phrase", "does not contain the region's phrase 'a red ball'"),
    (region(box=[0, 0, 1.2, 1]), "layout.regions.0.box", "fractions of the image, 0 to 1"),
    (region(box=[0, 0, 1]), "layout.regions.0.box.3", "Field required"),
    (region(), "layout.regions.0", "no place"),
    (region(mask="/etc/passwd"), "layout.regions.0.mask", "no base64"),
    (region(mask="ball.png"), "layout.regions.0.mask", "no base64"),
    (region(mask="aGVsbG8="), "layout.regions.0.mask", "it is no PNG"),
    (region(mask=BOMB), "layout.regions.0.mask", "12000x12000 pixels are too many"),
    (region(openpose="pose.json"), "layout.regions.0.openpose", "object"),
    (region(openpose={"people": []}), "layout.regions.0.person", "0 people"),
    (region(box=[0, 0, 1, 1], tokens=[99]), "layout.regions.0.tokens", "use 0 to 11"),
    ({"layout": {"regions": [{"phrase": "a red ball", "box": [0, 0, 1, 1]}] * 6}}, "layout.regions", "at most 5"),
    ({"layout": {"regions": [], "depth": "../depth.png"}}, "layout.depth", "no base64"),
    ({"gradient": "fixed:0.5", "coefficients": "equal"}, "gradient", "leave coefficients out"),
]


@pytest.mark.parametrize(("change", "param", "message"), BAD)
def test_errors_name_the_field_and_what_it_may_be(
    server: Server, change: dict[str, Any], param: str | None, message: str
) -> None:
    answer = server.draw(SHORT | change)
    assert answer.status == 400
    assert answer.error["param"] == param
    assert message in answer.error["message"]
    assert answer.error["type"] == "invalid_request_error"
    assert len(answer.error["message"]) <= 300 and "\n" not in answer.text and "Traceback" not in answer.text


def test_many_small_pictures_are_too_many_together(server: Server) -> None:
    """Each is below the limit of 250,000 pixels, all of them above a million."""
    mask = np.zeros((480, 480), dtype=np.uint8)
    mask[100:300] = 255
    regions = [{"phrase": "a red ball", "mask": png(mask)}] * 5
    answer = server.draw(SHORT | {"layout": {"regions": regions}})
    assert (answer.status, answer.error["param"]) == (400, "layout.regions.4.mask")


@pytest.mark.parametrize(
    ("body", "headers", "status", "message"),
    [
        (b"{}", {"Content_Type": "text/plain"}, 415, "Content-Type: application/json"),
        (b"[", {}, 400, "Invalid JSON"),
        (b'{"n": 1, "n": 2}', {}, 400, "n: given twice"),
        (b'{"seed": NaN}', {}, 400, "NaN is no number"),
        (b"[" * 100_000, {}, 400, "nested too deeply"),
        (b" " * 1_000_001, {}, 413, "over 1000000 bytes"),
        (b" " * 100_000_000, {}, 413, "over 1000000 bytes"),
        (b"{}", {"X_Request_Id": "../../etc"}, 400, "1 to 64 letters"),
        (b"{}", {"Host": "evil.example"}, 403, "only as localhost"),
    ],
)
def test_bodies_and_headers_that_are_refused(
    server: Server, body: bytes, headers: dict[str, str], status: int, message: str
) -> None:
    try:
        answer = server.draw(body, **headers)
    except (BrokenPipeError, ConnectionResetError):
        assert len(body) > 32_000_000  # of which the server reads no more before it hangs up
    else:
        assert answer.status == status and message in answer.error["message"]
    assert server.draw(SHORT).status == 200


def test_unknown_routes(server: Server) -> None:
    assert server.ask("GET", "/v1/nothing").error["code"] == "no_route"
    assert server.ask("GET", "/v1/images/generations").status == 405
    assert server.ask("DELETE", "/v1/images/generations/gen_1").status == 404


def test_one_that_is_cancelled_in_a_batch_does_not_touch_the_others(server: Server, pipe: RealCompo) -> None:
    bodies = [LONG | {"seed": seed, "num_inference_steps": 100} for seed in range(4)]
    first = server.start(LONG)  # meanwhile the others come together
    until(lambda: server.metric("realcompo_drawing_images") == 1)
    waiting = [server.start(body, X_Request_Id=f"member-{k}") for k, body in enumerate(bodies)]
    until(lambda: server.metric("realcompo_queue_length") == 4)
    first.close()
    until(lambda: server.metric("realcompo_drawing_images") == 4)
    assert server.ask("DELETE", "/v1/images/generations/member-2").body == {"id": "member-2", "cancelled": True}
    answers = [finish(connection) for connection in waiting]
    assert [answer.status for answer in answers] == [200, 200, 409, 200]
    assert answers[2].error["code"] == "cancelled"
    for k in (0, 1, 3):
        assert answers[k].headers["x-request-id"] == f"member-{k}" and answers[k].body["batch"] == 4
        assert_same(answers[k], library(pipe, bodies[k]))


def test_a_client_that_leaves_frees_its_place(server: Server) -> None:
    before = server.metric('realcompo_rows_total{engine="spatial"}')
    for body in (LONG, LONG | {"stream": True}):
        connection = server.start(body | {"n": 8})
        until(lambda: server.metric("realcompo_drawing_images") == 8)
        connection.close()
        until(lambda: server.metric("realcompo_drawing_images") == 0)
    assert server.draw(SHORT).status == 200
    assert server.metric('realcompo_rows_total{engine="spatial"}') - before == 2 * 4  # of the last request alone


def test_an_id_that_is_under_way_is_refused(server: Server) -> None:
    connection = server.start(LONG, X_Request_Id="mine")
    until(lambda: server.metric("realcompo_drawing_images") == 1)
    assert server.draw(SHORT, X_Request_Id="mine").status == 409
    connection.close()
    until(lambda: server.metric("realcompo_drawing_images") == 0)
    assert server.draw(SHORT, X_Request_Id="mine").status == 200


def test_a_full_queue_says_when_to_come_back(bundle: Path) -> None:
    with serving(bundle, "--max-queue", "1", "--max-steps", "1000") as server:
        running = server.start(LONG)
        until(lambda: server.metric("realcompo_drawing_images") == 1)
        waiting = server.start(LONG)
        until(lambda: server.metric("realcompo_queue_length") == 1)
        refused = server.draw(SHORT)
        assert refused.status == 429 and refused.error["code"] == "queue_full"
        assert int(refused.headers["retry-after"]) >= 1
        assert server.metric('realcompo_refusals_total{reason="queue_full"}') == 1
        waiting.close()  # who waits and leaves frees the place at once
        until(lambda: server.metric("realcompo_queue_length") == 0)
        accepted = server.start(SHORT)
        until(lambda: server.metric("realcompo_queue_length") == 1)
        running.close()
        assert finish(accepted).status == 200


def test_who_takes_too_long_is_dropped(bundle: Path) -> None:
    with serving(bundle, "--time-limit", "300ms", "--max-steps", "1000") as server:
        late = server.draw(LONG | {"n": 8})
        assert late.status == 504 and "time limit of 300ms" in late.error["message"]
        *_, (name, data) = server.events(LONG | {"n": 8})
        assert name == "error" and data["error"]["code"] == "time_limit"
        until(lambda: server.metric("realcompo_drawing_images") == 0)
        assert server.draw(SHORT).status == 200


def test_sigterm_finishes_what_was_accepted(bundle: Path, pipe: RealCompo) -> None:
    with serving(bundle, "--max-steps", "1000", "--max-batch", "1") as server:
        body = LONG | {"num_inference_steps": 400}
        running = server.start(body)
        until(lambda: server.metric("realcompo_drawing_images") == 1)
        waiting = server.start(SHORT)
        until(lambda: server.metric("realcompo_queue_length") == 1)
        server.process.send_signal(signal.SIGTERM)
        until(lambda: server.ask("GET", "/v2/health/ready").status == 503)
        assert server.ask("GET", "/v2/health/live").status == 200
        refused = server.draw(SHORT)
        assert refused.status == 503 and refused.error["code"] == "stopping"
        assert_same(finish(running), library(pipe, body))
        assert_same(finish(waiting), library(pipe, SHORT))
        assert server.process.wait(PATIENCE) == 0


def test_keys(bundle: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("first-key\n\nsecond-key\n")
    with serving(bundle, "--api-key-file", str(keys)) as server:
        assert server.draw(SHORT).status == 401
        assert server.draw(SHORT, Authorization="Bearer first-ke").status == 401
        assert server.draw(SHORT, Authorization="Bearer ").status == 401
        assert server.ask("GET", "/metrics").status == 401
        assert server.ask("GET", "/v2/health/live").status == 200
        for key in ("first-key", "second-key"):
            assert server.draw(SHORT, Authorization=f"Bearer {key}", Host="pictures.example").status == 200


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--host", "0.0.0.0"], "lets other machines in; give --api-key-file"),
        (["--host", "::"], "lets other machines in; give --api-key-file"),
        (["--api-key-file", "nowhere"], "cannot read --api-key-file nowhere"),
        (["--api-key-file", "/dev/null"], "is empty"),
        (["--time-limit", "soon"], "give a number and one of ms, s, min, h"),
        (["--max-body", "8"], "give a number and one of B, kB, MB, GB"),
        (["--max-queue", "0"], "max_queue=0 is out of range"),
        (["--planner", "best"], "use one of offline, chat"),
        (["--port", "99999"], "cannot listen on 127.0.0.1, port 99999"),
    ],
)
def test_a_server_that_cannot_start_says_why_in_one_line(bundle: Path, options: list[str], message: str) -> None:
    done = CliRunner().invoke(app, ["serve", str(bundle), *options])
    assert done.exit_code == 2 and done.stderr.count("\n") == 1 and message in done.stderr


def test_models_say_whether_batches_keep_an_images_bits(server: Server) -> None:
    (model,) = server.ask("GET", "/v1/models").body["data"]
    assert model["id"] == "tiny" and model["size"] == f"{IMAGE}x{IMAGE}" and model["same_bits_in_batches"] is True


def test_the_documentation_has_every_option(server: Server) -> None:
    fields = server.ask("GET", "/openapi.json").body["components"]["schemas"]["Generation"]["properties"]
    page = server.ask("GET", "/docs").text
    for name, knob in every_knob().items():
        field = next((theirs for theirs, ours in NAMES.items() if ours == name), name)
        assert fields[field]["description"].startswith(knob.help)
        assert f"<code>{field}</code>" in page
    assert "<script" not in page and "http://" not in page and "https://" not in page


def test_every_answer_has_a_strict_policy(server: Server) -> None:
    for path in ("/docs", "/v1/models", "/nothing"):
        policy = server.ask("GET", path).headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy


def test_events_are_read_as_the_standard_says() -> None:
    assert read_events(': a comment\n\nevent: a\ndata: {"b": 1}\n\n') == [("a", {"b": 1})]


SCENE = {
    "objects": [
        {"phrase": "a red ball", "shape": "sphere", "size": [1, 1, 1]},
        {"phrase": "a blue cube", "size": [1, 1, 1]},
    ],
    "relations": [{"subject": "a red ball", "relation": "left of", "object": "a blue cube"}],
}
FEW = {name: value for name, value in SHORT.items() if name != "layout"}


def test_a_scene_is_drawn_as_its_layout(server: Server, pipe: RealCompo) -> None:
    objects = [SceneObject("a red ball", (1, 1, 1), shape="sphere"), SceneObject("a blue cube", (1, 1, 1))]
    scene = Scene(objects, [Relation("a red ball", "left of", "a blue cube")])
    found = pipe(PROMPT, layout=scene.layout((IMAGE, IMAGE)), steps=4, sampler="ddim")
    assert_same(server.draw(FEW | {"scene": SCENE}), found)


@pytest.mark.parametrize(
    ("change", "param", "message"),
    [
        ({"layout": LAYOUT}, "layout", "layout and scene are both given; give one"),
        ({"scene": SCENE | {"relations": [{"subject": "x", "relation": "on", "object": "a blue cube"}]}},
         "scene.relations.0.subject", "no object is called 'x'"),
        ({"scene": {"objects": [{"phrase": "a", "size": [0, 1, 1]}]}}, "scene.objects.0", "the size of 'a' is"),
    ],
)  # fmt: skip
def test_mistakes_in_scenes_name_the_field(server: Server, change: dict[str, Any], param: str, message: str) -> None:
    answer = server.draw(FEW | {"scene": SCENE} | change)
    assert (answer.status, answer.body["error"]["param"]) == (400, param)
    assert message in answer.body["error"]["message"]


def frames(*places: float) -> list[dict[str, Any]]:
    """Someone on the diagonal, around a place in each frame."""
    steps = range(-9, 9)
    return [
        {"people": [{"pose_keypoints_2d": [number for i in steps for number in (at + i / 100, at + i / 100, 1)]}]}
        for at in places
    ]


@pytest.mark.parametrize("openpose", [frames(0.25)[0], frames(0.25), frames(0.75, 0.25)])
def test_a_frame_of_several_is_chosen(openpose: Any) -> None:
    """As ComfyUI's DWPose writes them."""
    chosen = {"frame": 1} if len(openpose) == 2 else {}
    regions = [{"phrase": "a ball", "openpose": openpose, **chosen}]
    layout = read_layout(InlineLayout.model_validate_json(json.dumps({"regions": regions})), Pixels(1, 1))
    assert layout.regions[0].keypoints == tuple((0.25 + i / 100, 0.25 + i / 100) for i in range(-9, 9))


@pytest.mark.parametrize(
    ("chosen", "message"),
    [({}, "openpose has 2 frames; say which in the region's frame"), ({"frame": 2}, "there is no frame 2")],
)
def test_frames_that_are_not_chosen(server: Server, chosen: dict[str, int], message: str) -> None:
    answer = server.draw(SHORT | region(openpose=frames(0.25, 0.75), **chosen))
    assert (answer.status, answer.error["param"]) == (400, "layout.regions.0.frame")
    assert message in answer.error["message"]


def next_to_pairs(count: int) -> dict[str, Any]:
    """Pairs that can stand in four ways each, and two things that cannot, 100 m apart."""
    far = [
        {"phrase": PROMPT, "name": name, "size": [1, 1, 1], "position": [x, 0, 0]} for name, x in (("a", 0), ("b", 100))
    ]
    names = [f"{side}{i}" for i in range(count) for side in "pq"]
    beside = [{"subject": f"p{i}", "relation": "next to", "object": f"q{i}"} for i in range(count)]
    return {
        "objects": [*far, *({"phrase": PROMPT, "name": name, "size": [1, 1, 1]} for name in names)],
        "relations": [*beside, {"subject": "a", "relation": "next to", "object": "b"}],
    }


def test_a_scene_that_cannot_be_does_not_hold_up_the_server(bundle: Path) -> None:
    with serving(bundle) as server:
        refused = server.draw(FEW | {"scene": next_to_pairs(14)})
        assert (refused.status, refused.error["param"]) == (400, "scene.relations.14")
        assert server.draw(SHORT).status == 200
        assert server.stop() == 0


def test_the_time_limit_is_kept_while_a_scene_is_read(bundle: Path) -> None:
    """Thirty things in one place take over four hundred tries."""
    heap = [{"phrase": "a red ball", "name": f"{i}", "size": [1, 1, 1]} for i in range(30)]
    with serving(bundle, "--time-limit", "20ms") as server:
        late = server.draw(FEW | {"scene": {"objects": heap}})
        assert late.status == 504 and "time limit of 20ms" in late.error["message"]
        assert server.ask("POST", "/v1/layouts", {"prompt": PROMPT}).status == 200


def test_layers_of_an_inline_layout_are_kept() -> None:
    regions = [{"phrase": "a ball", "box": [0, 0, 1, 1], "layer": 3}, {"phrase": "a cube", "box": [0, 0, 1, 1]}]
    inline = InlineLayout.model_validate_json(json.dumps({"regions": regions}))
    assert [region.layer for region in read_layout(inline, Pixels(1, 1)).regions] == [3, 0]
