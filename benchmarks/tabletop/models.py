"""The Tabletop pair's models: a small Stable Diffusion 1.x and its GLIGEN twin, freshly initialised."""

from typing import TypeVar

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from diffusers.models.attention import GatedSelfAttentionDense
from tokenizers import AddedToken, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.normalizers import Lowercase
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import CLIPTextConfig, CLIPTextModel, PreTrainedTokenizerFast

from benchmarks.tabletop.scenes import COLORS, KINDS, NUMBERS

_Module = TypeVar("_Module", bound=torch.nn.Module)

CONTEXT = 16  # tokens
WIDTH = 64  # of text embeddings
BOS, EOS = "<|startoftext|>", "<|endoftext|>"


def make_tokenizer() -> Tokenizer:
    """Whole words, padded with EOS as CLIP does. EOS has the highest id: CLIP pools at `argmax(input_ids)`."""
    words = ["a", "and", "of", "left", "right", "above", "below", ",", *NUMBERS.values(), *COLORS]
    words += [*KINDS, *(f"{kind}s" for kind in KINDS)]
    vocabulary = {word: i for i, word in enumerate(["<|unknown|>", *words, BOS, EOS])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="<|unknown|>"))
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in ("<|unknown|>", BOS, EOS)])
    tokenizer.normalizer = Lowercase()
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(
        single=f"{BOS} $A {EOS}", special_tokens=[(BOS, vocabulary[BOS]), (EOS, vocabulary[EOS])]
    )
    tokenizer.enable_truncation(CONTEXT)
    tokenizer.enable_padding(length=CONTEXT, pad_id=vocabulary[EOS], pad_token=EOS)
    return tokenizer


def wrap_tokenizer(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    """The same tokenizer as diffusers' pipelines call it."""
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=EOS,
        unk_token="<|unknown|>",
        model_max_length=CONTEXT,
    )


def halve(module: _Module) -> _Module:
    """In float16, in place, with 8 of its 10 bits of fraction: git, which compresses, keeps a fifth less."""
    with torch.no_grad():
        for tensor in (*module.half().parameters(), *module.buffers()):
            if tensor.dtype == torch.float16:
                fraction, exponent = torch.frexp(tensor.float())
                tensor.copy_(torch.ldexp((fraction * 512).round() / 512, exponent))
    return module


def make_vae() -> AutoencoderKL:
    """128x128 RGB <-> 16x16x4."""
    return AutoencoderKL(
        sample_size=128,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(16, 32, 64, 96),
        layers_per_block=1,
        norm_num_groups=4,  # of at least 4 channels: smaller ones hide from one pixel how all are coloured
        scaling_factor=1.0,
        mid_block_add_attention=False,
    )


def make_text_encoder(tokenizer: Tokenizer) -> CLIPTextModel:
    eos = tokenizer.token_to_id(EOS)
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=tokenizer.get_vocab_size(),
            hidden_size=WIDTH,
            intermediate_size=4 * WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=CONTEXT,
            bos_token_id=tokenizer.token_to_id(BOS),
            eos_token_id=eos,
            pad_token_id=eos,
        )
    )


def make_unet(*, grounded: bool) -> UNet2DConditionModel:
    """Attention at 16x16 and 8x8; the 4x4 level sees the border from everywhere, so tokens learn where they are."""
    unet = UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(48, 96, 128),
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
        norm_num_groups=16,
        attention_type="gated" if grounded else "default",
    )
    for module in unet.modules():
        if isinstance(module, GatedSelfAttentionDense):  # GLIGEN opens its gates from 0 because it starts from a
            torch.nn.init.constant_(module.alpha_attn, 1.0)  # finished model; trained from scratch they start open
            torch.nn.init.constant_(module.alpha_dense, 1.0)
    return unet


def make_scheduler() -> DDIMScheduler:
    """Stable Diffusion's noise schedule, with 2.x's velocity prediction."""
    return DDIMScheduler(
        prediction_type="v_prediction",
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )
