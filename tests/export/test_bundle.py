"""The session's bundle: its ONNX graphs on ONNX Runtime against the stock models, and its manifest."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from tokenizers import Tokenizer

from export.checkpoints.folders import Checkpoints
from export.engines import engines_of, load_graph, signature
from export.graphs.engine import example_inputs
from export.graphs.geometry import Geometry
from export.onnx.verify import check_errors, expected_outputs, relative_errors
from runtime.bundle.manifest import Manifest, check_files, read_manifest, sha256_of
from runtime.errors import RealCompoError
from runtime.words import Role
from tests.export.conftest import TOKENS, WIDTH, WORDS


@pytest.fixture(scope="session")
def manifest(bundle: Path) -> Manifest:
    return read_manifest(bundle)


def run(bundle: Path, manifest: Manifest, role: Role, inputs: dict[str, torch.Tensor]) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(bundle / manifest.engines[role].graph[0].name)
    return session.run(None, {name: value.numpy() for name, value in inputs.items()})


@pytest.mark.parametrize("role", tuple(engines_of("gligen")))
def test_any_batch_gives_the_same_rows(bundle: Path, manifest: Manifest, geometry: Geometry, role: Role) -> None:
    inputs = example_inputs(signature(role, geometry), 4, geometry.vocabulary)
    together = run(bundle, manifest, role, inputs)
    for rows in (1, 2, 3):
        some = run(bundle, manifest, role, {name: value[:rows] for name, value in inputs.items()})
        for a, b in zip(some, together, strict=True):
            np.testing.assert_allclose(a, b[:rows], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_spatial_engine_is_diffusers_gligen(bundle: Path, manifest: Manifest, checkpoints: Checkpoints) -> None:
    unet = UNet2DConditionModel.from_pretrained(checkpoints.spatial.folder / "unet", torch_dtype=torch.float32)
    boxes, phrases, masks = torch.rand(2, 30, 4), torch.randn(2, 30, WIDTH), torch.zeros(2, 30)
    masks[:, :3] = 1
    tokens = run(bundle, manifest, "grounding", {"boxes": boxes, "phrase_embeddings": phrases, "masks": masks})[0]
    step = {
        "latents": torch.randn(2, 4, 8, 8),
        "timestep": torch.tensor([981.0, 1.0]),
        "encoder_hidden_states": torch.randn(2, TOKENS, WIDTH),
    }
    conditions = {"object_tokens": torch.from_numpy(tokens), "grounding_scale": torch.ones(2)}
    noise_pred, maps = run(bundle, manifest, "spatial", {**step, **conditions})
    gligen = {"boxes": boxes, "positive_embeddings": phrases, "masks": masks}
    expected = unet(*step.values(), cross_attention_kwargs={"gligen": gligen}).sample
    np.testing.assert_allclose(noise_pred, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(maps.sum(-1), 1, rtol=1e-5)


@torch.no_grad()
def test_maps_of_the_engine_are_the_graphs(
    bundle: Path, manifest: Manifest, checkpoints: Checkpoints, geometry: Geometry
) -> None:
    inputs = example_inputs(signature("text_to_image", geometry), 3, geometry.vocabulary)
    expected = load_graph("text_to_image", checkpoints, geometry)(**inputs)[1]
    np.testing.assert_allclose(run(bundle, manifest, "text_to_image", inputs)[1], expected, rtol=1e-4, atol=1e-6)


def test_manifest_tells_the_pair(bundle: Path, manifest: Manifest) -> None:
    check_files(bundle, manifest)
    assert set(manifest.engines) == set(engines_of("gligen"))
    assert manifest.latent_shape == (4, 8, 8)
    assert manifest.image_size == (16, 16)
    assert manifest.latent_scale == 0.5
    assert manifest.maps.resolution == (8, 8)
    assert manifest.maps.layers["spatial"] == (
        "down_blocks.0.attentions.0.transformer_blocks.0.attn2",
        "up_blocks.1.attentions.0.transformer_blocks.0.attn2",
        "up_blocks.1.attentions.1.transformer_blocks.0.attn2",
    )
    assert DDIMScheduler.from_config(manifest.scheduler).config.beta_schedule == "scaled_linear"
    assert all(error < 1e-4 for engine in manifest.engines.values() for error in engine.verification.values())


def test_declared_tensors_are_the_files_own(bundle: Path, manifest: Manifest) -> None:
    for engine in manifest.engines.values():
        graph = onnx.load(bundle / engine.graph[0].name).graph
        for declared, found in ((engine.inputs, graph.input), (engine.outputs, graph.output)):
            shapes = [[d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim] for value in found]
            assert [(t.name, list(t.shape)) for t in declared] == [
                (value.name, shape) for value, shape in zip(found, shapes, strict=True)
            ]


def test_graphs_carry_nothing_of_the_exporting_machine(bundle: Path, manifest: Manifest) -> None:
    for engine in manifest.engines.values():
        content = (bundle / engine.graph[0].name).read_bytes()
        assert str(Path.cwd()).encode() not in content
        assert sha256_of(bundle / engine.graph[0].name) == engine.graph[0].sha256


def test_not_a_number_is_not_verified(
    bundle: Path, manifest: Manifest, checkpoints: Checkpoints, geometry: Geometry
) -> None:
    graph = load_graph("grounding", checkpoints, geometry)
    torch.nn.init.constant_(next(graph.parameters()), torch.nan)
    path = bundle / manifest.engines["grounding"].graph[0].name
    takes = signature("grounding", geometry)
    errors = relative_errors(expected_outputs(graph, takes, geometry.vocabulary), path, takes, geometry.vocabulary)
    with pytest.raises(RealCompoError, match="object_tokens differs from PyTorch by nan"):
        check_errors("grounding", errors, "fp32")


def test_tokenizer_cuts_and_pads(bundle: Path, manifest: Manifest) -> None:
    tokenizer = Tokenizer.from_file(str(bundle / manifest.tokenizer.name))
    end = WORDS.index("<|endoftext|>")
    assert tokenizer.encode("a red ball").ids == [0, 1, 2, end, end, end]
    assert len(tokenizer.encode("a red ball " * 4).ids) == manifest.max_tokens == TOKENS
