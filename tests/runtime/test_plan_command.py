"""`plan` and `generate --plan`, as a user runs them: what is printed, exit codes, and one line for every mistake."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from runtime import Layout, RealCompo
from runtime.__main__ import app
from runtime.planners.offline import plan as plan_offline
from tests.runtime.chat_server import ChatServer, chat_server, fails, says
from tests.runtime.test_planner_chat import KEY, answer

PROMPT = "two red balls left of a blue cube"


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_MODEL", "OPENAI_BASE_URL", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def good_server() -> Iterator[ChatServer]:
    with chat_server(says(answer())) as server:
        yield server


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments)])


def plan(*arguments: object, prompt: str = PROMPT) -> Result:
    return run("plan", "--prompt", prompt, *arguments)


def assert_refused(result: Result, message: str) -> None:
    assert result.exit_code == 2
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert message in line


def places(layout: Layout) -> list[tuple[str, tuple[float, ...] | None]]:
    return [(region.phrase, region.box) for region in layout.regions]


def test_what_is_printed_is_a_layout(tmp_path: Path) -> None:
    result = plan()
    assert (result.exit_code, result.stderr) == (0, "")
    (tmp_path / "printed.json").write_text(result.stdout)
    layout = Layout.from_file(tmp_path / "printed.json")
    assert layout.prompt == PROMPT
    assert places(layout) == places(plan_offline(PROMPT))


def test_out_and_picture(tmp_path: Path) -> None:
    out, picture = tmp_path / "new" / "layout.json", tmp_path / "pictures" / "layout.png"
    result = plan("--out", out, "--picture", picture)
    assert result.exit_code == 0, result.stderr
    assert out.read_text() == result.stdout
    assert len(set(Image.open(picture).convert("RGB").reduce(8).get_flattened_data())) > 20


def test_chat_by_options(good_server: ChatServer) -> None:
    result = plan("--planner", "chat", "--base-url", good_server.url, "--model", "tiny", "--api-key", KEY)
    assert result.exit_code == 0, result.stderr
    assert '{"phrase": "a blue cube", "box": [0.55, 0.3, 0.95, 0.7]}' in result.stdout
    (request,) = good_server.requests
    assert (request.body["model"], request.headers["authorization"]) == ("tiny", f"Bearer {KEY}")


def test_chat_by_the_environment(good_server: ChatServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"MODEL": "tiny", "BASE_URL": good_server.url, "API_KEY": KEY}.items():
        monkeypatch.setenv(f"OPENAI_{name}", value)
    assert plan("--planner", "chat").exit_code == 0
    (request,) = good_server.requests
    assert (request.body["model"], request.headers["authorization"]) == ("tiny", f"Bearer {KEY}")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--planner", "gpt"), "planner 'gpt' is unknown; use one of offline, chat"),
        (("--model", "tiny"), "the offline planner has no model"),
        (("--planner", "chat"), "give --model, or set OPENAI_MODEL"),
        (("--planner", "chat", "--model", "tiny", "--time-limit", "0"), "time_limit=0.0 is out of range"),
        (("--planner", "chat", "--model", "tiny", "--base-url", "localhost"), "'localhost' is no address"),
        (("--planner", "chat", "--model", "tiny", "--base-url", "http://127.0.0.1:1/v1"), "cannot reach http://127"),
        (("--picture", "layout.xyz"), ".xyz is not a picture format"),
        (("--out", "/dev/null/layout.json"), "cannot write /dev/null/layout.json"),
        (("--out", "/"), "/ is a folder"),
    ],
)
def test_mistakes(arguments: tuple[str, ...], message: str) -> None:
    assert_refused(plan(*arguments), message)


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("", "the prompt is empty"),
        ("no cats", "no object was found"),
        ("31 cats", "31 objects"),
        ("a ball above a cube and the cube above the ball", "contradict each other"),
        ("\udcff", "is not UTF-8 text"),
    ],
)
def test_prompts_without_a_layout(prompt: str, message: str) -> None:
    assert_refused(plan(prompt=prompt), message)


def test_nothing_is_asked_where_nothing_can_be_written(good_server: ChatServer, tmp_path: Path) -> None:
    chat = ("--planner", "chat", "--base-url", good_server.url, "--model", "tiny")
    assert_refused(plan(*chat, "--out", tmp_path), "is a folder")
    assert good_server.requests == []


def test_without_openai(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    assert_refused(plan("--planner", "chat", "--model", "tiny"), "needs openai; pip install 'realcompo[plan]'")


def test_generate_plans_its_layout(bundle: Path, pipe: RealCompo, tmp_path: Path) -> None:
    prompt, out = "two red cones left of a blue ball", tmp_path / "image.png"
    result = run("generate", bundle, "--prompt", prompt, "--plan", "--steps", 2, "--out", out)
    assert result.exit_code == 0, result.stderr
    wanted = pipe(prompt, layout=plan_offline(prompt), steps=2).images[0]
    np.testing.assert_array_equal(np.asarray(Image.open(out)), np.asarray(wanted))


def test_generate_plans_by_chat(
    bundle: Path, pipe: RealCompo, good_server: ChatServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_MODEL", "tiny")
    monkeypatch.setenv("OPENAI_BASE_URL", good_server.url)
    out, layout = tmp_path / "image.png", tmp_path / "layout.json"
    result = run("generate", bundle, "--prompt", PROMPT, "--plan", "--planner", "chat", "--steps", 2, "--out", out)
    assert result.exit_code == 0, result.stderr
    layout.write_text(plan("--planner", "chat").stdout)
    wanted = pipe(PROMPT, layout=Layout.from_file(layout), steps=2).images[0]
    np.testing.assert_array_equal(np.asarray(Image.open(out)), np.asarray(wanted))


def test_mistakes_of_generate(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "layout.json").write_text(plan().stdout)
    start = ("generate", bundle, "--out", tmp_path / "image.png", "--plan")
    assert_refused(run(*start), "--plan needs a prompt")
    assert_refused(run(*start, "--prompt", PROMPT, "--layout", tmp_path / "layout.json"), "are both given; give one")
    assert_refused(run(*start, "--prompt", PROMPT, "--planner", "gpt"), "planner 'gpt' is unknown")
    assert_refused(run(*start, "--prompt", "no cats"), "no object was found")
    assert not (tmp_path / "image.png").exists()


def chat_process(server: ChatServer, **environment: str) -> subprocess.Popen[str]:
    settings = {"OPENAI_MODEL": "tiny", "OPENAI_BASE_URL": server.url, "OPENAI_API_KEY": KEY}
    return subprocess.Popen(
        [sys.executable, "-m", "runtime", "plan", "--prompt", PROMPT, "--planner", "chat"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | settings | environment,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # a background job inherits it ignored
    )


def test_interrupt_is_one_line_and_130() -> None:
    with chat_server(replace(says(answer()), delay=60)) as server, chat_process(server) as process:
        assert server.asked.wait(120)
        process.send_signal(signal.SIGINT)
        _, shown = process.communicate(timeout=120)
    assert process.returncode == 130
    assert shown == "interrupted\n"


def test_the_clients_own_log_does_not_show_the_key() -> None:
    with (
        chat_server(fails(401, f"Incorrect API key {KEY}")) as server,
        chat_process(server, OPENAI_LOG="debug") as process,
    ):
        printed, shown = process.communicate(timeout=120)
    assert (process.returncode, printed) == (2, "")
    assert "openai._base_client" in shown  # the log is on
    assert shown.splitlines()[-1].startswith(f"error: {server.url} refused: Error code: 401 - Incorrect API key ***;")
    assert KEY not in shown
