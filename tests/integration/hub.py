"""A hub on this machine, with the routes of huggingface.co, that can be told to misbehave.

`Hub(files)` serves one repository "owner/repo" under /api/models and /OWNER/REPO/resolve; what a
file's bytes are comes from a second server (the "CDN"), on another port and another host name, to
which the first one redirects.  Both record every request with its headers.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
import socket
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

REPO = "owner/repo"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Faults:
    """What goes wrong.  Counters say how many times; -1 is for ever."""

    cut: int = 0                # close a connection in the middle of a body
    cut_after: int = 200_000    # bytes, at most, that a cut body still gets
    status: list[tuple[int, dict[str, str]]] = field(default_factory=list)  # answers of the CDN
    hub_status: list[tuple[int, dict[str, str]]] = field(default_factory=list)  # of the API
    stall: int = 0              # send a few bytes, then nothing
    ignore_range: bool = False
    wrong_range: int = 0        # 206 with other bytes than asked for
    lie_size: int = 0           # added to the size that the list tells
    lie_linked_size: int = 0    # added to X-Linked-Size
    lie_length: int = 0         # added to Content-Length of a body
    wrong_sha: bool = False     # the list promises another sha256
    change_after: int = -1      # CDN requests until the content becomes another one
    expire_after: int = -1      # CDN requests until addresses given so far are refused
    slow: float = 0.0           # seconds between blocks of 64 KiB
    token: str | None = None    # needed by the hub
    gated: bool = False
    redirect_loop: bool = False
    downgrade: bool = False
    no_length: bool = False


class Hub:
    def __init__(self, files: dict[str, bytes], commit: str = COMMIT):
        self.files, self.commit, self.faults = files, commit, Faults()
        self.pages = 1000
        self.requests: list[tuple[str, str, dict[str, str]]] = []  # who, path, headers
        self.lock = threading.Lock()
        self.cdn_requests = 0
        self.generation = 0
        self.connections: dict[int, int] = {}
        self.open_now = self.most_open = 0
        self.random = random.Random(7)
        self.hub_server = self.serve("hub", self.answer_hub)
        self.cdn_server = self.serve("cdn", self.answer_cdn)

    def serve(self, who: str, answer: Any) -> ThreadingHTTPServer:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                with hub.lock:
                    hub.requests.append((who, self.path, dict(self.headers.items())))
                try:
                    answer(self)
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True

            do_HEAD = do_GET

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: Any) -> None:
                pass

        server = Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return server

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.hub_server.server_address[1]}"

    @property
    def cdn(self) -> str:
        return f"http://localhost:{self.cdn_server.server_address[1]}"

    def stop(self) -> None:
        self.hub_server.shutdown()
        self.cdn_server.shutdown()
        self.hub_server.server_close()
        self.cdn_server.server_close()

    def env(self, **more: str) -> dict[str, str]:
        return {"HF_ENDPOINT": self.endpoint, "NO_PROXY": "*", "no_proxy": "*", "HF_TOKEN": "",
                "EXO_OFFLINE": "", "EXO_MODELS_DIRS": "", **more}

    def content(self, name: str) -> bytes:
        data = self.files[name]
        return data if self.generation == 0 else bytes(b ^ 0x55 for b in data[:1000]) + data[1000:]

    def sha256(self, name: str) -> str:
        return hashlib.sha256(self.content(name)).hexdigest()

    def paths(self, who: str) -> list[str]:
        return [path for w, path, _ in self.requests if w == who]

    # ---- answers ----

    @staticmethod
    def send(h: Any, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        h.send_response(status)
        for key, value in (headers or {}).items():
            h.send_header(key, value)
        h.send_header("Content-Length", str(len(body)))
        h.end_headers()
        if h.command != "HEAD":
            h.wfile.write(body)

    def tree(self) -> list[dict[str, Any]]:
        out: list[dict[str, Any]] = [{"type": "directory", "oid": "d", "size": 0, "path": "sub"}]
        for name in sorted(self.files):
            large = name.endswith((".gguf", ".safetensors"))
            size = len(self.files[name]) + (self.faults.lie_size if large else 0)
            entry: dict[str, Any] = {"type": "file", "oid": "a" * 40, "size": size, "path": name}
            if large:
                sha = "0" * 64 if self.faults.wrong_sha else self.sha256(name)
                entry["lfs"] = {"oid": sha, "size": size, "pointerSize": 134}
            out.append(entry)
        return out

    def answer_hub(self, h: Any) -> None:
        f = self.faults
        if f.hub_status:
            status, headers = f.hub_status.pop(0)
            return self.send(h, status, b"{}", headers)
        if f.token is not None and h.headers.get("Authorization") != f"Bearer {f.token}":
            return self.send(h, 403 if f.gated else 401, b'{"error":"no"}',
                             {"X-Error-Message": "Access to model owner/repo is restricted"})
        path = h.path.split("?")[0]
        if path == f"/api/models/{REPO}/revision/main":
            return self.send(h, 200, json.dumps({"id": REPO, "sha": self.commit}).encode())
        if path == f"/api/models/{REPO}/tree/{self.commit}":
            query = re.search(r"cursor=(\d+)", h.path)
            begin = int(query.group(1)) if query else 0
            page = self.tree()[begin:begin + self.pages]
            more = begin + self.pages < len(self.tree())
            link = {"Link": f'<{self.endpoint}{path}?recursive=1&cursor={begin + self.pages}>; '
                            'rel="next"'} if more else {}
            return self.send(h, 200, json.dumps(page).encode(), link)
        found = re.fullmatch(rf"/{REPO}/resolve/(?:main|{self.commit})/(.*)", path)
        if found and found.group(1) in self.files:
            return self.redirect(h, found.group(1))
        return self.send(h, 404, b'{"error":"Repository not found"}')

    def redirect(self, h: Any, name: str) -> None:
        size = len(self.files[name]) + self.faults.lie_linked_size
        to = f"{self.cdn}/{self.cdn_requests}/{name}?signature=secret"
        if self.faults.redirect_loop:
            to = h.path
        if name.endswith((".gguf", ".safetensors")):
            self.send(h, 302, b"", {"Location": to, "X-Repo-Commit": self.commit,
                                    "X-Linked-Etag": f'"{self.sha256(name)}"',
                                    "X-Linked-Size": str(size), "Accept-Ranges": "bytes"})
        else:
            self.body(h, name, '"git-oid"')

    def answer_cdn(self, h: Any) -> None:
        f = self.faults
        with self.lock:
            self.cdn_requests += 1
            n = self.cdn_requests
            if f.change_after >= 0 and n > f.change_after:
                self.generation = 1
            self.open_now += 1
            self.most_open = max(self.most_open, self.open_now)
        try:
            if f.status:
                status, headers = f.status.pop(0)
                return self.send(h, status, b"<html>busy</html>", headers)
            stamp, name = h.path.split("?")[0][1:].split("/", 1)
            if 0 <= f.expire_after < n and int(stamp) < f.expire_after:
                return self.send(h, 403, b"<Error>expired</Error>")
            etag = f'"cdn-{self.generation}-{hashlib.md5(name.encode()).hexdigest()}"'
            self.body(h, name, etag)
        finally:
            with self.lock:
                self.open_now -= 1

    def body(self, h: Any, name: str, etag: str) -> None:
        f = self.faults
        data = self.content(name)
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", h.headers.get("Range", ""))
        begin, end, status = 0, len(data), 200
        if asked and not f.ignore_range:
            begin = int(asked.group(1))
            end = min(len(data), int(asked.group(2)) + 1 if asked.group(2) else len(data))
            status = 206
            if begin >= len(data):
                return self.send(h, 416, b"", {"Content-Range": f"bytes */{len(data)}"})
        shift = 0
        if f.wrong_range and status == 206 and begin > 0:
            f.wrong_range -= 1
            shift = 7
        h.send_response(status)
        h.send_header("ETag", etag)
        h.send_header("Accept-Ranges", "bytes")
        if status == 206:
            h.send_header("Content-Range", f"bytes {begin - shift}-{end - 1 - shift}/{len(data)}")
        if f.no_length:
            h.send_header("Connection", "close")
            h.close_connection = True
        else:
            h.send_header("Content-Length", str(end - begin + f.lie_length))
        h.end_headers()
        self.send_body(h, data[begin - shift:end - shift])

    def send_body(self, h: Any, data: bytes) -> None:
        f = self.faults
        cut = stall = False
        with self.lock:
            if f.cut and len(data) > 1:
                cut, f.cut = True, f.cut - 1
            elif f.stall and len(data) > 1:
                stall, f.stall = True, f.stall - 1
            stop = self.random.randrange(min(len(data), f.cut_after)) if len(data) > 1 else 0
        if cut or stall:
            h.wfile.write(data[:stop])
            h.wfile.flush()
            if stall:
                time.sleep(8)
            h.close_connection = True
            h.connection.shutdown(socket.SHUT_RDWR)
            return
        for at in range(0, len(data), 65536):
            h.wfile.write(data[at:at + 65536])
            if f.slow:
                time.sleep(f.slow)
        if f.lie_length > 0:
            h.close_connection = True
