"""Whose log it is: nodes that join, leave, and join again, running or not, keep one cluster's
memory apart from another's.  Real processes on loopback, with keys that are stored."""

from __future__ import annotations

import json
import os
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Iterator

import pytest
from conftest import EXO, Process, free_port, wait_until


class Device:
    """A node without a key from outside; it is started again with the same data directory."""

    def __init__(self, root: Path, name: str, *options: str):
        self.root, self.name, self.port, self.options = root / name, name, free_port(), options
        self.process: Process | None = None

    def start(self) -> "Device":
        self.process = Process(["node", "--name", self.name, "--port", str(self.port), "-m", "tiny",
                                "--threads", "1", *self.options], self.root, {"EXO_CLUSTER_KEY": ""})
        self.process.wait_healthy()
        return self

    @property
    def node(self) -> Process:
        assert self.process is not None
        return self.process

    @property
    def state(self) -> Any:
        return self.node.get("/state")

    @property
    def log(self) -> str:
        return self.node.log.read_text()

    def exo(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run([EXO, *arguments, "--data-dir", str(self.root)], timeout=60,
                              capture_output=True, check=False,
                              env={**os.environ, "EXO_CLUSTER_KEY": ""})

    def place(self) -> str:
        placed = self.node.post("/place_instance", {"model_id": "tiny"})
        assert placed.status == 200, placed.body
        return str(placed.json["instance_id"])

    def invite(self) -> str:
        done = self.exo("invite")
        assert done.returncode == 0, done.stderr
        return done.stdout.decode().split("\n")[2].strip()

    def join(self, other: "Device") -> None:
        done = self.exo("join", other.invite(), "--yes", "--name", self.name, "--peer",
                        f"127.0.0.1:{other.port}")
        assert done.returncode == 0, done.stderr


def one_picture(devices: list[Device]) -> bool:
    states = [d.state for d in devices]
    if not all("members" in s for s in states):
        return False  # a busy machine: no answer within 2 s
    members = {tuple(sorted(m["name"] for m in s["members"].values())) for s in states}
    return (members == {tuple(sorted(d.name for d in devices))}
            and len({s["master"] for s in states} - {None}) == 1
            and len({s["term"] for s in states}) == 1 and not any(s["provisional"] for s in states)
            and all(len(s["nodes"]) == len(devices) for s in states))


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Device, Device]]:
    devices = Device(tmp_path, "a").start(), Device(tmp_path, "b").start()
    yield devices
    for d in devices:
        if d.process is not None:
            d.process.stop()


def test_a_log_is_of_one_cluster(pair: tuple[Device, Device]) -> None:
    a, b = pair
    kept, own = a.place(), b.place()
    b.join(a)  # while it runs
    wait_until("one cluster", lambda: one_picture([a, b]), 15)
    assert b.log.count("the log in ") == 1 and "cluster.db.left" in b.log
    for d in pair:
        wait_until("only the cluster's instance", lambda d=d: list(d.state["instances"]) == [kept])
    assert own != kept
    assert a.state["master"] == a.state["node_id"]  # who was there first goes on leading
    both = {a.state["node_id"], b.state["node_id"]}
    assert set(a.state["members"]) == both

    assert a.exo("rekey").returncode == 0  # another key, the same cluster and log
    wait_until("b has the key", lambda: "new key" in b.log)
    wait_until("still one cluster", lambda: one_picture([a, b]), 15)
    wait_until("b knows it still", lambda: list(b.state["instances"]) == [kept])
    assert b.log.count("the log in ") == 1
    assert "the log in " not in a.log

    assert b.exo("leave").returncode == 0
    wait_until("each is alone", lambda: one_picture([a]) and one_picture([b]), 15)
    assert b.log.count("the log in ") == 2 and not b.state["instances"]
    assert list(a.state["instances"]) == [kept]
    a.node.stop()  # a restart finds the same log, under the new key
    a.start()
    wait_until("it is remembered", lambda: list(a.state["instances"]) == [kept])
    assert "the log in " not in a.log


def test_a_node_that_does_not_run_changes_clusters(pair: tuple[Device, Device]) -> None:
    a, b = pair
    kept = a.place()
    b.place()
    b.node.stop()
    b.join(a)
    b.start()
    wait_until("one cluster", lambda: one_picture([a, b]), 15)
    assert b.log.count("the log in ") == 1
    wait_until("b knows the instance", lambda: list(b.state["instances"]) == [kept])
    b.node.stop()
    b.start()
    assert "the log in " not in b.log  # it is this cluster's now
    wait_until("one cluster again", lambda: one_picture([a, b]), 15)
    b.node.stop()
    assert b.exo("leave").returncode == 0
    b.start()
    wait_until("it is alone", lambda: one_picture([b]), 15)
    assert b.log.count("the log in ") == 1 and not b.state["instances"]


def try_to_join(device: Device, code: str, other: Device) -> tuple[int, str]:
    done = device.exo("join", code, "--yes", "--name", device.name, "--peer",
                      f"127.0.0.1:{other.port}")
    return done.returncode, done.stderr.decode()


def test_a_code_that_races_lets_one_in(pair: tuple[Device, Device], tmp_path: Path) -> None:
    a, b = pair
    c = Device(tmp_path, "c")
    c.root.mkdir()
    code = a.invite()
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda d: try_to_join(d, code, a), (b, c)))
    assert sorted(r[0] for r in results) == [0, 1], results
    (refused,) = [text for rc, text in results if rc == 1]
    assert "used already, by" in refused and refused.count("\n") == 1, refused
    assert a.node.healthy()


def test_codes_that_are_late_or_mistyped_are_named(pair: tuple[Device, Device]) -> None:
    a, b = pair
    code = a.invite()
    file = a.root / "invites.json"
    invites = json.loads(file.read_text())
    invites[0]["expires"] = time.time() - 1  # ten minutes have passed
    file.write_text(json.dumps(invites))
    rc, text = try_to_join(b, code, a)
    assert rc == 1 and "has expired" in text, text
    words = code.split("-")
    words[3] = words[3][:-1] + "x"
    rc, text = try_to_join(b, "-".join(words), a)
    assert rc == 2 and f'"{words[3]}" is no word of a join code' in text, text
    began = time.monotonic()
    rc, text = try_to_join(a, a.invite(), b)
    assert rc == 1 and "of this device's own cluster" in text, text
    assert time.monotonic() - began < 10  # nobody is looked for, which takes 15 s
    rc, text = try_to_join(b, "-".join(words[:3]), a)
    assert rc == 2 and "6 words" in text, text
    assert one_picture([a]) and one_picture([b])


def test_who_joins_is_in_the_namespace_of_the_cluster(tmp_path: Path) -> None:
    a, b = Device(tmp_path, "a", "--namespace", "lab").start(), Device(tmp_path, "b").start()
    try:
        done = b.exo("join", a.invite(), "--yes", "--peer", f"127.0.0.1:{a.port}", "--name", "b")
        assert done.returncode == 0 and b"namespace lab" in done.stdout, done
        wait_until("one cluster", lambda: one_picture([a, b]), 15)
        assert b.state["discovery"]["namespace"] == "lab"
    finally:
        a.node.stop()
        b.node.stop()
