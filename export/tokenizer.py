"""A checkpoint's tokenizer -> tokenizer.json."""

from tokenizers import Tokenizer
from transformers import CLIPTokenizer

from export.checkpoints import Checkpoint
from runtime.errors import RealCompoError


def tokenizer_json(checkpoint: Checkpoint, max_tokens: int) -> bytes:
    """The text-to-image model's tokenizer, cutting and padding every prompt to `max_tokens`.

    Raises:
        RealCompoError: it is missing or damaged.
    """
    folder = checkpoint.folder / "tokenizer"
    try:
        tokenizer = _load(checkpoint)
        pad = tokenizer.padding["pad_token"] if tokenizer.padding else _pad_token(checkpoint)
        tokenizer.enable_truncation(max_tokens)
        tokenizer.enable_padding(length=max_tokens, pad_id=tokenizer.token_to_id(pad), pad_token=pad)
    except RealCompoError:
        raise
    except Exception as error:  # tokenizers raises bare Exception
        raise RealCompoError(
            f"{folder} cannot be loaded: {error}. Give a diffusers folder with --text-to-image DIR"
        ) from error
    return tokenizer.to_str(pretty=True).encode()


def _load(checkpoint: Checkpoint) -> Tokenizer:
    folder = checkpoint.folder / "tokenizer"
    if (file := folder / "tokenizer.json").is_file():
        return Tokenizer.from_file(str(file))
    checkpoint.existing("tokenizer/vocab.json")
    checkpoint.existing("tokenizer/merges.txt")
    return CLIPTokenizer.from_pretrained(folder, local_files_only=True).backend_tokenizer


def _pad_token(checkpoint: Checkpoint) -> str:
    token = checkpoint.read_json("tokenizer/tokenizer_config.json").get("pad_token", "<|endoftext|>")
    return token["content"] if isinstance(token, dict) else token
