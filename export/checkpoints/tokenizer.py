"""A checkpoint's tokenizers -> tokenizer.json and, of families with two, tokenizer_2.json."""

from tokenizers import Tokenizer
from transformers import CLIPTokenizer

from export.checkpoints.folders import Checkpoint
from runtime.errors import RealCompoError


def tokenizer_files(checkpoint: Checkpoint, max_tokens: int) -> dict[str, bytes]:
    """The text-to-image model's tokenizers, one for each text encoder, by the names of their files in a bundle.

    Raises:
        RealCompoError: one is missing or damaged.
    """
    folders = checkpoint.family.tokenizers
    return {f"{folder}.json": tokenizer_json(checkpoint, max_tokens, folder) for folder in folders}


def tokenizer_json(checkpoint: Checkpoint, max_tokens: int, name: str = "tokenizer") -> bytes:
    """A tokenizer in the folder `name`, cutting and padding every prompt to `max_tokens`.

    Raises:
        RealCompoError: it is missing or damaged.
    """
    folder = checkpoint.folder / name
    try:
        tokenizer = _load(checkpoint, name)
        pad = tokenizer.padding["pad_token"] if tokenizer.padding else _pad_token(checkpoint, name)
        tokenizer.enable_truncation(max_tokens)
        tokenizer.enable_padding(length=max_tokens, pad_id=tokenizer.token_to_id(pad), pad_token=pad)
    except RealCompoError:
        raise
    except Exception as error:  # tokenizers raises bare Exception
        raise RealCompoError(
            f"{folder} cannot be loaded: {error}. Give a diffusers folder with --text-to-image DIR"
        ) from error
    return tokenizer.to_str(pretty=True).encode()


def _load(checkpoint: Checkpoint, name: str) -> Tokenizer:
    folder = checkpoint.folder / name
    if (file := folder / "tokenizer.json").is_file():
        return Tokenizer.from_file(str(file))
    checkpoint.existing(f"{name}/vocab.json")
    checkpoint.existing(f"{name}/merges.txt")
    return CLIPTokenizer.from_pretrained(folder, local_files_only=True).backend_tokenizer


def _pad_token(checkpoint: Checkpoint, name: str) -> str:
    for file in ("tokenizer_config.json", "special_tokens_map.json"):
        if (checkpoint.folder / name / file).is_file():
            token = checkpoint.read_json(f"{name}/{file}").get("pad_token")
            if token := token.get("content") if isinstance(token, dict) else token:
                return token
    family = checkpoint.family
    return family.pads[family.tokenizers.index(name)]
