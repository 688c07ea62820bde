"""Lines for people: short, one of them, and nothing is cut without a sign."""

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from runtime.cli import plain_errors
from runtime.errors import RealCompoError
from runtime.messages import LONGEST, one_line, shown, some_of


@given(st.text(max_size=1000), st.integers(6, 400))
def test_shown(text: str, most: int) -> None:
    line = shown(text, most)
    assert len(line) <= most
    assert line.isprintable()
    if len(text) <= most and text.isprintable() and text == " ".join(text.split()):
        assert line == text
    elif len(text.split()) == 1 and text.isprintable() and len(text.strip()) > most:
        head, tail = line.split("…", 1) if text.count("…") == 0 else ("", "")
        assert text.strip().startswith(head)
        assert text.strip().endswith(tail)


def test_some_of() -> None:
    names = [f"layer{i}.lora_up.weight" for i in range(1200)]
    assert some_of(names) == "layer0.lora_up.weight and 1,199 more"
    assert some_of(names[:2], 2) == "layer0.lora_up.weight, layer1.lora_up.weight"
    assert len(some_of(["x" * 5000] * 3, 2)) < 200


@given(st.lists(st.text(max_size=400), max_size=20).map(" ".join))
def test_one_line(message: str) -> None:
    line = one_line(message)
    assert len(line) <= LONGEST
    assert len(line.splitlines()) <= 1
    if len(" ".join(message.split())) > LONGEST:
        assert "…" in line


def test_long_words_go_before_the_way_out() -> None:
    line = one_line(f"{'/folder' * 60}/x.safetensors is a LoRA; --lora takes it")
    assert line.startswith("/folder")
    assert line.endswith("/x.safetensors is a LoRA; --lora takes it")


def test_command_lines_say_no_more(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit), plain_errors():
        raise RealCompoError(f"these do not fit:\n{', '.join(f'layer{i}' for i in range(10_000))}")
    said = capsys.readouterr().err
    assert len(said) <= LONGEST + 1
    assert said.count("\n") == 1
    assert "…" in said
