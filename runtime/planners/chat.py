"""A planner that asks a language model, through any chat endpoint that speaks OpenAI's protocol."""

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from types import ModuleType
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from runtime.errors import RealCompoError
from runtime.layouts.layout import Layout, Region
from runtime.planners import check_prompt
from runtime.text.tokens import mentions

if TYPE_CHECKING:
    from openai import OpenAI
    from openai.types.chat import ChatCompletionMessageParam
    from openai.types.shared_params import ResponseFormatJSONSchema

OPENAI_URL = "https://api.openai.com/v1"
ANSWERS = 3  # asked for, until one is a layout
RETRIES = 2  # of a request that failed; openai's client waits longer before each
LONGEST = 300  # characters of what the endpoint says, in an error
NO_KEY = "no-key"  # for endpoints that need none; the client library insists on one
HINTS = {
    400: "the endpoint must know the model, and structured output by JSON schema",
    401: "give a key that it accepts in OPENAI_API_KEY",
    403: "give a key that may use this model in OPENAI_API_KEY",
    404: "see --base-url and --model",
}

T = TypeVar("T")

INSTRUCTIONS = """\
You lay out pictures. The user gives the prompt of an image generator; you say where each object of it belongs.

Answer with one JSON object and nothing else:
- "reasoning": one or two sentences: which objects there are and how many of each, and what the prompt says of their
  places and sizes.
- "regions": one entry an object. Two dogs are two entries of the same phrase.
  - "phrase": the object's words as they stand side by side in the prompt, with its adjectives. Leave the number out;
    put a regular plural in the singular ("two red balls": "red ball").
  - "box": {"x0", "y0", "x1", "y1"}: left, top, right and bottom edge in fractions of the image's width and height, 0 to
    1, the origin at the top left. x0 is less than x1, and y0 is less than y1.

Rules:
- Every object that can be pointed at gets a region; sky, weather, light, styles and the ground do not.
- Keep every count and every relation. Left of: the box ends before the other starts. Above: its bottom edge is over the
  other's top edge. On: its bottom edge meets the other's top edge. In front of: lower in the image, and larger.
- Boxes of separate objects do not overlap. An object that belongs to another, such as a worn hat, lies within it.
- Sizes fit what the objects are, and one another. Use the space, and leave a small margin at the image's edges.
"""

EXAMPLES = (
    (
        "two red balls left of a cube",
        '{"reasoning": "Two balls and one cube. Both balls are on the left, one over the other; the cube is alone on '
        'the right.", "regions": ['
        '{"phrase": "red ball", "box": {"x0": 0.08, "y0": 0.1, "x1": 0.44, "y1": 0.46}}, '
        '{"phrase": "red ball", "box": {"x0": 0.08, "y0": 0.54, "x1": 0.44, "y1": 0.9}}, '
        '{"phrase": "a cube", "box": {"x0": 0.54, "y0": 0.3, "x1": 0.94, "y1": 0.7}}]}',
    ),
    (
        "a watercolor painting of a sleeping cat on a wooden chair next to a tall lamp",
        '{"reasoning": "A cat, a chair, a lamp. The cat lies on the seat, so its box ends where the chair\'s starts; '
        'the lamp stands beside them and is the tallest.", "regions": ['
        '{"phrase": "a sleeping cat", "box": {"x0": 0.14, "y0": 0.26, "x1": 0.5, "y1": 0.5}}, '
        '{"phrase": "a wooden chair", "box": {"x0": 0.08, "y0": 0.5, "x1": 0.56, "y1": 0.95}}, '
        '{"phrase": "a tall lamp", "box": {"x0": 0.64, "y0": 0.05, "x1": 0.92, "y1": 0.95}}]}',
    ),
    (
        "three sailing boats in front of a lighthouse at sunset, highly detailed",
        '{"reasoning": "Three boats and one lighthouse; the sunset is light. The boats are nearer: lower, in a row.", '
        '"regions": ['
        '{"phrase": "sailing boat", "box": {"x0": 0.04, "y0": 0.55, "x1": 0.32, "y1": 0.92}}, '
        '{"phrase": "sailing boat", "box": {"x0": 0.36, "y0": 0.58, "x1": 0.64, "y1": 0.95}}, '
        '{"phrase": "sailing boat", "box": {"x0": 0.68, "y0": 0.55, "x1": 0.96, "y1": 0.92}}, '
        '{"phrase": "a lighthouse", "box": {"x0": 0.4, "y0": 0.06, "x1": 0.58, "y1": 0.52}}]}',
    ),
)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class BoxAnswer(_Strict):
    """An object, not a list: strict structured output knows no lists of fixed length."""

    x0: float
    y0: float
    x1: float
    y1: float


class RegionAnswer(_Strict):
    phrase: str
    box: BoxAnswer


class LayoutAnswer(_Strict):
    """What the model is asked for."""

    reasoning: str
    regions: list[RegionAnswer]


class _Message(BaseModel):
    content: str | None = None
    refusal: str | None = None


class _Choice(BaseModel):
    message: _Message


class _Completion(BaseModel):
    """The part of a chat completion that is read: other servers than OpenAI's leave out, or add, much of the rest."""

    choices: list[_Choice] = Field(min_length=1)


@dataclass(frozen=True)
class ChatPlanner:
    """Asks a model for a layout, and tells it what is wrong with an answer that is none.

    Args:
        model: its name at the endpoint; by default $OPENAI_MODEL.
        base_url: of the endpoint, with its version, as in http://localhost:11434/v1; by default $OPENAI_BASE_URL, or
            else OpenAI's.
        api_key: by default $OPENAI_API_KEY; local endpoints mostly need none. No error or log shows it.
        time_limit: seconds for everything, retries too.

    Raises:
        RealCompoError: a setting is missing or wrong.
    """

    model: str = field(default_factory=lambda: os.environ.get("OPENAI_MODEL", ""))
    base_url: str = field(default_factory=lambda: os.environ.get("OPENAI_BASE_URL") or OPENAI_URL)
    api_key: str = field(default_factory=lambda: os.environ.get("OPENAI_API_KEY") or NO_KEY, repr=False)
    time_limit: float = 60.0

    def __post_init__(self) -> None:
        if not self.model:
            raise RealCompoError("the chat planner needs a model: give --model, or set OPENAI_MODEL")
        if not 0 < self.time_limit <= threading.TIMEOUT_MAX:
            raise RealCompoError(f"time_limit={self.time_limit} is out of range; use seconds above 0")
        if not (self.api_key.strip() == self.api_key != "" and self.api_key.isascii() and self.api_key.isprintable()):
            raise RealCompoError(
                "the API key is empty, or has characters that no key has, such as a line's end; mend OPENAI_API_KEY"
            )
        _check_url(self.base_url)

    def __call__(self, prompt: str) -> Layout:
        """The model's layout of a prompt: every box inside the image, every phrase found in the prompt.

        Raises:
            RealCompoError: the endpoint cannot be reached, refuses, or takes too long, or none of the model's answers
                is a layout.
        """
        check_prompt(prompt)
        openai = _import_openai()
        client = openai.OpenAI(
            api_key=self.api_key, base_url=self.base_url, max_retries=RETRIES, timeout=self.time_limit
        )
        with client:  # when time is up, closing it ends the thread's request
            layout = _in_thread(lambda: self._plan(client, prompt))
            try:
                return layout.result(self.time_limit)
            except (TimeoutError, openai.APITimeoutError):
                problem = f"{self.base_url} took more than {self.time_limit:g} s; raise --time-limit"
            except openai.APIStatusError as error:
                hint = HINTS.get(error.status_code, "try again later")
                problem = f"{self.base_url} refused: {self._quote(error.message)}; {hint}"
            except openai.APIConnectionError as error:
                problem = f"cannot reach {self.base_url}: {self._quote(str(error.__cause__))}; see --base-url"
            except RealCompoError as error:
                problem = str(error)
        raise RealCompoError(problem)  # not within `except`: a traceback would show the cause, and that the key

    def _plan(self, client: "OpenAI", prompt: str) -> Layout:
        messages = first_messages(prompt)
        problem = ""
        for _ in range(ANSWERS):
            answer = self._ask(client, messages)
            try:
                return read_answer(answer, prompt)
            except RealCompoError as error:
                problem = self._quote(str(error))
            messages += [
                {"role": "assistant", "content": answer},
                {"role": "user", "content": f"That is not a valid layout: {problem}. Answer again, with all regions."},
            ]
        raise RealCompoError(f"{self.model} gave no valid layout in {ANSWERS} answers; the last one: {problem}")

    def _ask(self, client: "OpenAI", messages: "Sequence[ChatCompletionMessageParam]") -> str:
        response = client.chat.completions.with_raw_response.create(
            model=self.model, messages=messages, response_format=response_format()
        )
        try:
            message = _Completion.model_validate_json(response.content).choices[0].message
        except ValidationError as error:
            said = self._quote(response.text)
            raise RealCompoError(f"{self.base_url} is no chat endpoint, it says {said!r}; see --base-url") from error
        if message.refusal:
            raise RealCompoError(f"{self.model} refused: {self._quote(message.refusal)}")
        return message.content or ""

    def _quote(self, text: str) -> str:
        """What the endpoint says, fit for an error: without the key, on one line, and not too long."""
        line = " ".join(text.replace(self.api_key, "***").split())
        return line if len(line) <= LONGEST else f"{line[:LONGEST]}..."


def first_messages(prompt: str) -> "list[ChatCompletionMessageParam]":
    """Instructions, examples and the prompt."""
    messages: list[ChatCompletionMessageParam] = [{"role": "system", "content": INSTRUCTIONS}]
    for example, answer in EXAMPLES:
        messages += [{"role": "user", "content": example}, {"role": "assistant", "content": answer}]
    return [*messages, {"role": "user", "content": prompt}]


def response_format() -> "ResponseFormatJSONSchema":
    """Structured output: the endpoint lets the model write nothing but what fits the schema."""
    schema = LayoutAnswer.model_json_schema()
    return {"type": "json_schema", "json_schema": {"name": "layout", "schema": schema, "strict": True}}


def read_answer(answer: str, prompt: str) -> Layout:
    """Raises: RealCompoError: the answer is no JSON of the schema, or no layout of this prompt; said for the model."""
    try:
        regions = LayoutAnswer.model_validate_json(answer).regions
    except ValidationError as error:
        first = error.errors()[0]
        raise RealCompoError(f"{'.'.join(map(str, first['loc'])) or 'the answer'}: {first['msg']}") from error
    if not regions:
        raise RealCompoError("regions is empty")
    for region in regions:
        if not mentions(prompt, region.phrase):
            raise RealCompoError(f"the prompt does not contain the phrase {region.phrase!r}; use its words")
    return Layout([Region(r.phrase, box=(r.box.x0, r.box.y0, r.box.x1, r.box.y1)) for r in regions], prompt)


def _import_openai() -> ModuleType:
    try:
        import openai
    except ImportError as error:
        raise RealCompoError(f"the chat planner needs {error.name}; pip install 'realcompo[plan]'") from error
    return openai


def _in_thread(work: Callable[[], T]) -> Future[T]:
    """Start work that cannot be cut short: who waits for the result can stop waiting, and the process can end."""
    result: Future[T] = Future()

    def run() -> None:
        try:
            result.set_result(work())
        except Exception as error:
            result.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return result


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        is_complete = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_complete = False
    if not is_complete or not url.isascii() or any(map(str.isspace, url)):
        raise RealCompoError(f"base URL {url!r} is no address; give one such as http://localhost:11434/v1")
    if parts.username is not None or parts.query:
        raise RealCompoError(
            "the base URL has a user name or a query, where secrets stand; use OPENAI_API_KEY for the key"
        )
