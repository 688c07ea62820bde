"""What a hub and the way to it can refuse, in one line each; what is worth waiting for."""

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

from huggingface_hub import constants, get_session
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import logging, parse_ratelimit_headers  # type: ignore[attr-defined]

from export.checkpoints.source import HubSource
from runtime.errors import RealCompoError

T = TypeVar("T")

LONGEST_WAIT = 60  # seconds that a hub may ask for
PAUSES = (1.0, 2.0, 4.0)  # seconds before the second try and so on
_BUSY, _FAULTS = 429, range(500, 600)
# HTTPError of the client that huggingface_hub has, which also the errors of connections are
NETWORK = cast(type[Exception], next(base for base in HfHubHTTPError.__bases__ if base is not OSError))
_AGAIN = "The same command resumes"

# The first line whose error it is
_LINES: tuple[tuple[type[BaseException] | int | range, str], ...] = (
    (
        GatedRepoError,
        "{repo} is gated ({status}): accept its terms at {endpoint}/{repo} and set HF_TOKEN to a token of that account",
    ),
    (RevisionNotFoundError, "{repo} has no revision {revision} (404): give one that it has, REPO@REVISION"),
    (RemoteEntryNotFoundError, "{repo} has no file {file} at {revision} (404)"),
    (
        RepositoryNotFoundError,
        "the hub has no repository {repo} ({status}), or it is private: check its name, or set HF_TOKEN to a token "
        "that may read it",
    ),
    (
        401,
        "the hub does not let {repo} be read (401): it is private or gated, or the token of HF_TOKEN is not known; "
        "make one at {endpoint}/settings/tokens",
    ),
    (
        403,
        "the hub forbids {repo} (403): accept its terms at {endpoint}/{repo}, or set HF_TOKEN to a token that may "
        "read it",
    ),
    (404, "the hub has nothing at {repo}, revision {revision} (404)"),
    (_BUSY, f"the hub has too many requests (429){{wait}}. {_AGAIN} later; with HF_TOKEN set, the hub takes more"),
    (_FAULTS, f"the hub has a fault of its own ({{status}}). {_AGAIN} later"),
    (NETWORK, f"the connection to {{endpoint}} is lost: {{cause}}. {_AGAIN}; HF_HUB_OFFLINE=1 takes what is cached"),
)
_LONGEST_CAUSE = 80  # characters


def told(error: Exception, source: HubSource, file: str = "") -> RealCompoError | None:
    """What to tell a user of an error that a request for a repository has raised, if it is a hub's or the network's."""
    inner = error.__cause__
    cause = inner if isinstance(inner, NETWORK) and not isinstance(error, NETWORK) else error  # LocalEntryNotFound's
    line = next((line for kind, line in _LINES if _is(cause, kind)), None)
    if line is None:
        return None
    fields = {"repo": source.repo, "revision": source.revision, "file": file, "endpoint": constants.ENDPOINT}
    wait = f" and asks to wait {seconds} s" if (seconds := _wait_asked(cause)) is not None else ""
    said = str(cause).strip().splitlines() or [type(cause).__name__]
    return RealCompoError(line.format(**fields, status=_status(cause), wait=wait, cause=said[0][:_LONGEST_CAUSE]))


def patiently(ask: Callable[[], T]) -> T:
    """Ask again, some seconds later, what fails for a reason that may pass."""
    for pause in PAUSES:
        try:
            return ask()
        except NETWORK as error:
            asked = _wait_asked(error)
            if not _may_pass(error) or (asked or 0) > LONGEST_WAIT:
                raise
            time.sleep(pause if asked is None else asked)
    return ask()


@contextmanager
def calm_client(say: Callable[[str], None]) -> Iterator[None]:
    """huggingface_hub without warnings, and without the long waits that hubs may ask it for."""
    verbosity, session = logging.get_verbosity(), get_session()
    hooks = session.event_hooks

    def told_to_wait(response: Any) -> None:
        if response.status_code == _BUSY:
            wait = _seconds(response)
            say(f"the hub has too many requests, waiting {wait or 'some'} s")
            if (wait or 0) > LONGEST_WAIT:
                raise _TooLong("", response=response)

    session.event_hooks = hooks | {"response": [*hooks["response"], told_to_wait]}
    logging.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="huggingface_hub")
            yield
    finally:
        logging.set_verbosity(verbosity)
        session.event_hooks = hooks


class _TooLong(HfHubHTTPError):
    """A hub asks to wait longer than a build should."""


def _is(error: Exception, kind: type[BaseException] | int | range) -> bool:
    if isinstance(kind, type):
        return isinstance(error, kind)
    return _status(error) in (kind if isinstance(kind, range) else (kind,))


def _may_pass(error: BaseException) -> bool:
    status = _status(error)
    return status in (0, _BUSY) or status in _FAULTS


def _status(error: BaseException) -> int:
    """Of an HTTP response; 0 where none has come."""
    return getattr(getattr(error, "response", None), "status_code", 0)


def _wait_asked(error: BaseException) -> int | None:
    return _seconds(error.response) if isinstance(error, HfHubHTTPError) and _status(error) == _BUSY else None


def _seconds(response: Any) -> int | None:
    """That a hub asks to wait for, in either of the ways that hubs do."""
    after = response.headers.get("Retry-After", "").strip()
    if after.isdigit():
        return int(after)
    limit = parse_ratelimit_headers(response.headers)
    return limit.reset_in_seconds if limit and limit.remaining == 0 else None
