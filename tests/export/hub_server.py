"""A hub on localhost: as much of its API as huggingface_hub uses, over tiny repositories, with faults on demand."""

import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

from huggingface_hub import constants

Files = dict[str, bytes]
LARGE = (".safetensors", ".bin", ".ckpt", ".pt", ".pth", ".onnx")  # kept in large file storage, on a host of its own


@dataclass
class Fault:
    """What is done instead of answering requests whose method and path match, the first so many times."""

    request: str  # regular expression
    act: Callable[["_Handler"], None]
    times: int = 1_000


@dataclass
class Hub:
    """What the server gives, and what it was asked for."""

    repositories: dict[str, dict[str, Files]]  # files by repository and revision
    faults: list[Fault] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)  # method, path, and range
    tokens: list[str | None] = field(default_factory=list)
    cut_at: int | None = None  # the connection is cut after so many bytes of the next large file

    def commit(self, repo: str, revision: str) -> str | None:
        """The commit that a revision is; it may be one itself."""
        names = (name for name in self.repositories[repo] if revision in (name, _commit(repo, name)))
        return next((_commit(repo, name) for name in names), None)

    def files(self, repo: str, revision: str) -> Files:
        wanted = self.commit(repo, revision)
        return next(files for name, files in self.repositories[repo].items() if _commit(repo, name) == wanted)

    def fetched(self, repo: str) -> set[str]:
        """The names of the files that were asked for of a repository; what has the same content is got but once."""
        found = (re.match(rf"\w+ /{repo}/resolve/[^/]+/(\S+)", unquote(request)) for request in self.requests)
        return {one[1] for one in found if one}


def status(code: int, **headers: str) -> Callable[["_Handler"], None]:
    """A fault: an answer without content."""
    return lambda handler: handler.answer(code, {name.replace("_", "-"): value for name, value in headers.items()})


def drop(handler: "_Handler") -> None:
    """A fault: the connection is closed without an answer."""
    handler.close_connection = True


@contextmanager
def serve(hub: Hub) -> Iterator[str]:
    """The hub's address, while the block lasts."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def use(patch: Any, address: str, cache: object) -> None:
    """huggingface_hub asks this hub: what HF_ENDPOINT and HF_HOME do before it is imported."""
    patch.setattr(constants, "ENDPOINT", address)
    template = f"{address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    patch.setattr(constants, "HF_HUB_CACHE", str(cache))
    patch.setattr(constants, "HF_HUB_OFFLINE", False)
    patch.delenv("HF_TOKEN", raising=False)


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None: ...

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        if path.startswith("/api/agent"):  # huggingface_hub may ask once what it is run by
            self.answer(404)
            return
        asked = f"{self.command} {unquote(path)}"
        self.hub.requests.append(f"{self.command} {path} {self.headers.get('Range', '')}".strip())
        self.hub.tokens.append(self.headers.get("Authorization"))
        for fault in self.hub.faults:
            if fault.times and re.search(fault.request, asked):
                fault.times -= 1
                fault.act(self)
                return
        for pattern, method in ((_LISTING, self._list), (_FILE, self._resolve), (_BLOB, self._blob)):
            if found := pattern.fullmatch(path):
                method(*map(unquote, found.groups()))
                return
        self.answer(404)

    def answer(self, code: int, headers: dict[str, str] | None = None, content: bytes = b"") -> None:
        self.send_response(code)
        for name, value in ({"Content-Length": str(len(content))} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def _known(self, repo: str, revision: str) -> bool:
        """Whether there is such a thing; if not, it is answered."""
        if repo not in self.hub.repositories:
            self.answer(404, {"X-Error-Code": "RepoNotFound"})
        elif self.hub.commit(repo, revision) is None:
            self.answer(404, {"X-Error-Code": "RevisionNotFound"})
        else:
            return True
        return False

    def _list(self, repo: str, revision: str) -> None:
        if not self._known(repo, revision):
            return
        siblings = []
        for name, content in self.hub.files(repo, revision).items():
            one = {"rfilename": name, "size": len(content), "blobId": _blob_id(content)}
            if name.endswith(LARGE):
                one["lfs"] = {"sha256": _sha256(content), "size": len(content), "pointerSize": 134}
            siblings.append(one)
        told = {"id": repo, "sha": self.hub.commit(repo, revision), "siblings": siblings}
        self.answer(200, {"Content-Type": "application/json"}, json.dumps(told).encode())

    def _resolve(self, repo: str, revision: str, name: str) -> None:
        if not self._known(repo, revision):
            return
        commit = str(self.hub.commit(repo, revision))
        content = self.hub.files(repo, revision).get(name)
        if content is None:
            self.answer(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
        elif name.endswith(LARGE):
            where = f"http://localhost:{self.server.server_address[1]}/blobs/{repo}/{commit}/{name}"
            linked = {"X-Linked-Etag": f'"{_sha256(content)}"', "X-Linked-Size": str(len(content))}
            self.answer(302, {"X-Repo-Commit": commit, "Location": where} | linked)
        else:
            self.answer(200, {"X-Repo-Commit": commit, "ETag": f'"{_blob_id(content)}"'}, content)

    def _blob(self, owner: str, name: str, commit: str, file: str) -> None:
        content = self.hub.files(f"{owner}/{name}", commit)[file]
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(asked[1]) if asked else 0
        headers = {"ETag": f'"{_sha256(content)}"', "Accept-Ranges": "bytes"}
        if asked:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        cut, self.hub.cut_at = self.hub.cut_at, None
        headers["Content-Length"] = str(len(content) - start)
        self.answer(206 if asked else 200, headers, content[start:cut])
        self.close_connection = cut is not None


_LISTING = re.compile(r"/api/models/([^/]+/[^/]+)/revision/([^/]+)")
_FILE = re.compile(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)")
_BLOB = re.compile(r"/blobs/([^/]+)/([^/]+)/([^/]+)/(.+)")


def _commit(repo: str, revision: str) -> str:
    return hashlib.sha1(f"{repo} {revision}".encode()).hexdigest()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _blob_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
