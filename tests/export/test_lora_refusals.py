"""LoRA files that are refused: one line each, below 300 characters, that names one tensor, and nothing is written."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from export.checkpoints.lora import fuse_loras
from export.pairs import Lora, Pair
from runtime.bundle.manifest import Target
from runtime.errors import RealCompoError
from tests.export.lora_files import RANK
from tests.export.test_lora_kinds import CONV, DOWN, GOOD, UP, Q, fuse


def refusal(pair: Pair, tensors: Mapping[str, Tensor], folder: Path, settings: str | None = None) -> str:
    with pytest.raises(RealCompoError) as caught:
        fuse(pair, tensors, folder, settings=settings)
    line = str(caught.value)
    assert len(line) <= 300 and "\n" not in line and not list(folder.glob("loras/text_to_image-*"))
    return line


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({UP: None}, "to_q.lora_A.weight stands without its up"),
        ({DOWN: None}, "to_q.lora_B.weight stands without its down"),
        ({f"{CONV}.alpha": torch.tensor(1.0)}, "conv1.alpha: a layer with alpha is of no known kind"),
        ({f"{Q}.diff": torch.ones(8, 8)}, "a layer with diff, down, up is of no known kind"),
        ({f"{Q}.lora_down.weight": torch.ones(RANK, 8)}, "are the same part of one layer"),
        ({UP: torch.ones(8, 3)}, "its matrices do not fit each other: down [2, 8], up [8, 3]"),
        ({UP: torch.ones(9, RANK)}, "it changes [9, 8] where the model has [8, 8]"),
        ({UP: torch.ones(1, RANK)}, "it changes [1, 8] where the model has [8, 8]"),
        ({UP: torch.ones(RANK)}, "its matrices do not fit each other"),
        ({UP: torch.ones(8, 0), DOWN: torch.ones(0, 8)}, "its rank is 0"),
        ({UP: torch.full((8, RANK), float("inf"))}, "lora_B.weight is not finite"),
        ({UP: torch.full((8, RANK), 3e38)}, "would not be finite in float32"),
        ({UP: torch.ones(8, RANK, dtype=torch.int64)}, "lora_B.weight holds int64, no weights"),
        ({f"{Q}.alpha": torch.ones(2)}, "its alpha has shape [2] and is no number"),
        ({f"{Q}.alpha": torch.tensor(float("nan"))}, "to_q.alpha is not finite"),
        ({f"{Q}.lora_B.bias": torch.ones(8)}, "to_q.lora_B.bias changes a bias, and this layer of the model has none"),
        ({f"{CONV}.diff_b": torch.ones(9)}, "conv1.diff_b has shape [9] where the model's bias has [8]"),
        ({f"{Q}.dora_scale": torch.ones(7, 1)}, "its dora_scale [7, 1] does not fit a weight of [8, 8]"),
        ({f"{Q}.strange": torch.ones(1)}, "no place for unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2"),
        ({"unet.strange.lora_A.weight": torch.ones(1), "a.b": torch.ones(1)}, "no place for a.b and 1 others"),
        ({"lora_te2_text_projection.alpha": torch.ones(1)}, "no place for lora_te2_text_projection.alpha"),
        ({f"{Q}.oft_blocks": torch.ones(1)}, "oft_blocks is of OFT, which is not fused"),
        ({f"{Q}.a1.weight": torch.ones(1)}, "a1.weight is of GLoRA, which is not fused"),
        ({"bundle_emb.x.string_to_param.*": torch.ones(1)}, "is of a textual inversion, which is not fused"),
        ({f"x{'y' * 400}\n.lora_A.weight": torch.ones(1)}, "no place for xyyyy"),
        ({DOWN: None, UP: None, "conv_in.weight": torch.ones(1)}, "it is no LoRA; it has weights such as conv_in"),
        ({DOWN: None, UP: None}, "it is no LoRA; it has weights such as none"),
        ({f"{CONV}.lokr_w1": torch.ones(2, 4), f"{CONV}.lokr_w2": torch.ones(9, 9)}, "it changes [18, 36] where"),
        ({f"{CONV}.lokr_w1": torch.ones(2), f"{CONV}.lokr_w2": torch.ones(4, 2, 3, 3)}, "lokr_w1 [2], lokr_w2 [4,"),
        ({f"{CONV}.hada_w1_a": torch.ones(2, 2)}, "hada_w1_a stands without its hada_w1_b, hada_w2_a, hada_w2_b"),
    ],
)
def test_refusals(pair: Pair, change: dict[str, Tensor | None], why: str, tmp_path: Path) -> None:
    tensors = {name: tensor for name, tensor in (GOOD | change).items() if tensor is not None}
    assert why in refusal(pair, tensors, tmp_path)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({UP: torch.ones(9, RANK)}, "it changes [9, 8] where the model has [8, 8]"),
        ({UP: torch.full((8, RANK), 3e38)}, "would not be finite in float"),
        ({"lora_te2_text_projection.alpha": torch.ones(1)}, "no place for lora_te2_text_projection.alpha"),
    ],
)
@pytest.mark.parametrize(
    ("into", "model"), [("text_to_image", "text-to-image"), ("spatial", "spatial"), ("both", "text-to-image")]
)
def test_a_refusal_names_the_model(
    pair: Pair, change: dict[str, Tensor], why: str, into: Target, model: str, tmp_path: Path
) -> None:
    """The one that the LoRA was sent into, or the first of both."""
    save_file(GOOD | change, tmp_path / "file.safetensors")
    with pytest.raises(RealCompoError, match=f"does not fit the {model} model: ") as caught:
        fuse_loras(replace(pair, loras=(Lora(str(tmp_path / "file.safetensors"), 1.0, into),)), tmp_path / "loras")
    assert why in str(caught.value)


@pytest.mark.parametrize(
    ("metadata", "why"),
    [
        ("[", "is no JSON"),
        ("[1]", "is no JSON object"),
        ("[" * 100_000, "is no JSON"),
        ('{"unet.lora_alpha": "much"}', "has unet.lora_alpha"),
        ('{"unet.lora_alpha": 1e999}', "has unet.lora_alpha"),
        ('{"unet.alpha_pattern": {"to_(q|k)": 2}}', "has unet.alpha_pattern"),
        ('{"unet.init_lora_weights": "pissa_niter_4"}', "has unet.init_lora_weights"),
    ],
)
def test_settings_that_are_refused(pair: Pair, metadata: str, why: str, tmp_path: Path) -> None:
    assert why in refusal(pair, GOOD, tmp_path, metadata)


@pytest.mark.parametrize("size", [0, 4, 8, 100, -1, -40])
def test_truncated_files(pair: Pair, size: int, tmp_path: Path) -> None:
    save_file(GOOD, tmp_path / "whole.safetensors")
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "whole.safetensors").read_bytes()[:size])
    with pytest.raises(RealCompoError, match=r"^--lora .*cut\.safetensors is damaged: [^\n]*$") as caught:
        fuse_loras(replace(pair, loras=(Lora(str(tmp_path / "cut.safetensors"), 1.0),)), tmp_path)
    assert len(str(caught.value)) <= 300


@pytest.mark.parametrize("kind", ["C64", "F8_E8M0", "F8_E4M3", "F4", "U16", "BOOL", "nonsense"])
def test_types_that_are_no_weights(pair: Pair, kind: str, tmp_path: Path) -> None:
    """Or are those of a damaged file; fp8 is refused only because these bytes are not finite."""
    size = 32 * {"C64": 8, "U16": 2}.get(kind, 1)
    header = json.dumps({DOWN: {"dtype": kind, "shape": [4, 8], "data_offsets": [0, size]}}).encode()
    content = b"\xff" * size
    (tmp_path / "strange.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + content)
    with pytest.raises(RealCompoError, match=r"^--lora .*strange\.safetensors [^\n]*$") as caught:
        fuse_loras(replace(pair, loras=(Lora(str(tmp_path / "strange.safetensors"), 1.0),)), tmp_path)
    assert len(str(caught.value)) <= 300


def test_a_damaged_base_model(own_pair: Pair, tmp_path: Path) -> None:
    file = Path(own_pair.text_to_image) / "unet" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(RealCompoError, match=r"unet/[^\n]* is no whole .safetensors file: [^\n]*$"):
        fuse(own_pair, GOOD, tmp_path)
