"""A VAE by itself, in place of a single file's: a file, or a folder in diffusers' layout."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from export.checkpoints.configs import public
from export.checkpoints.pickles import Report, as_safetensors, digest_of
from export.checkpoints.source import is_pickle, is_weights
from runtime.errors import RealCompoError

_NAMES = [f"diffusion_pytorch_model{end}" for end in (".safetensors", ".fp16.safetensors", ".bin", ".fp16.bin")]


@dataclass(frozen=True)
class VaeSource:
    """The file as it was given, the same as safetensors, and the VAE's config."""

    file: Path
    weights: Path
    config: Mapping[str, Any]

    def key(self) -> str:
        """What changes with its weights and its config."""
        return f"{digest_of(self.file)} {json.dumps(self.config, sort_keys=True)}"


def find_vae(given: Path, usual: Mapping[str, Any], folder: Path, report: Report) -> VaeSource:
    """The VAE that --vae names.

    Args:
        usual: the config, where a file has none.
        folder: for the safetensors of a pickle.

    Raises:
        RealCompoError: there is none, or it cannot be read.
    """
    given = given.expanduser()
    place = given / "vae" if (given / "vae").is_dir() else given
    file = next((path for name in _NAMES if (path := place / name).is_file()), place)
    if not file.is_file() or not is_weights(file):
        raise RealCompoError(
            f"--vae {given} is no file of weights, and no folder with {_NAMES[0]}; give a file or diffusers folder"
        )
    config = _read_config(place / "config.json") if place.is_dir() else usual
    return VaeSource(file, as_safetensors(file, folder, report) if is_pickle(file) else file, config)


def _read_config(file: Path) -> dict[str, Any]:
    try:
        config = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise RealCompoError(f"{file} cannot be read: {error}. Give --vae a VAE's diffusers folder") from error
    return public(config)
