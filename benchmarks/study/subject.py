"""Who judges a study's pictures, and what is drawn."""

from pathlib import Path
from typing import Annotated

import typer

from benchmarks.study import tabletop
from benchmarks.study.cases import Case, read_cases
from benchmarks.study.scorers import Scorer, open_scorer
from runtime.bundle.manifest import Manifest
from runtime.errors import RealCompoError

Scenes = Annotated[
    int, typer.Option(min=4, help="Number of compositions, 4 or more: held-out scenes, or the first of --layouts.")
]
Batch = Annotated[int, typer.Option(min=2, help="Number of images drawn together, 2 or more.")]
ScorerName = Annotated[
    str | None,
    typer.Option(
        metavar="MODULE:FUNCTION", help="Judge of pictures, a function of image and layout. Default: Tabletop's."
    ),
]
Layouts = Annotated[
    Path | None,
    typer.Option(
        help="Folder of layout files with prompts, each maybe with a picture of its name. Default: Tabletop's held-out "
        "scenes."
    ),
]


def subject(manifest: Manifest, scorer: str | None, layouts: Path | None, count: int) -> tuple[Scorer, list[Case]]:
    """Who judges, and what is drawn.

    Raises:
        RealCompoError: one of them is not Tabletop's and not given.
    """
    own = tabletop.is_tabletop(manifest)
    if not own and (scorer is None or layouts is None):
        raise RealCompoError(
            f"pair {manifest.pair.name} is not Tabletop's: give {'--scorer' if scorer is None else '--layouts'}; "
            "docs/study.md says how"
        )
    judge = tabletop.score if scorer is None else open_scorer(scorer)
    return judge, tabletop.held_out_cases(count) if layouts is None else read_cases(layouts, count)
