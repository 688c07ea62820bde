"""The page on layouts: it has every field, and what it shows is accepted."""

import re
from pathlib import Path

import pytest

from runtime.layouts.schema import LayoutFile, RegionFile

PAGE = Path("docs/layouts.md").read_text()
EXAMPLES = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("model", [RegionFile, LayoutFile])
def test_the_page_has_every_field(model: type[RegionFile] | type[LayoutFile]) -> None:
    listed = set(re.findall(r"^\| `([$\w]+)` \|", PAGE, re.MULTILINE))
    assert {field.alias or name for name, field in model.model_fields.items()} <= listed


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_pages_examples_fit_the_schema(example: str) -> None:
    assert LayoutFile.model_validate_json(example).regions


def test_every_picture_of_the_page_exists() -> None:
    pictures = re.findall(r'<img src="([^"]+)"', PAGE)
    assert len(pictures) == 12
    assert all((Path("docs") / picture).exists() for picture in pictures)
