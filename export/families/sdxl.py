"""SDXL: two text encoders, a whole text's projection and the picture's sizes for the UNet, maps of up blocks."""

from export.families.family import Config, Configs, Family, Rule, TextSizes
from export.graphs.attention import STABLE_DIFFUSION_XL
from export.graphs.models import TextEncoderXL

TIME_IDS = 6  # numbers: height and width of the original, of what was cut off at the top and left, of the target


def _text_sizes(configs: Configs) -> TextSizes:
    """The hidden states of two encoders side by side, and the second one's projection of the whole text; of a phrase
    also what the first one has of it as a whole."""
    first, second = configs["text_encoder"], configs["text_encoder_2"]
    return TextSizes(
        first["max_position_embeddings"],
        first["hidden_size"] + second["hidden_size"],
        second["projection_dim"],
        first["hidden_size"] + second["projection_dim"],
        min(first["vocab_size"], second["vocab_size"]),
    )


def _rules(configs: Configs) -> tuple[Rule, ...]:
    second = configs["text_encoder_2"]
    width = second.get("projection_dim", 0) + TIME_IDS * (configs["unet"].get("addition_time_embed_dim") or 0)
    return (
        Rule("text_encoder_2", "model_type", ("clip_text_model",)),
        Rule("unet", "projection_class_embeddings_input_dim", (width,)),
        Rule("text_encoder", "max_position_embeddings", (second.get("max_position_embeddings"),)),
    )


def _zero_negative(index: Config) -> bool:
    """As in SDXL's training; diffusers' default for SDXL."""
    return bool(index.get("force_zeros_for_empty_prompt", True))


SDXL = Family(
    name="sdxl",
    title="SDXL",
    embed_type="text_time",
    linear_projection=True,
    text_encoders=("text_encoder", "text_encoder_2"),
    tokenizers=("tokenizer", "tokenizer_2"),
    pads=("<|endoftext|>", "!"),
    map_rule=STABLE_DIFFUSION_XL,
    text_sizes=_text_sizes,
    text_graph=TextEncoderXL,
    added=lambda text: {"text_embeds": (text.pooled_width,), "time_ids": (TIME_IDS,)},
    rules=_rules,
    wide_vae=lambda vae: bool(vae.get("force_upcast")),
    zero_negative=_zero_negative,
)
