"""Who judges pictures: a function of image and layout."""

import importlib
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from PIL import Image

from runtime import Layout
from runtime.errors import RealCompoError
from runtime.layouts.geometry import Box

SCORES = ("object_recall", "in_box", "realism")  # that every scorer gives; it may give more


class Scorer(Protocol):
    """Judges one picture."""

    def __call__(self, image: Image.Image, layout: Layout) -> Mapping[str, float]:
        """Scores in 0..1, higher is better: `object_recall`, the share of the regions' objects that are in the picture;
        `in_box`, the share that are in their region; `realism`; and any others."""


@runtime_checkable
class Finder(Protocol):
    """A scorer that can also say where objects are."""

    def find(self, image: Image.Image, layout: Layout) -> Sequence[Box | None]:
        """Where each region's object is, wherever that is, in fractions of the picture; None of one that is not."""


def open_scorer(name: str) -> Scorer:
    """The scorer MODULE:NAME, a function or an object that can be called. Modules are also looked for in the present
    folder.

    Raises:
        RealCompoError: there is no such function.
    """
    module, colon, attribute = name.partition(":")
    if not (module and colon and attribute):
        raise RealCompoError(f"--scorer {name} is not of the form MODULE:FUNCTION, such as my_detector:score")
    sys.path.insert(0, str(Path.cwd()))
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise RealCompoError(f"--scorer {name} cannot be opened: {error}") from error
    finally:
        sys.path.remove(str(Path.cwd()))
    if not callable(found):
        raise RealCompoError(f"--scorer {name} is no function; give one of an image and a layout")
    scorer: Scorer = found
    return scorer


def judge(scorer: Scorer, image: Image.Image, layout: Layout) -> dict[str, float]:
    """A picture's scores.

    Raises:
        RealCompoError: a score is missing or is no number in 0..1.
    """
    scores = dict(scorer(image, layout))
    if absent := [name for name in SCORES if name not in scores]:
        raise RealCompoError(f"the scorer gives no {absent[0]}; a scorer gives {', '.join(SCORES)}")
    for name, value in scores.items():
        if not (math.isfinite(value) and 0 <= value <= 1):
            raise RealCompoError(f"the scorer gives {name}={value}; scores lie in 0 to 1")
    return {name: float(value) for name, value in scores.items()}
