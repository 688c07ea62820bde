"""Configs as repositories have them: fields that are missing, older names, schedulers of other kinds."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import LCMScheduler, UNet2DConditionModel
from tokenizers import Tokenizer
from transformers import CLIPTextModel, CLIPTokenizer

from export.build import Options, build
from export.checkpoints.configs import complete_schedule, native_size
from export.checkpoints.folders import Checkpoint, load_text_encoder, load_unet, load_vae
from export.checkpoints.tokenizer import tokenizer_json
from export.graphs.models import TextEncoder
from export.measure import measure
from export.pairs import Pair
from runtime.errors import RealCompoError
from tests.export.opening import open_checkpoints


def change(folder: str | Path, **fields: Any) -> None:
    """Set a config's fields; `...` takes one out."""
    file = next(path for name in ("config", "scheduler_config") if (path := Path(folder) / f"{name}.json").is_file())
    changed = json.loads(file.read_text()) | fields
    file.write_text(json.dumps({name: value for name, value in changed.items() if value is not ...}))


def optional_fields(unet: Path) -> list[str]:
    """Those whose value is diffusers' default."""
    config = json.loads((unet / "config.json").read_text())
    with torch.device("meta"):
        usual = UNet2DConditionModel().config
    return [name for name, value in usual.items() if config.get(name, 0) == value]


@pytest.mark.parametrize("field", ["use_gated_attention", "enable_gligen"])
def test_gligen_before_attention_type_had_its_name(own_pair: Pair, field: str, capfd: pytest.CaptureFixture) -> None:
    expected = load_unet(open_checkpoints(own_pair.text_to_image, own_pair.spatial).spatial)
    change(f"{own_pair.spatial}/unet", attention_type=..., **{field: True})
    found = load_unet(open_checkpoints(own_pair.text_to_image, own_pair.spatial).spatial)
    assert found.config.attention_type == "gated"
    assert found.state_dict().keys() == expected.state_dict().keys()
    assert capfd.readouterr().err == ""


def test_fields_that_are_missing_have_diffusers_defaults(own_pair: Pair) -> None:
    expected = measure(open_checkpoints(own_pair.text_to_image, own_pair.spatial))
    for folder in (own_pair.text_to_image, own_pair.spatial):
        change(f"{folder}/unet", **dict.fromkeys(optional_fields(Path(folder) / "unet"), ...))
    opened = open_checkpoints(own_pair.text_to_image, own_pair.spatial)
    assert measure(opened) == expected
    stock = UNet2DConditionModel.from_pretrained(Path(own_pair.text_to_image) / "unet")
    found = load_unet(opened.text_to_image).state_dict()
    assert all(torch.equal(found[name], weight) for name, weight in stock.state_dict().items())


@pytest.mark.parametrize(("size", "expected"), [(8, (16, 16)), ([8, 8], (16, 16)), ([8, 4], (16, 8)), ([4], (8, 8))])
def test_sizes_of_one_or_two_numbers(own_pair: Pair, size: Any, expected: tuple[int, int]) -> None:
    change(f"{own_pair.text_to_image}/unet", sample_size=size)
    change(f"{own_pair.spatial}/unet", sample_size=None)
    assert measure(open_checkpoints(own_pair.text_to_image, own_pair.spatial)).image_size == expected


@pytest.mark.parametrize("size", [None, ..., "8", [8, None], [1, 2, 3]])
def test_no_size_to_go_by(own_pair: Pair, size: Any) -> None:
    change(f"{own_pair.text_to_image}/unet", sample_size=size)
    opened = open_checkpoints(own_pair.text_to_image, own_pair.spatial)
    with pytest.raises(RealCompoError, match="no sample_size to go by; give both --height and --width"):
        measure(opened, height=16)
    assert measure(opened, 16, 8).image_size == (16, 8)


@pytest.mark.parametrize("field", ["block_out_channels", "down_block_types", "up_block_types"])
def test_a_vae_that_is_not_as_its_config_says(own_pair: Pair, field: str) -> None:
    change(f"{own_pair.text_to_image}/vae", **{field: ...})
    with pytest.raises(RealCompoError, match=r"vae (cannot be loaded: |has .* weights that its config does not tell)"):
        load_vae(open_checkpoints(own_pair.text_to_image, own_pair.spatial).text_to_image)


def test_eos_token_2(own_pair: Pair) -> None:
    """As in Stable Diffusion's own text encoder: the end is then the token of the highest number."""
    folder = Path(own_pair.text_to_image) / "text_encoder"
    change(folder, eos_token_id=2)
    ids = torch.tensor([[3, 0, 1, 4, 4, 4], [3, 1, 4, 0, 0, 0]])
    graph = TextEncoder(load_text_encoder(open_checkpoints(own_pair.text_to_image, own_pair.spatial).text_to_image))
    hidden, pooled = graph(ids)
    stock = CLIPTextModel.from_pretrained(folder)(ids)
    assert torch.equal(pooled, stock.pooler_output) and torch.equal(hidden, stock.last_hidden_state)
    assert torch.equal(pooled, hidden[torch.arange(2), torch.tensor([3, 2])])


def test_a_scheduler_of_another_class_has_its_own_defaults() -> None:
    found = complete_schedule({"_class_name": "LCMScheduler"}, Path("x"))
    stock = LCMScheduler().config
    assert {name: stock[name] for name in ("beta_start", "beta_end", "beta_schedule")}.items() <= found.items()
    assert "timestep_spacing" not in found


@pytest.mark.parametrize("name", ["FlowMatchEulerDiscreteScheduler", "EDMEulerScheduler"])
def test_schedulers_without_betas(own_pair: Pair, name: str) -> None:
    folder = Path(own_pair.text_to_image) / "scheduler"
    (folder / "scheduler_config.json").write_text(json.dumps({"_class_name": name, "num_train_timesteps": 1000}))
    with pytest.raises(RealCompoError, match=f"a {name} has no beta_schedule"):
        open_checkpoints(own_pair.text_to_image, own_pair.spatial)


def test_what_no_sampler_can_draw_is_refused_before_the_build(own_pair: Pair, tmp_path: Path) -> None:
    change(f"{own_pair.text_to_image}/scheduler", rescale_betas_zero_snr=True)
    with pytest.raises(RealCompoError, match=r"no sampler can draw with .*rescale_betas_zero_snr=True"):
        build(own_pair, tmp_path / "out", Options())
    assert not [*(tmp_path / "out").glob("*.onnx")]


def test_what_one_sampler_cannot_draw_is_said(own_pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change(f"{own_pair.text_to_image}/scheduler", _class_name="DPMSolverMultistepScheduler", use_karras_sigmas=True)
    monkeypatch.setattr("export.build._build_parts", lambda *_: (_ for _ in ()).throw(RealCompoError("far enough")))
    notes: list[str] = []
    with pytest.raises(RealCompoError, match="far enough"):
        build(own_pair, tmp_path / "out", Options(), tell=notes.append)
    (note,) = notes
    assert note.startswith("the sampler dpm++2m cannot draw with this model: ") and "use_karras_sigmas" in note


def test_vocabulary_and_merges_alone(tmp_path: Path) -> None:
    folder = tmp_path / "tokenizer"
    folder.mkdir()
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "config.json").write_text(json.dumps({"cross_attention_dim": 768}))  # tells the family
    words = ["r", "e", "d</w>", "a</w>", "re", "red</w>", "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\nr e\nre d</w>\n")
    made = Tokenizer.from_str(tokenizer_json(Checkpoint("text_to_image", "x", None, tmp_path), 8).decode())
    stock = CLIPTokenizer.from_pretrained(folder)
    expected = stock("a red", padding="max_length", max_length=8).input_ids
    assert made.encode("a red").ids == expected


def test_native_size_of_a_config() -> None:
    assert native_size({"sample_size": 64}) == (64, 64)
    assert native_size({}) is None
