"""Requests drawn in one run, and images that leave it: each of the others is what it is alone, to the bit."""

from dataclasses import replace
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from runtime import Layout, RealCompo, RealCompoError, Region
from runtime.output import TraceStep
from runtime.sampling import SAMPLERS
from tests.runtime.test_fresh_noise import stochastic
from tests.runtime.test_pipeline import LAYOUT, PROMPT

STEPS = 5


class Wish(NamedTuple):
    prompt: str
    layout: Layout
    negative: str
    seed: int
    count: int


WISHES = (
    Wish(PROMPT, LAYOUT, "", 3, 1),
    Wish("two green cones", Layout([Region("green cone", box=(0, 0, 0.5, 0.5))]), "a ring", 4, 3),
    Wish("a ring and a ball", Layout([Region("ball", box=(0.2, 0.1, 0.9, 0.4))] * 3), "", 3, 2),
)


def alone(pipe: RealCompo, wish: Wish, **options: Any) -> Tensor:
    told = {"layout": wish.layout, "negative_prompt": wish.negative, "num_images": wish.count, "seed": wish.seed}
    return pipe(wish.prompt, steps=STEPS, **told, **options).latents


def together(pipe: RealCompo, **options: Any) -> Tensor:
    return pipe(
        [wish.prompt for wish in WISHES],
        layout=[wish.layout for wish in WISHES],
        negative_prompt=[wish.negative for wish in WISHES],
        num_images=[wish.count for wish in WISHES],
        seeds=[wish.seed for wish in WISHES],
        steps=STEPS,
        **options,
    ).latents


@pytest.fixture(params=["ddim", "noisy"])
def sampler(request: pytest.FixtureRequest, pipe: RealCompo, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(SAMPLERS, "noisy", replace(SAMPLERS["ddim"], name="noisy", table=stochastic))
    return request.param


@pytest.mark.parametrize(
    "gradient", ["exact", "surrogate", "none", "fixed:0.3", "handover", "text_to_image", "spatial"]
)
@pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
def test_joined_requests_get_the_bits_that_they_get_alone(
    pipe: RealCompo, sampler: str, gradient: str, guidance_scale: float
) -> None:
    options = {"gradient": gradient, "guidance_scale": guidance_scale, "sampler": sampler}
    assert torch.equal(together(pipe, **options), torch.cat([alone(pipe, wish, **options) for wish in WISHES]))


@pytest.mark.parametrize("gradient", ["exact", "surrogate"])
def test_images_that_leave_do_not_touch_the_others(pipe: RealCompo, sampler: str, gradient: str) -> None:
    """The second request leaves after evaluation 2, one image of the third after 3."""
    sizes = []

    def leave(i: int, evaluations: int, latents: Tensor, coefficients: Tensor) -> list[int] | None:
        sizes.append(len(latents))
        return {2: [0, 4, 5], 3: [0, 2]}.get(i)

    options = {"gradient": gradient, "sampler": sampler}
    found = together(pipe, callback=leave, **options)
    whole = torch.cat([alone(pipe, wish, **options) for wish in WISHES])
    assert sizes == [6, 6, 3, 2, 2]
    assert torch.equal(found, whole[[0, 5]])


def test_rows_of_who_left_are_not_computed(pipe: RealCompo) -> None:
    found = pipe(
        PROMPT,
        layout=LAYOUT,
        num_images=4,
        steps=4,
        sampler="ddim",
        gradient="spatial",
        callback=lambda i, *_: [1] if i == 1 else None,
    )
    assert found.stats.rows["spatial"] == 2 * (4 + 3 * 1)
    assert len(found.images) == 1


def test_a_callback_that_keeps_nothing_is_told_so(pipe: RealCompo) -> None:
    with pytest.raises(RealCompoError, match="keeps no image"):
        pipe(PROMPT, layout=LAYOUT, steps=2, callback=lambda *_: [])


def test_a_trace_may_be_told_as_it_comes_and_a_callback_may_decode(pipe: RealCompo) -> None:
    heard: list[TraceStep] = []
    seen: list[tuple[int, bytes]] = []

    def look(i: int, evaluations: int, latents: Tensor, coefficients: Tensor) -> None:
        seen.append((len(heard), pipe.decode(latents)[0].tobytes()))

    options: dict[str, Any] = {"layout": LAYOUT, "steps": 4, "sampler": "ddim"}
    found = pipe(PROMPT, trace=heard.append, callback=look, **options)
    plain = pipe(PROMPT, trace=True, **options)
    assert [count for count, _ in seen] == [1, 2, 3, 4]  # each entry comes before its callback
    assert seen[-1][1] == found.images[0].tobytes() == plain.images[0].tobytes()
    assert found.trace == [] and [float(one.loss) for one in heard] == [float(one.loss) for one in plain.trace]


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"seeds": [1]}, "1 seeds for 2 prompts; give one each"),
        ({"seeds": [1, -1]}, "seeds=-1 is out of range"),
        ({"seeds": [1, 2**70]}, "seeds=.* is out of range"),
        ({"num_images": [1]}, "1 numbers of images for 2 prompts"),
        ({"num_images": [1, 0]}, "num_images=0 is out of range"),
    ],
)
def test_lists_that_do_not_go_together(pipe: RealCompo, told: dict[str, Any], message: str) -> None:
    with pytest.raises(RealCompoError, match=message):
        pipe(["a ball", "a ring"], gradient="text_to_image", steps=1, **told)


def test_check_says_what_a_call_would_say(pipe: RealCompo) -> None:
    with pytest.raises(RealCompoError, match="does not contain the region's phrase"):
        pipe.check("a ring", layout=LAYOUT)
    with pytest.raises(RealCompoError, match="needs a layout"):
        pipe.check("a ring")
    with pytest.raises(RealCompoError, match="at most 5"):
        pipe.check("a ring", layout=Layout([Region("ring", box=(0, 0, 1, 1))] * 6))
    with pytest.raises(RealCompoError, match="leave coefficients out"):
        pipe.check("a ring", layout=Layout([]), gradient="fixed:0.5", coefficients="equal")
    assert pipe.check(PROMPT, layout=LAYOUT) == []
    assert pipe.check("a zebra", gradient="text_to_image") == ["the text encoder does not know these words: zebra"]
