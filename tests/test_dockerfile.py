"""What of the images can be run without Docker: their own commands, on a bare machine."""

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from http.client import HTTPConnection
from pathlib import Path
from socket import create_server

import pytest

from export.checkpoints.folders import ROOT
from runtime.bundle.manifest import sha256_of
from tests.dockerfile import Stage, read_dockerfile
from tests.runtime.conftest import bundle as bundle
from tests.runtime.conftest import parts as parts
from tests.runtime.serving.server import PATIENCE, Server, until

STAGES = read_dockerfile(ROOT / "Dockerfile")
SERVE = STAGES["serve"]
LAYOUT = {"regions": [{"phrase": "a red ball", "box": [0.1, 0.5, 0.5, 0.9]}]}
KEY = "a-key-of-the-test"


def sources(stage: Stage, from_stage: bool) -> list[str]:
    """What COPY takes: from this repository, or from another stage."""
    lines = [words.split() for words in stage.all("COPY")]
    return [source for first, *rest in lines if first.startswith("--from") == from_stage
            for source in ([first, *rest][:-1] if not from_stage else rest[:-1])]  # fmt: skip


@pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES)
def test_what_is_copied_is_in_the_repository(stage: Stage) -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    for source in sources(stage, from_stage=False):
        assert any(path == source or path.startswith(f"{source}/") for path in tracked), source


def test_the_image_that_draws_has_every_file_of_the_bundle(tabletop_bundle: Path) -> None:
    patterns = [Path(source).name for source in sources(STAGES["runtime"], from_stage=True)]
    files = [path.name for path in tabletop_bundle.iterdir()]
    assert "manifest.json" in files
    assert [name for name in files if not any(fnmatch(name, pattern) for pattern in patterns)] == []


@pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES)
def test_extras_are_the_packages_own(stage: Stage) -> None:
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    asked = [extra for words in stage.all("RUN") for found in re.findall(r"'\.\[(.*?)\]'", words)
             for extra in found.split(",")]  # fmt: skip
    assert set(asked) <= set(known)


def test_the_default_image_is_the_one_that_draws() -> None:
    assert list(STAGES)[-1] == "runtime"
    command = STAGES["runtime"].command("ENTRYPOINT") + STAGES["runtime"].command("CMD")
    assert subprocess.run([sys.executable, *command[1:]], capture_output=True, timeout=PATIENCE).returncode == 0


@pytest.mark.parametrize("name", ["serve", "runtime"])
def test_no_image_runs_as_root(name: str) -> None:
    """Nothing but what describes the image comes after the change of user."""
    kinds = [kind for kind, _ in STAGES[name].lines]
    assert STAGES[name].all("USER") == ["realcompo"]
    assert not {"RUN", "COPY", "ADD"} & set(kinds[kinds.index("USER") :])


PLATFORMS = [*(f"manylinux_2_{minor}_x86_64" for minor in range(28, 4, -1)), "manylinux2014_x86_64", "linux_x86_64"]


@pytest.mark.slow
def test_the_images_cuda_is_that_of_the_pinned_wheels(tmp_path: Path) -> None:
    """pip resolves what the image installs for its Python, from the wheels' own requirements; it asks PyPI, and loads
    nothing."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    report = tmp_path / "report.json"
    where = [f"--platform={one}" for one in PLATFORMS] + ["--python-version=3.12", f"--target={tmp_path / 'none'}"]
    how = ["--dry-run", "--ignore-installed", "--only-binary=:all:", "--report", f"{report}", "-c", "constraints.txt"]
    plain = os.environ | {"PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": "", "PIP_EXTRA_INDEX_URL": ""}
    command = [sys.executable, "-m", "pip", "install", "--quiet", *how, *where, "torch", *extras["onnxruntime-gpu"]]
    subprocess.run(command, cwd=ROOT, env=plain, check=True, timeout=10 * PATIENCE)
    found = [one["metadata"] for one in json.loads(report.read_text())["install"]]
    versions = {one["name"].lower().replace("_", "-"): one["version"] for one in found}
    cuda = re.search(r"^ARG CUDA=(\d+\.\d+)\.", (ROOT / "Dockerfile").read_text(), re.M)
    assert cuda
    assert versions["nvidia-cuda-runtime"].startswith(f"{cuda[1]}.")
    assert versions[f"nvidia-cudnn-cu{cuda[1].split('.')[0]}"].startswith("9.")  # as NVIDIA's images of CUDA 13 have
    assert "-cudnn-runtime-ubuntu24.04" in STAGES["base"].base  # whose Python is 3.12


@pytest.fixture(scope="module")
def served(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The serve image's own command, with the mounted paths and the port as they are here."""
    keys = tmp_path_factory.mktemp("secrets") / "api-keys"
    keys.write_text(f"{KEY}\n")
    with create_server(("127.0.0.1", 0)) as socket:
        port = socket.getsockname()[1]
    here = {"python": sys.executable, "/bundle": f"{bundle}", "0.0.0.0": "127.0.0.1", "8000": f"{port}",
            "/run/secrets/api-keys": f"{keys}"}  # fmt: skip
    command = SERVE.command("ENTRYPOINT") + SERVE.command("CMD")
    assert set(here) <= set(command)
    environment = {"OMP_NUM_THREADS": "1", "HOME": "/nonexistent", "PATH": ""}
    with subprocess.Popen([here.get(word, word) for word in command], cwd=ROOT, env=environment) as process:
        server = Server(process, port, {"Authorization": f"Bearer {KEY}"})
        try:
            until(lambda: process.poll() is not None or _answers(server))
            yield server
        finally:
            process.kill()


def test_the_health_check_is_0_of_a_server_that_is_ready_and_1_of_none(served: Server) -> None:
    assert SERVE.all("EXPOSE") == ["8000"]
    assert _health(served.port) == 0
    with create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    assert _health(port) == 1


def test_it_draws_for_those_with_a_key_and_leaves_the_bundle_as_it_is(served: Server, bundle: Path) -> None:
    before = {path.name: sha256_of(path) for path in bundle.iterdir()}
    body = {"prompt": "a red ball", "layout": LAYOUT, "num_inference_steps": 2}
    assert served.draw(body).status == 200
    assert served.draw(body, Authorization="Bearer another").status == 401
    assert {path.name: sha256_of(path) for path in bundle.iterdir()} == before


def test_docker_stop_ends_it_in_order(served: Server) -> None:
    """The last test of this server: Docker's signal is SIGTERM."""
    assert served.stop() == 0
    assert _health(served.port) == 1


def _answers(server: Server) -> bool:
    try:
        connection = HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
        connection.request("GET", "/v2/health/ready")
        return connection.getresponse().status == 200
    except OSError:
        return False


def _health(port: int) -> int:
    command = [word.replace("8000", f"{port}") for word in SERVE.command("HEALTHCHECK")]
    return subprocess.run([sys.executable, *command[1:]], capture_output=True, timeout=PATIENCE).returncode
