"""A hub in miniature on the loopback: what huggingface_hub asks for of files, and of datasets as a file system."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread
from typing import Literal
from urllib.parse import parse_qs, unquote, urlsplit

CDN = "/elsewhere"
RESOLVE = re.compile(r"/(?P<repo>(?:datasets/)?[^/]+(?:/[^/]+)?)/resolve/(?P<revision>[^/]+)/(?P<file>.+)")
REFS = re.compile(r"/api/models/(?P<repo>[^/]+(?:/[^/]+)?)/refs")
INFO = re.compile(r"/api/(?P<repo>datasets/[^/]+/[^/]+)(?:/revision/(?P<revision>[^/]+))?")
TREE = re.compile(r"/api/(?P<repo>datasets/[^/]+/[^/]+)/tree/(?P<revision>[^/]+)(?:/(?P<file>.+))?")
PIECE = 65_536
RANGE = re.compile(r"bytes=(\d+)-(\d*)")


@dataclass
class Repository:
    """Folders served as a repository, each one commit, and how it misbehaves.

    Attributes:
        folder: the files of branch ``main``.
        branches: the folders of other branches.
        tags: the folders of tags.
        gated: whether the terms were never accepted.
        token: what it takes to see it; None lets everybody.
        ranges: whether range requests are honoured.
        drops: how many answers break off halfway, of each file.
        status: what every request for a file gets instead of an answer, by file; "*" is any file.
        mute: files for which the server takes the request and never answers.
        announced: a size to announce in place of the true one, by file.
        renamed: another id that requests are redirected to.
        etags: what to answer as ETag in place of the true one, by file: one after the other, the last for ever.
        drips: what of the answer comes byte by byte, by (method, file).
        endless: files whose content never ends.
        elsewhere: files that another server has, to which requests are redirected.
        throttles: how many requests are too many, by (method, file); after a second one may ask again.
    """

    folder: Path
    branches: dict[str, Path] = field(default_factory=dict)
    tags: dict[str, Path] = field(default_factory=dict)
    gated: bool = False
    token: str | None = None
    ranges: bool = True
    drops: dict[str, int] = field(default_factory=dict)
    status: dict[str, int] = field(default_factory=dict)
    mute: frozenset[str] = frozenset()
    announced: dict[str, int] = field(default_factory=dict)
    renamed: str | None = None
    etags: dict[str, list[str]] = field(default_factory=dict)
    drips: dict[tuple[str, str], Literal["headers", "content"]] = field(default_factory=dict)
    endless: frozenset[str] = frozenset()
    elsewhere: frozenset[str] = frozenset()
    throttles: dict[tuple[str, str], int] = field(default_factory=dict)

    def commit(self, branch: str = "main") -> str:
        """The commit that a branch or tag stands for."""
        return hashlib.sha1(f"{branch} {self.folder}".encode()).hexdigest()

    def refs(self) -> dict[str, list[dict[str, str]]]:
        """What the Hub says of branches and tags."""

        def listed(kind: str, names: Iterable[str]) -> list[dict[str, str]]:
            return [{"name": one, "ref": f"refs/{kind}/{one}", "targetCommit": self.commit(one)} for one in names]

        return {
            "branches": listed("heads", ["main", *self.branches]),
            "converts": [],
            "tags": listed("tags", self.tags),
        }

    def checkout(self, revision: str) -> tuple[Path, str] | None:
        """The folder and commit of a branch, tag or commit; None where there is none."""
        for branch, folder in {"main": self.folder, **self.branches, **self.tags}.items():
            if revision in (branch, self.commit(branch)):
                return folder, self.commit(branch)
        return None


class HubServer:
    """The server; a context manager.

    Attributes:
        repositories: by id, of datasets as ``datasets/OWNER/NAME``; may be changed while it runs.
        requests: how many requests came, by (method, file).
        sent: bytes of content sent, by file.
        tokens: what was shown to the other server as Authorization.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.requests: Counter[tuple[str, str]] = Counter()
        self.sent: Counter[str] = Counter()
        self.tokens: set[str | None] = set()
        self.closing = False
        self._lock = Lock()
        hub = self

        class Handler(_Handler):
            server_hub = hub

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    def __enter__(self) -> HubServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing = True
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def forget(self) -> None:
        """Begin to count anew."""
        self.requests.clear()
        self.sent.clear()

    def count(self, method: str, file: str, sent: int) -> None:
        """Note a request, or bytes sent in answer to one."""
        with self._lock:
            self.requests[method, file] += not sent
            self.sent[file] += sent

    def fetched(self) -> set[str]:
        """The files of which any content was sent."""
        return {file for file, sent in self.sent.items() if sent}


def _tag(path: Path) -> str:
    """What stands for a file's content, as far as a test changes it."""
    status = path.stat()
    return hashlib.sha1(f"{path} {status.st_size} {status.st_mtime_ns}".encode()).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    server_hub: HubServer
    protocol_version = "HTTP/1.1"
    # Or each answer waits 40 ms for the acknowledgement of its headers.
    disable_nagle_algorithm = True

    def log_message(self, *_: object) -> None:
        """Keep standard error clean."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        address = urlsplit(self.path)
        elsewhere = address.path.startswith(CDN)
        path = address.path.removeprefix(CDN)
        found = next(filter(None, (kind.fullmatch(path) for kind in (RESOLVE, REFS, TREE, INFO))), None)
        if found is None:
            return self._refuse(404, "")
        parts = {"file": "", **{name: unquote(value) for name, value in found.groupdict("").items()}}
        repository = self.server_hub.repositories.get(parts["repo"])
        if repository is None:
            return self._refuse(401, "RepoNotFound")
        if repository.renamed is not None:
            return self._send(307, {"Location": self.path.replace(parts["repo"], repository.renamed, 1)})
        if elsewhere:
            self.server_hub.tokens.add(self.headers.get("Authorization"))
        elif repository.token is not None and self.headers.get("Authorization") != f"Bearer {repository.token}":
            return self._refuse(401, "GatedRepo" if repository.gated else "RepoNotFound")
        if found.re is REFS:
            self.server_hub.count(self.command, "refs", 0)
            if (status := repository.status.get("refs")) is not None:
                return self._refuse(status, "")
            return self._json(repository.refs())
        checkout = repository.checkout(parts["revision"] or "main")
        if checkout is None:
            return self._refuse(404, "RevisionNotFound")
        if found.re is INFO:
            return self._json({"id": parts["repo"].removeprefix("datasets/"), "sha": checkout[1], "siblings": []})
        if found.re is TREE:
            recursive = parse_qs(address.query).get("recursive", [""])[0].lower() == "true"
            return self._tree(checkout[0], parts["file"], recursive=recursive)
        if parts["file"] in repository.elsewhere and not elsewhere:
            return self._redirect(*checkout, parts["file"])
        return self._file(repository, *checkout, parts["file"])

    def _redirect(self, folder: Path, commit: str, file: str) -> None:
        headers = {
            "Location": f"http://localhost:{self.server.server_port}{CDN}{self.path}",  # type: ignore[attr-defined]
            "X-Repo-Commit": commit,
            "X-Linked-Size": str((folder / file).stat().st_size),
            "X-Linked-ETag": f'"{_tag(folder / file)}"',
        }
        self._send(302, headers, file=f"redirected {file}")

    def _tree(self, folder: Path, under: str, *, recursive: bool) -> None:
        found = sorted((folder / under).rglob("*") if recursive else (folder / under).glob("*"))
        if not found:
            return self._refuse(404, "EntryNotFound")
        return self._json([self._entry(path, str(path.relative_to(folder))) for path in found])

    def _entry(self, path: Path, name: str) -> dict[str, object]:
        tag = _tag(path)
        if path.is_dir():
            return {"type": "directory", "path": name, "oid": tag, "size": 0}
        return {"type": "file", "path": name, "oid": tag, "size": path.stat().st_size}

    def _json(self, found: object) -> None:
        self._send(200, {"Content-Type": "application/json"}, json.dumps(found).encode())

    def _file(self, repository: Repository, folder: Path, commit: str, file: str) -> None:
        if file in repository.mute:
            self.server_hub.count(self.command, file, 0)
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline and not self.server_hub.closing:
                time.sleep(0.05)
            self.close_connection = True
            return None
        if (status := repository.status.get(file, repository.status.get("*"))) is not None:
            self.server_hub.count(self.command, file, 0)
            return self._refuse(status, "")
        if repository.throttles.get((self.command, file)):
            repository.throttles[self.command, file] -= 1
            return self._refuse(429, "", {"RateLimit": '"resolvers";r=0;t=1'})
        path = folder / file
        if not path.is_file():
            self.server_hub.count(self.command, file, 0)
            return self._refuse(404, "EntryNotFound", {"X-Repo-Commit": commit})
        length = path.stat().st_size
        size = repository.announced.get(file, length)
        headers = {
            "ETag": f'"{_tag(path)}"',
            "X-Repo-Commit": commit,
            "X-Linked-Size": str(size),
            "Accept-Ranges": "bytes" if repository.ranges else "none",
        }
        asked = RANGE.fullmatch(self.headers.get("Range", "")) if repository.ranges else None
        if (etags := repository.etags.get(file)) is not None:
            headers["ETag"] = etags.pop(0) if len(etags) > 1 else etags[0]
        if (part := repository.drips.get((self.command, file))) is not None:
            return self._drip(headers, path.read_bytes(), part, file)
        if self.command == "GET" and file in repository.endless:
            return self._send_for_ever(headers, file)
        if self.command == "HEAD":
            return self._send(200, {**headers, "Content-Length": str(length)}, file=file)
        if asked is None:
            return self._send(200, headers, path.read_bytes(), file=file, drop=self._drops(repository, file))
        start, stop = int(asked[1]), min(int(asked[2] or size) + 1, length)
        if start >= length:
            return self._refuse(416, "")
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
        with path.open("rb") as stream:
            stream.seek(start)
            content = stream.read(stop - start)
        return self._send(206, headers, content, file=file, drop=self._drops(repository, file))

    def _drip(self, headers: dict[str, str], content: bytes, part: str, file: str) -> None:
        self.server_hub.count(self.command, file, 0)
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        whole = f"HTTP/1.1 200 OK\r\n{head}Content-Length: {len(content)}\r\n\r\n".encode()
        at_once = len(whole) if part == "content" else 20
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.wfile.write(whole[:at_once])
            for byte in (whole + content)[at_once:]:
                if self.server_hub.closing:
                    return
                time.sleep(0.2)
                self.wfile.write(bytes([byte]))

    def _send_for_ever(self, headers: dict[str, str], file: str) -> None:
        self.close_connection = True
        self.send_response(200)
        for name, value in {**headers, "Transfer-Encoding": "chunked"}.items():
            self.send_header(name, value)
        self.end_headers()
        with contextlib.suppress(OSError):
            while not self.server_hub.closing:
                self.wfile.write(f"{PIECE:x}\r\n".encode() + b" " * PIECE + b"\r\n")
                self.server_hub.count(self.command, file, PIECE)

    def _drops(self, repository: Repository, file: str) -> bool:
        if not repository.drops.get(file):
            return False
        repository.drops[file] -= 1
        return True

    def _refuse(self, status: int, code: str, headers: dict[str, str] | None = None) -> None:
        self._send(status, {**(headers or {}), **({"X-Error-Code": code} if code else {})}, b"{}")

    def _send(
        self, status: int, headers: dict[str, str], body: bytes = b"", *, file: str = "", drop: bool = False
    ) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        sent = body[: len(body) // 2] if drop else body
        if self.command == "HEAD":
            sent = b""
        if file:
            self.server_hub.count(self.command, file, 0)
        self.close_connection = drop
        try:
            for start in range(0, len(sent), PIECE):
                self.wfile.write(sent[start : start + PIECE])
                if file:
                    self.server_hub.count(self.command, file, len(sent[start : start + PIECE]))
        except OSError:  # the client has left, as it may
            self.close_connection = True
