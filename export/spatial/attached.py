"""Models attached to the text-to-image model's own UNet: what ControlNets and T2I-Adapters have in common."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from export.checkpoints.files import check_place, is_there
from export.checkpoints.folders import Checkpoint, Checkpoints, open_checkpoint
from export.checkpoints.places import Place
from export.pairs import Control, Pair
from export.spatial.kind import SpatialKind, over_base
from runtime.bundle.manifest import ControlSpec, SpatialSpec
from runtime.errors import RealCompoError
from runtime.layouts.openpose import PENS, THICK, THIN
from runtime.messages import shown
from runtime.spatial import KINDS
from runtime.spatial.control_images import CONTROL_KINDS

THICK_ONES = ("xinsir/",)  # what the names of checkpoints begin with that were trained with thick people
_GIVEN = re.compile(rf"({'|'.join(CONTROL_KINDS)})(?::({'|'.join(PENS)}))?=(.+)", re.DOTALL)  # KIND[:PEN]=MODEL


class Attached(SpatialKind):
    """A pair has one or more, each of a kind of control image."""

    place: Place  # which option takes their files

    def replace(self, pair: Pair, given: Sequence[str]) -> Pair:
        """KIND=MODEL each, or MODEL alone for one of the kind that the pair has in its place."""
        controls = tuple(self._control(pair, i, model) for i, model in enumerate(given)) or pair.controls
        for control in controls:
            check_place(Path(control.model).expanduser(), self.place)
        return over_base(replace(pair, controls=controls))

    def open(self, pair: Pair, base: Checkpoint, download: bool) -> Checkpoints:
        models = (control.model for control in pair.controls)
        attached = (open_checkpoint("spatial", one, (self.component,), download, pair.fp16_files) for one in models)
        kinds = tuple(control.kind for control in pair.controls)
        return Checkpoints(self.name, base, base, tuple(attached), self.component, kinds)

    def shares_unet(self, checkpoints: Checkpoints) -> bool:
        return True

    def spec(self, pair: Pair, checkpoints: Checkpoints) -> SpatialSpec:
        configs = (checkpoint.config(self.component) for checkpoint in checkpoints.attached)
        details = tuple(
            ControlSpec(pen=_pen(control), conditional_alone=bool(config.get("global_pool_conditions")))
            for control, config in zip(pair.controls, configs, strict=True)
        )
        return SpatialSpec(kind=self.name, controls=checkpoints.reads, details=details)

    def _control(self, pair: Pair, i: int, given: str) -> Control:
        """The model that is given in the i-th place."""
        if found := _GIVEN.fullmatch(given):
            kind, pen, model = found.groups()
            return Control(kind, model, self.component, pen)
        if "=" in given and not is_there(Path(given).expanduser()):
            raise RealCompoError(
                f"--spatial {shown(given)} is not KIND=MODEL or KIND:PEN=MODEL, KIND being "
                f"{', '.join(CONTROL_KINDS)}, and PEN {' or '.join(PENS)}"
            )
        if i < len(pair.controls):
            return replace(pair.controls[i], model=given, pen=None)
        count = f"{len(pair.controls)} {KINDS[self.name].single}"
        raise RealCompoError(
            f"--spatial {given}: {pair.name} has {count}, so say what this one reads: "
            f"--spatial KIND={given}, KIND being {', '.join(CONTROL_KINDS)}"
        )


def _pen(control: Control) -> str:
    return control.pen or (THICK if control.model.startswith(THICK_ONES) else THIN)
