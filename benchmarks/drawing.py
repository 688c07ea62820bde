"""What a bundle draws of Tabletop scenes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.tabletop.layouts import RegionKind, layout_of
from benchmarks.tabletop.scenes import Scene
from runtime import RealCompo
from runtime.output import Output
from runtime.presets import preset_knobs


@dataclass(frozen=True)
class Sampling:
    """How every mode draws its images."""

    steps: int
    sampler: str
    guidance_scale: float
    batch: int

    def knobs(self) -> dict[str, Any]:
        """Those of a call."""
        return {"steps": self.steps, "sampler": self.sampler, "guidance_scale": self.guidance_scale}


@dataclass(frozen=True)
class SceneSampling(Sampling):
    """What Tabletop's benchmarks let one choose besides."""

    coefficient_scale: float = 1e6
    update_every: int = 1
    regions: RegionKind = "box"
    form: str = "paper"
    preset: str | None = None  # whose knobs, with those that distilled models want, go before all of these


def outputs(pipe: RealCompo, scenes: Sequence[Scene], sampling: SceneSampling, **options: Any) -> Iterator[Output]:
    """A batch of scenes after the other, from the same latents and coefficients whatever the options."""
    for start in range(0, len(scenes), sampling.batch):
        chunk = scenes[start : start + sampling.batch]
        yield pipe(
            [scene.caption for scene in chunk],
            layout=[layout_of(scene, sampling.regions) for scene in chunk],
            **{
                **sampling.knobs(),
                "seed": start,
                "form": sampling.form,
                "coefficient_scale": sampling.coefficient_scale,
                "update_every": sampling.update_every,
                **(preset_knobs(sampling.preset, pipe.manifest, {}) if sampling.preset else {}),
                **options,
            },
        )
