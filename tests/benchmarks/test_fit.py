import contextlib

import torch

from benchmarks.tabletop.fit import constant, fit, one_cycle


def make_problem():
    torch.manual_seed(0)
    module = torch.nn.Linear(4, 1)

    def loss_of_step(step):
        x = torch.randn(8, 4, generator=torch.Generator().manual_seed(step))
        return (module(x) - x.sum(1, keepdim=True)).square().mean()

    return module, loss_of_step


def test_a_stopped_run_resumes_to_the_same_weights(tmp_path):
    whole, loss = make_problem()
    fit("toy", whole, loss, 200, constant(5e-2), tmp_path / "a")
    broken, loss = make_problem()

    def interrupted(step):
        if step == 150:
            raise KeyboardInterrupt
        return loss(step)

    with contextlib.suppress(KeyboardInterrupt):
        fit("toy", broken, interrupted, 200, constant(5e-2), tmp_path / "b")
    resumed, loss = make_problem()
    fit("toy", resumed, loss, 200, constant(5e-2), tmp_path / "b")
    torch.testing.assert_close(resumed.weight, whole.weight, rtol=0, atol=0)
    assert (whole.weight - 1).abs().max() < 0.3


def test_one_cycle_rises_then_falls_to_zero():
    rate = one_cycle(2.0, 1000, warm_up=100)
    assert rate(0) == 0.02 and rate(50) < rate(99) and rate(100) > rate(500) > rate(999) > 0
    assert rate(999) < 1e-4
