"""A small Hugging Face hub on this machine, for the real client: models with sizes and digests, HEAD, Range, redirects.

Files of `LARGE` bytes and more are known by their SHA-256 and are behind a redirect, as on the real one. `cut` breaks a
transfer off in the middle and refuses everything from then on, until `refuses` is taken back.
"""

from __future__ import annotations

import hashlib
import json
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LARGE = 10_000  # bytes
COMMIT = "c0ffee" + "0" * 34
PIECE = 4096  # bytes that the client asks its connection for at once


@dataclass(frozen=True)
class Request:
    """What the client asked for."""

    method: str
    path: str
    start: int  # of the Range; 0 without one


@dataclass
class Hub:
    """What the server has, and what it was asked for so far."""

    url: str = ""
    models: dict[str, dict[str, bytes]] = field(default_factory=dict)  # owner/name -> path in it -> content
    asked: list[Request] = field(default_factory=list)
    cut: int | None = None  # break off the next content that is longer, after this many bytes
    damage: bool = False  # send zeros in place of content
    refuses: bool = False  # with 403, after which the client does not wait and try again as it does after 503
    server: ThreadingHTTPServer | None = None

    def stop(self) -> None:
        """Be gone: connections are refused."""
        if self.server is not None:
            self.server.shutdown()
            self.server.server_close()
            self.server = None

    def add(self, name: str, folder: Path) -> None:
        """Serve the files of a folder."""
        files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        self.models[name] = files

    def contents(self) -> list[Request]:
        """The requests for contents since the last call; where there was a redirect, those that it led to."""
        found = [request for request in self.asked if request.method == "GET" and not request.path.startswith("/api/")]
        self.asked.clear()
        return [request for request in found if not self.redirected(request.path)]

    def redirected(self, path: str) -> str | None:
        """The address of a large file's content."""
        content = self.content(path)
        is_large = not path.startswith("/cdn/") and content is not None and len(content) >= LARGE
        return f"/cdn{path}" if is_large else None

    def content(self, path: str) -> bytes | None:
        """What is under /OWNER/NAME/resolve/REVISION/FILE."""
        owner, name, word, _, *rest = [*path.removeprefix("/cdn").strip("/").split("/"), "", "", "", ""]
        return self.models.get(f"{owner}/{name}", {}).get("/".join(rest).strip("/")) if word == "resolve" else None


def digest(content: bytes) -> str:
    """As the hub names a content: SHA-256 of a large one, git's blob id of a small one."""
    if len(content) >= LARGE:
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@contextmanager
def serving() -> Iterator[Hub]:
    """A hub that the client in this process takes for the real one."""
    from huggingface_hub import constants

    hub = Hub()
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.server, hub.url = server, f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    settings = {  # the first two are what HF_ENDPOINT sets when the client is imported
        "ENDPOINT": hub.url,
        "HUGGINGFACE_CO_URL_TEMPLATE": hub.url + "/{repo_id}/resolve/{revision}/{filename}",
        "DOWNLOAD_CHUNK_SIZE": PIECE,
    }
    before = {name: getattr(constants, name) for name in settings}
    for name, value in settings.items():
        setattr(constants, name, value)
    try:
        yield hub
    finally:
        for name, value in before.items():
            setattr(constants, name, value)
        hub.stop()


class _Server(ThreadingHTTPServer):
    def handle_error(self, *about: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):  # a client that was cancelled hangs up
            super().handle_error(*about)


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def log_message(self, *_: object) -> None:
        pass

    def answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")[0])
        self.hub.asked.append(Request(self.command, path, start))
        if self.hub.refuses:
            self.send(403)
        elif path.startswith("/api/models/"):
            self.describe(*path.removeprefix("/api/models/").split("/"))
        elif (content := self.hub.content(path)) is None:
            self.send(404, headers={"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
        else:
            self.give(path, content, start)

    def describe(self, owner: str = "", name: str = "", what: str = "", *_: str) -> None:
        """The model's description, or the list of its files."""
        files = self.hub.models.get(f"{owner}/{name}")
        if files is None:
            self.send(404, headers={"X-Error-Code": "RepoNotFound"})
            return
        entries = []
        for path, content in files.items():
            large = {"sha256": digest(content), "oid": digest(content), "size": len(content), "pointerSize": 130}
            own = {"lfs": large} if len(content) >= LARGE else {}
            blob = hashlib.sha1(content).hexdigest() if own else digest(content)
            entries.append({"path": path, "rfilename": path, "size": len(content), "oid": blob, "blobId": blob} | own)
        if what == "tree":
            self.send(200, json.dumps([entry | {"type": "file"} for entry in entries]).encode())
        else:
            about = {"id": f"{owner}/{name}", "sha": COMMIT, "cardData": {"license": "mit"}, "tags": ["license:mit"]}
            self.send(200, json.dumps(about | {"siblings": entries}).encode())

    def give(self, path: str, content: bytes, start: int) -> None:
        """A file's content from `start` on, or its address."""
        about = {"X-Repo-Commit": COMMIT, "ETag": f'"{digest(content)}"', "Accept-Ranges": "bytes"}
        if elsewhere := self.hub.redirected(path):
            linked = {"X-Linked-ETag": f'"{digest(content)}"', "X-Linked-Size": str(len(content))}
            self.send(302, headers=about | linked | {"Location": self.hub.url + elsewhere})
            return
        if start:
            about["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        if self.hub.damage:
            content = bytes(len(content))
        self.send(206 if start else 200, content[start:], about)

    def send(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        is_content = status in (200, 206) and "/resolve/" in self.path
        if is_content and self.hub.cut is not None and len(body) > self.hub.cut:
            self.wfile.write(body[: self.hub.cut])
            self.hub.cut, self.hub.refuses, self.close_connection = None, True, True
        else:
            self.wfile.write(body)
