"""Models on a hub: all repositories are looked at, then what is needed and not in the hub's cache is fetched.

huggingface_hub lists, fetches and keeps the cache. It keeps no part of a file whose download stops, so large files come
into its cache part by part here, by its own means: the same command resumes them after whatever has stopped it.
"""

import errno
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, constants, hf_hub_download, hf_hub_url
from huggingface_hub.file_download import http_get, repo_folder_name
from huggingface_hub.utils import WeakFileLock, build_hf_headers  # type: ignore[attr-defined]

from export.checkpoints.hub_errors import calm_client, patiently, told
from export.checkpoints.source import HubSource, hub_source
from export.checkpoints.variants import Want, needed
from export.staging import size_in_words
from runtime.bundle.manifest import sha256_of, write_atomically
from runtime.errors import RealCompoError

Say = Callable[[str], None]

RESUMED_BYTES = 10_000_000  # of a file whose parts are worth keeping
_DISK = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "the disk is full. Free some space"),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "it is not allowed. Allow it"),
}
_LISTING_SECONDS = 20.0


@dataclass(frozen=True)
class _File:
    """Of a source by its commit."""

    source: HubSource
    name: str
    size: int
    sha256: str | None  # of large files alone

    @property
    def is_cached(self) -> bool:
        folder = snapshot(self.source)
        return folder is not None and (folder / self.name).is_file()


@dataclass(frozen=True)
class _Listing:
    """A repository's files at a commit, by name."""

    source: HubSource
    files: dict[str, _File]


def fetch(
    wants: Sequence[Want], say: Say = lambda doing: None, tell: Say = lambda line: None
) -> dict[HubSource, HubSource]:
    """Have what is needed of models in the hub's cache, and return each source by its commit.

    Every repository is listed before a file of any is fetched, and small files come first. With HF_HUB_OFFLINE, the
    cache is all there is.

    Args:
        say: told what is being done.
        tell: told what has to be fetched.

    Raises:
        RealCompoError: a repository, a revision or a file cannot be had, or the disk is too small.
    """
    with calm_client(say):
        listings = {whole: _list(whole, say) for whole in dict.fromkeys(want.source.whole for want in wants)}
        missing = _missing([(want, listings[want.source.whole]) for want in wants])
        _announce(missing, tell)
        for file in missing:
            with _one_line(file.source, file.name):
                _fetch_file(file, say)
    commits = {whole: listing.source.revision for whole, listing in listings.items()}
    for whole, commit in commits.items():
        _remember(whole, commit)
    return {want.source: want.source.at(commits[want.source.whole]) for want in wants}


def snapshot(source: HubSource) -> Path | None:
    """The folder that the cache has a repository's files in, at the source's revision; nothing if it has none."""
    folder, revision = _storage(source), source.revision
    if not source.is_pinned:
        reference = folder / "refs" / revision
        revision = reference.read_text().strip() if reference.is_file() else ""
    found = folder / "snapshots" / revision
    return found if revision and found.is_dir() else None


def is_whole(want: Want) -> bool:
    """Whether the cache has all that is needed of a commit."""
    return want.source.is_pinned and not needed(want, _cached(want.source).files).lacks


def file_on_disk(model: str) -> str:
    """Where the cache has the file of weights that a model names on a hub; any other model as it is."""
    source = hub_source(model)
    folder = snapshot(source) if source and source.is_file else None
    return str(folder / source.path) if source and folder else model


def _storage(source: HubSource) -> Path:
    return Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=source.repo, repo_type="model")


def _list(source: HubSource, say: Say) -> _Listing:
    if constants.is_offline_mode():
        return _cached(source)
    say(f"looking at {source}")
    with _one_line(source):
        api = HfApi(endpoint=constants.ENDPOINT)
        ask = partial(api.model_info, source.repo, revision=source.revision, files_metadata=True)
        info = patiently(partial(ask, timeout=_LISTING_SECONDS))
    commit = source.at(info.sha or source.revision)
    found = info.siblings or []
    files = (_File(commit, one.rfilename, one.size or 0, one.lfs.sha256 if one.lfs else None) for one in found)
    return _Listing(commit, {file.name: file for file in files})


def _cached(source: HubSource) -> _Listing:
    """What the cache has of a repository."""
    folder = snapshot(source)
    if folder is None:
        return _Listing(source, {})
    commit = source.at(folder.name)
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    return _Listing(commit, {name: _File(commit, name, 0, None) for name in names})


def _missing(wants: Sequence[tuple[Want, _Listing]]) -> list[_File]:
    """What the cache has not, the smallest first.

    Raises:
        RealCompoError: repositories lack what is needed; all of them are told of.
    """
    found = [(want, listing, needed(want, listing.files)) for want, listing in wants]
    lacking = [(want, listing, one.lacks) for want, listing, one in found if one.lacks]
    if lacking:
        lines = [_lacking(want, names) for want, _, names in lacking]
        raise RealCompoError("; ".join(lines) + (_others(*lacking[0][:2]) if len(lacking) == 1 else ""))
    files = (listing.files[name] for _, listing, one in found for name in one.files)
    once = {(file.source.repo, file.source.revision, file.name): file for file in files}
    return sorted((file for file in once.values() if not file.is_cached), key=lambda file: file.size)


def _lacking(want: Want, names: Sequence[str]) -> str:
    what = f"{names[0]}{f' and {len(names) - 1} more files' if len(names) > 1 else ''}"
    if constants.is_offline_mode():
        return f"HF_HUB_OFFLINE is set, and the cache has no {what} of {want.source}"
    return f"{want.source} has no {what}"


def _others(want: Want, listing: _Listing) -> str:
    """A file of weights that may be what the user wants of a repository."""
    files = (name for name in listing.files if "/" not in name and HubSource("", path=name).is_file)
    first = next(files, None)
    return f". It has {first}: try {replace(want.source, path=first)}" if first else ""


def _announce(missing: Sequence[_File], tell: Say) -> None:
    """Say what has to be fetched, and refuse what the disk cannot hold."""
    if not missing:
        return
    for source in dict.fromkeys(file.source for file in missing):
        own = [file for file in missing if file.source == source]
        weights = ", ".join(f"{file.name} ({size_in_words(file.size)})" for file in own if file.sha256)
        tell(f"to fetch of {source.repo}: {len(own)} files, {size_in_words(_bytes(own))}{weights and f': {weights}'}")
    cache, rest = Path(constants.HF_HUB_CACHE), sum(file.size - _fetched(file) for file in missing)
    free = shutil.disk_usage(next(folder for folder in (cache, *cache.parents) if folder.is_dir())).free
    tell(f"in all {size_in_words(rest)}, {size_in_words(free)} are free in {cache}")
    if rest > free:
        raise RealCompoError(
            f"{size_in_words(rest)} have to be fetched into {cache}, {size_in_words(free)} are free there: free some "
            "space, or set HF_HOME to a folder on another disk"
        )


def _bytes(files: Sequence[_File]) -> int:
    return sum(file.size for file in files)


def _fetched(file: _File) -> int:
    """How many bytes of it an earlier download has brought."""
    part = _part(file)
    return part.stat().st_size if part and part.is_file() else 0


def _part(file: _File) -> Path | None:
    """Where the beginning of a large file is kept."""
    return _storage(file.source) / "blobs" / f"{file.sha256}.incomplete" if file.sha256 else None


def _fetch_file(file: _File, say: Say) -> None:
    say(f"fetching {file.source.repo}: {file.name}")
    if file.sha256 and file.size >= RESUMED_BYTES:
        _fetch_blob(file, file.sha256, say)
    options: dict[str, Any] = {"endpoint": constants.ENDPOINT, "tqdm_class": partial(_Progress, lambda done: None)}
    patiently(partial(hf_hub_download, file.source.repo, file.name, revision=file.source.revision, **options))


def _fetch_blob(file: _File, sha256: str, say: Say) -> None:
    """Bring a large file to where huggingface_hub looks for it, from where the last download has stopped."""
    blob, part = _storage(file.source) / "blobs" / sha256, _part(file)
    lock = Path(constants.HF_HUB_CACHE) / ".locks" / _storage(file.source).name / f"{sha256}.lock"
    for folder in (blob.parent, lock.parent):
        folder.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(lock):
        if blob.is_file() or part is None:
            return
        if _fetched(file) > file.size:
            part.unlink()
        patiently(partial(_append_rest, file, part, say))
        if sha256_of(part) != sha256:
            part.unlink()
            raise RealCompoError(f"{file.name} of {file.source.repo} came damaged; run the same command again")
        part.rename(blob)


def _append_rest(file: _File, part: Path, say: Say) -> None:
    def update(done: int) -> None:
        say(f"fetching {file.source.repo}: {file.name}, {size_in_words(done)} of {size_in_words(file.size)}")

    repo, revision = file.source.repo, file.source.revision
    with part.open("ab", buffering=0) as opened:  # what has come stays, whatever stops us
        http_get(
            hf_hub_url(repo, file.name, revision=revision, endpoint=constants.ENDPOINT),
            opened,
            resume_size=opened.tell(),
            headers=build_hf_headers() | {"Accept-Encoding": "identity"},
            expected_size=file.size,
            tqdm_class=partial(_Progress, update),  # type: ignore[arg-type]
        )


class _Progress:
    """As much of a tqdm bar as huggingface_hub uses."""

    def __init__(self, update: Callable[[int], None], *, initial: int = 0, **_: Any) -> None:
        self._update, self._done = update, initial

    def __enter__(self) -> "_Progress":
        return self

    def __exit__(self, *_: object) -> None: ...

    def update(self, count: float | None = 1) -> None:
        self._done += int(count or 0)
        self._update(self._done)


def _remember(source: HubSource, commit: str) -> None:
    """What a revision is, for HF_HUB_OFFLINE; as huggingface_hub notes it."""
    if source.is_pinned or constants.is_offline_mode():
        return
    reference = _storage(source) / "refs" / source.revision
    with suppress(OSError):  # a cache that is for reading alone serves too
        reference.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(reference, commit.encode())


@contextmanager
def _one_line(source: HubSource, file: str = "") -> Iterator[None]:
    try:
        yield
    except RealCompoError:
        raise
    except Exception as error:
        if line := told(error, source, file):
            raise line from error
        if isinstance(error, OSError) and (why := _DISK.get(error.errno or 0)):
            raise RealCompoError(
                f"cannot write to {constants.HF_HUB_CACHE}: {why}, or set HF_HOME to a folder elsewhere; the same "
                "command resumes"
            ) from error
        raise
