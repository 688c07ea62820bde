"""How LoRA files name layers and their parts: kohya's names, diffusers' old and new ones, OneTrainer's, PEFT's.

A name is a prefix for the component, the layer's path in one of its spellings, and a suffix for the part.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from export.checkpoints.lora_algorithms import DORA_SCALE, MAGNITUDE
from export.checkpoints.original_layers import original_names
from export.words import Component

# Of each part, the endings that it may have. Alphas of diffusers' older names stand beside either of two forms.
SUFFIXES: dict[str, tuple[str, ...]] = {
    "down": (
        ".lora_down.weight",
        ".lora_A.weight",
        ".lora_A.default.weight",
        ".lora.down.weight",
        "_lora.down.weight",
        ".lora_linear_layer.down.weight",
    ),
    "up": (
        ".lora_up.weight",
        ".lora_B.weight",
        ".lora_B.default.weight",
        ".lora.up.weight",
        "_lora.up.weight",
        ".lora_linear_layer.up.weight",
    ),
    "mid": (".lora_mid.weight",),
    "alpha": (".alpha", ".lora.alpha", "_lora.alpha", ".lora_linear_layer.alpha"),
    "up_bias": (".lora_up.bias", ".lora_B.bias", ".lora_B.default.bias"),
    DORA_SCALE: (".dora_scale",),
    MAGNITUDE: tuple(f".lora_magnitude_vector{end}" for end in ("", ".weight", ".default.weight")),
    "diff": (".diff", ".w_norm"),
    "diff_b": (".diff_b", ".b_norm"),
    **{f"hada_{name}": (f".hada_{name}",) for name in ("w1_a", "w1_b", "w2_a", "w2_b", "t1", "t2")},
    **{f"lokr_{name}": (f".lokr_{name}",) for name in ("w1", "w1_a", "w1_b", "w2", "w2_a", "w2_b", "t2")},
}
_PART_OF = {suffix: part for part, suffixes in SUFFIXES.items() for suffix in suffixes}
_LONGEST_FIRST = sorted(_PART_OF, key=len, reverse=True)

# What is told from a piece of a name, and is not fused
OTHERS: dict[str, str] = {
    "bundle_emb": "a textual inversion",
    "string_to_param": "a textual inversion",
    "emb_params": "a textual inversion",
    "boft_": "BOFT",
    "oft_": "OFT",
    ".a1.": "GLoRA",
    ".a2.": "GLoRA",
    ".b1.": "GLoRA",
    ".b2.": "GLoRA",
    ".on_input": "(IA)3",
    "ia3_": "(IA)3",
    "vera_lambda": "VeRA",
    "lora_embedding_": "a LoRA of an embedding",
    "lokr_t1": "a LoKr with a Tucker core for w1",
    "bias_indices": "a sparse difference of a bias",
    "bias_values": "a sparse difference of a bias",
    "lora_controlnet": "a Control-LoRA",
    "lora_transformer": "a LoRA of a transformer, such as Flux",
    "lora_te3": "a LoRA of a third text encoder",
    "text_encoder_3": "a LoRA of a third text encoder",
}

# Of each component: what names start with, and what joins a path's pieces
_PREFIXES: dict[str, tuple[tuple[str, str], ...]] = {
    "unet": (
        ("lora_unet_", "_"),  # kohya
        ("lycoris_unet_", "_"),
        ("lycoris_", "_"),
        ("unet.", "."),  # diffusers
        ("lora_unet.", "."),  # OneTrainer
        ("base_model.model.", "."),  # PEFT
        ("diffusion_model.", "."),  # ComfyUI
        ("", "."),  # diffusers, at first
    ),
    "text_encoder": (
        ("lora_te_", "_"),
        ("lora_te1_", "_"),
        ("text_encoder.", "."),
        ("lora_te.", "."),
        ("lora_te1.", "."),
        ("clip_l.", "."),
        ("text_encoders.clip_l.transformer.", "."),  # ComfyUI
        ("text_encoders.clip_h.transformer.", "."),
        ("lycoris_", "_"),
        ("base_model.model.", "."),
    ),
    "text_encoder_2": (
        ("lora_te2_", "_"),
        ("text_encoder_2.", "."),
        ("lora_te2.", "."),
        ("clip_g.", "."),
        ("text_encoders.clip_g.transformer.", "."),
        ("lycoris_", "_"),
        ("base_model.model.", "."),
    ),
}
# A text encoder's projections in diffusers' oldest names
_OLD_PROJECTIONS = {"q_proj": "to_q", "k_proj": "to_k", "v_proj": "to_v", "out_proj": "to_out"}
_TEXT_MODEL = "text_model."


@dataclass(frozen=True)
class Layer:
    """A module of a model."""

    component: Component
    path: str  # as the installed libraries or others name it, without `text_model.`
    stored: str  # as the checkpoint names it


def split_name(name: str) -> tuple[str, str] | None:
    """The layer's name and the part that a tensor's name tells, if it tells any."""
    suffix = next((suffix for suffix in _LONGEST_FIRST if name.endswith(suffix)), None)
    return (name.removesuffix(suffix).replace(".processor.", "."), _PART_OF[suffix]) if suffix else None


def layer_names(weights: Mapping[Component, Sequence[str]]) -> dict[str, Layer]:
    """All that files may call the layers of a model whose components have these weights. What is said of two layers is
    left out."""
    found: dict[str, Layer] = {}
    twice = set()
    for component, names in weights.items():
        for alias, layer in _aliases(component, [name.removesuffix(".weight") for name in names if _has_weight(name)]):
            if found.setdefault(alias, layer) != layer:
                twice.add(alias)
    return {alias: layer for alias, layer in found.items() if alias not in twice}


def _has_weight(name: str) -> bool:
    return name.endswith(".weight")


def _aliases(component: Component, stored: Sequence[str]) -> Iterator[tuple[str, Layer]]:
    original = original_names(stored) if component == "unet" else {}
    for name in stored:
        layer = Layer(component, name if component == "unet" else name.removeprefix(_TEXT_MODEL), name)
        spellings = _unet_spellings(name, original) if component == "unet" else _text_spellings(layer.path)
        for spelling, (prefix, joint) in product(spellings, _PREFIXES[component]):
            yield prefix + spelling.replace(".", joint), layer


def _text_spellings(path: str) -> Iterator[str]:
    parent, _, last = path.rpartition(".")
    for spelling in {path, f"{parent}.{_OLD_PROJECTIONS.get(last, last)}"}:
        yield from (spelling, _TEXT_MODEL + spelling)


def _unet_spellings(path: str, original: Mapping[str, str]) -> Iterator[str]:
    for spelling in {path, original.get(path, path)}:
        yield spelling
        if spelling.endswith(".to_out.0"):
            yield spelling.removesuffix(".0")
