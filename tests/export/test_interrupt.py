"""Ctrl-C while TensorRT-RTX is at work, on real processes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from export.checkpoints.folders import ROOT
from export.pairs import Pair
from runtime.bundle.manifest import check_files, read_manifest

pytestmark = pytest.mark.tensorrt_rtx
pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed: pip install tensorrt-rtx-cu12")

TICKS = os.sysconf("SC_CLK_TCK")
# A builder that has run for some seconds is in TensorRT's C++, which calls nobody back until it is through.
BUILD_PLAN = """
from pathlib import Path
from export.plans.plan_options import plan_options
from export.graphs.engine import Signature
from export.plans.to_engine import build_plan
from runtime.bundle.manifest import read_manifest
from runtime.cli import plain_errors
folder = Path({folder!r})
engine = read_manifest(folder).engines["spatial_gradient"]
options = plan_options("tensorrt-rtx", ("8.9",), (1, 1, 1))
with plain_errors("stopped"):
    takes = Signature(engine.inputs, engine.outputs)
    build_plan([folder / engine.graph[0].name], takes, options, (1, 1, 1), Path({plan!r}))
"""


def worker_of(process: subprocess.Popen[str], seconds: float) -> int:
    """The id of the process's builder, once that has computed for so many seconds."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while process.poll() is None:
        for child in map(int, children.read_text().split()):
            command = Path(f"/proc/{child}/cmdline").read_bytes()
            if b"export.plans.plan_worker" in command and cpu_seconds(child) >= seconds:
                return child
        time.sleep(0.02)
    raise AssertionError(f"it ended before: {process.communicate()}")


def cpu_seconds(pid: int) -> float:
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / TICKS


def interrupt(process: subprocess.Popen[str], worker_seconds: float) -> str:
    """Send Ctrl-C to a process whose builder is at work: both end, whatever the builder had left to do. Returns its
    stderr."""
    worker = worker_of(process, worker_seconds)
    process.send_signal(signal.SIGINT)
    stderr = process.communicate(timeout=120)[1]
    assert not Path(f"/proc/{worker}").exists()
    return stderr


def start(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background job ignores it
    )


def test_ctrl_c_in_the_builder_s_longest_phase(tabletop_bundle: Path, tmp_path: Path) -> None:
    plan = tmp_path / "plan.engine"
    with start("-c", BUILD_PLAN.format(folder=str(tabletop_bundle), plan=str(plan))) as process:
        stderr = interrupt(process, worker_seconds=4)
    assert stderr.splitlines()[0] == "stopped"
    assert not plan.exists()


def test_ctrl_c_leaves_the_last_good_bundle(own_bundle: Path, pair: Pair) -> None:
    before = {path.name: path.read_bytes() for path in own_bundle.iterdir()}
    models = "--text-to-image", pair.text_to_image, "--spatial", pair.spatial
    arguments = "build", "tabletop", *models, "--out", own_bundle, "--backend", "tensorrt-rtx"
    with start("-m", "export", *arguments) as process:
        stderr = interrupt(process, worker_seconds=0)
    assert process.returncode == 130
    assert stderr == "stopped; the same command resumes\n"
    assert {path.name: path.read_bytes() for path in own_bundle.iterdir()} == before
    check_files(own_bundle, read_manifest(own_bundle))
