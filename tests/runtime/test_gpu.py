"""What only a GPU shows: CUDA graphs, streams, and ONNX Runtime's CUDA provider on the tiny bundle."""

import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor

from runtime import RealCompo
from runtime.backends.streams import Streams
from runtime.check import Finding, check_bundle
from runtime.denoising.capture import TorchGraph
from tests.runtime.test_pipeline import LAYOUT, PROMPT

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")]
SIZE, TURNS = 512, 20  # of products that take a while


def products(factor: Tensor) -> Tensor:
    """factor^TURNS, scaled so that numbers neither grow nor vanish."""
    found = factor
    for _ in range(TURNS - 1):
        found = found @ factor
    return found


def rotation(angle: float) -> Tensor:
    """Of the first two coordinates: its powers are rotations too."""
    turn = torch.eye(SIZE, dtype=torch.float64)
    cosine, sine = torch.cos(torch.tensor(angle)), torch.sin(torch.tensor(angle))
    turn[:2, :2] = torch.tensor([[cosine, -sine], [sine, cosine]])
    return turn


@pytest.mark.parametrize("second", [False, True])
def test_a_graph_computes_what_its_inputs_hold_later(second: bool) -> None:
    device = torch.device("cuda", 0)
    streams = Streams(device, second)
    first, other = (torch.eye(SIZE, dtype=torch.float64, device=device) for _ in range(2))

    def work() -> list[Tensor]:
        return streams.side_by_side([lambda: products(first), lambda: products(other)])

    with streams.own():
        work()
        graph = TorchGraph()
        found = graph.capture(work)
        first.copy_(rotation(0.01))
        other.copy_(rotation(-0.02))
        graph.replay()
    torch.cuda.synchronize()
    torch.testing.assert_close(found[0].cpu(), rotation(0.01 * TURNS), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(found[1].cpu(), rotation(-0.02 * TURNS), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("gradient", ["text_to_image", "spatial", "surrogate", "exact"])
def test_onnx_runtime_on_the_gpu_draws_what_the_cpu_draws(bundle: Path, gradient: str) -> None:
    _need_cuda_provider()
    options = {"layout": LAYOUT, "steps": 4, "seed": 3, "gradient": gradient, "coefficient_scale": 1e3}
    wanted = RealCompo.load(bundle, "onnx", "cpu")(PROMPT, **options).latents
    found = RealCompo.load(bundle, "onnx", "cuda")(PROMPT, **options).latents
    assert float((found.cpu() - wanted).norm() / wanted.norm()) < 1e-3


@pytest.mark.parametrize("second_stream", [False, True])
def test_cuda_graphs_of_several_sizes_stay_valid(bundle: Path, second_stream: bool) -> None:
    """Each size is captured at its second step, and replayed after others have come and gone."""
    _need_cuda_provider()
    options = {"layout": LAYOUT, "steps": 4, "seed": 3, "gradient": "exact", "coefficient_scale": 1e3}
    cpu = RealCompo.load(bundle, "onnx", "cpu")
    gpu = RealCompo.load(bundle, "onnx", "cuda", second_stream=second_stream)
    with warnings.catch_warnings(action="error"):  # a capture that fails warns
        for count in (1, 3, 1, 2, 3):
            wanted = cpu(PROMPT, num_images=count, **options).latents
            found = gpu(PROMPT, num_images=count, **options).latents
            assert float((found.cpu() - wanted).norm() / wanted.norm()) < 1e-3


def test_golden_values_of_the_demo_pair(tabletop_bundle: Path) -> None:
    _need_cuda_provider()
    findings = [one for one in check_bundle(tabletop_bundle, "onnx", "cuda") if isinstance(one, Finding)]
    assert findings and all(one.passed for one in findings), findings


def _need_cuda_provider() -> None:
    import onnxruntime

    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("needs onnxruntime-gpu")
