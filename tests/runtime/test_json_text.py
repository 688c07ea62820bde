"""JSON files as editors, scripts and accidents leave them: read as they are meant, or refused in one line."""

import codecs
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from runtime import Layout, RealCompoError
from runtime.layouts.openpose import read_openpose

LAYOUT = '{"prompt": "eine Kugel, größer", "regions": [{"phrase": "Kugel", "box": [0.1, 0.1, 0.5, 0.5]}]}'
POSE = json.dumps({"people": [{"pose_keypoints_2d": [0.5, 0.25, 1] * 18}]})
LONGEST = 300  # characters of an error
ENCODINGS = {
    "UTF-8": LAYOUT.encode(),
    "UTF-8 with a mark": codecs.BOM_UTF8 + LAYOUT.encode(),
    "UTF-16": LAYOUT.encode("utf-16"),
    "UTF-16, big end first": codecs.BOM_UTF16_BE + LAYOUT.encode("utf-16-be"),
    "UTF-16 without a mark": LAYOUT.encode("utf-16-le"),
    "UTF-32": LAYOUT.encode("utf-32"),
    "Windows line ends": codecs.BOM_UTF8 + LAYOUT.replace(', "', ',\r\n"').encode(),
}


def layout_of(folder: Path, content: bytes) -> Layout:
    path = folder / "layout.json"
    path.write_bytes(content)
    return Layout.from_file(path)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_encodings(tmp_path: Path, encoding: str) -> None:
    layout = layout_of(tmp_path, ENCODINGS[encoding])
    assert layout.prompt == "eine Kugel, größer"
    assert layout.regions[0].box == (0.1, 0.1, 0.5, 0.5)


@pytest.mark.parametrize("mark", [codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE])
def test_marks_of_poses(tmp_path: Path, mark: bytes) -> None:
    codec = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}[mark]
    path = tmp_path / "pose.json"
    path.write_bytes(mark + POSE.encode(codec))
    assert read_openpose(path) == [(0.5, 0.25)] * 18


BOX = '"box": [0.1, 0.1, 0.5, 0.5]'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "the file: Invalid JSON: Expecting value at line 1 column 1"),
        ("{'regions': []}", "the file: Invalid JSON: .* at line 1 column 2"),
        ('{"regions": [],}', "the file: Invalid JSON"),
        (LAYOUT + LAYOUT, "the file: Invalid JSON: Extra data"),
        (f'{{"regions": [{{"phrase": "x", {BOX}, {BOX}}}]}}', "box: given twice in one object"),
        ('{"regions": [], "prompt": "a", "prompt": "b"}', "prompt: given twice in one object"),
        ('{"regions": [{"phrase": "x", "box": [0.1, NaN, 0.5, 0.5]}]}', "NaN is no number in JSON"),
        ('{"regions": [{"phrase": "x", "box": [0.1, 0, 0.5, Infinity]}]}', "Infinity is no number in JSON"),
        ('{"regions": [{"phrase": "x", "box": [0.1, 0, 0.5, -1e999]}]}', "-1e999 is too large a number"),
        (f'{{"regions": [{{"phrase": "x", "box": [0, 0, 1, {"9" * 5000}]}}]}}', "9999... is too large a number"),
        ('{"regions": [{"phrase": "x", "box": ["0.1", 0.1, 0.5, 0.5]}]}', r"box.0: Input should be a valid number"),
        ('{"regions": [{"phrase": "x", "box": [0, 0, 1, true]}]}', r"box.3: Input should be a valid number"),
        ('{"regions": [{"phrase": "x", "openpose": "a", "person": "0"}]}', "person: Input should be a valid integer"),
        ('{"regions": [], "background": "12"}', "background: '12' is not an ADE20K class; for a class id, write 12"),
        ('{"regions": [], "promt": "x"}', "promt: unknown field; did you mean prompt?"),
        (f'{{"regions": [], "{"x" * 9999}": 1}}', r"x…x+: unknown field; leave it out"),
        ("[" * 100_000, "the file: Invalid JSON"),
        ('{"regions": [], "prompt": "\\ud800"}', "the file: Invalid JSON"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(tmp_path: Path, content: str, message: str) -> None:
    assert_refused(tmp_path, content.encode(), message)


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    assert_refused(tmp_path, LAYOUT.encode("latin-1"), "it is not utf-8 text, from byte 26 on; save it as UTF-8")


def assert_refused(folder: Path, content: bytes, message: str) -> None:
    with pytest.raises(RealCompoError, match=message) as refused:
        layout_of(folder, content)
    said = str(refused.value).removeprefix(str(folder))
    assert len(said) < LONGEST
    assert "\n" not in said


FIELDS = st.sampled_from(["regions", "phrase", "box", "keypoints", "people", "pose_keypoints_2d", "prompt", "label"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.integers(10**300, 10**400),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(FIELDS | st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
DAMAGED = st.one_of(
    st.binary(max_size=200),
    VALUES.map(lambda value: json.dumps(value).encode()),
    st.integers(0, len(LAYOUT)).map(lambda end: LAYOUT.encode()[:end]),
    st.tuples(st.integers(0, len(POSE)), st.binary(max_size=3)).map(
        lambda cut: POSE.encode()[: cut[0]] + cut[1] + POSE.encode()[cut[0] :]
    ),
    st.integers(1, 5000).map(lambda depth: b'{"regions": ' + b"[" * depth + b"]" * depth + b"}"),
)


@given(DAMAGED)
@example(b'{"regions":[],"\\r":null}')
@example(b'{"regions":[],"a\\nb":null}')
@settings(max_examples=400, deadline=None)
def test_any_file_is_read_or_refused_in_one_line(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.json"
    path.write_bytes(content)
    readers: list[Any] = [Layout.from_file, read_openpose]
    for read in readers:
        try:
            read(path)
        except RealCompoError as error:
            said = str(error).replace(str(path), "")
            assert len(said) <= LONGEST
            assert len(said.splitlines()) == 1
