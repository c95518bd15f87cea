"""Real processes for integration tests: `exo serve`, clusters of `exo node`, and their HTTP API.

EXO names the binary (default build/exo).  Every wait has a deadline.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import time
from pathlib import Path
from typing import Any, Callable, Iterator

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXO = os.environ.get("EXO", str(ROOT / "build" / "exo"))
SHARED = ROOT.parent / "shared" / "data"
KEY = "integration tests only"
os.environ.setdefault("EXO_PACK_CACHE", "off")  # what is kept is nobody's but its own test's


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def wait_until(what: str, condition: Callable[[], Any], seconds: float = 20) -> Any:
    """The first true value of condition; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"not within {seconds} s: {what}")


class Reply:
    def __init__(self, status: int, body: bytes):
        self.status, self.body = status, body

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Process:
    """One exo process with an API."""

    def __init__(self, arguments: list[str], data_dir: Path, env: dict[str, str] | None = None,
                 prefix: list[str] | None = None, exo: list[str] | None = None):
        self.api_port = free_port()
        self.data_dir = data_dir
        data_dir.mkdir(parents=True, exist_ok=True)
        self.log = data_dir / "log.txt"
        if arguments[0] == "node" and "--listen" not in arguments:
            arguments = [*arguments, "--listen", "127.0.0.1"]  # found by nobody else
        port_option = "--port" if arguments[0] == "serve" else "--api-port"
        self.process = subprocess.Popen(
            [*(prefix or []), *(exo or [EXO]), *arguments, port_option, str(self.api_port),
             "--data-dir", str(data_dir)],
            env={**os.environ, "EXO_LOG": "info", **(env or {})},
            stdout=subprocess.PIPE, stderr=self.log.open("wb"), text=True)

    def http(self, method: str, path: str, body: Any = None, timeout: float = 30) -> Reply:
        connection = http.client.HTTPConnection("127.0.0.1", self.api_port, timeout=timeout)
        try:
            data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
            connection.request(method, path, data)
            reply = connection.getresponse()
            return Reply(reply.status, reply.read())
        finally:
            connection.close()

    def get(self, path: str) -> Any:
        return self.http("GET", path).json

    def post(self, path: str, body: Any, timeout: float = 60) -> Reply:
        return self.http("POST", path, body, timeout)

    def stream(self, path: str, body: Any, timeout: float = 60) -> Iterator[Any]:
        """Events of a stream; "[DONE]" is the last."""
        connection = http.client.HTTPConnection("127.0.0.1", self.api_port, timeout=timeout)
        try:
            connection.request("POST", path, json.dumps({**body, "stream": True}).encode())
            reply = connection.getresponse()
            assert reply.status == 200, reply.read()
            for line in reply:
                if line.startswith(b"data: "):
                    text = line[6:].strip()
                    yield text.decode() if text == b"[DONE]" else json.loads(text)
        finally:
            connection.close()

    def healthy(self) -> bool:
        try:
            return self.http("GET", "/health", timeout=2).status == 200
        except OSError:
            return False

    def wait_healthy(self) -> "Process":
        def ready() -> bool:
            assert self.process.poll() is None, self.log.read_text()
            return self.healthy()
        wait_until("GET /health gives 200", ready)
        return self

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.terminate()
        try:
            return self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(5)
            raise AssertionError(f"exo did not end on SIGTERM: {self.log.read_text()}")


class Cluster:
    """Nodes that know the first one by --peer; `each` has more options and environment of each."""

    def __init__(self, root: Path, n: int, model: str, options: list[str] | None = None,
                 each: list[tuple[list[str], dict[str, str]]] | None = None):
        self.nodes: list[Process] = []
        self.link_ports = [free_port() for _ in range(n)]
        for i in range(n):
            peer = [] if i == 0 else ["--peer", f"127.0.0.1:{self.link_ports[0]}"]
            more, env = each[i] if each else ([], {})
            self.nodes.append(Process(
                ["node", "--name", f"n{i}", "--port", str(self.link_ports[i]), "-m", model,
                 *peer, *(options or ["--threads", "1"]), *more],
                root / f"n{i}", {"EXO_CLUSTER_KEY": KEY, **env}))
        for node in self.nodes:
            node.wait_healthy()
        self.wait_for_nodes(n)

    def wait_for_nodes(self, n: int, seconds: float = 20) -> None:
        def all_know_all() -> bool:
            return all(
                sum("models" in v for v in node.get("/state")["nodes"].values()) == n
                for node in self.nodes if node.process.poll() is None)
        wait_until(f"{n} nodes know one another", all_know_all, seconds)

    @property
    def model_id(self) -> str:
        return str(self.nodes[0].get("/v1/models")["data"][0]["id"])

    def place(self, n: int, cuts: list[int] | None = None) -> Reply:
        body: dict[str, Any] = {"model_id": self.model_id, "sharding": "Pipeline", "min_nodes": n}
        if cuts is not None:
            body["cuts"] = cuts
        return self.nodes[0].post("/place_instance", body)

    def stop(self) -> None:
        for node in self.nodes:
            if node.process.poll() is None:
                node.process.terminate()
        for node in self.nodes:
            node.stop()


def run(*arguments: str, stdin: bytes = b"", timeout: float = 60,
        env: dict[str, str] | None = None,
        cwd: Path | None = None) -> subprocess.CompletedProcess[bytes]:
    """One command to its end."""
    return subprocess.run([EXO, *arguments], input=stdin, capture_output=True, timeout=timeout,
                          env={**os.environ, **(env or {})}, check=False, cwd=cwd)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """models(shape, type, layers): the path of a synthetic model, made once."""
    root = tmp_path_factory.mktemp("models")

    def make(shape: str, kind: str, layers: int | None = None) -> str:
        path = root / f"{shape}-{kind}-{layers or 'all'}.gguf"
        if not path.exists():
            extra = ["--layers", str(layers)] if layers else []
            done = run("synth", "--shape", shape, "--type", kind, *extra, "-o", str(path),
                       timeout=300)
            assert done.returncode == 0, done.stderr
        return str(path)

    return make


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """start("serve", "-m", "tiny", ...): a process that is stopped after the test."""
    started: list[Process] = []

    def begin(*arguments: str, env: dict[str, str] | None = None) -> Process:
        started.append(Process(list(arguments), tmp_path / f"p{len(started)}", env))
        return started[-1]

    yield begin
    for process in started:
        process.stop()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Callable[..., Cluster]]:
    """cluster(n, model, options): n joined nodes, stopped after the test."""
    started: list[Cluster] = []

    def begin(n: int, model: str, options: list[str] | None = None) -> Cluster:
        started.append(Cluster(tmp_path / f"c{len(started)}", n, model, options))
        return started[-1]

    yield begin
    for c in started:
        c.stop()


@pytest.fixture(scope="session")
def shared() -> Path:
    if not SHARED.is_dir():
        pytest.skip("../shared/data is not here: real models and goldens are not checked")
    return SHARED
