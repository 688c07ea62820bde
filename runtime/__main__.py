"""The command line: `python -m runtime generate | plan | show | convert | scene | serve | check | schema`."""

import json
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Annotated, Any

try:
    import typer
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.table import Table
except ImportError as missing:
    print(f"error: the command line needs {missing.name}; pip install 'realcompo[cli]'", file=sys.stderr)
    sys.exit(2)
from PIL import Image

from runtime import Layout, RealCompo, RealCompoError
from runtime.backends import BACKENDS
from runtime.check import Finding, Skipped, check_bundle
from runtime.cli import folding_table, knob_values, knobs_on_command_line, plain_errors, with_options
from runtime.denoising.loop import Callback
from runtime.knobs import check_count, check_range, knobs_of
from runtime.layouts.formats.boxes import FORMS
from runtime.layouts.formats.kind import Choices, Size
from runtime.layouts.formats.reading import read_tools_layout
from runtime.layouts.formats.table import FORMATS
from runtime.layouts.layout import PLACES
from runtime.layouts.schema import layout_schema
from runtime.layouts.writing import layout_files, layout_json
from runtime.messages import some_of
from runtime.modes import MODES
from runtime.output import Output
from runtime.pipeline import COEFFICIENTS
from runtime.planners import PLANNERS, make_planner
from runtime.presets import PRESETS, preset_knobs
from runtime.request import every_knob
from runtime.scenes import Scene
from runtime.scenes.projection import PLACES as SCENE_PLACES
from runtime.scenes.projection import Shot
from runtime.scenes.scene import naming
from runtime.scenes.schema import scene_schema
from runtime.serving.settings import Settings
from runtime.spatial.control_images import CONTROL_KINDS, control_picture
from runtime.text.tokens import mentions
from runtime.writing import (
    check_apart,
    check_folder,
    check_picture,
    check_writable,
    encoded,
    write_file,
    write_picture,
    writing,
)

EXAMPLES = """
Examples:

    python -m runtime generate engines/tabletop --layout scene.json --out image.png

    python -m runtime generate engines/tabletop --prompt "a red ball" --gradient text_to_image --out ball.png

    python -m runtime generate engines/tabletop --layout scene.json --out image.png --steps 20 --traces traces

    python -m runtime generate engines/tabletop --prompt "two red balls left of a blue cube" --plan --out image.png

    python -m runtime generate outputs/depth --scene scene.json --out image.png
"""
PLAN_EXAMPLES = """
Examples:

    python -m runtime plan --prompt "two red balls left of a blue cube" --out scene.json --picture scene.png

    python -m runtime plan --prompt "a cat on a chair" --planner chat --base-url http://localhost:11434/v1 --model qwen3
"""
CONVERT_EXAMPLES = """
Examples:

    python -m runtime convert instances.json --from coco --entry 42 --prompt "a cat on a chair" --out layout.json

    python -m runtime convert answer.txt --from lmd --out layout.json

    python -m runtime convert boxes.json --from comfyui --boxes xywh --size 640x480 --phrase cat --out layout.json
"""

SCENE_EXAMPLES = """
Examples:

    python -m runtime scene examples/scene/scene.json --out outputs/scene

    python -m runtime scene scene.json --out outputs/scene --height 768 --width 1024 --place mask
"""

SERVE_EXAMPLES = """
Examples:

    python -m runtime serve engines/tabletop

    python -m runtime serve engines/tabletop --modes surrogate --modes handover

    python -m runtime serve engines/tabletop --host 0.0.0.0 --port 80 --api-key-file keys.txt --max-batch 4
"""

CHECK_EXAMPLES = """
Examples:

    python -m runtime check engines/tabletop

    python -m runtime check engines/tabletop --backend onnx --device cpu
"""

CHECK_WIDTH = 140
LOCAL = "127.0.0.1"
BLANK = "#e8e8e8"  # what regions are drawn on
PLAN_SIDE = 512  # pixels of `plan`'s picture
MOST_PIXELS, STEEPEST = 8192, 8  # a side of `show`'s picture, and how much longer one may be than the other
MOST_SCENE_PIXELS = 2048  # a side of `scene`'s pictures: each object has a picture of its own in memory

PLANNER_HELP = f"Planner: {' or '.join(PLANNERS)}, which parse the prompt or ask the model of OPENAI_MODEL."
SCHEMAS = {"layout": layout_schema, "scene": scene_schema}  # of the files that are read
KNOBS = every_knob()
SETTINGS = knobs_of(Settings)

Backend = Annotated[
    str,
    typer.Option(
        help="Library that runs the engines: auto (the bundle's plans if they run here, or else onnx), "
        f"{', '.join(BACKENDS[1:])}."
    ),
]
Device = Annotated[str, typer.Option(help="Device to run on: auto, cpu, cuda or cuda:N.")]
SecondStream = Annotated[
    bool,
    typer.Option("--second-stream", help="On a GPU, run both models side by side; takes more of its memory."),
]

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)


@app.callback()
def main() -> None:
    """Draw compositions from a bundle of engines."""


@app.command(epilog=EXAMPLES)
@with_options(KNOBS)
def generate(
    context: typer.Context,
    bundle: Annotated[Path, typer.Argument(help="Folder that `python -m export build` wrote.")],
    out: Annotated[
        Path,
        typer.Option(help="Picture to write, such as image.png; several are numbered image-0.png, image-1.png, ..."),
    ],
    prompt: Annotated[str | None, typer.Option(help="Text to draw; default: the layout's prompt.")] = None,
    layout: Annotated[
        Path | None, typer.Option(help="File layout.json with the regions, and optionally the prompt.")
    ] = None,
    scene: Annotated[Path | None, typer.Option(help="File scene.json with objects in 3D, instead of --layout.")] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Plan the layout from --prompt instead of reading one with --layout.")
    ] = False,
    planner: Annotated[str | None, typer.Option(help=f"{PLANNER_HELP} Default: offline.")] = None,
    negative_prompt: Annotated[str, typer.Option(help="Text to steer away from.")] = "",
    num_images: Annotated[int, typer.Option(help="Number of pictures to draw, 1 or more.")] = 1,
    coefficients: Annotated[
        str | None,
        typer.Option(help=f"Start of the fusing coefficients: {', '.join(COEFFICIENTS)}. Default: {COEFFICIENTS[0]}."),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            help="Options to draw with, but for those given: "
            f"{'; '.join(f'{name}, {row.about}' for name, row in PRESETS.items())}."
        ),
    ] = None,
    traces: Annotated[
        Path | None,
        typer.Option(
            help="Folder to write trace pictures to: regions, weights at every step, region maps and the loss."
        ),
    ] = None,
    backend: Backend = "auto",
    device: Device = "auto",
    second_stream: SecondStream = False,
    **knobs: Any,
) -> None:
    """Draw a prompt, each object where the layout puts it. The last line printed is the picture's path."""
    with plain_errors():
        check_count("num_images", num_images)
        paths = _numbered(out, num_images)
        for path in paths:
            check_picture(path)
        if traces:
            _prepare_traces(traces, paths)
        given = _plan_or_read(prompt, layout, scene, plan, planner)
        wanted = _choose_prompt(prompt, given)
        pipe = RealCompo.load(bundle, backend=backend, device=device, second_stream=second_stream)
        height, width = pipe.manifest.image_size
        check_picture(out, (width, height))
        placed = _seen(given, scene, (height, width))
        values = knob_values(KNOBS, knobs)
        values |= preset_knobs(preset, pipe.manifest, knobs_on_command_line(context, values))
        with progress_bar() as callback:
            output = pipe(
                wanted,
                layout=placed,
                negative_prompt=negative_prompt,
                num_images=num_images,
                coefficients=coefficients,
                trace=traces is not None,
                callback=callback,
                **values,
            )
        if traces:
            _write_traces(traces, output, wanted, placed, pipe.manifest.maps.resolution)
        for path, image in zip(paths, output.images, strict=True):
            write_picture(path, image)
            typer.echo(path)


@app.command(epilog=PLAN_EXAMPLES)
def plan(
    prompt: Annotated[str, typer.Option(help="Text to plan a layout for.")],
    planner: Annotated[str, typer.Option(help=PLANNER_HELP)] = "offline",
    model: Annotated[str | None, typer.Option(help="Model for the chat planner. Default: $OPENAI_MODEL.")] = None,
    base_url: Annotated[
        str | None,
        typer.Option(help="Address of the chat planner's endpoint. Default: $OPENAI_BASE_URL, or else OpenAI's own."),
    ] = None,
    api_key: Annotated[
        str | None,
        typer.Option(help="Key for that endpoint; other users of this machine can see it, so prefer $OPENAI_API_KEY."),
    ] = None,
    time_limit: Annotated[
        float | None,
        typer.Option(help="Limit in seconds on the chat planner's answer, retries included. Default: 60."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="File to write the layout to, besides printing it.")] = None,
    picture: Annotated[Path | None, typer.Option(help="Picture of the layout to write, such as scene.png.")] = None,
) -> None:
    """Plan where each object of a prompt goes, and print a layout that `--layout` reads."""
    with plain_errors():
        find = make_planner(planner, model=model, base_url=base_url, api_key=api_key, time_limit=time_limit)
        check_apart(out=out, picture=picture)
        if out:
            check_writable(out)
        if picture:
            _prepare_figures()
            check_picture(picture, (PLAN_SIDE, PLAN_SIDE))
        placed = find(prompt)
        text = layout_json(placed)
        drawn = encoded(picture, _draw_regions(placed, PLAN_SIDE, PLAN_SIDE)) if picture else b""
        if out:
            write_file(out, f"{text}\n".encode())
        if picture:
            write_file(picture, drawn)
        typer.echo(text)


@app.command()
def show(
    layout: Annotated[Path, typer.Argument(help="File layout.json with the regions, and optionally the prompt.")],
    out: Annotated[Path, typer.Option(help="Picture to write, such as regions.png.")],
    control: Annotated[
        str | None,
        typer.Option(help=f"Kind of control image to draw instead of the regions: {', '.join(CONTROL_KINDS)}."),
    ] = None,
    height: Annotated[
        int, typer.Option(help="Height of the picture in pixels; a picture of the regions keeps only the aspect ratio.")
    ] = 512,
    width: Annotated[
        int, typer.Option(help="Width of the picture in pixels; a picture of the regions keeps only the aspect ratio.")
    ] = 512,
) -> None:
    """Draw a layout's regions, or one of its control images. The last line printed is the picture's path."""
    with plain_errors():
        _check_size(height, width, control)
        check_picture(out, (width, height))
        placed = Layout.from_file(layout)
        if control is None:
            write_picture(out, _draw_regions(placed, height, width))
        else:
            write_picture(out, _draw_control(placed, control, height, width))
        typer.echo(out)


@app.command(epilog=CONVERT_EXAMPLES)
def convert(
    file: Annotated[Path, typer.Argument(help="Another tool's layout.")],
    out: Annotated[Path, typer.Option(help="File layout.json to write; pictures of masks are put beside it.")],
    tool: Annotated[
        str | None,
        typer.Option("--from", help=f"Whose it is: {', '.join(FORMATS)}. Default: told where it can be but one's."),
    ] = None,
    entry: Annotated[
        str | None,
        typer.Option(help="Which of the file's pictures: a name or number that the file has, or a place, from 0."),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(help="WIDTHxHEIGHT that coordinates count in: 640x480 pixels, 1x1 fractions, 1000x1000."),
    ] = None,
    boxes: Annotated[
        str | None,
        typer.Option(help=f"What a box's four numbers are, where the file leaves it open: {', '.join(FORMS)}."),
    ] = None,
    place: Annotated[
        str | None, typer.Option(help=f"What to take of objects that have several: {', '.join(PLACES)}. Default: box.")
    ] = None,
    phrase: Annotated[
        list[str] | None, typer.Option(help="An object's phrase, instead of the file's; repeat it, one an object.")
    ] = None,
    prompt: Annotated[str | None, typer.Option(help="Text to draw, instead of the file's.")] = None,
) -> None:
    """Convert another tool's layout to ours. The last line printed is the layout's path."""
    with plain_errors():
        check_writable(out)
        if out.exists() and out.samefile(file):
            raise RealCompoError(f"{out} is the file to convert; give --out another name")
        choices = Choices(entry, _read_size(size), boxes, place, tuple(phrase or ()), prompt)
        placed = read_tools_layout(file, tool, choices)
        _warn_of_phrases(placed)
        for path, content in layout_files(placed, out).items():
            write_file(path, content)
            typer.echo(path)


@app.command(epilog=SCENE_EXAMPLES)
def scene(
    file: Annotated[Path, typer.Argument(help="File scene.json with objects in 3D, and optionally a camera.")],
    out: Annotated[Path, typer.Option(help="Folder to write layout.json and its pictures to, and scene.png.")],
    height: Annotated[int, typer.Option(help="Height in pixels of the depth map and the segmentation.")] = 512,
    width: Annotated[int, typer.Option(help="Width in pixels of the depth map and the segmentation.")] = 512,
    place: Annotated[
        str, typer.Option(help=f"What the layout has of each object: {' or '.join(SCENE_PLACES)}.")
    ] = SCENE_PLACES[0],
) -> None:
    """Project a 3D scene to a layout with depth and segmentation. The last line printed is the layout's path."""
    with plain_errors():
        _check_size(height, width, None, MOST_SCENE_PIXELS)
        _prepare_figures()
        check_folder(out)
        with naming(file):
            shot = Scene.from_file(file).shot((height, width))
            layout = shot.layout(place)
        files = {out / "scene.png": _draw_scene(shot), **layout_files(layout, out / "layout.json")}
        for path in files:
            check_writable(path)
        for path, content in files.items():
            write_file(path, content)
            typer.echo(path)


@app.command(epilog=SERVE_EXAMPLES)
@with_options(SETTINGS)
def serve(
    bundle: Annotated[Path, typer.Argument(help="Folder that `python -m export build` wrote.")],
    host: Annotated[str, typer.Option(help="Address to listen on; without keys one of this machine alone.")] = LOCAL,
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.")] = 8000,
    api_key_file: Annotated[
        Path | None, typer.Option(help="File with the keys that clients may send, one a line.")
    ] = None,
    backend: Backend = "auto",
    device: Device = "auto",
    second_stream: SecondStream = False,
    modes: Annotated[
        list[str] | None,
        typer.Option(
            help=f"Mode that requests may ask for as gradient ({', '.join(MODES)}); repeat it for more. Only their "
            "engines are loaded, and the first is the default (of fixed: fixed:0.5). Default: all."
        ),
    ] = None,
    **settings: Any,
) -> None:
    """Answer requests over HTTP, OpenAI's images API, and show a page to draw boxes on. Stop it with Ctrl-C."""
    with plain_errors():
        with _needing("serve"):
            from runtime.serving.command import serve as answer
        values = knob_values(SETTINGS, settings)
        answer(bundle, host, port, api_key_file, backend, device, second_stream, modes or None, values)


@app.command(epilog=CHECK_EXAMPLES)
def check(
    bundle: Annotated[Path, typer.Argument(help="Folder that `python -m export build` wrote.")],
    backend: Backend = "auto",
    device: Device = "auto",
    batch: Annotated[
        int | None, typer.Option(min=1, help="Rows of the largest batch. Default: the profiles' largest.")
    ] = None,
) -> None:
    """Run every engine on this machine against what PyTorch computed when the bundle was built. Exits with 1 if one is
    off."""
    with plain_errors():
        found = list(check_bundle(bundle, backend, device, batch))
        findings = [one for one in found if isinstance(one, Finding)]
        console = Console() if sys.stdout.isatty() else Console(width=CHECK_WIDTH)
        console.print(_check_table(findings))
        for skipped in found:
            if isinstance(skipped, Skipped):
                typer.echo(f"skipped: {skipped.what}: {skipped.why}")
        off = [one for one in findings if not one.passed]
        for one in off:
            where = f"{one.role}, {one.way}, a batch of {one.worst}"
            typer.echo(f"off: {where}: {one.output} by {one.error:.1e}, at most {one.limit:.1e}", err=True)
        typer.echo(f"{len(findings) - len(off)} of {len(findings)} outputs are within their limits")
    if off:
        raise typer.Exit(1)


@app.command()
def schema(
    file: Annotated[str, typer.Argument(help=f"Whose schema: {' or '.join(SCHEMAS)}.")] = "layout",
) -> None:
    """Print the JSON Schema of layout.json or scene.json."""
    with plain_errors():
        if file not in SCHEMAS:
            raise RealCompoError(f"there is no schema of {file!r}; use {' or '.join(SCHEMAS)}")
        typer.echo(json.dumps(SCHEMAS[file](), indent=2))


def _check_table(findings: list[Finding]) -> Table:
    columns = ("engine", "called", "rows of its batches", "output", "relative error", "limit", "")
    table = folding_table(*columns, title="Engines")
    for one in _merged(findings):
        rows = " ".join(map(str, one.batches))
        table.add_row(
            one.role, one.way, rows, one.output, f"{one.error:.1e}", f"{one.limit:.1e}", "" if one.passed else "off"
        )
    return table


def _merged(findings: list[Finding]) -> list[Finding]:
    """Of a ControlNet's many residuals the worst alone."""
    worst: dict[tuple[str, ...], Finding] = {}
    for one in findings:
        key = (one.role, one.way, one.output.rstrip("_0123456789"))
        if key not in worst or one.error > worst[key].error:
            worst[key] = one
    return list(worst.values())


@contextmanager
def progress_bar() -> Iterator[Callback]:
    """A bar on stderr, and the callback that moves it."""
    columns = (TextColumn("drawing"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    progress = Progress(*columns, console=Console(stderr=True))
    task = progress.add_task("drawing", total=None)

    def show(step: int, total: int, *_: object) -> None:
        progress.start()  # not before the first step: bad input then leaves one line, its own
        progress.update(task, completed=step, total=total)

    try:
        yield show
    finally:
        if progress.live.is_started:
            progress.stop()


def _plan_or_read(
    prompt: str | None, path: Path | None, scene: Path | None, plan: bool, planner: str | None
) -> Layout | Scene | None:
    sources = {"--plan": plan, "--layout": path, "--scene": scene}
    if len(given := [name for name, one in sources.items() if one]) > 1:
        raise RealCompoError(f"{' and '.join(given)} are both given; give one")
    if not plan and planner is not None:
        raise RealCompoError(f"--planner {planner} plans nothing without --plan; add --plan")
    if scene:
        return Scene.from_file(scene)
    if not plan:
        return Layout.from_file(path) if path else None
    if prompt is None:
        raise RealCompoError("--plan needs a prompt: give --prompt")
    return make_planner(planner or "offline")(prompt)


def _seen(given: Layout | Scene | None, path: Path | None, size: tuple[int, int]) -> Layout | None:
    """A scene as its camera sees it, in a picture of (H, W)."""
    if not isinstance(given, Scene):
        return given
    with naming(path or ""):
        return given.layout(size)


def _choose_prompt(prompt: str | None, layout: Layout | Scene | None) -> str:
    if prompt is not None:
        return prompt
    if layout is None or layout.prompt is None:
        raise RealCompoError("there is no prompt: give --prompt, or a --layout or --scene file with a prompt")
    return layout.prompt


def _read_size(text: str | None) -> Size | None:
    """Of WIDTHxHEIGHT."""
    if text is None:
        return None
    try:
        width, height = (float(side) for side in text.lower().split("x"))
    except ValueError as error:
        raise RealCompoError(f"--size {text} is no size; give WIDTHxHEIGHT, as in 640x480") from error
    return width, height


def _warn_of_phrases(layout: Layout) -> None:
    """Drawing needs phrases that the prompt has, or tokens."""
    lost = [
        one.phrase for one in layout.regions if one.tokens is None and not mentions(layout.prompt or "", one.phrase)
    ]
    if layout.prompt is None:
        warnings.warn("the layout has no prompt; give --prompt, to this command or to generate", stacklevel=2)
    elif lost:
        warnings.warn(f"the prompt does not have {some_of(lost)}; mend the phrase or the prompt", stacklevel=2)


def _numbered(out: Path, count: int) -> list[Path]:
    return [out] if count == 1 else [out.with_name(f"{out.stem}-{k}{out.suffix}") for k in range(count)]


def _check_size(height: int, width: int, control: str | None, most: int = MOST_PIXELS) -> None:
    for name, side in (("height", height), ("width", width)):
        check_range(name, side, 1, most)
    if control is None and max(height, width) > STEEPEST * min(height, width):
        raise RealCompoError(f"{width}x{height} is too narrow for a picture of regions; use at most {STEEPEST} to 1")


def _prepare_traces(folder: Path, paths: list[Path]) -> None:
    check_folder(folder)
    with _needing("cli", "--traces"):
        from runtime.trace_pictures import picture_files
    for file in picture_files(folder, len(paths)):
        check_writable(file)
        for path in paths:
            check_apart(out=path, traces=file)


@contextmanager
def _needing(extra: str, what: str | None = None) -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise RealCompoError(f"{what or extra} needs {error.name}; pip install 'realcompo[{extra}]'") from error


def _write_traces(
    folder: Path, output: Output, prompt: str, layout: Layout | None, map_resolution: tuple[int, int]
) -> None:
    from runtime.trace_pictures import write_pictures

    with writing(folder):
        for path in write_pictures(folder, output, prompt, layout, map_resolution):
            typer.echo(path)


def _prepare_figures() -> None:
    with _needing("cli", "a picture of a layout"):
        import runtime.layouts.pictures  # noqa: F401


def _draw_regions(layout: Layout, height: int, width: int) -> Image.Image:
    _prepare_figures()
    from runtime.layouts.pictures import draw_layout, png

    blank = Image.new("RGB", (width, height), BLANK)
    return Image.open(BytesIO(png(draw_layout(blank, layout.prompt or "", layout)))).convert("RGB")


def _draw_scene(shot: Shot) -> bytes:
    from runtime.layouts.pictures import png
    from runtime.scenes.pictures import draw_scene

    return png(draw_scene(shot))


def _draw_control(layout: Layout, kind: str, height: int, width: int) -> Image.Image:
    if kind not in CONTROL_KINDS:
        raise RealCompoError(f"--control {kind} is unknown; use one of {', '.join(CONTROL_KINDS)}")
    return control_picture(layout, kind, (height, width))


if __name__ == "__main__":
    app(prog_name="python -m runtime")
