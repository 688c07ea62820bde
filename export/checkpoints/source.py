"""How a model on a hub is named: REPO[@REVISION][:PATH], the path being a folder's or a file's in the repository."""

import re
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MAIN = "main"
PICKLES = (".bin", ".ckpt", ".pt", ".pth")  # suffixes
SAFETENSORS = ".safetensors"

_GRAMMAR = re.compile(r"(?P<repo>[\w-][\w.-]*/[\w.-]+)(?:@(?P<revision>[^\s:@]+))?(?::(?P<path>[^\s:/][^:]*))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class HubSource:
    """A model on a hub."""

    repo: str
    revision: str = MAIN  # branch, tag, commit or reference such as refs/pr/2
    path: str = ""  # of a folder, or of a file of weights; the whole repository where it is empty

    @property
    def is_file(self) -> bool:
        """Whether it is one file of weights, rather than a folder in diffusers' layout."""
        return is_weights(self.path)

    @property
    def is_pinned(self) -> bool:
        """Whether it always names the same files."""
        return bool(_COMMIT.fullmatch(self.revision))

    @property
    def folder(self) -> str:
        """What the names of its files in the repository begin with."""
        return f"{self.path}/" if self.path and not self.is_file else ""

    @property
    def whole(self) -> "HubSource":
        """Its repository."""
        return replace(self, path="")

    def at(self, commit: str) -> "HubSource":
        return replace(self, revision=commit)

    def __str__(self) -> str:
        return f"{self.repo}{'' if self.revision == MAIN else f'@{self.revision}'}{self.path and f':{self.path}'}"


def is_safetensors(file: str | Path) -> bool:
    """Going by the name."""
    return Path(file).suffix.lower() == SAFETENSORS


def is_pickle(file: str | Path) -> bool:
    """Going by the name."""
    return Path(file).suffix.lower() in PICKLES


def is_weights(file: str | Path) -> bool:
    """Whether it is one file of weights, going by the name."""
    return is_safetensors(file) or is_pickle(file)


def folder_on_disk(model: str) -> Path | None:
    """The folder that a model names, by a path from here or from this repository's root."""
    places = (Path(model).expanduser(), ROOT / model)
    return next((place for place in places if place.is_dir()), None)


def hub_source(model: str) -> HubSource | None:
    """What a model names on a hub; nothing if it names a file or a folder on this machine, or cannot be on a hub."""
    found = _GRAMMAR.fullmatch(model)
    if found is None or folder_on_disk(model) or Path(model).expanduser().is_file():
        return None
    path = (found["path"] or "").rstrip("/")
    return None if ".." in path.split("/") else HubSource(found["repo"], found["revision"] or MAIN, path)


def recorded(model: str) -> tuple[str, str | None]:
    """A model as manifests have it: its name without a revision, and the revision if it is on a hub."""
    source = hub_source(model)
    return (str(source.at(MAIN)), source.revision) if source else (model, None)
