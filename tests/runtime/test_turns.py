"""Threads that call one pipeline take turns, and each gets the picture that it would get alone."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch

from runtime import RealCompo, RealCompoError
from runtime.turns import Turns
from tests.runtime.test_pipeline import LAYOUT, PROMPT

PATIENCE = 120  # seconds until a thread that should have gone on is said to hang


def draw(pipe: RealCompo, seed: int) -> torch.Tensor:
    """Different work for every seed: guidance and mode change the rows that engines work on."""
    options: dict[str, Any] = {"gradient": ("exact", "surrogate", "spatial")[seed % 3], "guidance_scale": 1 + seed % 2}
    return pipe(PROMPT, layout=LAYOUT, steps=4, seed=seed, num_images=1 + seed % 2, **options).latents


def test_threads_get_the_pictures_that_they_would_get_alone(pipe: RealCompo) -> None:
    seeds = range(12)
    alone = [draw(pipe, seed) for seed in seeds]
    with ThreadPoolExecutor(6) as threads:
        together = list(threads.map(lambda seed: draw(pipe, seed), seeds))
    assert all(map(torch.equal, together, alone))


def test_turns_come_in_the_order_of_asking() -> None:
    turns, order, waiting = Turns(), [], []

    def wait(number: int) -> None:
        with turns.take():
            order.append(number)

    with turns.take():
        for number in range(8):
            waiting.append(threading.Thread(target=wait, args=(number,)))
            waiting[-1].start()
            until(lambda: len(turns._waiting) == len(waiting))
    for thread in waiting:
        thread.join(PATIENCE)
    assert order == list(range(8))


def test_a_callback_that_calls_back_in_gets_a_clear_error_and_leaves_the_pipeline_in_order(pipe: RealCompo) -> None:
    with pytest.raises(RealCompoError, match="a callback cannot draw"):
        pipe(PROMPT, layout=LAYOUT, steps=2, callback=lambda *_: draw(pipe, 1))
    assert torch.equal(draw(pipe, 3), draw(pipe, 3))


def test_who_leaves_the_queue_does_not_keep_the_others_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with Ctrl-C while waiting."""
    turns, done = Turns(), threading.Event()

    class Interrupted:
        def __init__(self) -> None:
            self.asked = 0

        def acquire(self) -> bool:
            self.asked += 1
            if self.asked > 1:
                raise KeyboardInterrupt
            return True

        def release(self) -> None: ...

    def wait() -> None:
        with turns.take():
            done.set()

    with turns.take():
        with monkeypatch.context() as patch:
            patch.setattr("runtime.turns.Lock", Interrupted)
            leaver = ThreadPoolExecutor(1).submit(wait)
            with pytest.raises(KeyboardInterrupt):
                leaver.result(PATIENCE)
        follower = threading.Thread(target=wait)
        follower.start()
        until(lambda: len(turns._waiting) == 1)
    follower.join(PATIENCE)
    assert done.is_set()


def test_what_a_thread_raises_is_its_own(pipe: RealCompo) -> None:
    def fail(*_: object) -> None:
        raise ValueError("mine")

    with ThreadPoolExecutor(2) as threads:
        failing = threads.submit(pipe, PROMPT, layout=LAYOUT, steps=2, callback=fail)
        drawing = threads.submit(draw, pipe, 5)
        with pytest.raises(ValueError, match="mine"):
            failing.result(PATIENCE)
        assert torch.equal(drawing.result(PATIENCE), draw(pipe, 5))


def until(true: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(PATIENCE * 100):
        if true():
            return
        pause.wait(0.01)
    raise AssertionError("it did not come about")
