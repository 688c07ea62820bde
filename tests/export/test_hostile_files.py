"""Files that are damaged, cut off or made to harm: one line each, in little memory, and what is taken is what
safetensors reads."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from export.checkpoints.files import check_kind, identify, identify_names
from export.checkpoints.header import TensorInfo, read_header
from export.checkpoints.places import GLIGEN
from runtime.errors import RealCompoError
from runtime.messages import LONGEST

MANY = settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
FOLDER = Path(tempfile.mkdtemp())
GOOD = {"a.weight": {"dtype": "F16", "shape": [2, 3], "data_offsets": [0, 12]}}

numbers = st.one_of(
    st.integers(-2, 40), st.sampled_from([0.0, 1.5, True, None, 2**31, 2**63, 2**64, 10**400, "1", float("nan")])
)
nested = st.recursive(numbers, lambda inner: st.lists(inner, max_size=3), max_leaves=6)
words = st.one_of(st.text(max_size=12), st.sampled_from(["a", "__metadata__", "é\u2028", "x" * 600, "lora_controlnet"]))
entries = st.one_of(
    nested,
    st.fixed_dictionaries(
        {
            "dtype": st.one_of(st.sampled_from(["F32", "F16", "U8", "F4", "BOOL", "X9", "f32"]), nested),
            "shape": st.one_of(st.lists(st.integers(0, 3), max_size=3), nested),
            "data_offsets": st.one_of(st.lists(st.integers(0, 30), min_size=2, max_size=2), nested),
        },
        optional={"more": nested},
    ),
    st.dictionaries(words, words, max_size=3),
)


def framed(header: bytes, data: bytes = b"", length: int | None = None) -> bytes:
    return (len(header) if length is None else length).to_bytes(8, "little") + header + data


def pairs_text(pairs: list[tuple[str, Any]]) -> bytes:
    """A JSON object that may have a key twice."""
    return ("{" + ",".join(f"{json.dumps(name)}:{json.dumps(value)}" for name, value in pairs) + "}").encode()


WHOLE = framed(json.dumps(GOOD).encode(), bytes(12))
damaged = st.one_of(
    st.binary(max_size=200),
    st.integers(0, len(WHOLE) - 1).map(lambda end: WHOLE[:end]),
    st.tuples(st.integers(0, len(WHOLE) - 13), st.integers(0, 255)).map(
        lambda change: WHOLE[: change[0]] + bytes([change[1]]) + WHOLE[change[0] + 1 :]
    ),
    st.builds(framed, st.binary(max_size=60), st.binary(max_size=30)),
    st.builds(framed, st.lists(st.tuples(words, entries), max_size=4).map(pairs_text), st.binary(max_size=30)),
    st.builds(framed, st.just(b"{}"), st.binary(max_size=9), st.integers(0, 2**64 - 1)),
    st.integers(1, 100_000).map(lambda depth: framed(b'{"a":' + b"[" * depth)),
    st.integers(1, 100_000).map(lambda depth: framed(b'{"a":' * depth + b"1" + b"}" * depth)),
)


@MANY
@given(damaged)
def test_one_line_or_what_safetensors_reads(content: bytes) -> None:
    file = FOLDER / "file.safetensors"
    file.write_bytes(content)
    try:
        told = {name: one.shape for name, one in read_header(file).items()}
    except RealCompoError as error:
        assert len(str(error)) <= LONGEST
        assert len(str(error).splitlines()) == 1
        assert str(error).isprintable()
        return
    with safe_open(file, framework="np") as opened:
        assert told == {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118


@MANY
@given(st.dictionaries(st.text(min_size=1, max_size=100), st.lists(st.integers(0, 3), max_size=4), max_size=6))
def test_any_names_are_told_in_a_line(shapes: dict[str, list[int]]) -> None:
    try:
        check_kind(identify_names({name: TensorInfo("F32", tuple(shape)) for name, shape in shapes.items()}), GLIGEN)
    except RealCompoError as error:
        assert len(str(error)) <= LONGEST
        assert str(error).isprintable()


def test_the_good_one_is_taken() -> None:
    """Without which refusing all would pass."""
    file = FOLDER / "good.safetensors"
    file.write_bytes(WHOLE)
    assert identify(file).tensors == 1


SIZE = 99_000_000  # bytes, which a header may have


def filled(start: bytes, unit: bytes, end: bytes = b"") -> bytes:
    return start + unit * ((SIZE - len(start) - len(end)) // len(unit)) + end


WORST: dict[str, Callable[[], bytes]] = {
    "lists": lambda: filled(b'{"a":[', b"[],", b"0]}"),
    "a name": lambda: filled(b'{"', b"x", b'":0}'),
    "a wide note": lambda: filled(b'{"__metadata__":{"a":"\xf0\x9f\x8e\xa8', b"x", b'"}}'),
    "tensors": lambda: (
        b"{%s}" % b",".join(b'"%d":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}' % i for i in range(1_700_000))
    ),
}
CHILD = """
import re, sys
from pathlib import Path
from export.checkpoints.files import identify
from runtime.errors import RealCompoError

def peak():  # of this program alone; getrusage also counts what its parent took before
    return 1024 * int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1])

before = peak()
for line in sys.stdin:
    try:
        found = identify(Path(line.strip())).kind.name
    except RealCompoError as error:
        found = str(error)
    print(peak() - before, found, flush=True)
"""


def test_memory(tmp_path: Path) -> None:
    """In a process of its own: beyond the file's size, 300 MB at most."""
    file = tmp_path / "file.safetensors"
    with subprocess.Popen(
        [sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdin and child.stdout
        for name, header in WORST.items():
            file.write_bytes(framed(header()))
            child.stdin.write(f"{file}\n")
            child.stdin.flush()
            taken, _, found = child.stdout.readline().partition(" ")
            assert SIZE * 0.9 <= int(taken) <= SIZE + 300_000_000, name  # the header itself is read
            assert found.strip() in ("empty", "unknown") or "is no whole .safetensors file" in found, name
            assert len(found) <= LONGEST
            print(name, int(taken) // 10**6, "MB:", found)
        child.stdin.close()


def test_sizes_that_are_only_claimed(tmp_path: Path) -> None:
    """A hole of a terabyte is not read."""
    file = tmp_path / "file.safetensors"
    for claimed in (100_000_001, 2**40 - 8, 2**63, 2**64 - 1):
        with file.open("wb") as out:
            out.write(framed(b"{}", length=claimed))
            out.truncate(2**40)
        with pytest.raises(RealCompoError, match="is no whole"):
            identify(file)
