"""What a weights file is, and whether it stands in the right place: asked before anything of it is converted."""

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from export.checkpoints.header import Tensors, read_header
from export.checkpoints.kinds import UNKNOWN, Kind, kind_of
from export.checkpoints.pickles import read_pickle_header
from export.checkpoints.places import TOLD, Place, Told
from export.checkpoints.source import is_pickle, is_safetensors
from runtime.errors import RealCompoError
from runtime.messages import shown

# The first of these that the names have says whose names they are.
_NAMINGS = (
    ("ComfyUI's", r"^(?:diffusion_model|text_encoders)\."),
    ("kohya's", r"^lora_(?:unet|te\d?)_|^lycoris_"),
    ("OneTrainer's", r"^(?:lora_(?:unet|te\d?)|clip_[lg])\.|^unet\.(?:input_blocks|middle_block|output_blocks)\."),
    ("PEFT's", r"^base_model\.model\."),
    (
        "the original",
        r"(?:^|\.)(?:input_blocks|output_blocks|middle_block|(?:de|en)coder\.(?:up|down|mid))\.|^body\.\d",
    ),
    ("diffusers'", r"(?:^|\.)(?:down_blocks|up_blocks|mid_block|text_model|embeddings|adapter)\."),
)
# What a file may have, and names that say so
_PARTS = (
    (
        "UNet",
        r"(?:^|\.)output_blocks\.|^up_blocks\.|^lora_unet[._]|^unet\.|^diffusion_model\.(?:input|middle|down|mid)_",
    ),
    (
        "text encoder",
        r"^lora_te1?[._]|^(?:cond_stage_model|text_encoder|(?:text_encoders\.)?clip_[lh])\.|^conditioner\.embedders\.0\.",
    ),
    (
        "second text encoder",
        r"^(?:lora_te2[._]|text_encoder_2\.|(?:text_encoders\.)?clip_g\.)|^conditioner\.embedders\.1\.",
    ),
    ("VAE", r"^(?:first_stage_model|autoencoder|vae)\.|^(?:decoder|encoder)\.(?:conv_in|up|mid|down)"),
    ("EMA weights", r"^model_ema\."),
    ("ControlNet", r"^control_model\.|^controlnet_|^input_hint_block\."),
    ("GLIGEN's layers", r"(?:^|\.)position_net\.|\.fuser\."),
    ("DoRA scales", r"\.dora_scale$|\.lora_magnitude_vector\b"),
    ("Tucker cores", r"\.(?:lora_mid\.weight|hada_t[12]|lokr_t2)$"),
    ("biases", r"\.(?:diff_b|lora_B\.bias|b_norm)$"),
    ("textual inversions", r"^bundle_emb\."),
)
_READ_BY = re.compile(  # weights that see a text, as many columns as it is wide
    r"(?:attn2[._](?:processor\.)?to_[kv](?:_lora|_ip)?|to_[kv]_ip)[._]"
    r"(?:weight|lora_(?:down|A)\.(?:\w+\.)?weight|lora\.down\.weight|down\.weight|down|hada_w1_b|diff)$"
)
_OF_TEXT = re.compile(
    r"^(?:lora_te_|text_encoder\.|base_model\.model\.text_model).*(?:q_proj|to_q|fc1)[._](?:lora.*(?:down|A)\.weight|weight)$"
    r"|token_embedding\.weight$|^emb_params$|^position_net\.null_positive_feature$"
)
_KRONECKER = re.compile(r"(.*attn2[._]to_[kv]\.)lokr_w1(?:_b)?$")
_HINTED = {192: "sd1", 64: "sd1", 768: "sdxl", 256: "sdxl"}  # channels that a T2I-Adapter folds a picture into


@dataclass(frozen=True)
class WeightsFile:
    """What a file is told to be."""

    path: Path | None
    kind: Kind
    family: Told | None  # of base models; None where nothing tells
    naming: str | None  # whose names its tensors have
    parts: tuple[str, ...]
    tensors: int
    dtypes: Mapping[str, int]  # how many tensors have which
    example: str  # the first name
    size: int | None = None  # bytes

    @property
    def title(self) -> str:
        """Such as "a LoRA for SDXL"."""
        if self.kind is UNKNOWN:
            return f"of no known kind, with weights such as {shown(self.example)}"
        return f"{self.kind.title} for {self.family.title}" if self.family else self.kind.title

    @property
    def place(self) -> Place | None:
        """Which option takes it."""
        return None if self.family and not self.family.supported else self.kind.place

    @property
    def fate(self) -> str:
        """Which option takes it, or why none does, for a sentence."""
        if self.place:
            return f"which goes with {self.place.title}"
        return "a family that is not supported" if self.kind.place else self.kind.why


def identify(path: Path) -> WeightsFile:
    """What a file of weights is, by its tensors' names and shapes: of a .safetensors file, its header alone is read.

    Raises:
        RealCompoError: it is not there, cut off or damaged, or it is a pickle of more than weights.
    """
    if not is_file(path):
        raise RealCompoError(f"{shown(path)} is no file")
    read = read_pickle_header if is_pickle(path) else read_header
    return identify_names(read(path), path, path.stat().st_size)


def is_file(path: Path) -> bool:
    """Whether there is such a file; a name that no disk can have is none."""
    return _holds(path.is_file)


def is_there(path: Path) -> bool:
    """Whether there is such a file or folder, likewise."""
    return _holds(path.exists)


def _holds(ask: Callable[[], bool]) -> bool:
    try:
        return ask()
    except (OSError, ValueError):
        return False


def identify_names(tensors: Tensors, path: Path | None = None, size: int | None = None) -> WeightsFile:
    """What a file of tensors with these names, types and shapes is."""
    names = "\n".join(tensors)
    kind = kind_of(tensors)
    return WeightsFile(
        path=path,
        kind=kind,
        family=_family(names, tensors) if kind.has_family else None,
        naming=next((whose for whose, tell in _NAMINGS if re.search(tell, names, re.MULTILINE)), None),
        parts=tuple(part for part, tell in _PARTS if re.search(tell, names, re.MULTILINE)),
        tensors=len(tensors),
        dtypes=Counter(one.dtype for one in tensors.values()),
        example=min(tensors, default=""),
        size=size,
    )


def check_place(path: Path, wanted: Place) -> WeightsFile | None:
    """Find out what a file is; None where it is no .safetensors file that is there, which is others' to say.

    Raises:
        RealCompoError: it is something else than the option takes, or damaged.
    """
    if not is_safetensors(path) or not is_file(path):
        return None
    found = identify(path)
    check_kind(found, wanted)
    return found


def check_kind(found: WeightsFile, wanted: Place) -> None:
    """Raise RealCompoError, in a line that says what the file is and which option takes it, if it is not `wanted`."""
    if found.place is not wanted:
        raise RealCompoError(f"{_told(found)}; {wanted.option} here takes {wanted.takes}")


def check_taken(found: WeightsFile) -> None:
    """Raise RealCompoError, in a line that says what the file is, if no option takes it."""
    if found.place is None:
        raise RealCompoError(_told(found))


def _told(found: WeightsFile) -> str:
    where = shown(found.path) if found.path else "the file"
    return f"{where} is {found.title}, {found.fate}"


def _family(names: str, tensors: Tensors) -> Told | None:
    by_name = (told for told in TOLD if re.search(told.tells, names, re.MULTILINE))
    return next(by_name, None) or _by_width(tensors)


def _by_width(tensors: Tensors) -> Told | None:
    read = set(_widths(_READ_BY, tensors)) | _kronecker_widths(tensors)
    text = set(_widths(_OF_TEXT if len(tensors) > 1 else re.compile(""), tensors))  # a sole one is an embedding
    if told := next((told for told in TOLD if told.width in read), None):
        return told
    hinted = {_HINTED.get(one.shape[1]) for name, one in tensors.items() if _folds(name) and len(one.shape) == 4}
    return next((told for told in TOLD if told.name in hinted or (not read and told.text_width in text)), None)


def _folds(name: str) -> bool:
    return name in (
        "adapter.conv_in.weight",
        "conv_in.weight",
        "body.0.in_conv.weight",
        "adapter.body.0.in_conv.weight",
    )


def _widths(pattern: re.Pattern[str], tensors: Tensors) -> list[int]:
    return [
        one.shape[1 if len(one.shape) > 1 else 0] for name, one in tensors.items() if one.shape and pattern.search(name)
    ]


def _kronecker_widths(tensors: Tensors) -> set[int]:
    """A LoKr's columns are the product of its factors'."""
    found = set()
    for name, one in tensors.items():
        if match := _KRONECKER.match(name):
            second = [tensors[key] for end in ("lokr_w2", "lokr_w2_b") if (key := match[1] + end) in tensors]
            found |= {one.shape[1] * other.shape[1] for other in second if len(one.shape) == len(other.shape) == 2}
    return found
