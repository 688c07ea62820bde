"""scene.json as users write it, and as they get it wrong; the command line and the page about it."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from runtime import Layout, RealCompo
from runtime.__main__ import app
from runtime.errors import RealCompoError
from runtime.scenes import Relation, Scene
from runtime.scenes.parts import Camera, SceneObject
from runtime.scenes.relations import RELATIONS
from runtime.scenes.schema import SceneFile
from runtime.scenes.shapes import SHAPES

PAGE = Path("docs/scenes.md").read_text()
BALL = {"phrase": "a red ball", "shape": "sphere", "size": [1, 1, 1]}
CUBE = {"phrase": "a blue cube", "size": [1, 1, 1]}
PROMPT = "a red ball and a blue cube"
BESIDE = {"subject": "a red ball", "relation": "left of", "object": "a blue cube"}
SCENE = {"prompt": PROMPT, "objects": [BALL, CUBE], "relations": [BESIDE]}


def written(tmp_path: Path, content: Any) -> Path:
    path = tmp_path / "scene.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments)])


def related(subject: str, relation: str, other: str, **more: Any) -> dict[str, Any]:
    return {"subject": subject, "relation": relation, "object": other, **more}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"objects": []}, "objects: the scene has 0 objects; give 1 to 30"),
        (
            {"objects": [{**CUBE, "size": [1, 0, 1]}]},
            "objects.0: the size of 'a blue cube' is (1.0, 0.0, 1.0); give three",
        ),
        ({"objects": [{**CUBE, "size": [1, 1]}]}, "objects.0.size"),
        ({"objects": [{**CUBE, "size": "big"}]}, "objects.0.size"),
        ({"objects": [{**CUBE, "sise": [1, 1, 1]}]}, "objects.0.sise: unknown field; did you mean size?"),
        ({"objects": [{**CUBE, "phrase": " "}]}, "objects.0: an object's phrase is empty"),
        (
            {"objects": [{**CUBE, "shape": "ball"}]},
            "objects.0: 'a blue cube' has the unknown shape 'ball'; use one of cuboid,",
        ),
        (
            {"objects": [{**CUBE, "position": [0, -0.5, 0]}]},
            "objects.0: 'a blue cube' stands at y = -0.5, below the ground",
        ),
        (
            {"objects": [{**CUBE, "position": [0, 0, 1e9]}]},
            "objects.0: the position of 'a blue cube' is (0.0, 0.0, 1000000000.0)",
        ),
        ({"objects": [{**CUBE, "label": "teapot"}]}, "'teapot' is not an ADE20K class"),
        ({"objects": [{**CUBE, "name": "camera"}]}, "objects.0: 'camera' is what the camera is called"),
        (
            {"relations": [related("a red ball", "besides", "a blue cube")]},
            "relations.0: the relation 'besides' is unknown; use one of on,",
        ),
        ({"relations": [related("a red ball", "on", "a red ball")]}, "relations.0: 'a red ball' cannot be on itself"),
        (
            {"relations": [related("a red ball", "on", "a blue cub")]},
            "relations.0.object: no object is called 'a blue cub'; there is a blue cube",
        ),
        (
            {"relations": [related("a red ball", "on", "camera")]},
            "relations.0: an object can be facing or facing away from the camera, not on it",
        ),
        (
            {"relations": [related("a red ball", "left of", "a blue cube", gap=-1)]},
            "relations.0: the gap is -1 metres; give 0 to",
        ),
        ({"relations": [related("a red ball", "on", "a blue cube", gap=1)]}, "relations.0: 'on' leaves no gap"),
        (
            {"relations": [BESIDE, related("a blue cube", "left of", "a red ball")]},
            "relations.1: 'left of' cannot hold: it contradicts relations.0",
        ),
        (
            {"relations": [related("a red ball", "on", "a blue cube"), related("a blue cube", "on", "a red ball")]},
            "relations.1: 'on' cannot hold: it contradicts relations.0",
        ),
        (
            {"objects": [{**BALL, "position": [2, 0, 0]}, {**CUBE, "position": [0, 0, 0]}]},
            "relations.0: 'left of' cannot hold: it contradicts the objects' positions",
        ),
        (
            {"relations": [related("a red ball", "facing", "a blue cube"), related("a red ball", "facing", "camera")]},
            "relations.1: 'a red ball' is turned by relations.0 already",
        ),
        (
            {"objects": [BALL, BALL, CUBE]},
            "relations.0.subject: 2 objects are called 'a red ball'; give each a name of its own",
        ),
        (
            {"camera": {"position": [0, 0, 5], "look_at": [0, 0, 0]}},
            "camera: the camera is at y = 0; put it above the ground at 0",
        ),
        ({"camera": {"position": [0, 1, 5], "look_at": [0, 1, 5]}}, "camera: the camera looks at where it is"),
        (
            {"camera": {"position": [0, 1, 5], "look_at": [0, 1, 0], "field_of_view": 180}},
            "camera: the camera sees 180 degrees; give 1 to 150",
        ),
        ({"ground": 300}, "ground: class id 300 is out of range"),
        ({"lamp": 1}, "lamp: unknown field"),
    ],
)
def test_mistakes_are_one_line(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = written(tmp_path, SCENE | change)
    result = run("scene", path, "--out", tmp_path / "out")
    assert (result.exit_code, result.stdout) == (2, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"error: {path}: ")
    assert message in line
    assert len(line) < 300 + len(str(path))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"objects": [{"phrase": "a", "size": [NaN, 1, 1]}]}', "NaN is no number in JSON"),
        ('{"objects": [{"phrase": "a", "size": [1e999, 1, 1]}]}', "1e999 is too large a number"),
        ('{"objects": [{"phrase": "a", "phrase": "b", "size": [1, 1, 1]}]}', "phrase: given twice"),
        ("{", "Invalid JSON"),
    ],
)
def test_what_is_no_json(tmp_path: Path, text: str, message: str) -> None:
    result = run("scene", written(tmp_path, text), "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert message in result.stderr


def test_nan_in_python() -> None:
    with pytest.raises(RealCompoError, match="the size of 'a' is"):
        SceneObject("a", (float("nan"), 1, 1))


def test_a_cycle_is_named_with_all_its_relations(tmp_path: Path) -> None:
    objects = [{"phrase": name, "size": [1, 1, 1]} for name in "abcd"]
    relations = [
        related(*one)
        for one in (("a", "behind", "b"), ("a", "left of", "d"), ("b", "behind", "c"), ("c", "behind", "a"))
    ]
    with pytest.raises(
        RealCompoError, match=r"relations\.3: 'behind' cannot hold: it contradicts relations\.0, relations\.2$"
    ):
        Scene.from_file(written(tmp_path, {"objects": objects, "relations": relations}))


def test_no_room(tmp_path: Path) -> None:
    """Nine plates on a table that has room for eight at most."""
    plates = [{"phrase": f"plate {i}", "size": [0.5, 0.1, 0.5]} for i in range(9)]
    table = {"phrase": "a table", "size": [2, 1, 1.09]}
    relations = [related(one["phrase"], "on", "a table") for one in plates]
    result = run(
        "scene", written(tmp_path, {"objects": [table, *plates], "relations": relations}), "--out", tmp_path / "x"
    )
    assert result.exit_code == 2
    assert re.search(r"relations\.\d: no room is found for 'plate \d' on 'a table'.*; make them smaller", result.stderr)


def test_the_command_writes_what_generate_draws(bundle: Path, pipe: RealCompo, tmp_path: Path) -> None:
    path = written(tmp_path, SCENE)
    height, width = pipe.manifest.image_size
    made = run("scene", path, "--out", tmp_path / "out", "--height", height, "--width", width)
    assert made.exit_code == 0, made.stderr
    assert made.stdout.splitlines()[-1] == str(tmp_path / "out" / "layout.json")
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"layout.json", "layout-depth.png", "scene.png"}
    layout = Layout.from_file(tmp_path / "out" / "layout.json")
    wanted = Scene.from_file(path).layout((height, width))
    for region, other in zip(layout.regions, wanted.regions, strict=True):
        assert (region.phrase, region.layer) == (other.phrase, other.layer)
        np.testing.assert_allclose(region.bounding_box(), other.bounding_box(), atol=1e-6)
    np.testing.assert_allclose(np.asarray(layout.depth), np.asarray(wanted.depth), atol=1 / 65535)

    drawn = run("generate", bundle, "--scene", path, "--steps", 3, "--out", tmp_path / "image.png")
    assert drawn.exit_code == 0, drawn.stderr
    found = pipe(PROMPT, layout=wanted, steps=3).images[0]
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "image.png")), np.asarray(found))


def test_masks_and_labels_are_written(tmp_path: Path) -> None:
    made = run(
        "scene", "examples/scene/scene.json", "--out", tmp_path, "--place", "mask", "--height", 96, "--width", 128
    )
    assert made.exit_code == 0, made.stderr
    names = {f"layout-{i}.png" for i in range(5)} | {
        "layout-depth.png",
        "layout-segmentation.png",
        "layout.json",
        "scene.png",
    }
    assert {file.name for file in tmp_path.iterdir()} == names
    layout = Layout.from_file(tmp_path / "layout.json")
    assert np.asarray(layout.segmentation).shape == (96, 128)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("scene", "{scene}", "--out", "{out}", "--place", "pose"), "place 'pose' is unknown; use box or mask"),
        (("scene", "{scene}", "--out", "{out}", "--height", "5000"), "height=5000"),
        (("scene", "missing.json", "--out", "{out}"), "cannot read the scene missing.json: No such file"),
        (
            ("generate", "none", "--scene", "{scene}", "--layout", "x.json", "--out", "{out}.png"),
            "--layout and --scene are both given; give one",
        ),
        (
            ("generate", "none", "--scene", "{scene}", "--plan", "--out", "{out}.png"),
            "--plan and --scene are both given; give one",
        ),
        (("schema", "picture"), "there is no schema of 'picture'; use layout or scene"),
    ],
)
def test_mistakes_of_the_command_line(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    scene = written(tmp_path, SCENE)
    result = run(*(one.format(scene=scene, out=tmp_path / "out") for one in arguments))
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert message in line


def test_schema_is_the_published_one() -> None:
    made = run("schema", "scene")
    assert made.stdout == Path("docs/scene.schema.json").read_text(), (
        "python -m runtime schema scene > docs/scene.schema.json"
    )


@pytest.mark.parametrize("model", [SceneFile, SceneObject, Relation, Camera])
def test_the_page_has_every_field(model: Any) -> None:
    listed = set(re.findall(r"^\| `([$\w]+)` \|", PAGE, re.MULTILINE))
    fields = (
        [field.alias or name for name, field in SceneFile.model_fields.items()]
        if model is SceneFile
        else model.__annotations__
    )
    assert set(fields) - {"__pydantic_config__"} <= listed


def test_the_page_has_every_relation_and_shape() -> None:
    assert all(f"`{name}`" in PAGE for name in (*RELATIONS, *SHAPES))


def test_the_pages_example_is_read() -> None:
    for example in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL):
        assert Scene.of(SceneFile.model_validate_json(example)).layout((64, 64)).regions


def page_commands() -> list[list[str]]:
    blocks = "".join(re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL))
    lines = [shlex.split(line, comments=True) for line in blocks.splitlines()]
    return [line for line in lines if line] + [shlex.split(one) for one in re.findall(r"`(python -m [^`]+)`", PAGE)]


def test_the_pages_commands_read_what_is_there() -> None:
    """In the page's order: each file is in the repository, or a command before has written it."""
    made = set[str]()
    for command in page_commands():
        outputs = {command[i + 1] for i, word in enumerate(command) if word in ("--out", "--plot")}
        files = {word.partition(":")[0] for word in command if "/" in word} - outputs
        assert {file for file in files if file.startswith("outputs/") or not Path(file).exists()} <= made, command
        made |= outputs


def moved(text: str, bundle: Path, folder: Path) -> str:
    """With the page's bundle and other outputs elsewhere."""
    return re.sub(r"outputs/(depth\b)?", lambda found: f"{bundle}" if found[1] else f"{folder}/", text)


def test_the_pages_scenes_are_drawn(tabletop_depth_bundle: Path, tmp_path: Path) -> None:
    """Its commands of `runtime` as they stand there, but for the folders that they write."""
    for command in page_commands():
        if command[2] == "runtime" and "--out" in command:
            result = run(*(moved(word, tabletop_depth_bundle, tmp_path) for word in command[3:]))
            assert result.exit_code == 0, result.stderr
    assert (tmp_path / "image.png").exists() and (tmp_path / "scene" / "layout.json").exists()


def test_the_pages_python_runs(tabletop_depth_bundle: Path, tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(moved(code, tabletop_depth_bundle, tmp_path), {})
    assert (tmp_path / "image.png").exists()
