import contextlib

import torch

from benchmarks.tabletop import fit as fitting
from benchmarks.tabletop.fit import fit, one_cycle, trapezoid


def make_problem():
    torch.manual_seed(0)
    module = torch.nn.ModuleDict({"late": torch.nn.Linear(4, 4), "weights": torch.nn.Linear(4, 1)})

    def loss_of_step(step):
        """`late` has no gradient at even steps, as GLIGEN's layers have none on realistic scenes."""
        x = torch.randn(8, 4, generator=torch.Generator().manual_seed(step))
        y = module["weights"](x) + (module["late"](x).mean(1, keepdim=True) if step % 2 else 0)
        return (y - x.sum(1, keepdim=True)).square().mean()

    return module, loss_of_step


def test_a_stopped_run_resumes_to_the_same_weights(tmp_path):
    whole, loss = make_problem()
    fit("toy", whole, loss, 200, trapezoid(5e-2, 200), tmp_path / "a")
    broken, loss = make_problem()

    def interrupted(step):
        if step == 150:
            raise KeyboardInterrupt
        return loss(step)

    with contextlib.suppress(KeyboardInterrupt):
        fit("toy", broken, interrupted, 200, trapezoid(5e-2, 200), tmp_path / "b")
    resumed, loss = make_problem()
    fit("toy", resumed, loss, 200, trapezoid(5e-2, 200), tmp_path / "b")
    torch.testing.assert_close(resumed.state_dict(), whole.state_dict(), rtol=0, atol=0)
    assert (whole["weights"].weight - 1).abs().max() < 0.3


def test_slow_steps_are_saved_one_by_one(tmp_path, monkeypatch):
    monkeypatch.setattr(fitting, "SAVE_SECONDS", -1)
    module, loss = make_problem()
    steps = []

    def interrupted(step):
        steps.append(step)
        if step == 7 and steps.count(7) == 1:
            raise KeyboardInterrupt
        return loss(step)

    for _ in range(2):
        with contextlib.suppress(KeyboardInterrupt):
            fit("toy", module, interrupted, 9, trapezoid(5e-2, 9), tmp_path)
    assert steps == [*range(8), 7, 8]


def test_one_cycle_rises_then_falls_to_zero():
    rate = one_cycle(2.0, 1000, warm_up=100)
    assert rate(0) == 0.02 and rate(50) < rate(99) and rate(100) > rate(500) > rate(999) > 0
    assert rate(999) < 1e-4


def test_trapezoid_is_flat_between_its_slopes():
    rate = trapezoid(2.0, 1000, warm_up=100, decay=0.3)
    assert rate(0) == 0.02 and rate(200) == rate(700) == 2.0 and rate(850) == 1.0 and 0 < rate(999) < 0.01
