"""A tool's file: its text, and the JSON or the Python literal that it is."""

import ast
import json
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from runtime.errors import RealCompoError
from runtime.json_text import NotJson, decoded, parse_json

_FENCED = re.compile(r"\s*```\w*[ \t]*\r?\n(.*?)```\s*", re.DOTALL)  # as language models answer
LONGEST_LITERAL = 1_000_000  # characters: Python's own parser takes a hundred times the memory


@dataclass(frozen=True)
class Source:
    """A file that some tool wrote."""

    path: Path
    content: bytes

    @classmethod
    def open(cls, path: Path | str) -> "Source":
        """Raises: RealCompoError: the file cannot be read."""
        path = Path(path)
        try:
            return cls(path, path.read_bytes())
        except OSError as error:
            raise RealCompoError(f"cannot read {path}: {error.strerror}") from error

    @cached_property
    def text(self) -> str:
        """Without the fence of a language model's answer that is one block of code.

        Raises:
            RealCompoError: the file is no text.
        """
        with self._named():
            text = decoded(self.content).removeprefix("\ufeff")
        fenced = _FENCED.fullmatch(text)
        return fenced[1] if fenced else text

    @cached_property
    def data(self) -> Any:
        """The JSON value, or the Python literal in JSON's types; None where the text is neither.

        Raises:
            RealCompoError: JSON that says a thing twice, or has a number that is none.
        """
        text = self.text  # which names the file itself
        try:
            with self._named():
                return parse_json(text)
        except NotJson:
            return read_literal(text)

    def check_json(self) -> None:
        """Raises: RealCompoError: the text starts like JSON and is damaged."""
        if self.data is None and self.text.lstrip()[:1] in ("{", "["):
            with self._named():
                parse_json(self.text)

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Say of what is wrong with the text whose it is."""
        try:
            yield
        except RealCompoError as error:
            raise type(error)(f"{self.path}: {error}") from error


def read_literal(text: str) -> Any:
    """A Python literal in JSON's types, with `dict(a=1)` for `{"a": 1}`; None where the text is none."""
    if len(text) > LONGEST_LITERAL:
        return None
    try:
        with warnings.catch_warnings(action="ignore"):  # what Python says of code is not for those whose text is none
            tree = _Dicts().visit(ast.parse(text.strip().rstrip(","), mode="eval"))
        return json.loads(json.dumps(ast.literal_eval(tree), allow_nan=False))
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None


class _Dicts(ast.NodeTransformer):
    """`dict(a=1)` to `{"a": 1}`; what else is called is left, and is no literal."""

    def visit_Call(self, node: ast.Call) -> ast.expr:
        names = [keyword.arg for keyword in node.keywords]
        if not (isinstance(node.func, ast.Name) and node.func.id == "dict") or node.args or None in names:
            return node
        return ast.Dict([ast.Constant(name) for name in names], [self.visit(one.value) for one in node.keywords])
