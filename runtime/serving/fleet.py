"""How many replicas of a server there are, and what each has. `ray.app`'s arguments are made of this record."""

from dataclasses import dataclass

from runtime.knobs import Knobs, knob


@dataclass(frozen=True, kw_only=True)
class Fleet(Knobs):
    """Replicas that draw, and fronts that hand them requests."""

    min_replicas: int = knob(1, "Number of replicas that there always are.", low=1)
    max_replicas: int | None = knob(
        None,
        "Number of replicas under load.",
        low=1,
        unset="as many as there are GPUs for, or else min_replicas",
    )
    target: int | None = knob(
        None, "Number of requests a replica, waiting ones included, above which replicas are added.", low=1,
        unset="max_batch",
    )  # fmt: skip
    gpus: float | None = knob(
        None, "GPUs of a replica; 0.5: two replicas share one.", low=0, unset="1 where the cluster has any, or else 0"
    )
    cpus: float = knob(1.0, "CPUs of a replica; without a GPU it draws with so many threads.", low=0.1)
    fronts: int = knob(1, "Number of fronts; one hands over some hundred requests a second.", low=1)
