"""Stable Diffusion 1.x."""

from collections.abc import Mapping
from typing import Any

from export.families.family import Configs, Family, TextSizes
from export.graphs.attention import STABLE_DIFFUSION
from export.graphs.models import TextEncoder


def _text_sizes(configs: Configs) -> TextSizes:
    text = configs["text_encoder"]
    return TextSizes(text["max_position_embeddings"], text["hidden_size"], text["hidden_size"], text["vocab_size"])


def _pipeline(models: Mapping[str, Any]) -> Any:
    from diffusers import StableDiffusionPipeline  # here, for it is slow to load and warns of what it does not find

    absent = dict.fromkeys(("vae", "tokenizer", "scheduler", "safety_checker", "feature_extractor"))
    return StableDiffusionPipeline(**models, **absent, requires_safety_checker=False)


SD1 = Family(
    name="sd1",
    title="Stable Diffusion 1.x",
    embed_type=None,
    text_encoders=("text_encoder",),
    tokenizers=("tokenizer",),
    map_rule=STABLE_DIFFUSION,
    text_sizes=_text_sizes,
    text_graph=TextEncoder,
    added=lambda text: {},
    rules=lambda configs: (),
    wide_vae=lambda vae: False,
    zero_negative=lambda index: False,
    pipeline=_pipeline,
)
