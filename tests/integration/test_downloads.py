"""Downloads that the cluster remembers: a node is killed in the middle of one and goes on with it,
every node shows it, and what fails is said.  Two nodes and a hub on this machine."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any, Callable, Iterator

import pytest
from conftest import KEY, Process, free_port, run, wait_until
from hub import Hub

REF = "hf:owner/repo:Q8_0"
FILE = "small-Q8_0.gguf"


@pytest.fixture
def model(models: Callable[..., str]) -> bytes:
    return Path(models("stories-15m", "q8_0", 2)).read_bytes()


@pytest.fixture
def hub(model: bytes) -> Iterator[Hub]:
    h = Hub({FILE: model})
    yield h
    h.stop()


class Node:
    def __init__(self, root: Path, name: str, hub: Hub, peer: int | None):
        self.root, self.name, self.hub, self.port = root / name, name, hub, free_port()
        self.peer = [] if peer is None else ["--peer", f"127.0.0.1:{peer}"]

    def start(self) -> None:
        self.process = Process(["node", "--name", self.name, "--port", str(self.port), "-m", "tiny",
                                "--threads", "1", *self.peer], self.root,
                               self.hub.env(EXO_CLUSTER_KEY=KEY))
        self.process.wait_healthy()

    @property
    def state(self) -> Any:
        return self.process.get("/state")


@pytest.fixture
def pair(hub: Hub, tmp_path: Path) -> Iterator[tuple[Node, Node]]:
    a = Node(tmp_path, "a", hub, None)
    b = Node(tmp_path, "b", hub, a.port)
    for n in (a, b):
        n.start()
    wait_until("one cluster", lambda: all(
        len(n.state["members"]) == 2 and n.state["master"] for n in (a, b)))
    yield a, b
    for n in (a, b):
        n.process.stop()


def test_a_killed_node_goes_on_with_its_download(pair: tuple[Node, Node], hub: Hub,
                                                 model: bytes) -> None:
    a, b = pair
    b_id = b.state["node_id"]
    hub.faults.slow = 0.12  # 64 KiB at a time, on four connections
    done = run("pull", REF, "--on", "b", "--data-dir", str(a.root), env={**os.environ})
    assert done.returncode == 0 and b"b fetches hf:owner/repo:Q8_0" in done.stdout, done.stderr
    part = b.root / "models" / ".pull"

    def both_show(what: str, done_bytes: int) -> bool:
        shown = [n.state["downloads"].get(b_id, {}).get(REF, {}) for n in (a, b)]
        return all(s.get("status") == what and s.get("done_bytes", 0) >= done_bytes for s in shown)

    wait_until("both show how far it is", lambda: both_show("downloading", 1 << 20))
    wait_until("what is there was noted", lambda: any(
        sum(json.loads(f.read_text())["done"]) > 1 << 20 for f in part.rglob("*.part.json")))
    b.process.process.kill()
    b.process.process.wait(5)
    wait_until("a shows that it stands still",
               lambda: a.state["downloads"][b_id][REF]["status"] == "away")
    hub.faults.slow = 0
    before = len(hub.requests)
    b.start()
    wait_until("it is there", lambda: (b.root / "models" / FILE).exists(), 30)
    got = (b.root / "models" / FILE).read_bytes()
    assert hashlib.sha256(got).digest() == hashlib.sha256(model).digest()
    wait_until("nobody waits for it", lambda: not a.state["downloads"] and not b.state["downloads"])
    ranges = [re.fullmatch(r"bytes=(\d+)-(\d+)", h["Range"]) for who, _, h in hub.requests[before:]
              if who == "cdn" and "Range" in h]
    asked = sum(int(r.group(2)) - int(r.group(1)) + 1 for r in ranges if r)
    assert asked < len(model), (asked, len(model))  # what was there was not fetched again
    assert "small-Q8_0" in {m["id"] for m in b.process.get("/v1/models")["data"]}


def test_what_fails_is_shown_until_it_is_dropped(pair: tuple[Node, Node]) -> None:
    a, b = pair
    b_id = b.state["node_id"]
    gone = "hf:owner/nothing"
    start = a.process.post("/download/start", {"model_id": gone, "node_id": b_id})
    assert start.status == 202, start.body
    wait_until("all show it", lambda: all(
        n.state["downloads"].get(b_id, {}).get(gone, {}).get("status") == "failed"
        for n in (a, b)))
    reason = a.state["downloads"][b_id][gone]["reason"]
    assert "owner/nothing" in reason, reason
    b.process.stop()
    b.start()
    wait_until("b remembers it", lambda: b.state["downloads"].get(b_id, {}).get(
        gone, {}).get("reason") == reason)
    path = f"/download/{b_id}/{gone}"
    wait_until("it is dropped", lambda: a.process.http("DELETE", path).status == 200)
    wait_until("nobody shows it", lambda: not a.state["downloads"] and not b.state["downloads"])
    assert a.process.http("DELETE", path).status == 404
    for body, words in (({"model_id": "nonsense"}, "hf:"), ({}, "missing"),
                        ({"model_id": gone, "node_id": "x"}, "no node's id"),
                        ({"model_id": gone, "node_id": "0" * 16}, "no such node")):
        refused = a.process.post("/download/start", body)
        assert refused.status in (400, 404), refused.body
        assert words in refused.json["error"]["message"], refused.body
    assert run("pull", gone, "--on", "nobody", "--data-dir", str(a.root)).returncode == 1


def test_what_may_pass_is_tried_again(pair: tuple[Node, Node], model: bytes) -> None:
    a, _ = pair
    a_id = a.state["node_id"]
    staging = a.root / "models" / ".pull"
    staging.mkdir(parents=True)
    with (staging / "small-Q8_0.lock").open("w") as held:  # as by an `exo pull` of the same model
        fcntl.flock(held, fcntl.LOCK_EX)
        assert a.process.post("/download/start", {"model_id": REF}).status == 202
        wait_until("it waits", lambda: (a.state["downloads"].get(a_id, {}).get(REF) or {}).get(
            "status") == "waiting")
        assert a.state["downloads"][a_id][REF]["reason"]
    wait_until("it is there", lambda: (a.root / "models" / FILE).exists(), 60)
    wait_until("nobody waits for it", lambda: a_id not in a.state["downloads"])
    assert (a.root / "models" / FILE).read_bytes() == model
