"""One resumable training loop, used for every part of the Tabletop pair."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from safetensors.torch import load_file, save_file

EMA_DECAY = 0.998
SAVE_EVERY = 50  # steps
SAVE_SECONDS = 120  # on a machine that others keep busy, a few steps take as long
MOMENTS = ("step", "exp_avg", "exp_avg_sq")  # of AdamW, for every parameter


def fit(
    name: str,
    module: torch.nn.Module,
    loss_of_step: Callable[[int], torch.Tensor],
    steps: int,
    learning_rate: Callable[[int], float],
    work: Path,
    factor: Callable[[str], float] = lambda parameter: 1.0,
) -> None:
    """Train `module` in place for `steps` AdamW steps and leave its exponential moving average in it.

    `loss_of_step(step)` must draw its data from `step` alone, so that a run which is stopped and resumed from
    `work/<name>.safetensors` sees what an unbroken one sees. `factor(name)` multiplies a parameter's learning rate.
    """
    parameters = {key: p for key, p in module.named_parameters() if p.requires_grad}
    average = {key: p.detach().clone() for key, p in parameters.items()}
    groups = [{"params": [p], "factor": factor(key)} for key, p in parameters.items()]
    optimizer = torch.optim.AdamW(groups, lr=1.0, weight_decay=1e-4, betas=(0.9, 0.98), fused=True)
    work.mkdir(parents=True, exist_ok=True)
    checkpoint = work / f"{name}.safetensors"
    start = _resume(checkpoint, parameters, average, optimizer) if checkpoint.exists() else 0
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, TimeRemainingColumn()) as progress:
        bar = progress.add_task(name, total=steps, completed=start)
        smooth, saved = None, time.monotonic()
        for step in range(start, steps):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step) * group["factor"]
            loss = loss_of_step(step)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters.values(), 1.0)
            optimizer.step()
            decay = min(EMA_DECAY, (step + 1) / (step + 10))
            torch._foreach_lerp_(list(average.values()), [p.detach() for p in parameters.values()], 1 - decay)
            smooth = loss.item() if smooth is None else 0.98 * smooth + 0.02 * loss.item()
            progress.update(bar, completed=step + 1, description=f"{name}  loss {smooth:.4f}")
            if (step + 1) % SAVE_EVERY == 0 or step + 1 == steps or time.monotonic() > saved + SAVE_SECONDS:
                saved = time.monotonic()
                _save(checkpoint, step + 1, parameters, average, optimizer)
                progress.console.print(f"{name} step {step + 1} loss {smooth:.5f}")
    with torch.no_grad():
        for key, p in parameters.items():
            p.copy_(average[key])


def one_cycle(peak: float, steps: int, warm_up: int = 100) -> Callable[[int], float]:
    """Linear warm-up, then a cosine down to zero at `steps`."""
    return lambda step: (
        peak * min((step + 1) / warm_up, 0.5 * (1 + torch.cos(torch.tensor(torch.pi * step / steps)).item()))
    )


def trapezoid(peak: float, steps: int, warm_up: int = 200, decay: float = 0.35) -> Callable[[int], float]:
    """Linear warm-up, constant, and a linear decay to zero over the last share of `steps` (arXiv 2405.18392)."""
    return lambda step: peak * min((step + 1) / warm_up, 1.0, (steps - step) / (decay * steps))


Tensors = Mapping[str, torch.Tensor]
Parameters = Mapping[str, torch.nn.Parameter]


def _save(path: Path, step: int, parameters: Parameters, average: Tensors, optimizer: torch.optim.Optimizer) -> None:
    tensors = {"step": torch.tensor(step)}
    for key, p in parameters.items():
        tensors |= {f"parameter.{key}": p.detach(), f"average.{key}": average[key]}
        tensors |= {f"{name}.{key}": value for name, value in optimizer.state[p].items()}
    partial = path.with_suffix(".partial")
    save_file(tensors, partial)
    partial.replace(path)


def _resume(path: Path, parameters: Parameters, average: Tensors, optimizer: torch.optim.Optimizer) -> int:
    tensors = load_file(path)
    step = int(tensors["step"])
    for key, p in parameters.items():
        p.data.copy_(tensors[f"parameter.{key}"])
        average[key].copy_(tensors[f"average.{key}"])
        names = [name for name in MOMENTS if f"{name}.{key}" in tensors]  # none while its gradient has yet to come
        optimizer.state[p] = {name: tensors[f"{name}.{key}"] for name in names}
    return step
