"""What `POST /v1/images/generations` takes: OpenAI's shape, and a field for each of the library's options."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, create_model

from runtime import Layout
from runtime.errors import FieldError, RealCompoError
from runtime.json_text import read_json
from runtime.knobs import Knob, Knobs
from runtime.options import Options
from runtime.pipeline import COEFFICIENTS
from runtime.planners import Planner
from runtime.presets import PRESETS
from runtime.request import every_knob
from runtime.scenes import Scene
from runtime.scenes.schema import SceneFile
from runtime.serving.bundle import Bundle
from runtime.serving.errors import FIELDS, bad_field
from runtime.serving.inline import LONGEST_TEXT, InlineLayout, Pixels, read_layout
from runtime.serving.settings import Settings
from runtime.spatial import KINDS

MOST_PARTIALS = 1000  # pictures of one that grows
T = TypeVar("T")

Text = Annotated[str, Field(max_length=LONGEST_TEXT)]


class _Asked(BaseModel):
    """A request's fields besides the library's options."""

    model_config = ConfigDict(extra="forbid", title="Generation")

    prompt: Annotated[Text | None, Field(description="What to draw. Default: the layout's prompt.")] = None
    n: Annotated[int, Field(description="Number of images.", ge=1)] = 1
    size: Annotated[str, Field(description="WIDTHxHEIGHT of the bundle's images, or auto.")] = "auto"
    negative_prompt: Annotated[Text, Field(description="What to steer away from.")] = ""
    layout: Annotated[InlineLayout | None, Field(description="Where the objects belong.")] = None
    scene: Annotated[SceneFile | None, Field(description="Objects in 3D, instead of a layout.")] = None
    plan: Annotated[bool, Field(description="Plan the layout from the prompt.")] = False
    preset: Annotated[
        str | None, Field(description=f"Options by name, but for those given: {', '.join(PRESETS)}; see /v1/models.")
    ] = None
    coefficients: Annotated[
        Literal["normal", "equal"] | None, Field(description=f"Start of the coefficients. Default: {COEFFICIENTS[0]}.")
    ] = None
    model: Annotated[str | None, Field(description="The bundle's name, see /v1/models.")] = None
    response_format: Annotated[Literal["b64_json"], Field(description="How pictures come: in the answer.")] = "b64_json"
    output_format: Annotated[Literal["png"], Field(description="What pictures are.")] = "png"
    stream: Annotated[bool, Field(description="Send events while the image grows.")] = False
    partial_images: Annotated[
        int, Field(description="Number of small pictures on the way, with stream.", ge=0, le=MOST_PARTIALS)
    ] = 3
    trace: Annotated[
        bool, Field(description="Add the loss of every step, and at the end the weights and the attention.")
    ] = False
    user: Annotated[str | None, Field(description="Of no effect.")] = None


class Plan(BaseModel):
    """What `POST /v1/layouts` takes."""

    model_config = ConfigDict(extra="forbid")

    prompt: Annotated[Text, Field(description="What to plan boxes for.")]


def _checked(knob: Knob, check: Any) -> Any:
    """A knob as a field: its type, its default, its range for readers of the schema, and its own check."""
    name = FIELDS.get(knob.name, knob.name)

    def run(value: Any) -> Any:
        check(name, value)
        return value

    high = None if knob.high == float("inf") else knob.high
    limits: dict[str, JsonValue] = {
        word: limit for word, limit in (("minimum", knob.low), ("maximum", high)) if limit is not None
    }
    shown = f"{knob.help} Default: {knob.unset}." if knob.unset else knob.help
    described = Field(description=shown, json_schema_extra=limits)
    return name, (Annotated[knob.type, AfterValidator(run), described], knob.default)


def _checks() -> dict[str, Any]:
    records: list[type[Knobs]] = [Options, *(kind.strengths for kind in KINDS.values())]
    return {one.name: one.metadata["check"] for record in records for one in fields(record)}  # type: ignore[arg-type]


_CHECKS = _checks()


def _generation(knobs: Mapping[str, Knob]) -> type[_Asked]:
    return create_model(
        "Generation", __base__=_Asked, **dict(_checked(knob, _CHECKS[name]) for name, knob in knobs.items())
    )


Generation = _generation(every_knob())


@dataclass(frozen=True)
class Order:
    """A request, read and checked: what the library is told."""

    prompt: str
    negative_prompt: str
    count: int
    seed: int
    layout: Layout | None
    coefficients: str | None
    knobs: dict[str, Any]  # all but the seed
    planned: bool = False
    stream: bool = False
    partials: int = 0
    trace: bool = False
    warnings: tuple[str, ...] = field(default=())

    @property
    def kind(self) -> tuple[Any, ...]:
        """What requests that share a run have in common: all that is not a row's own."""
        return (self.coefficients, *sorted(self.knobs.items()))


def read_generation(body: bytes, bundle: Bundle, settings: Settings) -> Order:
    """Raises: Refusal: a 400 that names the field."""
    try:
        asked = read_json(Generation, body)
    except RealCompoError as error:
        raise bad_field(error) from error
    knobs = _knobs(asked, bundle)
    _check_limits(asked, knobs["steps"], bundle, settings)
    layout = _seen(asked.scene, bundle.image_size) if asked.scene else _layout(asked, bundle.planner, settings)
    return Order(
        prompt=_prompt(asked, layout),
        negative_prompt=asked.negative_prompt,
        count=asked.n,
        seed=knobs.pop("seed"),
        layout=layout,
        coefficients=asked.coefficients,
        knobs=knobs,
        planned=asked.plan,
        stream=asked.stream,
        partials=asked.partial_images if asked.stream else 0,
        trace=asked.trace,
    )


def read_plan(body: bytes, planner: Planner) -> Layout:
    """Raises: Refusal: a 400 that names the field."""
    try:
        return planner(read_json(Plan, body).prompt)
    except FieldError as error:
        raise bad_field(error) from error
    except RealCompoError as error:
        raise bad_field(FieldError("prompt", str(error))) from error


def _check_limits(asked: _Asked, steps: int, bundle: Bundle, settings: Settings) -> None:
    height, width = bundle.image_size
    _check(asked.n <= settings.max_batch, "n", f"{asked.n} images are too many; use 1 to {settings.max_batch}")
    _check(
        steps <= settings.max_steps,
        FIELDS["steps"],
        f"{steps} steps are too many for this server; use 1 to {settings.max_steps}",
    )
    _check(asked.size in ("auto", f"{width}x{height}"), "size", f"this bundle draws {width}x{height}, or auto")
    _check(asked.model in (None, bundle.name), "model", f"there is no such model; this server has {bundle.name}")
    given = [name for name in ("plan", "layout", "scene") if getattr(asked, name)]
    _check(len(given) < 2, given[0] if given else "", f"{' and '.join(given)} are both given; give one")


def _check(fits: bool, field: str, message: str) -> None:
    if not fits:
        raise bad_field(FieldError(field, message))


def _prompt(asked: _Asked, layout: Layout | None) -> str:
    prompt = asked.prompt if asked.prompt is not None else layout and layout.prompt
    if not prompt or not prompt.strip():
        raise bad_field(FieldError("prompt", "there is none; say what to draw"))
    return prompt


def _layout(asked: _Asked, planner: Planner, settings: Settings) -> Layout | None:
    try:
        if asked.plan:
            return planner(asked.prompt or "")
        pixels = Pixels(settings.max_pixels, settings.max_pixels_together)
        return read_layout(asked.layout, pixels) if asked.layout else None
    except FieldError as error:
        raise bad_field(error, "layout") from error
    except RealCompoError as error:
        raise bad_field(FieldError("prompt", str(error))) from error


def _seen(scene: SceneFile, size: tuple[int, int]) -> Layout:
    """What the scene's camera sees, in a picture of (H, W)."""
    try:
        return Scene.of(scene).layout(size)
    except FieldError as error:
        raise bad_field(error, "scene") from error


def _knobs(asked: _Asked, bundle: Bundle) -> dict[str, Any]:
    """By the library's names; lists as tuples, for they tell which requests share a run."""
    fields = {name: FIELDS.get(name, name) for name in every_knob()}
    given = {name: getattr(asked, field) for name, field in fields.items() if field in asked.model_fields_set}
    try:
        found = bundle.knobs(asked.preset, given)
    except RealCompoError as error:
        raise bad_field(FieldError("preset", str(error))) from error
    return {name: tuple(value) if isinstance(value, list) else value for name, value in found.items()}


def generation_schema(bundle: Bundle) -> Mapping[str, Any]:
    """The body's JSON Schema with the bundle's defaults, its definitions among an OpenAPI document's components.

    Raises:
        RealCompoError: what the bundle's distilled model wants is no option.
    """
    return _generation(bundle.described_knobs()).model_json_schema(ref_template="#/components/schemas/{model}")
