"""What the benchmarks share: exo processes with an API, synthetic models, the machine's name."""

from __future__ import annotations

import http.client
import json
import os
import platform
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

KEY = "benchmark passphrase"


def machine() -> str:
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = [x for x in cpuinfo.read_text().splitlines() if x.startswith("model name")]
        model = lines[0].split(":", 1)[1].strip() if lines else model
    return f"{model}, {os.cpu_count()} cores"


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


class Server:
    """An exo process with an API, pinned to cores if asked."""

    def __init__(self, exo: str, root: Path, arguments: list[str], cores: set[int] | None = None,
                 **environment: str):
        self.port = free_port()
        option = "--port" if arguments[0] == "serve" else "--api-port"
        data = Path(tempfile.mkdtemp(dir=root))
        pin = (lambda: os.sched_setaffinity(0, cores)) if cores else None
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            [exo, *arguments, option, str(self.port), "--data-dir", str(data)], preexec_fn=pin,
            env={**os.environ, "EXO_CLUSTER_KEY": KEY, **environment},
            stdout=subprocess.DEVNULL)

    def request(self, method: str, path: str, body: Any = None) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)
        connection.request(method, path, None if body is None else json.dumps(body))
        reply = connection.getresponse()
        data = json.loads(reply.read())
        connection.close()
        if reply.status != 200:
            raise RuntimeError(data)
        return data

    def wait_healthy(self) -> float:
        """Seconds from exec to the first 200."""
        while time.monotonic() - self.started < 120:
            try:
                self.request("GET", "/health")
                return time.monotonic() - self.started
            except (OSError, RuntimeError):
                time.sleep(0.002)
        raise RuntimeError("not healthy within 120 s")

    def rss(self) -> float:
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                return float(line.split()[1]) * 1024
        return 0.0

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(30)


def synth(exo: str, models: Path, shape: str, kind: str) -> str:
    path = models / f"{shape}-{kind}.gguf"
    if not path.exists():
        subprocess.run([exo, "synth", "--shape", shape, "--type", kind, "-o", str(path)], check=True)
    return str(path)


def bench(exo: str, *arguments: str) -> Any:
    done = subprocess.run([exo, "bench", *arguments, "--json"], check=True, capture_output=True)
    return json.loads(done.stdout)
