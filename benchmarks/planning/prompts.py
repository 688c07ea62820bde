"""Files of prompts: NSR-1K's, as JSON or as JSON lines, and T2I-CompBench's, one prompt a line."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.planning.cases import Case, Free
from benchmarks.planning.nsr1k import Counting, Spatial
from benchmarks.planning.t2i_compbench import numeracy_in, pair_in
from runtime.errors import RealCompoError

Row = dict[str, Any]


def read_prompts(path: Path) -> list[Case]:
    """What a file's prompts ask. Prompts without a rule for them are but planned.

    Raises:
        RealCompoError: a file that cannot be read, has no prompts, or has rows of an unknown kind.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise RealCompoError(f"cannot read the prompts {path}: {getattr(error, 'strerror', error)}") from error
    cases = _from_rows(path, text) if path.suffix in (".json", ".jsonl") else _from_lines(path.stem, text)
    if not cases:
        raise RealCompoError(f"{path} has no prompts; give one a line, or NSR-1K's JSON")
    return cases


def _from_lines(name: str, text: str) -> list[Case]:
    prompts = [line.strip() for line in text.splitlines() if line.strip()]
    if "numeracy" in name:
        return _with_the_rest(prompts, numeracy_in(prompts))
    if "non_spatial" not in name and "spatial" in name:
        return _with_the_rest(prompts, [pair for prompt in prompts if (pair := pair_in(prompt))])
    return [Free(prompt) for prompt in prompts]


def _with_the_rest(prompts: Sequence[str], cases: Sequence[Case]) -> list[Case]:
    known = {case.prompt for case in cases}
    return [*cases, *(Free(prompt, "no rule") for prompt in prompts if prompt not in known)]


def _from_rows(path: Path, text: str) -> list[Case]:
    try:
        rows = json.loads(text) if path.suffix == ".json" else [json.loads(line) for line in text.splitlines() if line]
        return [_case(row) for row in rows]
    except json.JSONDecodeError as error:
        raise RealCompoError(f"{path} is not JSON: {error.msg} at line {error.lineno}") from error
    except (AttributeError, KeyError, TypeError, ValueError, StopIteration) as error:
        raise RealCompoError(
            f"{path} has a row that is none of NSR-1K's: {error!r}; rows have prompt and objects or num_object, or "
            "prompt, relation, and first and second or obj1 and obj2"
        ) from error


def _case(row: Row) -> Case:
    return next(make(row) for field, make in _KINDS.items() if field in row)


def _counting(field: str, kind: str) -> Callable[[Row], Case]:
    return lambda row: Counting(row["prompt"], row[kind], tuple((str(name), int(n)) for name, n in row[field]))


# The field that tells a row's kind: NSR-1K's own files, and the JSON lines made of them.
_KINDS: dict[str, Callable[[Row], Case]] = {
    "objects": _counting("objects", "type"),
    "num_object": _counting("num_object", "sub-type"),
    "first": lambda row: Spatial(row["prompt"], row["relation"], row["first"], row["second"], row["relation"]),
    "obj1": lambda row: Spatial(row["prompt"], row["relation"], row["obj1"][0], row["obj2"][0], row["relation"]),
}
