"""The same call to diffusers' own GLIGEN pipeline and to a bundle, on the demo pair's real networks."""

from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.eager.stock import stock_spatial
from export.checkpoints.folders import ROOT
from runtime import Layout, RealCompo, RealCompoError, Region
from runtime.diffusers_like import RealCompoPipeline

PAIR = ROOT / "engines" / "tabletop"
CALL: dict[str, Any] = {
    "prompt": "a red ball and a blue cube",
    "gligen_phrases": ["a red ball", "a blue cube"],
    "gligen_boxes": [[0.08, 0.50, 0.46, 0.88], [0.56, 0.12, 0.94, 0.50]],
    "gligen_scheduled_sampling_beta": 0.5,
    "num_inference_steps": 6,
    "guidance_scale": 2.5,
}


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def pipe(tabletop: RealCompo) -> RealCompoPipeline:
    return RealCompoPipeline(tabletop)


@pytest.mark.parametrize("many", [False, True])
def test_the_spatial_model_alone_draws_what_diffusers_draws(pipe: RealCompoPipeline, many: bool) -> None:
    """Images of 8 bits, and latents; with one generator for both images, or one each."""
    stock = stock_spatial(PAIR / "text_to_image", PAIR / "spatial")

    def told() -> dict[str, Any]:
        return CALL | {"num_images_per_prompt": 2, "generator": [seeded(3), seeded(4)] if many else seeded(3)}

    theirs = stock(**told(), output_type="latent").images
    ours = pipe(**told(), output_type="latent", gradient="spatial")
    assert isinstance(ours.images, torch.Tensor)
    assert (ours.images - theirs).norm() < 1e-3 * theirs.norm()
    pictures = stock(**told(), output_type="np").images
    assert np.abs(pipe(**told(), output_type="np", gradient="spatial")["images"] - pictures).max() < 0.01


def test_realcompo_draws_what_the_library_draws_with_that_seed(pipe: RealCompoPipeline, tabletop: RealCompo) -> None:
    layout = Layout([Region(*pair) for pair in zip(CALL["gligen_phrases"], CALL["gligen_boxes"], strict=True)])
    told = {"steps": 6, "guidance_scale": 2.5, "grounding_fraction": 0.5, "seed": 3}
    found = tabletop(CALL["prompt"], layout=layout, **told)
    drawn = pipe(**CALL, generator=seeded(3))
    assert np.array_equal(np.asarray(drawn.images[0]), np.asarray(found.images[0]))
    assert drawn[0] is drawn.images and drawn.to_tuple() == (drawn.images, None)
    (images, _) = pipe(**CALL, generator=seeded(3), output_type="pt", return_dict=False)
    assert torch.equal((images[0].permute(1, 2, 0) * 255).round().byte(), torch.from_numpy(np.array(found.images[0])))


def test_a_callback_sees_each_step_and_may_end_the_run(pipe: RealCompoPipeline) -> None:
    seen: list[tuple[int, float]] = []

    def step_end(given: RealCompoPipeline, step: int, timestep: float, tensors: dict[str, Any]) -> dict[str, Any]:
        seen.append((step, timestep))
        given._interrupt = step == 2
        return tensors

    assert len(pipe(**CALL, callback_on_step_end=step_end).images) == 1
    assert [step for step, _ in seen] == [0, 1, 2]
    assert seen[0][1] > seen[2][1]
    assert len(pipe(**CALL).images) == 1  # the next one is not interrupted


def test_a_callback_is_told_the_timesteps_that_are_drawn_at(pipe: RealCompoPipeline) -> None:
    seen: list[float] = []
    own = {"sampler": "ddim", "spacing": "trailing", "num_inference_steps": 4, "gradient": "spatial"}
    pipe(**CALL | own, callback_on_step_end=lambda _, step, timestep, tensors: seen.append(timestep))
    assert seen == [999, 749, 499, 249]  # as diffusers' DDIMScheduler has them


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"height": 512}, "draws 128x128 alone"),
        ({"output_type": "jpg"}, "use one of pil, np, pt, latent"),
        ({"gligen_boxes": []}, "2 gligen_phrases for 0 gligen_boxes"),
        ({"generator": [seeded(1), seeded(2)]}, "2 generators for 1 images"),
    ],
)
def test_what_it_has_not(pipe: RealCompoPipeline, change: dict[str, Any], message: str) -> None:
    with pytest.raises(RealCompoError, match=message):
        pipe(**CALL | change)
