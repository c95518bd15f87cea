"""One cluster of two hosts: network namespaces joined by a cable, which is cut in mid-answer.

Needs root, for `ip netns`; skipped where that is not permitted.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any, Callable, Iterator

import pytest
from conftest import KEY, Process, Reply, wait_until

CHAT = "/v1/chat/completions"
LINK_PORT = 52416  # the same on both hosts, as on two real ones
CUT_DEADLINE_S = 5  # a silent link breaks after 3 s; the client is told at once

def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=10)


class Host:
    """A network namespace with one end of the cable."""

    def __init__(self, name: str, cable: str, addr: str):
        self.name, self.cable, self.addr = name, cable, addr

    def up(self) -> None:
        ip("-n", self.name, "link", "set", "lo", "up")
        ip("-n", self.name, "addr", "add", f"{self.addr}/24", "dev", self.cable)
        ip("-n", self.name, "link", "set", self.cable, "up")

    def cut_cable(self) -> None:
        ip("-n", self.name, "link", "set", self.cable, "down")

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


def move_to(namespace: int) -> None:
    clone_newnet = 0x40000000
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace, clone_newnet) != 0:
        raise OSError(ctypes.get_errno(), "setns")


class NodeOnHost(Process):
    """A node whose loopback, and so its API, is the host's."""

    def __init__(self, host: Host, arguments: list[str], data_dir: Path):
        self.host = host
        super().__init__(["node", "--listen", host.addr, "--port", str(LINK_PORT), "-m", "tiny",
                          "--threads", "1", *arguments], data_dir, {"EXO_CLUSTER_KEY": KEY},
                         ["ip", "netns", "exec", host.name])

    def http(self, method: str, path: str, body: Any = None, timeout: float = 30) -> Reply:
        with self.host.inside():
            return super().http(method, path, body, timeout)

    def stream(self, path: str, body: Any, timeout: float = 60) -> Iterator[Any]:
        events = super().stream(path, body, timeout)
        with self.host.inside():  # connects at the first event
            first = next(events)
        yield first
        yield from events


def remove_stale() -> None:
    """Namespaces of a run that was killed before it could remove them."""
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, timeout=10)
    for name, pid in re.findall(r"^(exo-(\d+)-[12])\b", listed.stdout, re.MULTILINE):
        if not Path(f"/proc/{pid}").exists():
            ip("netns", "del", name)


@pytest.fixture
def hosts() -> Iterator[tuple[Host, Host]]:
    if shutil.which("ip") is None:
        pytest.skip("no `ip` here (Debian: iproute2): two hosts are not tested")
    pair = tuple(Host(f"exo-{os.getpid()}-{i}", f"exo{i}", f"10.89.52.{i}") for i in (1, 2))
    made: list[Host] = []
    remove_stale()
    try:
        for host in pair:
            try:
                ip("netns", "add", host.name)
            except subprocess.CalledProcessError as e:
                why = e.stderr.decode().strip().splitlines()[-1:]
                pytest.skip(f"network namespaces are not permitted here: {why}")
            made.append(host)
        try:
            ip("-n", pair[0].name, "link", "add", pair[0].cable, "type", "veth",
               "peer", "name", pair[1].cable, "netns", pair[1].name)
        except subprocess.CalledProcessError as e:
            pytest.skip(f"no virtual cable between namespaces here: {e.stderr.decode().strip()}")
        for host in pair:
            host.up()
        yield pair[0], pair[1]
    finally:
        for host in made:
            ip("netns", "del", host.name)


@pytest.fixture
def nodes(hosts: tuple[Host, Host], tmp_path: Path) -> Iterator[list[NodeOnHost]]:
    """A node on each host, one cluster, with tiny placed on both."""
    started: list[NodeOnHost] = []
    try:
        started.append(NodeOnHost(hosts[0], [], tmp_path / "a"))
        started.append(NodeOnHost(hosts[1], ["--peer", f"{hosts[0].addr}:{LINK_PORT}"],
                                  tmp_path / "b"))
        for node in started:
            node.wait_healthy()
        for node in started:
            wait_until("two nodes know each other", lambda node=node: sum(
                "models" in n for n in node.get("/state")["nodes"].values()) == 2)
        placed = started[0].post("/place_instance", {"model_id": "tiny", "sharding": "Pipeline",
                                                     "min_nodes": 2})
        assert placed.status == 200, placed.body
        yield started
    finally:
        for node in started:
            node.stop()


def body(**more: Any) -> dict[str, Any]:
    return {"model": "tiny", "messages": [{"role": "user", "content": "Tell me a story."}],
            "temperature": 1, "seed": 5, "max_tokens": 40, "ignore_eos": True, **more}


def test_two_hosts_answer_with_the_bits_of_one_process(
        nodes: list[NodeOnHost], start: Callable[..., Process]) -> None:
    (instance,) = nodes[0].get("/state")["instances"].values()
    assert len({s["node_id"] for s in instance["shards"]}) == 2
    single = start("serve", "-m", "tiny").wait_healthy()
    expected = single.post(CHAT, body(exo_logits_hash=True)).json
    reply = nodes[0].post(CHAT, body(exo_logits_hash=True)).json
    assert reply["exo_logits_sha256"] == expected["exo_logits_sha256"]
    assert reply["choices"] == expected["choices"]
    wait_until("the other host knows the instance", lambda: nodes[1].get("/state")["instances"])
    other = nodes[1].post(CHAT, body(exo_logits_hash=True)).json
    assert other["exo_logits_sha256"] == expected["exo_logits_sha256"]


@pytest.mark.parametrize("asked", [0, 1])
def test_a_cut_cable_ends_the_answer_with_an_error(nodes: list[NodeOnHost], asked: int) -> None:
    node = nodes[asked]
    wait_until("the instance is known", lambda: node.get("/state")["instances"])
    events: list[Any] = []
    for event in node.stream(CHAT, body(max_tokens=1900)):
        events.append(event)
        if len(events) == 20:
            nodes[1].host.cut_cable()
            cut = time.monotonic()
    assert len(events) > 20
    assert time.monotonic() - cut < CUT_DEADLINE_S
    assert events[-1] == "[DONE]" and "error" in events[-2], events[-3:]
    assert events[-2]["error"]["type"] == "server_error"
    wait_until("the other host is gone", lambda: len(node.get("/state")["nodes"]) == 1, 5)
    alone = node.post(CHAT, body())
    assert alone.status == 200, alone.body
