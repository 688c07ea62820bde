"""LoRA files in every naming and of every kind: each weight is the formula's, in float64, or one line says why not."""

import io
import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from export.checkpoints.lora import fuse_loras
from export.checkpoints.lora_file import read_lora
from export.pairs import Lora, Pair
from runtime.errors import RealCompoError
from tests.export.lora_files import CORES, KINDS, RANK, expected, random_parts
from tests.export.test_sdxl import pair as sdxl_pair

__all__ = ["sdxl_pair"]  # a fixture

PLACES = {
    "unet": "unet/diffusion_pytorch_model.safetensors",
    "text_encoder": "text_encoder/model.safetensors",
    "text_encoder_2": "text_encoder_2/model.safetensors",
}
# Layers by component, with their names in the original code
LAYERS: dict[str, dict[str, dict[str, str]]] = {
    "pair": {
        "unet": {
            "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_out.0": (
                "input_blocks.1.1.transformer_blocks.0.attn2.to_out.0"
            ),
            "down_blocks.0.resnets.0.conv1": "input_blocks.1.0.in_layers.2",
            "down_blocks.0.downsamplers.0.conv": "input_blocks.2.0.op",
            "mid_block.resnets.1.time_emb_proj": "middle_block.2.emb_layers.1",
            "up_blocks.0.upsamplers.0.conv": "output_blocks.1.1.conv",
            "up_blocks.1.attentions.1.proj_in": "output_blocks.3.1.proj_in",
        },
        "text_encoder": dict.fromkeys(("encoder.layers.0.self_attn.q_proj", "encoder.layers.0.mlp.fc1"), ""),
    },
    "sdxl_pair": {
        "unet": {
            "conv_in": "input_blocks.0.0",
            "down_blocks.1.attentions.0.transformer_blocks.1.attn1.to_q": (
                "input_blocks.3.1.transformer_blocks.1.attn1.to_q"
            ),
            "up_blocks.0.upsamplers.0.conv": "output_blocks.1.2.conv",
            "add_embedding.linear_1": "label_emb.0.0",
        },
        "text_encoder": {"encoder.layers.2.self_attn.out_proj": ""},
        "text_encoder_2": dict.fromkeys(("encoder.layers.1.mlp.fc2", "text_projection"), ""),
    },
}


Q = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_q"
DOWN, UP = f"{Q}.lora_A.weight", f"{Q}.lora_B.weight"
GOOD = {DOWN: torch.ones(RANK, 8), UP: torch.ones(8, RANK)}
CONV = "unet.down_blocks.0.resnets.0.conv1"


class Naming(NamedTuple):
    prefixes: Mapping[str, str]  # by component; those that it does not name are left out
    ends: Mapping[str, str]
    joint: str = "."
    original: bool = False
    text_model: str = "text_model."
    old: Mapping[str, str] = {}  # what is otherwise called in a path


KOHYA_ENDS = {"down": ".lora_down.weight", "up": ".lora_up.weight"}
PEFT_ENDS = {"down": ".lora_A.weight", "up": ".lora_B.weight"}
MIDDLE = {"mid": ".lora_mid.weight"}  # in all namings
KOHYA = {"unet": "lora_unet_", "text_encoder": "lora_te_", "text_encoder_2": "lora_te2_"}
DIFFUSERS = {"unet": "unet.", "text_encoder": "text_encoder.", "text_encoder_2": "text_encoder_2."}
OMI = {"unet": "unet.", "text_encoder": "clip_l.", "text_encoder_2": "clip_g."}
CLIP_L, CLIP_G = "text_encoders.clip_l.transformer.", "text_encoders.clip_g.transformer."
COMFYUI = {"unet": "diffusion_model.", "text_encoder": CLIP_L, "text_encoder_2": CLIP_G}
OLDEST = {"to_q": "processor.to_q", "to_out.0": "processor.to_out", "q_proj": "to_q", "out_proj": "to_out"}
NAMINGS: dict[str, Naming] = {
    "kohya": Naming(KOHYA, KOHYA_ENDS, "_"),
    "kohya, SDXL": Naming(KOHYA | {"text_encoder": "lora_te1_"}, KOHYA_ENDS, "_", original=True),
    "LyCORIS": Naming({"unet": "lycoris_"}, KOHYA_ENDS, "_"),
    "LyCORIS, original names": Naming({"unet": "lycoris_"}, KOHYA_ENDS, "_", original=True),
    "diffusers": Naming(DIFFUSERS, PEFT_ENDS),
    "diffusers, new text models": Naming(DIFFUSERS, PEFT_ENDS, text_model=""),
    "diffusers, before PEFT": Naming(DIFFUSERS, {"down": ".lora.down.weight", "up": ".lora.up.weight"}),
    "diffusers, linear layers": Naming(
        DIFFUSERS, {"down": ".lora_linear_layer.down.weight", "up": ".lora_linear_layer.up.weight"}
    ),
    "diffusers, oldest": Naming(DIFFUSERS, {"down": "_lora.down.weight", "up": "_lora.up.weight"}, old=OLDEST),
    "diffusers, UNet alone": Naming({"unet": ""}, {"down": "_lora.down.weight", "up": "_lora.up.weight"}, old=OLDEST),
    "OneTrainer": Naming(
        {"unet": "lora_unet.", "text_encoder": "lora_te1.", "text_encoder_2": "lora_te2."}, KOHYA_ENDS
    ),
    "OneTrainer, OMI": Naming(OMI, KOHYA_ENDS, original=True),
    "PEFT": Naming({"unet": "base_model.model."}, PEFT_ENDS),
    "ComfyUI": Naming(COMFYUI, KOHYA_ENDS, original=True),
    "ComfyUI, diffusers' paths": Naming(COMFYUI, PEFT_ENDS),
}


def layer_name(naming: Naming, component: str, path: str, original: str) -> str:
    spelled = original if naming.original and component == "unet" else path
    if component != "unet" and path != "text_projection":
        spelled = naming.text_model + spelled
    head, end = next(
        ((spelled.removesuffix(end), end) for end in naming.old if spelled.endswith(f".{end}")), (spelled, "")
    )
    return naming.prefixes[component] + (head + naming.old.get(end, "")).replace(".", naming.joint)


def stored(pair: Pair) -> dict[str, dict[str, Tensor]]:
    """A model's weights, without the prefix that some text encoders' have."""
    files = {component: Path(pair.text_to_image) / place for component, place in PLACES.items()}
    loaded = {component: load_file(file) for component, file in files.items() if file.is_file()}
    return {
        component: {name.removeprefix("text_model."): weight for name, weight in weights.items()}
        for component, weights in loaded.items()
    }


class Made(NamedTuple):
    """A file's tensors, and by component and path what they are."""

    tensors: dict[str, Tensor]
    layers: dict[tuple[str, str], tuple[str, dict[str, Tensor]]]


def make(family: str, naming: Naming, kind: str, weights: Mapping[str, Mapping[str, Tensor]], length: str = "") -> Made:
    made = Made({}, {})
    named = [(component, *layer) for component, own in LAYERS[family].items() for layer in own.items()]
    for seed, (component, path, original) in enumerate(named):
        if component in naming.prefixes:
            weight = weights[component][f"{path}.weight"]
            kernel = weight.shape[2:].numel() > 1
            own = kind if kernel or kind not in CORES else "LoRA"
            parts = random_parts(own, tuple(weight.shape), seed, alpha=bool(seed % 3))
            parts |= {"dora_scale": lengths(weight, length)} if length else {}
            made.layers[component, path] = own, parts
            name = layer_name(naming, component, path, original)
            made.tensors.update(
                {name + {**MIDDLE, **naming.ends}.get(part, f".{part}"): value for part, value in parts.items()}
            )
    return made


def lengths(weight: Tensor, of: str) -> Tensor:
    shape = [1] * weight.ndim
    axis = int(of == "inputs")
    shape[axis] = weight.shape[axis]
    return torch.rand(shape, generator=torch.Generator().manual_seed(9)) + 0.5


def fuse(
    pair: Pair, tensors: Mapping[str, Tensor], folder: Path, strength: float = 0.7, settings: str | None = None
) -> Pair:
    metadata = None if settings is None else {"lora_adapter_metadata": settings}
    save_file(dict(tensors), folder / "file.safetensors", metadata=metadata)
    return fuse_loras(replace(pair, loras=(Lora(str(folder / "file.safetensors"), strength),)), folder / "loras")


def assert_fused(found: Pair, before: Pair, layers: Mapping[tuple[str, str], tuple[str, Any]], strength: float) -> None:
    """The layers are the formulas', all else is as it was."""
    was = stored(before)
    for component, weights in stored(found).items():
        for name, weight in weights.items():
            kind = layers.get((component, name.removesuffix(".weight")))
            wanted = expected(was[component][name], *kind, strength) if kind else was[component][name].numpy()
            np.testing.assert_allclose(weight.numpy(), wanted, rtol=2e-5, atol=2e-6, err_msg=name)


@pytest.mark.parametrize("family", LAYERS)
@pytest.mark.parametrize("naming", NAMINGS)
def test_every_naming_of_every_kind(family: str, naming: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """As it is read, before anything is written."""
    weights = stored(request.getfixturevalue(family))
    shapes: Any = {component: {name: list(w.shape) for name, w in own.items()} for component, own in weights.items()}
    for kind in KINDS:
        made = make(family, NAMINGS[naming], kind, weights)
        save_file(made.tensors, tmp_path / "file.safetensors")
        found: dict[tuple[str, str], Tensor] = {}
        for update in read_lora(tmp_path / "file.safetensors", shapes):
            for name, change in update.changes():
                weight = weights[update.layer.component][name]
                found[update.layer.component, name.removesuffix(".weight")] = weight + change(weight, 0.7)
        assert found.keys() == made.layers.keys()
        for (component, path), layer in made.layers.items():
            wanted = expected(weights[component][f"{path}.weight"], *layer, 0.7)
            np.testing.assert_allclose(found[component, path], wanted, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("family", LAYERS)
@pytest.mark.parametrize("kind", ["LoHa", "LoKr with a core"])
def test_fused_models(family: str, kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    pair = request.getfixturevalue(family)
    made = make(family, NAMINGS["kohya, SDXL"], kind, stored(pair))
    assert_fused(fuse(pair, made.tensors, tmp_path), pair, made.layers, 0.7)


@pytest.mark.parametrize("of", ["outputs", "inputs"])
@pytest.mark.parametrize("kind", ["LoRA", "LoHa", "LoKr", "LoCon with a core"])
def test_lengths(pair: Pair, kind: str, of: str, tmp_path: Path) -> None:
    """DoRA, as LyCORIS lays it out, over each kind."""
    made = make("pair", NAMINGS["kohya"], kind, stored(pair), of)
    assert_fused(fuse(pair, made.tensors, tmp_path), pair, made.layers, 0.7)


def test_text_encoders_that_are_stored_with_and_without_text_model(own_pair: Pair, tmp_path: Path) -> None:
    file = Path(own_pair.text_to_image) / PLACES["text_encoder"]
    bare = {name.removeprefix("text_model."): weight for name, weight in load_file(file).items()}
    for number, prefix in enumerate(("", "text_model.")):
        save_file({prefix + name: weight for name, weight in bare.items()}, file, metadata={"format": "pt"})
        folder = tmp_path / str(number)
        folder.mkdir()
        made = make("pair", NAMINGS["kohya"], "LoRA", stored(own_pair))
        assert_fused(fuse(own_pair, made.tensors, folder), own_pair, made.layers, 0.7)


def test_weights_keep_their_type_and_their_shards_become_one_file(own_pair: Pair, tmp_path: Path) -> None:
    file = Path(own_pair.text_to_image) / PLACES["unet"]
    weights = {name: weight.half() for name, weight in load_file(file).items()}
    file.unlink()
    shards = [f"{file.stem}-0000{i}-of-00002.safetensors" for i in (1, 2)]
    index = {name: shards[i % 2] for i, name in enumerate(weights)}
    for shard in shards:
        save_file({name: weights[name] for name in index if index[name] == shard}, file.with_name(shard))
    file.with_name(f"{file.name}.index.json").write_text(json.dumps({"weight_map": index}))
    made = make(
        "pair", NAMINGS["diffusers"], "LoRA", {"unet": weights, "text_encoder": stored(own_pair)["text_encoder"]}
    )
    found = stored(fuse(own_pair, made.tensors, tmp_path))["unet"]
    for name, weight in weights.items():
        layer = made.layers.get(("unet", name.removesuffix(".weight")))
        wanted = torch.tensor(expected(weight, *layer, 0.7)).half() if layer else weight
        torch.testing.assert_close(found[name], wanted, rtol=1e-3 if layer else 0, atol=1e-6 if layer else 0)


def test_loras_do_not_depend_on_their_order(pair: Pair, tmp_path: Path) -> None:
    """Not even where one sets lengths: each changes the model as it was."""
    files = []
    for kind, length in (("LoRA", "outputs"), ("LoHa", "")):
        made = make("pair", NAMINGS["kohya"], kind, stored(pair), length)
        files.append(Lora(str(tmp_path / f"{kind}.safetensors"), 0.6))
        save_file(made.tensors, files[-1].file)
    one, other = (fuse_loras(replace(pair, loras=tuple(loras)), tmp_path) for loras in (files, files[::-1]))
    for component, weights in stored(one).items():
        torch.testing.assert_close(stored(other)[component], weights)


@pytest.mark.parametrize(
    ("settings", "scaling"),
    [
        ({}, 1),
        ({"unet.lora_alpha": 6}, 3),
        ({"unet.lora_alpha": 6, "unet.use_rslora": True}, 6 / RANK**0.5),
        ({"unet.lora_alpha": 6, "unet.alpha_pattern": {"attn2.to_q": 4, "to_k": 9}}, 2),
        ({"text_encoder.lora_alpha": 6}, 1),
    ],
)
def test_peft_s_settings(pair: Pair, settings: dict[str, Any], scaling: float, tmp_path: Path) -> None:
    found = fuse(pair, GOOD, tmp_path, settings=json.dumps(settings))
    name = f"{Q.removeprefix('unet.')}.weight"
    difference = stored(found)["unet"][name] - stored(pair)["unet"][name]
    torch.testing.assert_close(difference, torch.full((8, 8), 0.7 * RANK * scaling))


def test_biases_and_norms(pair: Pair, tmp_path: Path) -> None:
    """Of PEFT's lora_bias, which is scaled like its matrices, and LyCORIS's differences, which are not."""
    tensors = {
        **{f"{CONV}.lora_{x}.weight": torch.ones(shape) for x, shape in {"A": (2, 8, 3, 3), "B": (8, 2, 1, 1)}.items()},
        f"{CONV}.lora_B.bias": torch.full((8,), 2.0),
        f"{CONV}.alpha": torch.tensor(6.0),
        "lora_unet_conv_norm_out.w_norm": torch.full((8,), 4.0),
        "lora_unet_conv_norm_out.b_norm": torch.full((8,), 5.0),
    }
    found, was = stored(fuse(pair, tensors, tmp_path, 0.5))["unet"], stored(pair)["unet"]
    wanted = {"down_blocks.0.resnets.0.conv1.bias": 3.0, "conv_norm_out.weight": 2.0, "conv_norm_out.bias": 2.5}
    for name, difference in wanted.items():
        torch.testing.assert_close(found[name] - was[name], torch.full((8,), difference))


DAMAGES: dict[str, Callable[[Tensor], Tensor]] = {
    "transposed": lambda t: t.movedim(0, -1).contiguous() if t.ndim else t,
    "shorter": lambda t: t[:-1].contiguous() if t.ndim else t,
    "one row": lambda t: t[:1].contiguous() if t.ndim else t,
    "another dimension": lambda t: t[None].contiguous(),
    "not finite": lambda t: t * float("nan"),
    "half": lambda t: t.half(),
    "whole numbers": lambda t: t.long(),
}


def left(made: Made, tensors: Mapping[str, Tensor]) -> Iterator[tuple[tuple[str, str], tuple[str, dict[str, Tensor]]]]:
    """The layers of which something is left, as it is left. A dropped alpha is the rank."""
    names = {id(tensor): name for name, tensor in made.tensors.items()}
    for place, (kind, parts) in made.layers.items():
        if own := {part: tensors[names[id(t)]] for part, t in parts.items() if names[id(t)] in tensors}:
            yield place, (kind, own)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_random_subsets_and_damages(pair: Pair, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Fused as the formulas say, or one line; nothing is printed."""
    naming, kind = data.draw(st.sampled_from(["kohya", "OneTrainer, OMI"])), data.draw(st.sampled_from(list(KINDS)))
    made = make("pair", NAMINGS[naming], kind, stored(pair))
    dropped = data.draw(st.sets(st.sampled_from(sorted(made.tensors)), max_size=3))
    tensors = {name: tensor for name, tensor in made.tensors.items() if name not in dropped}
    damaged = data.draw(st.none() | st.sampled_from(sorted(tensors)))
    if damaged:
        tensors[damaged] = DAMAGES[data.draw(st.sampled_from(sorted(DAMAGES)))](tensors[damaged])
    printed = io.StringIO()
    with redirect_stderr(printed), redirect_stdout(printed), warnings.catch_warnings(action="error"):
        try:
            found = fuse(pair, tensors, tmp_path_factory.mktemp("random"))
        except RealCompoError as error:
            assert dropped or damaged
            assert str(error).startswith("--lora ") and len(str(error)) <= 300 and "\n" not in str(error)
        else:
            assert_fused(found, pair, dict(left(made, tensors)), 0.7)
    assert not printed.getvalue()
