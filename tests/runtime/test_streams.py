"""Calls side by side: on a CPU, on two threads."""

import threading
import time

import pytest
import torch

from runtime.backends.streams import Streams
from runtime.bundle.manifest import EngineSpec
from runtime.runner import Runner
from runtime.stats import Stats

CPU = torch.device("cpu")


def test_two_calls_are_under_way_at_once():
    both = threading.Barrier(2, timeout=120)  # each waits for the other, or breaks
    results = Streams(CPU, second=True).side_by_side([lambda: (both.wait(), "a")[1], lambda: (both.wait(), "b")[1]])
    assert results == ["a", "b"]


@pytest.mark.parametrize("streams", [Streams(CPU), Streams(CPU, second=True)], ids=["one thread", "two"])
def test_results_keep_the_order_of_calls(streams: Streams):
    assert streams.side_by_side([lambda: time.sleep(0.05) or "slow", lambda: "quick"]) == ["slow", "quick"]
    assert streams.side_by_side([threading.current_thread]) == [threading.current_thread()]


@pytest.mark.parametrize("failing", [0, 1])
def test_a_failure_is_told_when_both_calls_are_over(failing: int):
    over = []

    def fail() -> None:
        raise ValueError("no")

    def work() -> None:
        time.sleep(0.05)
        over.append(True)

    calls = [work, work]
    calls[failing] = fail
    with pytest.raises(ValueError, match="no"):
        Streams(CPU, second=True).side_by_side(calls)
    assert over == [True]


def test_time_with_two_engines_at_work_counts_once():
    stats, both = Stats(), threading.Barrier(2, timeout=120)

    def call(role: str, seconds: float) -> None:
        runner = _runner(role, lambda: (both.wait(), time.sleep(seconds)))
        stats.run(runner, latents=torch.zeros(3, 1))

    with stats.stage("denoise"):
        Streams(CPU, second=True).side_by_side([lambda: call("text_to_image", 0.1), lambda: call("spatial", 0.2)])
        time.sleep(0.1)
    assert stats.rows == {"text_to_image": 3, "spatial": 3}
    assert stats.engine_seconds["text_to_image"] >= 0.1 and stats.engine_seconds["spatial"] >= 0.2
    assert stats.busy_seconds["denoise"] < sum(stats.engine_seconds.values())
    assert 0.2 <= stats.busy_seconds["denoise"] <= stats.seconds["denoise"] - 0.1


def _runner(role: str, work) -> Runner:
    class Working:
        spec = EngineSpec.model_construct(role=role)

        def __call__(self, **tensors: torch.Tensor) -> dict[str, torch.Tensor]:
            work()
            return {}

    return Working()


def test_pytorch_has_one_thread_on_a_cpu_while_it_lasts():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with Streams(torch.device("cpu"), second=True).own():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
        with pytest.raises(ValueError, match="stopped"), Streams(torch.device("cpu")).own():
            raise ValueError("stopped")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
