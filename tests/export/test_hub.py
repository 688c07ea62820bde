"""What is asked of a hub, and what is done when it or the way to it fails. The repositories are of a few bytes."""

import errno
import json
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from export.checkpoints import hub as exported
from export.checkpoints import hub_errors
from export.checkpoints.hub import fetch, snapshot
from export.checkpoints.source import HubSource, hub_source, recorded
from export.checkpoints.variants import Want, needed
from export.pairs import PAIRS
from runtime.errors import RealCompoError
from tests.export.hub_server import Fault, Hub, drop, serve, status, use

REPO = "someone/control-net"
CONFIG, PLAIN, HALF = "config.json", "diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.fp16.safetensors"
WEIGHTS = bytes(range(256)) * 100
WANT = Want("spatial", HubSource(REPO), ("controlnet",))
COMMIT = "0123456789" * 4
BLOB = rf"GET /blobs/{REPO}/"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """With one ControlNet; whatever is large is resumed, in small parts, and nobody waits long."""
    files = {CONFIG: b"{}", PLAIN: WEIGHTS, HALF: WEIGHTS[:7000], "diffusion_pytorch_model.bin": b"pickle"}
    asked = Hub({REPO: {"main": files}})
    monkeypatch.setattr(exported, "RESUMED_BYTES", 1)
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)
    monkeypatch.setattr(hub_errors, "PAUSES", (0.0, 0.0))
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda seconds: None)
    with serve(asked) as address:
        use(monkeypatch, address, tmp_path / "cache")
        yield asked


def test_a_source_is_a_repository_a_revision_and_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for given, source in {
        "a/b": HubSource("a/b"),
        "a/b@refs/pr/2": HubSource("a/b", "refs/pr/2"),
        "a/b:unet/x.safetensors": HubSource("a/b", "main", "unet/x.safetensors"),
        f"a/b@{COMMIT}:controlnet": HubSource("a/b", COMMIT, "controlnet"),
    }.items():
        assert hub_source(given) == source
        assert str(source) == given
    assert hub_source("a/b@main") == HubSource("a/b")
    for not_on_a_hub in ("a", "a/b/c", "/a/b", "../b", "a/b@", "a/b:", "a/b:../c", "a/b:/c", "a/b@x y", "a/b@x@y"):
        assert hub_source(not_on_a_hub) is None, not_on_a_hub
    assert recorded(f"a/b@{COMMIT}:c.bin") == ("a/b:c.bin", COMMIT)
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert hub_source("a/b") is None
    assert recorded("a/b") == ("a/b", None)


U = "unet/diffusion_pytorch_model"
SHARDS = [f"{U}-00001-of-00002.safetensors", f"{U}-00002-of-00002.safetensors"]


@pytest.mark.parametrize(
    ("names", "plain", "half"),
    [
        ([f"{U}.safetensors", f"{U}.fp16.safetensors"], [f"{U}.safetensors"], [f"{U}.fp16.safetensors"]),
        ([f"{U}.safetensors", f"{U}.non_ema.safetensors"], [f"{U}.safetensors"], [f"{U}.safetensors"]),
        ([f"{U}.safetensors", f"{U}_twins.safetensors"], [f"{U}.safetensors"], [f"{U}.safetensors"]),
        ([f"{U}.fp16.safetensors", f"{U}.bin"], [f"{U}.fp16.safetensors"], [f"{U}.fp16.safetensors"]),
        ([f"{U}.bin", f"{U}.fp16.bin"], [f"{U}.bin"], [f"{U}.fp16.bin"]),
        (
            [f"{U}.safetensors.index.json", *SHARDS, f"{U}.fp16.safetensors"],
            [f"{U}.safetensors.index.json", *SHARDS],
            [f"{U}.fp16.safetensors"],
        ),
        ([f"{U}.safetensors.index.json", SHARDS[1], f"{U}.bin"], [f"{U}.bin"], [f"{U}.bin"]),
    ],
)
def test_one_variant_of_the_weights_is_needed(names: list[str], plain: list[str], half: list[str]) -> None:
    for fp16_files, files in ((False, plain), (True, half)):
        want = Want("spatial", HubSource(REPO), ("unet",), fp16_files)
        found = needed(want, {"unet/config.json", *names})
        assert (list(found.files), found.lacks) == (["unet/config.json", *files], ())


W = "diffusion_pytorch_model"


@pytest.mark.parametrize(
    ("pair", "plain", "half"),
    [
        ("sd15-canny", f"{W}.safetensors", f"{W}.fp16.safetensors"),
        ("sd15-adapter", f"{W}.bin", f"{W}.bin"),
        ("sd21-depth", f"{W}.bin", f"{W}.bin"),
        ("sdxl-union", f"{W}.safetensors", f"{W}.safetensors"),  # not ProMax, which stands beside it
        ("sdxl-adapter", f"{W}.safetensors", f"{W}.fp16.safetensors"),
    ],
)
def test_what_is_needed_of_what_is_published(pair: str, plain: str, half: str) -> None:
    """The files of these repositories by name, as their pages list them."""
    control = PAIRS[pair].controls[0]
    names = json.loads((Path(__file__).parent / "data/repositories.json").read_text())[control.model]["main"]
    for fp16_files, file in ((False, plain), (True, half)):
        found = needed(Want("spatial", HubSource(control.model), (control.component,), fp16_files), names)
        assert (found.files, found.lacks) == (("config.json", file), ())


def test_text_encoders_pickles_have_a_name_of_their_own() -> None:
    want = Want("text_to_image", HubSource(REPO), ("text_encoder",))
    names = {"text_encoder/config.json", "text_encoder/pytorch_model.bin", "scheduler/scheduler_config.json"}
    assert needed(want, names).files[1] == "text_encoder/pytorch_model.bin"
    assert needed(want, {"tokenizer/vocab.json"}).lacks == (
        "text_encoder/config.json",
        "text_encoder/model.safetensors",
        "scheduler/scheduler_config.json",
    )


def test_what_is_fetched_is_told_and_fetched_once(hub: Hub) -> None:
    said: list[str] = []
    pinned = fetch([WANT], tell=said.append)[WANT.source]
    folder = snapshot(pinned)
    assert folder and (folder / PLAIN).read_bytes() == WEIGHTS
    assert hub.fetched(REPO) == {CONFIG, PLAIN}
    assert said[0] == f"to fetch of {REPO}: 2 files, 0 MB: {PLAIN} (0 MB)"
    assert said[1].startswith("in all 0 MB, ") and said[1].endswith(f"are free in {constants.HF_HUB_CACHE}")
    hub.requests.clear()
    assert fetch([WANT], tell=said.append)[WANT.source] == pinned
    assert hub.requests == [f"GET /api/models/{REPO}/revision/main"] and len(said) == 2


def test_half_precision_is_taken_where_it_is_wanted(hub: Hub) -> None:
    fetch([Want("spatial", HubSource(REPO), ("controlnet",), True)])
    assert hub.fetched(REPO) == {CONFIG, HALF}


def test_a_folder_and_a_file_of_a_repository(hub: Hub) -> None:
    files = {f"deep/er/{name}": content for name, content in hub.repositories[REPO]["main"].items()}
    hub.repositories[REPO] = {"v1.0": files}
    folder, file = HubSource(REPO, "v1.0", "deep/er"), HubSource(REPO, "v1.0", f"deep/er/{HALF}")
    fetch([Want("spatial", folder, ("controlnet",)), Want("spatial", file, ("controlnet",))])
    assert hub.fetched(REPO) == {f"deep/er/{name}" for name in (CONFIG, PLAIN, HALF)}
    assert sum("/api/" in request for request in hub.requests) == 1
    assert Path(exported.file_on_disk(str(file))).read_bytes() == WEIGHTS[:7000]


def test_all_repositories_are_looked_at_before_a_file_is_fetched(hub: Hub) -> None:
    hub.repositories["someone/empty"] = {"main": {"other.safetensors": b""}}
    hub.repositories["someone/bare"] = {"main": {CONFIG: b""}}
    sources = [HubSource(repo) for repo in (REPO, "someone/empty", "someone/bare")]
    with pytest.raises(RealCompoError) as caught:
        fetch([Want("spatial", source, ("controlnet",)) for source in sources])
    assert str(caught.value) == (f"someone/empty has no {CONFIG} and 1 more files; someone/bare has no {PLAIN}")
    assert [request.split()[1].count("/api/") for request in hub.requests] == [1, 1, 1]
    with pytest.raises(RealCompoError, match=r"It has other\.safetensors: try someone/empty:other\.safetensors$"):
        fetch([Want("spatial", sources[1], ("controlnet",))])


GATED = {"X_Error_Code": "GatedRepo"}
REFUSALS: dict[str, tuple[Fault, str]] = {
    "gated": (Fault("resolve", status(403, **GATED)), f"{REPO} is gated (403): accept its terms at http"),
    "gated, no token": (Fault("resolve", status(401, **GATED)), f"{REPO} is gated (401): accept its terms at http"),
    "token": (Fault("api", status(401)), f"the hub does not let {REPO} be read (401): it is private or gated"),
    "forbidden": (Fault("resolve", status(403)), f"the hub forbids {REPO} (403): accept its terms at http"),
    "no repository": (Fault("api", status(404, X_Error_Code="RepoNotFound")), f"the hub has no repository {REPO} (404"),
    "no file": (Fault("resolve", status(404, X_Error_Code="EntryNotFound")), f"{REPO} has no file {CONFIG} at "),
    "busy": (
        Fault("api", status(429, Retry_After="300")),
        "the hub has too many requests (429) and asks to wait 300 s",
    ),
    "busy with a file": (Fault("HEAD", status(429, Retry_After="300")), "too many requests (429) and asks to wait 300"),
    "busy with a large file": (Fault(BLOB, status(429, Retry_After="300")), "(429) and asks to wait 300 s. The same"),
    "busy, as the hub says": (Fault("api", status(429, RateLimit='"api";r=0;t=99')), "and asks to wait 99 s"),
    "fault": (Fault("api", status(503)), "the hub has a fault of its own (503). The same command resumes later"),
    "no answer": (Fault("api", drop), "the connection to http"),
    "no answer to large files": (Fault(BLOB, drop), "is lost: Server disconnected"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refusals_are_one_line(hub: Hub, case: str) -> None:
    fault, line = REFUSALS[case]
    hub.faults.append(fault)
    with pytest.raises(RealCompoError) as caught:
        fetch([WANT])
    assert line in str(caught.value)
    assert len(str(caught.value)) <= 300 and "\n" not in str(caught.value)


def test_no_revision_no_server_no_space(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RealCompoError, match=rf"^{REPO} has no revision v9 \(404\)"):
        fetch([Want("spatial", HubSource(REPO, "v9"), ("controlnet",))])
    monkeypatch.setattr(exported.shutil, "disk_usage", lambda folder: Space())
    with pytest.raises(RealCompoError, match=r"^0 MB have to be fetched into .*, 0 MB are free there: .* set HF_HOME"):
        fetch([WANT])
    assert hub.fetched(REPO) == set()
    use(monkeypatch, "http://127.0.0.1:9", constants.HF_HUB_CACHE)
    with pytest.raises(RealCompoError, match=r"^the connection to http://127\.0\.0\.1:9 is lost: .*HF_HUB_OFFLINE=1"):
        fetch([WANT])


class Space:
    free = 10


def test_a_token_goes_to_the_hub_and_not_to_where_it_sends_us(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    fetch([WANT])
    for request, token in zip(hub.requests, hub.tokens, strict=True):
        assert token == (None if "/blobs/" in request else "Bearer hf_secret"), request


def test_offline_the_cache_is_all_there_is(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    pinned = fetch([WANT])
    hub.requests.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert fetch([WANT]) == pinned
    with pytest.raises(RealCompoError, match=rf"^HF_HUB_OFFLINE is set, .* has no {CONFIG} and 1 more files of a/b"):
        fetch([Want("spatial", HubSource("a/b"), ("controlnet",))])
    assert hub.requests == []


def test_what_may_pass_is_waited_for(hub: Hub) -> None:
    hub.faults += [
        Fault("api", status(429, Retry_After="0"), 1),
        Fault("api", status(500), 1),
        Fault(BLOB, status(502), 1),
        Fault(BLOB, drop, 2),
    ]
    fetch([WANT])
    assert_whole()


def assert_whole() -> None:
    folder = snapshot(WANT.source)
    assert folder and (folder / PLAIN).read_bytes() == WEIGHTS
    assert not list(folder.parents[1].rglob("*.incomplete"))


def ranges(hub: Hub) -> list[str]:
    return [request.split()[2] for request in hub.requests if "/blobs/" in request and "bytes=" in request]


def test_a_cut_connection_is_taken_up(hub: Hub) -> None:
    hub.cut_at = 12_345
    fetch([WANT])
    assert_whole()
    assert ranges(hub) == ["bytes=12000-"]


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")])
def test_what_has_come_is_kept_when_it_stops(hub: Hub, stop: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopping(url: str, file: Any, **options: Any) -> None:
        take = file.write
        real(url, Stopping(file, take), **options)

    class Stopping:
        def __init__(self, file: Any, take: Any) -> None:
            self.file, self.take = file, take

        def write(self, chunk: bytes) -> None:
            if self.file.tell() >= 5000:
                raise stop
            self.take(chunk)

    real = exported.http_get
    with monkeypatch.context() as patch:
        patch.setattr(exported, "http_get", stopping)
        with pytest.raises((KeyboardInterrupt, RealCompoError), match=r"resumes|^$"):
            fetch([WANT])
    folder = snapshot(hub_source(f"{REPO}@{hub.commit(REPO, 'main')}"))  # type: ignore[arg-type]
    assert folder and not (folder / PLAIN).exists()
    fetch([WANT])
    assert_whole()
    assert ranges(hub) == ["bytes=5000-"]


def test_kill_9_leaves_what_has_come(hub: Hub) -> None:
    reached, go_on = threading.Event(), threading.Event()

    def half(handler: Any) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(WEIGHTS)))
        handler.end_headers()
        handler.wfile.write(WEIGHTS[:9000])
        reached.set()
        go_on.wait(60)
        handler.close_connection = True

    hub.faults.append(Fault(BLOB, half, 1))
    process = multiprocessing.get_context("fork").Process(target=fetch, args=([WANT],))
    process.start()
    assert reached.wait(60) and process.pid
    while not any(part.stat().st_size >= 9000 for part in Path(constants.HF_HUB_CACHE).rglob("*.incomplete")):
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    go_on.set()
    fetch([WANT])
    assert_whole()
    assert ranges(hub) == ["bytes=9000-"]


def test_a_part_of_another_content_is_not_used(hub: Hub) -> None:
    """As a disk may leave it that lost its power."""
    fetch([WANT])
    blob = (Path(str(snapshot(WANT.source))) / PLAIN).resolve()
    blob.rename(blob.with_suffix(".incomplete"))
    blob.with_suffix(".incomplete").write_bytes(bytes(5000))
    with pytest.raises(RealCompoError, match=f"^{PLAIN} of {REPO} came damaged; run the same command again"):
        fetch([WANT])
    fetch([WANT])
    assert_whole()
