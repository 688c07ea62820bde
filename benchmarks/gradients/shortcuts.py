"""A cheap gradient to try: the attention loss's, on the way that skips every branch of the UNets.

Residual networks carry their input past their branches. If the gradient takes these shortcuts alone, what is left of a
backward pass are the map layers' query projections, the convolutions that change size or width, and the sums of skips.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention import FeedForward, GatedSelfAttentionDense
from diffusers.models.attention_processor import Attention
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from torch import Tensor, nn

from benchmarks.drawing import SceneSampling
from benchmarks.eager.realcompo import EagerRealCompo
from benchmarks.eager.settings import Settings
from benchmarks.tabletop.layouts import layout_of
from benchmarks.tabletop.scenes import Scene


def shortcut_and_exact(
    eager: EagerRealCompo, scenes: Sequence[Scene], sampling: SceneSampling
) -> tuple[Tensor, Tensor]:
    """Both gradients (evaluations that update, images, 2hw), from the states of a DDIM run whose coefficients stay."""
    settings = Settings(sampling.steps, sampling.guidance_scale, sampler="ddim", coefficient_scale=0.0)
    shortcut, exact = zip(
        *(_of_batch(eager, scenes[i : i + sampling.batch], settings) for i in range(0, len(scenes), sampling.batch)),
        strict=True,
    )
    return torch.cat(shortcut, dim=1), torch.cat(exact, dim=1)


@contextmanager
def only_shortcuts(unet: UNet2DConditionModel) -> Iterator[None]:
    """While the block lasts, gradients pass no branch of the UNet; what it computes stays the same."""
    with ExitStack() as stack:
        for module in unet.modules():
            if hook := _hook_of(module):
                stack.callback(module.register_forward_hook(hook, with_kwargs=True).remove)
        yield


def _of_batch(eager: EagerRealCompo, scenes: Sequence[Scene], settings: Settings) -> tuple[Tensor, Tensor]:
    prompts, layouts = [scene.caption for scene in scenes], [layout_of(scene) for scene in scenes]
    generator = torch.Generator().manual_seed(len(scenes))
    latents, coefficients = (torch.randn(len(scenes), n, *eager.latent_size, generator=generator) for n in (4, 2))
    run, found = eager.prepare(prompts, layouts, settings), eager(prompts, layouts, latents, coefficients, settings)
    updates = [evaluation for evaluation in found.evaluations if evaluation.gradient is not None]
    with ExitStack() as stack:
        for unet in eager.unets.values():
            stack.enter_context(only_shortcuts(unet))
        short = [eager.gradient_at(run, e.latents, e.coefficients_before, e.timestep) for e in updates]
    exact = [evaluation.gradient for evaluation in updates if evaluation.gradient is not None]
    return torch.stack(short).flatten(2), torch.stack(exact).flatten(2)


def _hook_of(module: nn.Module) -> Any:
    match module:
        case ResnetBlock2D():
            return _keep_shortcut
        case Transformer2DModel():
            return _keep_residual
        case Attention() | FeedForward() | GatedSelfAttentionDense():
            return _block
    return None


def _keep_shortcut(block: ResnetBlock2D, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Tensor:
    shortcut = block.conv_shortcut(args[0]) if block.conv_shortcut is not None else args[0]
    return _as_if(output, shortcut)


def _keep_residual(
    _: Transformer2DModel, args: tuple[Any, ...], kwargs: dict[str, Any], output: tuple[Tensor, ...]
) -> tuple[Tensor, ...]:
    return (_as_if(output[0], args[0] if args else kwargs["hidden_states"]), *output[1:])


def _block(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Tensor:
    """A fuser adds its input itself."""
    return _as_if(output, args[0]) if isinstance(module, GatedSelfAttentionDense) else output.detach()


def _as_if(value: Tensor, way: Tensor) -> Tensor:
    """The value, with the gradient of `way`."""
    return value.detach() + (way - way.detach())
