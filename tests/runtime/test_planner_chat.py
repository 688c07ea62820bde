"""The chat planner against a real HTTP server on localhost that replies well, badly, slowly and not at all."""

import json
import logging
import socket
import time
import traceback
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from runtime import RealCompoError
from runtime.planners.chat import EXAMPLES, ChatPlanner, LayoutAnswer, read_answer
from tests.runtime.chat_server import ChatServer, Reply, chat_server, fails, says

PROMPT = "two red balls left of a blue cube"
KEY = "sk-very-secret-0123456789"
REGIONS: list[dict[str, Any]] = [
    {"phrase": "red ball", "box": {"x0": 0.1, "y0": 0.1, "x1": 0.4, "y1": 0.45}},
    {"phrase": "red ball", "box": {"x0": 0.1, "y0": 0.55, "x1": 0.4, "y1": 0.9}},
    {"phrase": "a blue cube", "box": {"x0": 0.55, "y0": 0.3, "x1": 0.95, "y1": 0.7}},
]


def answer(regions: list[dict[str, Any]] = REGIONS) -> str:
    return json.dumps({"reasoning": "Two balls, one cube.", "regions": regions})


def answer_with(**changes: Any) -> str:
    return answer([REGIONS[0] | changes, *REGIONS[1:]])


def planner(server: ChatServer, time_limit: float = 30) -> ChatPlanner:
    return ChatPlanner("tiny", server.url, KEY, time_limit)


def refused_by(server: ChatServer, time_limit: float = 30) -> str:
    """The error of planning; whatever else it carries, not the key."""
    with pytest.raises(RealCompoError) as caught:
        planner(server, time_limit)(PROMPT)
    assert KEY not in "".join(traceback.format_exception(caught.value))
    assert KEY not in "".join(traceback.format_exception(caught.value.__context__ or caught.value))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_good_answer() -> None:
    with chat_server(says(answer())) as server:
        layout = planner(server)(PROMPT)
    assert layout.prompt == PROMPT
    assert [(region.phrase, region.box) for region in layout.regions] == [
        ("red ball", (0.1, 0.1, 0.4, 0.45)),
        ("red ball", (0.1, 0.55, 0.4, 0.9)),
        ("a blue cube", (0.55, 0.3, 0.95, 0.7)),
    ]
    (request,) = server.requests
    assert request.path == "/v1/chat/completions"
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.body["model"] == "tiny"
    assert request.messages[-1] == {"role": "user", "content": PROMPT}


def test_structured_output_is_asked_for_strictly() -> None:
    """OpenAI's rules for strict schemas: every object closed, all its fields required, no lists of fixed length."""
    with chat_server(says(answer())) as server:
        planner(server)(PROMPT)
    wanted = server.requests[0].body["response_format"]
    assert (wanted["type"], wanted["json_schema"]["strict"]) == ("json_schema", True)
    schema = wanted["json_schema"]["schema"]
    objects = [schema, *schema["$defs"].values()]
    assert [set(of["properties"]) for of in objects].count({"x0", "y0", "x1", "y1"}) == 1
    for of in objects:
        assert of["additionalProperties"] is False
        assert set(of["required"]) == set(of["properties"])
    assert "prefixItems" not in json.dumps(schema)


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        ("Sure! Here is the layout.", "Invalid JSON"),
        (f"```json\n{answer()}\n```", "Invalid JSON"),
        (answer()[:-20], "Invalid JSON"),
        ("[]", "the answer: Input should be an object"),
        ('{"regions": []}', "reasoning: Field required"),
        (answer([]), "regions is empty"),
        (answer_with(box=[0.1, 0.1, 0.4, 0.4]), "regions.0.box"),
        (answer_with(colour="red"), "regions.0.colour: Extra inputs are not permitted"),
        (answer_with(box={"x0": 51, "y0": 51, "x1": 204, "y1": 230}), "fractions of the image, 0 to 1"),
        (answer_with(box={"x0": 0.4, "y0": 0.1, "x1": 0.1, "y1": 0.4}), "which is empty"),
        (answer_with(phrase="a green ball"), "the prompt does not contain the phrase 'a green ball'"),
        (answer_with(phrase=" "), "the prompt does not contain"),
        (None, "Invalid JSON"),
    ],
)
def test_the_model_is_told_what_is_wrong(bad: str | None, problem: str) -> None:
    with chat_server(says(bad), says(answer())) as server:
        layout = planner(server)(PROMPT)
    assert len(layout.regions) == 3
    first, second = server.requests
    assert second.messages[: len(first.messages)] == first.messages
    said, told = second.messages[len(first.messages) :]
    assert said == {"role": "assistant", "content": bad or ""}
    assert told["role"] == "user"
    assert problem in told["content"]


def test_three_bad_answers_are_enough() -> None:
    with chat_server(says(answer([])), says("no"), says(answer_with(phrase="a green ball"))) as server:
        error = refused_by(server)
    assert error.startswith("tiny gave no valid layout in 3 answers; the last one: ")
    assert "'a green ball'" in error
    assert len(server.requests) == 3


def test_a_long_answer_makes_no_long_error() -> None:
    with chat_server(says(answer_with(phrase="ball " * 10_000))) as server:
        assert len(refused_by(server)) < 500


def test_refusal() -> None:
    with chat_server(says(None, refusal="I cannot draw that.")) as server:
        assert refused_by(server) == "tiny refused: I cannot draw that."
    assert len(server.requests) == 1


def test_failures_that_pass_are_retried() -> None:
    with chat_server(fails(500), fails(429), says(answer())) as server:
        assert len(planner(server)(PROMPT).regions) == 3
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("status", "asked", "hint"),
    [(500, 3, "try again later"), (429, 3, "try again later"), (404, 1, "--model"), (400, 1, "structured output")],
)
def test_failures_that_stay(status: int, asked: int, hint: str) -> None:
    with chat_server(fails(status, "the reason")) as server:
        error = refused_by(server)
    assert error.startswith(f"{server.url} refused: Error code: {status} - the reason; ")
    assert hint in error
    assert len(server.requests) == asked


@pytest.mark.parametrize("status", [401, 403])
def test_a_key_that_the_endpoint_echoes_is_not_shown(status: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    # so long that cutting the message off would cut the key in two
    message = f"Incorrect API key {KEY}. {'x' * 232} {KEY} {KEY}"
    with chat_server(fails(status, message)) as server:
        error = refused_by(server)
    assert "Incorrect API key ***." in error
    assert KEY[:8] not in error
    assert "OPENAI_API_KEY" in error
    assert "chat/completions" in caplog.text
    assert KEY not in caplog.text


@pytest.mark.parametrize(
    "reply",
    [
        Reply(b"<html>Welcome to nginx</html>", headers={"content-type": "text/html"}),
        Reply(b'{"hello": "world"}'),
        Reply(b'{"choices": []}'),
        Reply(b'{"choices": [{"text": "legacy completion"}]}'),
        Reply(b"\xff\xfe\x00"),
        Reply(KEY.encode()),
    ],
)
def test_something_else_than_a_chat_endpoint(reply: Reply) -> None:
    with chat_server(reply) as server:
        error = refused_by(server)
    assert f"{server.url} is no chat endpoint, it says " in error
    assert "--base-url" in error


def test_an_answer_that_breaks_off() -> None:
    with chat_server(Reply(b'{"choices"', missing=10)) as server:
        assert refused_by(server).startswith(f"cannot reach {server.url}: ")


@pytest.mark.parametrize(
    "reply",
    [
        replace(says(answer()), delay=120),
        replace(says(answer()), drip=0.5),  # every byte is in time, the whole is not
        replace(fails(503), headers={"retry-after": "60"}),
    ],
)
def test_time_limit(reply: Reply) -> None:
    with chat_server(reply) as server:
        started = time.monotonic()
        error = refused_by(server, time_limit=0.7)
        assert 0.7 <= time.monotonic() - started < 60
    assert error == f"{server.url} took more than 0.7 s; raise --time-limit"


def test_the_time_limit_is_for_all_answers_together() -> None:
    with chat_server(replace(says("no"), delay=0.5)) as server:
        assert "took more than 0.7 s" in refused_by(server, time_limit=0.7)


def test_nobody_listens() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # not listening: refused
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        with pytest.raises(RealCompoError, match=rf"cannot reach {url}: .*refused; see --base-url"):
            ChatPlanner("tiny", url, KEY)(PROMPT)


def test_settings_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with chat_server(says(answer())) as server:
        for name, value in {"MODEL": "other", "BASE_URL": server.url, "API_KEY": KEY}.items():
            monkeypatch.setenv(f"OPENAI_{name}", value)
        ChatPlanner()(PROMPT)
        ChatPlanner(model="tiny", api_key="another-key")(PROMPT)
    assert [request.body["model"] for request in server.requests] == ["other", "tiny"]
    assert [request.headers["authorization"] for request in server.requests] == [f"Bearer {KEY}", "Bearer another-key"]


def test_no_key_is_needed_by_a_server_that_needs_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with chat_server(says(answer())) as server:
        assert len(ChatPlanner("tiny", server.url)(PROMPT).regions) == 3


def test_default_endpoint_is_openai(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    assert ChatPlanner("gpt").base_url == "https://api.openai.com/v1"


def test_the_key_is_not_in_the_repr() -> None:
    assert KEY not in repr(ChatPlanner("tiny", api_key=KEY))


@pytest.mark.parametrize("key", ["", f"{KEY}\n", f" {KEY}", f"{KEY}é", f"{KEY}\x00"])
def test_keys_that_no_header_can_hold(key: str) -> None:
    with pytest.raises(RealCompoError, match="the API key is empty, or has characters") as caught:
        ChatPlanner("tiny", api_key=key)
    assert KEY not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    "url", ["", "localhost:11434/v1", "ftp://host/v1", "http://", "http://host:port", "http://[::1", "http://a b/v1"]
)
def test_base_urls_that_are_none(url: str) -> None:
    with pytest.raises(RealCompoError, match="is no address; give one such as"):
        ChatPlanner("tiny", base_url=url)


@pytest.mark.parametrize("url", [f"https://me:{KEY}@host/v1", f"https://{KEY}@host/v1", f"https://host/v1?key={KEY}"])
def test_secrets_in_a_base_url_are_refused_and_not_shown(url: str) -> None:
    with pytest.raises(RealCompoError, match="where secrets stand") as caught:
        ChatPlanner("tiny", base_url=url)
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf")])
def test_time_limits_that_are_none(seconds: float) -> None:
    with pytest.raises(RealCompoError, match="time_limit="):
        ChatPlanner("tiny", time_limit=seconds)


def test_a_model_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_MODEL", raising=False)
    with pytest.raises(RealCompoError, match="give --model, or set OPENAI_MODEL"):
        ChatPlanner()


def test_empty_prompts_are_not_sent() -> None:
    with chat_server(says(answer())) as server, pytest.raises(RealCompoError, match="the prompt is empty"):
        planner(server)(" \n")
    assert server.requests == []


@pytest.mark.parametrize(
    ("example", "counts"),
    [
        (EXAMPLES[0], {"red ball": 2, "a cube": 1}),
        (EXAMPLES[1], {"a sleeping cat": 1, "a wooden chair": 1, "a tall lamp": 1}),
        (EXAMPLES[2], {"sailing boat": 3, "a lighthouse": 1}),
    ],
)
def test_the_examples_are_what_they_teach(example: tuple[str, str], counts: dict[str, int]) -> None:
    prompt, text = example
    boxes = [region.bounding_box() for region in read_answer(text, prompt).regions]
    assert Counter(region.phrase for region in LayoutAnswer.model_validate_json(text).regions) == counts
    for i, a in enumerate(boxes):
        for b in boxes[:i]:
            assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
