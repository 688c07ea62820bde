"""Random weights in known shapes."""

from dataclasses import replace
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from export.checkpoints import random_weights as architectures
from export.checkpoints.folders import load_attached, load_unet
from export.checkpoints.random_weights import ARCHITECTURES, Architecture, make_controlnet, with_random_weights
from export.measure import measure
from export.pairs import Pair
from export.spatial import find_pair, share_unet
from runtime.errors import RealCompoError
from tests.export.opening import open_checkpoints

TINY = Architecture(
    unet={
        "sample_size": 8,
        "block_out_channels": [8, 16],
        "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
        "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
        "layers_per_block": 1,
        "cross_attention_dim": 16,
        "attention_head_dim": 2,
        "norm_num_groups": 4,
    },
    vae={
        "sample_size": 16,
        "block_out_channels": [8, 8],
        "down_block_types": ["DownEncoderBlock2D"] * 2,
        "up_block_types": ["UpDecoderBlock2D"] * 2,
        "norm_num_groups": 4,
    },
    text_encoder=ARCHITECTURES["sd15-gligen"].text_encoder
    | {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2},
    scheduler=ARCHITECTURES["sd15-gligen"].scheduler,
)


@pytest.fixture
def random_pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pair:
    monkeypatch.setitem(ARCHITECTURES, "sd15-gligen", TINY)
    return with_random_weights(find_pair("sd15-gligen"), tmp_path)


def test_checkpoints_are_whole_and_supported(random_pair: Pair) -> None:
    checkpoints = open_checkpoints(random_pair.text_to_image, random_pair.spatial)
    assert measure(checkpoints).image_size == (16, 16)
    gates = [weight for name, weight in load_unet(checkpoints.spatial).named_parameters() if "alpha" in name]
    assert gates and all(weight.item() == architectures.GATE for weight in gates)


def test_numbers_are_the_same_each_time_and_made_once(random_pair: Pair, tmp_path: Path) -> None:
    weights = {path: path.read_bytes() for path in tmp_path.rglob("*.safetensors")}
    assert len(weights) == 4
    stages: list[str] = []
    with_random_weights(find_pair("sd15-gligen"), tmp_path, stages.append)
    assert stages == []
    with_random_weights(find_pair("sd15-gligen"), tmp_path / "again", stages.append)
    assert len(stages) == 4
    for path, content in weights.items():
        assert (tmp_path / "again" / path.relative_to(tmp_path)).read_bytes() == content


def test_pairs_of_one_unet_are_random_pairs_of_one_unet(
    random_pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not share_unet(open_checkpoints(random_pair.text_to_image, random_pair.spatial))
    monkeypatch.setitem(ARCHITECTURES, "sd14-gligen", replace(TINY, shared_unet=True))
    shared = with_random_weights(find_pair("sd14-gligen"), tmp_path / "shared")
    assert share_unet(open_checkpoints(shared.text_to_image, shared.spatial))


def test_random_controlnets_add_something(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ARCHITECTURES, "sd15-openpose", TINY)
    pair = with_random_weights(find_pair("sd15-openpose", spatial=["a", "depth=b"]), tmp_path)
    assert [control.kind for control in pair.controls] == ["openpose", "depth"]
    checkpoints = open_checkpoints(pair.text_to_image, pair.spatial, [control.model for control in pair.controls])
    assert measure(checkpoints).residuals["mid_residual"] == (16, 4, 4)
    for checkpoint in checkpoints.attached:
        controlnet = load_attached(checkpoint)
        ends = (controlnet.controlnet_cond_embedding.conv_out, *controlnet.controlnet_down_blocks)
        assert all(end.weight.abs().max() > 0 for end in (*ends, controlnet.controlnet_mid_block))


def test_the_tokenizer_spells(random_pair: Pair) -> None:
    tokenizer = Tokenizer.from_file(f"{random_pair.text_to_image}/tokenizer/tokenizer.json")
    encoded = tokenizer.encode("A red ball")
    assert (encoded.ids[0], encoded.ids[-1]) == (49406, 49407)
    assert "".join(encoded.tokens[1:-1]) == "a</w>red</w>ball</w>"


def test_shapes_of_the_published_models() -> None:
    """Parameters of Stable Diffusion 1.5's UNet, of GLIGEN's as diffusers counts them, and of a ControlNet."""
    import torch
    from diffusers import UNet2DConditionModel

    config = ARCHITECTURES["sd15-gligen"].unet
    with torch.device("meta"):
        plain, gated = (UNet2DConditionModel(**config, attention_type=kind) for kind in ("default", "gated"))
    assert sum(weight.numel() for weight in plain.parameters()) == 859_520_964
    assert sum(weight.numel() for weight in gated.parameters()) > 1_050_000_000
    with torch.device("meta"):
        controlnet = make_controlnet(ARCHITECTURES["sd15-openpose"])
    assert sum(weight.numel() for weight in controlnet.parameters()) == 361_279_120


def test_a_pair_with_weights_needs_none(tmp_path: Path) -> None:
    with pytest.raises(RealCompoError, match=r"is for full-size pairs: sd15-gligen, .*; tabletop has"):
        with_random_weights(find_pair("tabletop"), tmp_path)
