"""The nodes, called as ComfyUI calls them, against the library called directly."""

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from runtime import Layout, RealCompo, RealCompoError, Region
from runtime.options import FORMS
from runtime.request import every_knob
from tests.runtime.conftest import bundle as bundle
from tests.runtime.conftest import parts as parts
from tests.runtime.conftest import pipe as pipe
from tests.runtime.test_presets import RECIPE, distil

PROMPT = "a red ball and a blue cube"
BOXES = [
    {"x": 2, "y": 16, "width": 12, "height": 12, "label": "a red ball"},
    {"x": 16, "y": 4, "width": 14, "height": 16, "label": "a blue cube"},
]
LAYOUT = Layout(  # of images of 32x32 pixels
    [
        Region("a red ball", box=(2 / 32, 0.5, 14 / 32, 28 / 32)),
        Region("a blue cube", box=(0.5, 0.125, 30 / 32, 20 / 32)),
    ]
)
CALL: dict[str, Any] = {"prompt": PROMPT, "steps": 3, "seed": 5, "sampler": "ddim"}


@pytest.fixture
def draw(nodes: dict[str, Any], pipe: RealCompo) -> Any:
    def call(**inputs: Any) -> torch.Tensor:
        with torch.inference_mode():  # as ComfyUI does
            (image,) = nodes["RealCompo"].execute(bundle=pipe, **inputs).args
        return image

    return call


@pytest.fixture
def bars(nodes: dict[str, Any]) -> Iterator[Any]:
    """The stand-in's record of progress."""
    import comfy.utils  # type: ignore[import-not-found]

    comfy.utils.seen.clear()
    yield comfy.utils
    comfy.utils.then = None


def library(pipe: RealCompo, **told: Any) -> np.ndarray:
    return np.stack([np.asarray(one) for one in pipe(**(CALL | {"layout": LAYOUT} | told)).images])


def assert_same(image: torch.Tensor, pictures: np.ndarray) -> None:
    """(B,H,W,3) of 0..1, which come back as the same bytes where ComfyUI saves them: cut off, not rounded."""
    assert image.dtype == torch.float32
    assert image.shape == pictures.shape
    assert np.array_equal(np.clip(255.0 * image.numpy(), 0, 255).astype(np.uint8), pictures)


@pytest.mark.parametrize("gradient", ["exact", "surrogate", "text_to_image"])
def test_the_node_draws_what_the_library_draws(draw: Any, pipe: RealCompo, gradient: str) -> None:
    told = {"gradient": gradient, "fixed_weight": 0.5, "num_images": 2}
    assert_same(draw(boxes=BOXES, **CALL, **told), library(pipe, gradient=gradient, num_images=2))


def test_boxes_on_a_canvas_of_their_own(draw: Any, pipe: RealCompo) -> None:
    canvas = [{**box, **{side: box[side] * 16 for side in ("x", "y", "width", "height")}} for box in BOXES]
    assert_same(draw(boxes=canvas, boxes_width=512, boxes_height=512, **CALL), library(pipe))


def test_a_layouts_text_and_its_prompt(draw: Any, pipe: RealCompo) -> None:
    regions = [{"phrase": one.phrase, "box": one.box} for one in LAYOUT.regions]
    text = json.dumps({"prompt": PROMPT, "regions": regions})
    assert_same(draw(layout=text, **CALL | {"prompt": " "}), library(pipe))
    with pytest.raises(RealCompoError, match="give one"):
        draw(layout=text, boxes=BOXES, **CALL)


def test_a_list_of_boxes_for_each_image(draw: Any, pipe: RealCompo) -> None:
    swapped = [{**BOXES[0], "label": "a blue cube"}, {**BOXES[1], "label": "a red ball"}]
    exchanged = Layout([Region("a blue cube", LAYOUT.regions[0].box), Region("a red ball", LAYOUT.regions[1].box)])
    image = draw(boxes=[BOXES, swapped], num_images=2, **CALL)
    assert_same(image, library(pipe, layout=[LAYOUT, LAYOUT, exchanged, exchanged], num_images=4))


def test_every_option_has_widgets_that_stand_for_the_librarys_default(nodes: dict[str, Any]) -> None:
    options = sys.modules["pack.options"]
    knobs = {name: knob for name, knob in every_knob().items() if name not in FORMS["paper"]}
    defaults = {one.id: one.told["default"] for one in options.option_inputs()}
    assert options.read_options(defaults) == {name: knob.default for name, knob in knobs.items()}
    assert options.read_options({}) == {}
    changed = {"gradient": "fixed:W", "fixed_weight": 0.25, "switch_step": 7, "guidance_interval_start": 0.5}
    read = options.read_options(defaults | changed)
    assert (read["gradient"], read["switch_step"], read["guidance_interval"]) == ("fixed:0.25", 7, (0.5, 1.0))


def test_a_distilled_bundle_says_what_it_wants_and_widgets_win(
    nodes: dict[str, Any], bundle: Path, pipe: RealCompo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A workflow that leaves an option out has the recipe's; the editor's widgets leave none out."""
    import folder_paths  # type: ignore[import-not-found]

    monkeypatch.setitem(folder_paths.folders, "realcompo", [str(tmp_path)])
    distil(Path(shutil.copytree(bundle, tmp_path / "few")), RECIPE)
    loaded, recipe = nodes["RealCompoBundle"].execute(bundle="few").args
    assert recipe == "Hyper-SD: sampler=ddim, spacing=trailing, steps=3, guidance_scale=1.0"
    widgets = {one.id: one.told["default"] for one in sys.modules["pack.options"].option_inputs()}
    asked = {"bundle": loaded, "boxes": BOXES, "prompt": PROMPT}
    for told, wanted in (
        ({}, RECIPE),
        ({"sampler": "lcm"}, {"sampler": "lcm", "steps": 3, "guidance_scale": 1.0}),
        (widgets | {"steps": 4}, {"steps": 4, "sampler": "plms", "guidance_scale": 7.5}),
    ):
        (image,) = nodes["RealCompo"].execute(**asked, **told).args
        assert_same(image, np.stack([np.asarray(one) for one in pipe(PROMPT, layout=LAYOUT, **wanted).images]))


def test_every_seed_that_the_widget_lets_through_draws(nodes: dict[str, Any], draw: Any) -> None:
    (seed,) = (one for one in nodes["RealCompo"].define_schema().inputs if one.id == "seed")
    assert seed.told["max"] >= 2**53 - 1  # what the editor's random seeds reach
    assert draw(boxes=BOXES, **CALL | {"seed": seed.told["max"]}).isfinite().all()


def test_progress_and_previews(draw: Any, bars: Any) -> None:
    draw(boxes=BOXES, previews=2, **CALL | {"steps": 6})
    assert [(value, total) for value, total, _ in bars.seen] == [(i, 6) for i in range(1, 7)]
    shown = {value: preview for value, _, preview in bars.seen if preview}
    assert list(shown) == [2, 4]
    assert {(form, picture.size) for form, picture, _ in shown.values()} == {("JPEG", (32, 32))}


def test_an_interrupt_stops_within_a_step_and_the_next_run_is_whole(draw: Any, bars: Any, pipe: RealCompo) -> None:
    from comfy.model_management import (  # type: ignore[import-not-found]
        InterruptProcessingException,
        interrupt_current_processing,
    )

    bars.then = lambda value: interrupt_current_processing(value == 3)
    with pytest.raises(InterruptProcessingException):
        draw(boxes=BOXES, **CALL | {"steps": 50})
    assert [value for value, _, _ in bars.seen] == [1, 2, 3]
    bars.then = None
    assert_same(draw(boxes=BOXES, **CALL), library(pipe))


def test_a_bundle_is_opened_by_its_name_alone(
    nodes: dict[str, Any], bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import folder_paths  # type: ignore[import-not-found]

    node = nodes["RealCompoBundle"]
    monkeypatch.setitem(folder_paths.folders, "realcompo", [str(tmp_path)])
    (tmp_path / "empty").mkdir()
    (tmp_path / "tiny").symlink_to(bundle)
    assert node.define_schema().inputs[0].told["options"] == ["tiny"]
    loaded, recipe = node.execute(bundle="tiny", backend="onnx", device="cpu").args
    assert (loaded.manifest.pair.name, recipe) == ("tiny", "")
    assert node.fingerprint_inputs(bundle="tiny") == (bundle / "manifest.json").read_text()
    for name in ("empty", "../tiny", str(bundle)):
        with pytest.raises(RealCompoError, match="there is no bundle"):
            node.execute(bundle=name)


def test_a_plan_is_a_layouts_text(nodes: dict[str, Any]) -> None:
    (text,) = nodes["RealCompoPlan"].execute(prompt="a red ball left of a blue cube").args
    ball, cube = json.loads(text)["regions"]
    assert (ball["phrase"], cube["phrase"]) == ("a red ball", "a blue cube")
    assert ball["box"][2] <= cube["box"][0]
