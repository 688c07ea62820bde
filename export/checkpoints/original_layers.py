"""What the original code of Stable Diffusion calls the layers of diffusers' UNets."""

import re
from collections.abc import Iterator, Sequence

_RESNET = {  # inside a residual block
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_OUTSIDE = {  # of all blocks
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_MIDDLE = {
    "mid_block.resnets.0": "middle_block.0",
    "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2",
}


def original_names(paths: Sequence[str]) -> dict[str, str]:
    """Of each of a UNet's modules that has one: its name in the original code, which counts blocks through."""
    blocks = {**_MIDDLE, **dict(_down(_sizes("down", paths))), **dict(_up(_sizes("up", paths), paths))}
    return {path: name for path in paths if (name := _OUTSIDE.get(path) or _inside(path, blocks))}


def _inside(path: str, blocks: dict[str, str]) -> str | None:
    match = re.fullmatch(r"((?:(?:down|up)_blocks\.\d+|mid_block)\.(\w+)\.\d+)\.(.*)", path)
    if not match or match[1] not in blocks:
        return None
    inside = {"resnets": _RESNET, "downsamplers": {"conv": "op"}}.get(match[2], {})
    return f"{blocks[match[1]]}.{inside.get(match[3], match[3])}"


def _sizes(side: str, paths: Sequence[str]) -> list[int]:
    """How many residual blocks each block of a side has."""
    found = {match.groups() for path in paths if (match := re.match(rf"{side}_blocks\.(\d+)\.resnets\.(\d+)\.", path))}
    blocks = [int(block) for block, _ in found]
    return [blocks.count(block) for block in range(max(blocks, default=-1) + 1)]


def _down(sizes: Sequence[int]) -> Iterator[tuple[str, str]]:
    """After the first convolution; each block ends with one that halves."""
    place = 1
    for block, size in enumerate(sizes):
        for i in range(size):
            yield f"down_blocks.{block}.resnets.{i}", f"input_blocks.{place + i}.0"
            yield f"down_blocks.{block}.attentions.{i}", f"input_blocks.{place + i}.1"
        yield f"down_blocks.{block}.downsamplers.0", f"input_blocks.{place + size}.0"
        place += size + 1


def _up(sizes: Sequence[int], paths: Sequence[str]) -> Iterator[tuple[str, str]]:
    """What doubles stands behind a block's last attention, or where there is none behind its last residual block."""
    place = 0
    for block, size in enumerate(sizes):
        for i in range(size):
            yield f"up_blocks.{block}.resnets.{i}", f"output_blocks.{place + i}.0"
            yield f"up_blocks.{block}.attentions.{i}", f"output_blocks.{place + i}.1"
        place += size
        attends = any(path.startswith(f"up_blocks.{block}.attentions.") for path in paths)
        yield f"up_blocks.{block}.upsamplers.0", f"output_blocks.{place - 1}.{1 + attends}"
