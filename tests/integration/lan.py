"""Networks of this machine's own: hosts are network namespaces, joined by a switch or a bad cable.

Needs root for `ip netns`; tests are skipped where that is not permitted.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Iterator

import pytest
from conftest import EXO, Process, Reply
from relay import move_to

NETWORK = "10.77.0"


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=10)


class Host:
    """A network namespace with one network device, lan0."""

    def __init__(self, lan: "Lan", number: int):
        self.name = f"{lan.prefix}{number}"
        self.addr = f"{NETWORK}.{number}"
        self.number = number

    def up(self, device: str = "lan0", network: str = NETWORK) -> None:
        ip("-n", self.name, "link", "set", "lo", "up")
        ip("-n", self.name, "addr", "add", f"{network}.{self.number}/24", "dev", device)
        ip("-n", self.name, "link", "set", device, "up")

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """Sockets that this thread makes meanwhile are the host's, and stay so."""
        with open("/proc/thread-self/ns/net", "rb") as home, \
                open(f"/run/netns/{self.name}", "rb") as there:
            move_to(there.fileno())
            try:
                yield
            finally:
                move_to(home.fileno())

    def run(self, *arguments: str, timeout: float = 60,
            stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(["ip", "netns", "exec", self.name, *arguments], input=stdin,
                              capture_output=True, timeout=timeout, check=False)


class Lan:
    """Hosts 1 to n; each test makes its own and removes it."""

    def __init__(self) -> None:
        self.prefix = f"exol{os.getpid()}-"
        self.hosts: list[Host] = []
        self.made: list[str] = []
        self.nodes: list["LanNode"] = []
        self.others: list[subprocess.Popen[Any]] = []
        self.cables: dict[str, subprocess.Popen[str]] = {}

    def _namespace(self, name: str) -> None:
        try:
            ip("netns", "add", name)
        except (subprocess.CalledProcessError, FileNotFoundError) as e:
            pytest.skip(f"network namespaces are not permitted here: {e}")
        self.made.append(name)

    def _hosts(self, n: int) -> None:
        for i in range(1, n + 1):
            host = Host(self, i)
            self._namespace(host.name)
            self.hosts.append(host)

    def switch(self, n: int) -> list[Host]:
        """n hosts on one switch."""
        self._hosts(n)
        switch = f"{self.prefix}switch"
        self._namespace(switch)
        ip("-n", switch, "link", "add", "br0", "type", "bridge")
        ip("-n", switch, "link", "set", "br0", "up")
        for host in self.hosts:
            port = f"p{host.number}"
            ip("-n", host.name, "link", "add", "lan0", "type", "veth", "peer", "name", port,
               "netns", switch)
            ip("-n", switch, "link", "set", port, "master", "br0", "up")
            host.up()
        return self.hosts

    def bad_cable(self, *options: str, device: str = "lan0",
                  network: str = NETWORK) -> list[Host]:
        """Two hosts on a cable with the relay's faults; a second call adds a second cable."""
        if not self.hosts:
            self._hosts(2)
        if not Path("/dev/net/tun").exists():
            pytest.skip("no /dev/net/tun here: bad cables are not tested")
        relay = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("relay.py")), "--a", self.hosts[0].name,
             "--b", self.hosts[1].name, "--device", device, *options], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True)
        self.others.append(relay)
        self.cables[device] = relay
        assert relay.stdout is not None and relay.stdout.readline() == "ready\n"
        for host in self.hosts:
            host.up(device, network)
        return self.hosts

    def change(self, options: str, device: str = "lan0") -> None:
        """A cable is another from now on: "loss 1"."""
        orders = self.cables[device].stdin
        assert orders is not None
        orders.write(options + "\n")
        orders.flush()

    def start(self, host: Host, data_dir: Path, *arguments: str, name: str | None = None,
              env: dict[str, str] | None = None) -> "LanNode":
        self.nodes.append(LanNode(host, data_dir, list(arguments), name or f"n{host.number}", env))
        return self.nodes[-1]

    def close(self) -> None:
        try:
            for node in self.nodes:
                if node.process.poll() is None:
                    node.process.terminate()
            for node in self.nodes:
                node.stop()
        finally:
            for other in self.others:
                other.kill()
                other.wait(5)
            for name in self.made:
                ip("netns", "del", name)


class LanNode(Process):
    """A node on a host; its API is on that host's loopback."""

    def __init__(self, host: Host, data_dir: Path, arguments: list[str], name: str,
                 env: dict[str, str] | None):
        self.host = host
        super().__init__(["node", "--listen", "::", "-m", "tiny", "--threads", "1", "--name", name,
                          *arguments], data_dir, env, ["ip", "netns", "exec", host.name])

    def http(self, method: str, path: str, body: Any = None, timeout: float = 30) -> Reply:
        with self.host.inside():
            return super().http(method, path, body, timeout)

    @property
    def state(self) -> Any:
        """GET /state, or an empty picture before the API answers."""
        try:
            return self.get("/state")
        except OSError:
            return {"nodes": {}}

    def names(self) -> set[str]:
        return {n.get("name", "?") for n in self.state["nodes"].values()}

    def heard(self, name: str) -> Any:
        """What discovery knows of a device; None before it was heard."""
        discovery = self.state.get("discovery") or {"heard": []}
        return next((h for h in discovery["heard"] if h["name"] == name), None)

    def exo(self, *arguments: str, stdin: bytes = b"",
            timeout: float = 60) -> subprocess.CompletedProcess[bytes]:
        """A command on the same host with the same data directory."""
        return self.host.run(EXO, *arguments, "--data-dir", str(self.data_dir), stdin=stdin,
                             timeout=timeout)

    def log_text(self) -> str:
        return self.log.read_text()


def remove_stale() -> None:
    """Namespaces of a run that was killed before it could remove them."""
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, timeout=10)
    for name, pid in re.findall(r"^(exol(\d+)-\w+)\b", listed.stdout, re.MULTILINE):
        if not Path(f"/proc/{pid}").exists():
            ip("netns", "del", name)


@pytest.fixture
def lan() -> Iterator[Lan]:
    if shutil.which("ip") is None:
        pytest.skip("no `ip` here (Debian: iproute2): networks are not tested")
    remove_stale()
    network = Lan()
    try:
        yield network
    finally:
        network.close()
