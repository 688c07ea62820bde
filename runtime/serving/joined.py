"""One run for several requests: each has its own rows, is told of its own pictures, and may leave at any step."""

from collections import defaultdict
from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor

from runtime import Layout, RealCompo
from runtime.output import Output, TraceStep
from runtime.serving.jobs import Done, Job, Partial, Seen

NOWHERE = Layout(())


class Deserted(Exception):
    """All who asked have left."""


class Joined:
    """The requests of one run. `rows` says whose each image of the run is."""

    def __init__(self, pipe: RealCompo, jobs: Sequence[Job]) -> None:
        self._pipe, self._jobs = pipe, jobs
        self._rows = [job for job in jobs for _ in range(job.order.count)]
        self._size = len(self._rows)
        self._losses: dict[Job, list[Tensor]] = defaultdict(list)  # (images,) an evaluation
        self._sent: dict[Job, int] = defaultdict(int)  # partial pictures
        self._told: dict[Job, int] = defaultdict(int)  # losses that went with them
        self._seen: tuple[list[Job], TraceStep] | None = None  # the last evaluation, and whose its rows were

    def draw(self) -> Output:
        """Draw all in one run.

        Raises:
            Deserted: all were cancelled.
            RealCompoError: as the library does.
        """
        orders = [job.order for job in self._jobs]
        first = orders[0]
        return self._pipe(
            [order.prompt for order in orders],
            layout=[order.layout or NOWHERE for order in orders] if any(order.layout for order in orders) else None,
            negative_prompt=[order.negative_prompt for order in orders],
            num_images=[order.count for order in orders],
            seeds=[order.seed for order in orders],
            coefficients=first.coefficients,
            trace=self._see if any(order.stream or order.trace for order in orders) else False,
            callback=self._step,
            **first.knobs,
        )

    def results(self, output: Output) -> list[tuple[Job, Done]]:
        """What those who stayed get."""
        seconds, stayed = dict(output.stats.seconds), [job for job in self._jobs if job in self._rows]
        return [(job, Done(self._of(job, output.images), self._look(job), seconds, self._size)) for job in stayed]

    def _of(self, job: Job, images: Sequence[Image.Image]) -> list[Image.Image]:
        return [image for image, owner in zip(images, self._rows, strict=True) if owner is job]

    def _see(self, step: TraceStep) -> None:
        """Called before `_step`, so that rows are still those of this evaluation."""
        self._seen = list(self._rows), step
        losses = step.loss.cpu()
        for job in self._jobs:
            if rows := self._rows_of(job):
                self._losses[job].append(losses[rows])

    def _step(self, i: int, evaluations: int, latents: Tensor, coefficients: Tensor) -> list[int] | None:
        kept = [row for row, job in enumerate(self._rows) if not job.cancelled]
        if not kept:
            raise Deserted
        all_stay = len(kept) == len(self._rows)
        self._rows = [self._rows[row] for row in kept]
        self._send_partials(i, evaluations, latents if all_stay else latents[kept])
        return None if all_stay else kept

    def _send_partials(self, i: int, evaluations: int, latents: Tensor) -> None:
        due = [job for job in self._jobs if job in self._rows and self._is_due(job, i, evaluations)]
        rows = [row for row, owner in enumerate(self._rows) if owner in due]
        if not rows:
            return
        images = iter(self._pipe.decode(latents[rows]))
        for job in due:
            losses = self._losses[job][self._told[job] :]
            self._told[job] += len(losses)
            pictures = [next(images) for _ in range(job.order.count)]
            job.tell(Partial(self._sent[job], i, evaluations, [float(loss.mean()) for loss in losses], pictures))
            self._sent[job] += 1

    def _is_due(self, job: Job, i: int, evaluations: int) -> bool:
        """The pictures are spread evenly between the first evaluation and the last, which gives the image itself."""
        partials = min(job.order.partials, evaluations - 1)
        return i < evaluations and self._sent[job] < i * (partials + 1) // evaluations

    def _rows_of(self, job: Job) -> list[int]:
        return [row for row, owner in enumerate(self._rows) if owner is job]

    def _look(self, job: Job) -> list[Seen]:
        if not job.order.trace or self._seen is None:
            return []
        rows, step = self._seen
        losses = torch.stack(self._losses[job]).T.tolist()
        mine = [row for row, owner in enumerate(rows) if owner is job]
        return [self._seen_of(step, row, losses[k], job) for k, row in enumerate(mine)]

    def _seen_of(self, step: TraceStep, row: int, losses: list[float], job: Job) -> Seen:
        regions = len(job.order.layout.regions) if job.order.layout else 0
        height, width = self._pipe.manifest.maps.resolution
        maps = step.region_maps[row, :regions].reshape(-1, height, width)
        return Seen(losses, _grey(step.spatial_weight[row]), [_grey(of / of.max().clamp(min=1e-12)) for of in maps])


def _grey(values: Tensor) -> Image.Image:
    """(h,w) in 0..1 as a grey picture."""
    return Image.fromarray((values.cpu().clamp(0, 1) * 255).round().to(torch.uint8).numpy())
