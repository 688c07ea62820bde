"""Whether a bundle can take prompts and layouts, found out before anything is drawn."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from runtime import Layout
from runtime.bundle.manifest import Manifest, read_manifest
from runtime.errors import FieldError, RealCompoError
from runtime.options import Options
from runtime.request import make_regions
from runtime.text.tokens import PromptEncoder, losses, open_tokenizers


@dataclass(frozen=True)
class Fitted:
    """Layouts as a bundle takes them.

    Args:
        left_out: how many regions it does not take.
        strange: prompts that are cut, or have words that it does not know.
    """

    layouts: Sequence[Layout]
    left_out: int = 0
    strange: int = 0


def fit(bundle: Path, tasks: Mapping[str, Sequence[Layout]], leave_out: bool) -> dict[str, Fitted]:
    """The layouts, without the regions that the bundle does not take if those are to be left out.

    Raises:
        RealCompoError: a region that it does not take.
    """
    manifest = read_manifest(bundle)
    encoder = open_tokenizers(bundle, manifest)[0]
    found = {}
    for task, layouts in tasks.items():
        troubles = {i: trouble for i, layout in enumerate(layouts) if (trouble := _trouble(manifest, encoder, layout))}
        if troubles and not leave_out:
            raise RealCompoError(
                f"{len(troubles)} of {len(layouts)} layouts of {task} do not fit this bundle; --leave-out draws them "
                f"without what does not. The first: {next(iter(troubles.values()))}"
            )
        kept = [_without_troubles(manifest, encoder, one) if i in troubles else one for i, one in enumerate(layouts)]
        strange = sum(bool(losses(encoder.encode(layout.prompt or ""))) for layout in layouts)
        found[task] = Fitted(kept, _regions(layouts) - _regions(kept), strange)
    return found


def _trouble(manifest: Manifest, encoder: PromptEncoder, layout: Layout) -> FieldError | None:
    prompt = encoder.encode(layout.prompt or "")
    try:
        make_regions([prompt], [layout], manifest, Options())
    except FieldError as error:
        return error
    return None


def _without_troubles(manifest: Manifest, encoder: PromptEncoder, layout: Layout) -> Layout:
    """One region after the other goes; of too many the last."""
    while trouble := _trouble(manifest, encoder, layout):
        name = trouble.field.split(".")
        gone = int(name[1]) if len(name) > 1 else len(layout.regions) - 1
        regions = [region for i, region in enumerate(layout.regions) if i != gone]
        layout = Layout(regions, layout.prompt)
    return layout


def _regions(layouts: Sequence[Layout]) -> int:
    return sum(len(layout.regions) for layout in layouts)
