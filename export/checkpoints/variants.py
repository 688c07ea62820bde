"""Which files of a folder in diffusers' layout are a model: one variant of each component's weights, no twins of it."""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from export.checkpoints.source import HubSource
from export.words import Component
from runtime.words import Model

Variant = str | None

PLACES: dict[Component, str] = {  # of a component's files in a checkpoint's folder, up to the suffix of its weights
    "unet": "unet/diffusion_pytorch_model",
    "vae": "vae/diffusion_pytorch_model",
    "text_encoder": "text_encoder/model",
    "text_encoder_2": "text_encoder_2/model",
    "controlnet": "diffusion_pytorch_model",
    "adapter": "diffusion_pytorch_model",
}
_PICKLES: dict[Component, str] = PLACES | {  # what transformers calls them
    "text_encoder": "text_encoder/pytorch_model",
    "text_encoder_2": "text_encoder_2/pytorch_model",
}
_SCHEDULER = "scheduler/scheduler_config.json"
_TOKENIZER = ("merges.txt", "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json", "vocab.json")
# Of a text-to-image model, where there are such files
_BESIDE = ("model_index.json", *(f"{folder}/{name}" for folder in ("tokenizer", "tokenizer_2") for name in _TOKENIZER))


def variants(fp16_files: bool) -> tuple[Variant, ...]:
    """Those that are read, the wanted one first."""
    return ("fp16", None) if fp16_files else (None, "fp16")


@dataclass(frozen=True)
class Want:
    """What is needed of a model on a hub."""

    model: Model
    source: HubSource
    components: tuple[Component, ...]
    fp16_files: bool = False  # rather than others, where there are both


@dataclass(frozen=True)
class Needed:
    """Names in a repository: of the files to have, and of those that it lacks."""

    files: tuple[str, ...]
    lacks: tuple[str, ...]


def needed(want: Want, names: Collection[str]) -> Needed:
    """What a model's repository, which holds files of these names, has to give."""
    one = want.source.path
    files = {one: [one]} if want.source.is_file else dict(_files(want, names))
    found = tuple(name for group in files.values() for name in group if name in names)
    return Needed(found, tuple(usual for usual, group in files.items() if not group or group[0] not in names))


def _files(want: Want, names: Collection[str]) -> Iterator[tuple[str, list[str]]]:
    """By the usual name of what is needed, the files that are it."""
    folder, has_text = want.source.folder, want.model == "text_to_image"
    second: tuple[Component, ...] = ("text_encoder_2",) if has_text and _has_second(folder, names) else ()
    for component in (*want.components, *second):
        stem = f"{folder}{PLACES[component]}"
        config = str(PurePosixPath(stem).with_name("config.json"))
        yield config, [config]
        yield f"{stem}.safetensors", _weights(folder, component, want.fp16_files, names)
    if has_text:
        yield f"{folder}{_SCHEDULER}", [f"{folder}{_SCHEDULER}"]
        yield from ((name, [name]) for beside in _BESIDE if (name := f"{folder}{beside}") in names)


def _has_second(folder: str, names: Collection[str]) -> bool:
    return f"{folder}text_encoder_2/config.json" in names


def _weights(folder: str, component: Component, fp16_files: bool, names: Collection[str]) -> list[str]:
    """The first there is of a component's weights: safetensors before pickles, then the wanted variant."""
    for ending, places in (("safetensors", PLACES), ("bin", _PICKLES)):
        for variant in variants(fp16_files):
            if found := _variant(f"{folder}{places[component]}", f".{variant}" if variant else "", ending, names):
                return found
    return []


def _variant(stem: str, dotted: str, ending: str, names: Collection[str]) -> list[str]:
    """A whole file, or an index and all of its shards."""
    if (whole := f"{stem}{dotted}.{ending}") in names:
        return [whole]
    index = f"{stem}.{ending}.index{dotted}.json"
    start, variant = re.escape(stem), re.escape(dotted)
    shard = re.compile(rf"{start}(?:{variant}-\d+-of-(\d+)|-\d+-of-(\d+){variant})\.{ending}")
    shards = {name: found for name in names if (found := shard.fullmatch(name))}
    totals = {int(found[1] or found[2]) for found in shards.values()}
    return [index, *sorted(shards)] if index in names and totals == {len(shards)} else []
