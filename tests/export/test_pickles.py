"""Pickled weights: what torch.save writes comes back bit by bit, and nothing that a pickle asks for is run."""

import errno
import os
import zipfile
from collections import OrderedDict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from export.checkpoints.pickles import as_safetensors
from runtime.errors import RealCompoError
from tests.export.hostile import PROTOCOL, Calls, calling, legacy, read_in_fork, saved, zipped

BASE = torch.arange(12.0).view(3, 4)
WEIGHTS = OrderedDict(
    base=BASE,
    tied=BASE,
    row=BASE[1],
    turned=BASE.t(),
    half=torch.tensor([0.1, -3]).half(),
    brain=torch.tensor([[1.5]]).bfloat16(),
    mask=torch.tensor([True, False, True]),
    count=torch.tensor(7),
    none=torch.empty(0, 3),
    parameter=torch.nn.Parameter(torch.ones(2)),
)
LIMIT = 300_000_000  # bytes beyond the file's size


def assert_weights(found: dict[str, torch.Tensor]) -> None:
    assert found.keys() == WEIGHTS.keys()
    for name, weight in WEIGHTS.items():
        assert found[name].dtype == weight.dtype and torch.equal(found[name], weight), name


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize(
    "content",
    [
        WEIGHTS,
        {"state_dict": WEIGHTS, "epoch": 3, "optimizer_states": [{"exp_avg": BASE}]},
        {"model": {"state_dict": WEIGHTS}, "optimizer": {"state": {0: BASE}}},
        {"module": WEIGHTS},
        {f"module.{name}": weight for name, weight in WEIGHTS.items()},
        {**WEIGHTS, "global_step": 4, "note": "text", "history": [1, 2]},
    ],
    ids=["plain", "state_dict", "nested", "module", "parallel", "entries that are no tensors"],
)
def test_tensors_come_back(content: Any, zipped: bool, tmp_path: Path) -> None:
    file = tmp_path / "x.bin"
    file.write_bytes(saved(content, _use_new_zipfile_serialization=zipped))
    told = read_in_fork(file, tmp_path / "x.safetensors").answer["tensors"]
    assert {name: shape for name, (_, shape) in told.items()} == {name: list(w.shape) for name, w in WEIGHTS.items()}
    assert_weights(load_file(tmp_path / "x.safetensors"))


def test_models_side_by_side_keep_their_keys(tmp_path: Path) -> None:
    """As in GLIGEN's original file."""
    file, out = tmp_path / "x.pth", tmp_path / "x.safetensors"
    file.write_bytes(saved({"model": {"a": BASE}, "autoencoder": {"b": BASE}, "config_dict": {"c": {"target": "d"}}}))
    assert read_in_fork(file, out).answer["tensors"].keys() == {"model.a", "autoencoder.b"}
    assert load_file(out).keys() == {"model.a", "autoencoder.b"}


def test_names_without_end_are_refused(tmp_path: Path) -> None:
    file, out = tmp_path / "x.pth", tmp_path / "x.safetensors"
    file.write_bytes(saved({"a" * 501: BASE}))
    assert "names of over 500 bytes" in read_in_fork(file, out).answer["refused"]
    assert not out.exists()


def test_a_dictionary_that_holds_itself_ends(tmp_path: Path) -> None:
    (tmp_path / "x.pt").write_bytes(zipped(PROTOCOL + b"}q\x00X\x05\x00\x00\x00modelh\x00s."))
    assert "no tensors" in read_in_fork(tmp_path / "x.pt", tmp_path / "out").answer["refused"]


TOUCH = f"touch {os.devnull}.executed"
HOSTILE = {
    "os.system": (saved({"a": Calls(os.system, TOUCH)}), "it asks for posix.system"),
    "os.system, legacy": (
        saved({"a": Calls(os.system, TOUCH)}, _use_new_zipfile_serialization=False),
        "it asks for posix.system",
    ),
    "eval by REDUCE": (zipped(calling("builtins", "eval", "1 + 1")), "it asks for eval"),
    "eval by REDUCE, legacy": (legacy(calling("builtins", "eval", "1 + 1")), "it asks for eval"),
    "python 2's eval": (zipped(calling("__builtin__", "eval", "1 + 1")), "it asks for "),
    "exec": (zipped(calling("builtins", "exec", "import os")), "it asks for exec"),
    "import": (zipped(calling("importlib", "import_module", "this")), "it asks for importlib.import_module"),
    "torch's own loader": (zipped(calling("torch", "load", "x.bin")), "it asks for torch.load"),
    "torch.hub": (zipped(calling("torch.hub", "load", "x")), "it asks for torch.hub.load"),
    "a whole module": (saved(torch.nn.Linear(1, 1)), "it asks for torch.nn.modules.linear.Linear"),
    "zip in zip": (zipped(PROTOCOL + b"}.", **{"data/0": zipped(calling("os", "system", TOUCH))}), "no tensors"),
    "a bare pickle": (calling("os", "system", TOUCH), "none of torch.save's files"),
    "protocol 0": (b"cos\nsystem\n(S'true'\ntR.", "none of torch.save's files"),
    "TorchScript": (
        zipped(PROTOCOL + b"}.", **{"constants.pkl": PROTOCOL + b")."}),
        "TorchScript archive, which is a program",
    ),
    "compressed": (zipped(saved({}), zipfile.ZIP_DEFLATED), "it is compressed"),
    "much memory": (zipped(PROTOCOL + b"cbuiltins\nbytearray\n\x8a\x06\x00\x00\x00\x00\x00\x10\x85R."), "more memory"),
    "a tensor of nothing": (saved({"a": torch.zeros(1).expand(10**9)}), "more room than its size explains"),
    "sparse": (saved({"a": BASE.to_sparse()}), "a is a tensor that safetensors cannot hold"),
    "no storage": (saved({"a": torch.empty(3, device="meta")}), "cannot hold (float32 strided on meta)"),
    "a list": (saved([BASE]), "it holds a list rather than tensors by name"),
    "nothing": (saved({}), "it holds no tensors by name"),
    "cut off": (saved(WEIGHTS)[:-200], "it is damaged or cut off"),
    "empty": (b"", "none of torch.save's files"),
    "text": (b"version https://git-lfs.github.com/spec/v1\n", "none of torch.save's files"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_nothing_is_run(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")  # torch's way to unpickle whatever it is given
    content, reason = HOSTILE[kind]
    (tmp_path / "x.bin").write_bytes(content)
    outcome = read_in_fork(tmp_path / "x.bin", tmp_path / "out")
    assert reason in outcome.answer["refused"]
    assert outcome.memory < LIMIT + len(content)
    assert not Path(f"{os.devnull}.executed").exists()


OPCODES = st.sampled_from(
    [
        *(b"cos\nsystem\n", b"cbuiltins\neval\n", b"ctorch._utils\n_rebuild_tensor_v2\n", b"ctorch\nFloatStorage\n"),
        *(b"ccollections\nOrderedDict\n", b"cbuiltins\nbytearray\n", b"ctorch.nn.parameter\nParameter\n"),
        *(
            b"X\x04\x00\x00\x00true",
            b"X\x07\x00\x00\x00storage",
            b"K\x07",
            b"J\xff\xff\xff\x7f",
            b"\x8a\x05\xff\xff\xff\xff\x7f",
        ),
        *(
            b"(",
            b")",
            b"}",
            b"]",
            b"t",
            b"\x85",
            b"\x86",
            b"R",
            b"b",
            b"s",
            b"u",
            b"a",
            b"e",
            b"Q",
            b"\x81",
            b"0",
            b"2",
        ),
        *(b"q\x00", b"h\x00", b"N", b"\x88", b"."),
    ]
)
PROGRAMS = st.lists(OPCODES, max_size=30).map(lambda codes: PROTOCOL + b"".join(codes) + b".")
SEEDS = st.sampled_from([*(content for content, _ in HOSTILE.values()), saved(WEIGHTS), legacy(PROTOCOL + b"}.")])


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    content = bytearray(draw(SEEDS))
    for _ in range(draw(st.integers(0, 4))):
        if content:
            content[draw(st.integers(0, len(content) - 1))] = draw(st.integers(0, 255))
    return bytes(content[: draw(st.integers(0, len(content)))]) if draw(st.booleans()) else bytes(content)


FILES = st.one_of(PROGRAMS.map(zipped), PROGRAMS.map(legacy), mutated(), st.binary(max_size=200))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("random")


@settings(max_examples=500, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(content=FILES)
def test_random_pickles_are_read_or_refused_in_one_line(
    content: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp()
    (folder / "random.bin").write_bytes(content)
    outcome = read_in_fork(folder / "random.bin", folder / "random.safetensors")
    said = outcome.answer.get("refused", "")
    assert outcome.answer.keys() <= {"refused", "tensors"}
    assert "\n" not in said and len(said) <= 200
    assert outcome.memory < LIMIT + len(content)


def test_a_file_is_converted_once_and_again_after_a_kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, folder = tmp_path / "x.ckpt", tmp_path / "converted"
    file.write_bytes(saved(WEIGHTS))
    first = as_safetensors(file, folder)
    assert_weights(load_file(first))
    half = first.rename(first.with_name(f".{first.name}"))  # as a killed build leaves it
    half.write_bytes(half.read_bytes()[:50])
    assert as_safetensors(file, folder) == first and [*folder.iterdir()] == [first]
    assert_weights(load_file(first))
    monkeypatch.setattr("export.checkpoints.pickles._run_worker", None)  # would fail if it were called
    file.rename(tmp_path / "renamed.bin")
    assert as_safetensors(tmp_path / "renamed.bin", folder) == first


def test_refusals_name_the_file_and_the_way_on(tmp_path: Path) -> None:
    file = tmp_path / "x.bin"
    file.write_bytes(saved({"a": Calls(os.system, TOUCH)}))
    with pytest.raises(RealCompoError) as refusal:
        as_safetensors(file, tmp_path / "converted")
    assert str(refusal.value) == (
        f"{file} cannot be taken: it asks for posix.system, which is code and no data. "
        "Give the same weights as .safetensors"
    )
    assert [*(tmp_path / "converted").iterdir()] == []


def test_a_full_disk_is_no_fault_of_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "x.bin").write_bytes(saved(WEIGHTS))
    monkeypatch.setattr("export.checkpoints.pickle_worker.write", fill)
    told = read_in_fork(tmp_path / "x.bin", tmp_path / "out").answer
    assert told == {"disk": [errno.ENOSPC, "No space left on device"]}


def test_little_room_is_said_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.bin").write_bytes(saved(WEIGHTS))
    monkeypatch.setattr("export.staging.shutil.disk_usage", lambda path: SimpleNamespace(free=100))
    with pytest.raises(RealCompoError, match="the disk is full"):
        as_safetensors(tmp_path / "x.bin", tmp_path / "converted")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RealCompoError, match=r"x\.bin cannot be read: No such file"):
        as_safetensors(tmp_path / "x.bin", tmp_path / "converted")
