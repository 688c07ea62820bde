"""The released form over whole runs of a tiny pair that predicts noise, against the eager RealCompo in that form."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks.eager.realcompo import EagerRealCompo
from benchmarks.eager.settings import RELEASED_LAYOUT, Settings
from export.pairs import Pair
from runtime import Layout, RealCompo, Region
from tests.export.conftest import TOKENS

PROMPT = "red ball"
LAYOUT = Layout([Region("a red ball", box=(0.1, 0.1, 0.6, 0.7)), Region("a", box=(0.5, 0.4, 0.9, 1.0), tokens=[1])])
SCALE = 3e8  # the tiny pair hardly looks at its latents


@pytest.fixture(scope="module")
def pipe(bundle: Path) -> RealCompo:
    return RealCompo.load(bundle)


@pytest.fixture(scope="module")
def eager(pair: Pair) -> EagerRealCompo:
    eager = EagerRealCompo.load(pair.text_to_image, pair.spatial)
    eager.texts.tokenizer.model_max_length = TOKENS
    return eager


def relative_error(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


def test_it_follows_the_eager_run_over_50_steps(pipe: RealCompo, eager: EagerRealCompo) -> None:
    """Both draw their coefficients themselves."""
    assert pipe.manifest.scheduler["prediction_type"] == "epsilon"
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(11))
    form = replace(RELEASED_LAYOUT, repeats_forwards=False)
    settings = Settings(50, 3.0, coefficient_scale=SCALE, form=form)
    wanted = eager([PROMPT] * 2, [LAYOUT] * 2, latents, settings=settings)
    found = pipe(
        [PROMPT] * 2,
        layout=LAYOUT,
        latents=latents,
        guidance_scale=3.0,
        coefficient_scale=SCALE,
        form="released",
        trace=True,
    )
    assert len(found.trace) == len(wanted.evaluations) == 51
    for step, evaluation in zip(found.trace, wanted.evaluations, strict=True):
        assert relative_error(step.coefficients, evaluation.coefficients) < 1e-3
        assert (step.gradient is None) is (evaluation.gradient is None)
    assert relative_error(found.latents, wanted.latents) < 1e-3
    assert (wanted.coefficients - wanted.evaluations[0].coefficients_before).abs().max() > 0.3
