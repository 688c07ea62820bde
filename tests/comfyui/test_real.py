"""The pack within a real ComfyUI, which is on no package registry: where one is, name it and its Python, and run

COMFYUI=/path/to/ComfyUI COMFYUI_PYTHON=/path/to/python pytest tests/comfyui/test_real.py
"""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from runtime import Layout, RealCompo, Region
from tests.comfyui.conftest import PACK
from tests.comfyui.real import ComfyUI, running

FOLDER, PYTHON = os.environ.get("COMFYUI"), os.environ.get("COMFYUI_PYTHON", "python")
pytestmark = pytest.mark.skipif(FOLDER is None, reason="COMFYUI names no ComfyUI")

SIGNATURES = """
import inspect, json, sys
sys.argv = ["comfyui", "--cpu"]
from comfy_api.latest import io
names = "Boolean Combo Float Int String MultiType Image BoundingBox Array".split()
found = {name: list(inspect.signature(getattr(io, name).Input).parameters) for name in names}
found["Output"], found["Schema"] = (list(inspect.signature(one).parameters) for one in (io.Image.Output, io.Schema))
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def comfyui(tabletop_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyUI]:
    assert FOLDER
    with running(PYTHON, Path(FOLDER), tmp_path_factory.mktemp("comfyui"), tabletop_bundle) as found:
        yield found


@pytest.fixture
def workflow() -> dict[str, Any]:
    """The pack's example as the editor sends it."""
    return json.loads((PACK / "example_api.json").read_text())


def test_the_stand_in_has_what_comfyui_has(stand_in: None) -> None:
    from comfy_api.latest import io  # type: ignore[import-not-found]

    assert FOLDER
    ran = subprocess.run([PYTHON, "-c", SIGNATURES], cwd=FOLDER, capture_output=True, text=True, check=True)
    real = json.loads(ran.stdout.splitlines()[-1])
    claimed = {name: io.INPUTS.get(name, io.PLAIN) for name in real} | {"Output": io.OUTPUT, "Schema": io.SCHEMA}
    claimed["BoundingBox"] = ("id", "optional", "tooltip")
    assert {name: set(words) - set(real[name]) for name, words in claimed.items()} == {key: set() for key in claimed}


def test_the_example_draws_what_the_library_draws(
    comfyui: ComfyUI, workflow: dict[str, Any], tabletop: RealCompo
) -> None:
    workflow["3"]["inputs"] |= {"steps": 6, "previews": 2}
    with comfyui.listen() as socket:
        name = comfyui.queue(workflow)
        events = list(comfyui.events(socket))
    assert events[-1][0] == "execution_success", events[-1]
    assert sum(kind == "preview" for kind, _ in events) == 2
    bars = [told["value"] for kind, told in events if kind == "progress"]
    assert bars == sorted(bars)
    assert bars[-1] == 7  # PLMS has an evaluation more than steps
    (saved,) = comfyui.ask(f"/history/{name}")[name]["outputs"]["4"]["images"]
    drawn = np.asarray(Image.open(comfyui.output / saved["filename"]), dtype=float)
    layout = Layout(  # the editor counts in thousandths
        [Region("a red ball", box=(0.08, 0.5, 0.461, 0.881)), Region("a blue cube", box=(0.561, 0.119, 0.939, 0.5))]
    )
    told = {"steps": 6, "guidance_scale": 2.5, "seed": 0}
    (image,) = tabletop("a red ball and a blue cube", layout=layout, **told).images
    assert np.abs(drawn - np.asarray(image)).max() <= 2  # of 255: another torch draws


def test_comfyuis_interrupt_stops_a_run_and_the_next_is_drawn(comfyui: ComfyUI, workflow: dict[str, Any]) -> None:
    long = json.loads(json.dumps(workflow))
    long["3"]["inputs"]["steps"] = 900
    with comfyui.listen() as socket:
        comfyui.queue(long)
        seen: list[int] = []
        for kind, told in comfyui.events(socket):
            if kind == "progress":
                seen.append(told["value"])
                if len(seen) == 2:
                    comfyui.ask("/interrupt", {})
        assert kind == "execution_interrupted", told
        assert seen[-1] < 800
        workflow["3"]["inputs"] |= {"steps": 2, "seed": 1}
        comfyui.queue(workflow)
        assert list(comfyui.events(socket))[-1][0] == "execution_success"


def test_what_a_user_can_mend_is_one_line(comfyui: ComfyUI, workflow: dict[str, Any]) -> None:
    workflow["3"]["inputs"]["prompt"] = "a green ring"
    with comfyui.listen() as socket:
        comfyui.queue(workflow)
        kind, told = list(comfyui.events(socket))[-1]
    assert kind == "execution_error"
    assert "a red ball" in told["exception_message"]
    assert len(told["exception_message"].strip().splitlines()) == 1
