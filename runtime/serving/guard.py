"""What stands before every route: who may ask, from where, and headers that every answer has."""

import hmac
import ipaddress
import json
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runtime.errors import RealCompoError
from runtime.serving.errors import Refusal

LOCAL = "127.0.0.1"
PROTECTED = ("/v1/", "/metrics")  # health, the page and the documentation tell nothing that the package does not
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)


def read_keys(file: Path | None) -> list[str]:
    """One a line.

    Raises:
        RealCompoError: a file that cannot be read, or has none.
    """
    if file is None:
        return []
    try:
        keys = [line.strip() for line in file.read_text().splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise RealCompoError(f"cannot read --api-key-file {file}: {error}") from error
    if not keys:
        raise RealCompoError(f"--api-key-file {file} is empty; write a key on a line")
    return keys


class Guard:
    """Without keys, this machine alone may ask, and by its own names: a page elsewhere may let its name point here."""

    def __init__(self, app: ASGIApp, keys: Iterable[str] = ()) -> None:
        self._app, self._keys = app, [key.encode() for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *HEADERS]
            await send(message)

        client = scope.get("client")
        refusal = self._refusal(client[0] if client else LOCAL, scope["path"], dict(scope["headers"]))
        if refusal:
            await _refuse(refusal, send_with_headers)
        else:
            await self._app(scope, receive, send_with_headers)

    def _refusal(self, client: str, path: str, headers: dict[bytes, bytes]) -> Refusal | None:
        if not self._keys and not (is_local(client) and is_local(_host(headers.get(b"host", b"")))):
            return Refusal(403, "foreign_host", "this server answers only as localhost; start it with --api-key-file")
        if self._keys and path.startswith(PROTECTED) and not self._knows(headers.get(b"authorization", b"")):
            said = {"WWW-Authenticate": "Bearer"}
            return Refusal(401, "no_key", "send the server's key, as in 'Authorization: Bearer KEY'", headers=said)
        return None

    def _knows(self, authorization: bytes) -> bool:
        scheme, _, key = authorization.partition(b" ")
        return scheme.lower() == b"bearer" and any(hmac.compare_digest(key.strip(), one) for one in self._keys)


def is_local(host: str) -> bool:
    """Whether a host's name or address is this machine's own."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _host(header: bytes) -> str:
    try:
        return urlsplit(f"//{header.decode('latin-1')}").hostname or ""
    except ValueError:
        return ""


async def _refuse(refusal: Refusal, send: Send) -> None:
    headers = {"content-type": "application/json", **refusal.headers}
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": refusal.status, "headers": raw})
    await send({"type": "http.response.body", "body": json.dumps(refusal.body()).encode()})
