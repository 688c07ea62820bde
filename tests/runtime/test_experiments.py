"""What experiments ask of the pipeline: another gradient in place of its own, and where the models look."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from runtime import Layout, RealCompo, RealCompoError
from runtime.denoising.balancer import Attention, Regions
from runtime.denoising.evaluation import Change
from runtime.output import Output
from runtime.words import MODELS
from tests.runtime.test_pipeline import LAYOUT, PROMPT, Oracle, first_latents, oracle

__all__ = ["oracle"]  # a fixture

TOKENS = ((2, 3), (6, 7))  # of "red ball" and "blue cube" in the prompt, whose articles say nothing
OTHER = Layout(LAYOUT.regions[::-1])
SCALE = 1e3


def draw(pipe: RealCompo, **options: object) -> Output:
    told = {"steps": 4, "seed": 3, "switch_step": 1, "sampler": "ddim", "coefficient_scale": SCALE, **options}
    return pipe([PROMPT, PROMPT], layout=[LAYOUT, OTHER], trace=True, **told)


def alone(change: Callable[[Tensor], Tensor]) -> Change:
    """Of the gradient alone, whatever the balancer sees."""
    return lambda gradient, _attention, _regions: change(gradient)


def test_no_gradient_at_all_leaves_the_coefficients_as_drawn(pipe: RealCompo) -> None:
    still, none = draw(pipe, change_gradient=alone(torch.zeros_like)), draw(pipe, gradient="none")
    assert torch.equal(still.latents, none.latents)
    assert not torch.equal(draw(pipe).latents, none.latents)


def test_the_coefficients_move_down_what_was_made_of_the_gradient(pipe: RealCompo) -> None:
    """At the first update the state is the same, whatever comes of its gradient."""
    own = draw(pipe).trace[1].gradient
    assert own is not None

    def other_image(gradient: Tensor) -> Tensor:
        return gradient.roll(1, dims=0)

    for change, wanted in ((other_image, own.flip(0)), (torch.neg, -own)):
        before, after = draw(pipe, change_gradient=alone(change)).trace[:2]
        torch.testing.assert_close(after.gradient, wanted)
        moved = after.coefficients - before.coefficients
        assert torch.cosine_similarity(moved.flatten(), -wanted.flatten(), dim=0) > 0.9999


def test_a_change_is_told_what_the_balancer_sees(pipe: RealCompo) -> None:
    """Before the update, as a trace has it, and the regions of each image."""
    told: list[tuple[Attention, Regions]] = []

    def change(gradient: Tensor, attention: Attention, regions: Regions) -> Tensor:
        told.append((attention, regions))
        return gradient

    (_, first, *_) = draw(pipe, change_gradient=change).trace
    attention, regions = told[0]
    torch.testing.assert_close(attention.loss, first.loss)
    torch.testing.assert_close(attention.region_maps[:, :2], first.region_maps)
    assert regions.weights.sum(1).tolist() == [2, 2] and not torch.equal(regions.masks[0], regions.masks[1])


def test_where_each_model_looks(pipe: RealCompo, oracle: Oracle) -> None:
    latents, timestep = first_latents(), 401
    found = pipe.region_maps(PROMPT, layout=LAYOUT, latents=latents, timestep=timestep)
    assert set(found) == set(MODELS)
    for model, maps in found.items():
        grounding = (oracle.objects(True), torch.ones(1)) if model == "spatial" else ()
        with torch.no_grad():
            seen = oracle.nets[model](latents, torch.tensor([timestep]), oracle.text(PROMPT)[0], *grounding)[1][0]
        wanted = torch.stack([seen[:, list(tokens)].mean(1) for tokens in TOKENS])
        torch.testing.assert_close(maps[0], wanted, rtol=1e-4, atol=1e-6)


def test_latents_of_another_size_are_refused(pipe: RealCompo) -> None:
    with pytest.raises(RealCompoError, match=r"latents has shape \(1, 4, 2, 2\); these images take \(1, 4, 8, 8\)"):
        pipe.region_maps(PROMPT, layout=LAYOUT, latents=torch.zeros(1, 4, 2, 2), timestep=1)
