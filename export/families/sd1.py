"""Stable Diffusion 1.x."""

from export.families.family import Configs, Family, TextSizes
from export.graphs.attention import STABLE_DIFFUSION
from export.graphs.models import TextEncoder


def _text_sizes(configs: Configs) -> TextSizes:
    text = configs["text_encoder"]
    width = text["hidden_size"]
    return TextSizes(text["max_position_embeddings"], width, width, width, text["vocab_size"])


SD1 = Family(
    name="sd1",
    title="Stable Diffusion 1.x",
    embed_type=None,
    linear_projection=False,
    text_encoders=("text_encoder",),
    tokenizers=("tokenizer",),
    pads=("<|endoftext|>",),
    map_rule=STABLE_DIFFUSION,
    text_sizes=_text_sizes,
    text_graph=TextEncoder,
    added=lambda text: {},
    rules=lambda configs: (),
    wide_vae=lambda vae: False,
    zero_negative=lambda index: False,
)
