"""Who leads, and what is remembered: real processes that are killed, restarted and damaged."""

from __future__ import annotations

import os
import signal
import stat
import threading
import time
from pathlib import Path
from typing import Any, Callable

from conftest import KEY, Process, free_port, wait_until

CHAT = "/v1/chat/completions"


class Node:
    """A node that is started again with the same data directory and port."""

    def __init__(self, root: Path, name: str, peers: list[int]):
        self.root, self.name, self.port = root, name, free_port()
        self.arguments = ["node", "--name", name, "--port", str(self.port), "-m", "tiny",
                          "--threads", "1"]
        for peer in peers:
            self.arguments += ["--peer", f"127.0.0.1:{peer}"]
        self.process: Process | None = None

    def start(self) -> "Node":
        self.process = Process(self.arguments, self.root / self.name, {"EXO_CLUSTER_KEY": KEY})
        self.process.wait_healthy()
        return self

    def kill(self) -> None:
        assert self.process is not None
        self.process.process.kill()
        self.process.process.wait(5)

    @property
    def state(self) -> dict[str, Any]:
        assert self.process is not None
        state = self.process.get("/state")
        assert isinstance(state, dict)
        return state

    @property
    def log(self) -> str:
        return (self.root / self.name / "log.txt").read_text()


def make(root: Path, n: int) -> list[Node]:
    nodes: list[Node] = []
    for i in range(n):
        nodes.append(Node(root, f"n{i}", [node.port for node in nodes]))
    for node in nodes:
        node.start()
    wait_until("one cluster", lambda: agreed(nodes, n), 10)
    return nodes


def agreed(nodes: list[Node], n_voters: int) -> str | None:
    """The master, when all say the same and so many vote."""
    states = [node.state for node in nodes]
    seen = {(s["master"], s["term"], tuple(sorted(s["members"]))) for s in states}
    voters = sum(m["voter"] for m in states[0]["members"].values())
    if len(seen) != 1 or voters != n_voters or states[0]["master"] is None:
        return None
    return str(states[0]["master"])


def end(nodes: list[Node]) -> None:
    for node in nodes:
        if node.process is not None:
            node.process.stop()


def split(nodes: list[Node], master: str) -> tuple[Node, list[Node]]:
    (leader,) = [n for n in nodes if n.state["node_id"] == master]
    return leader, [n for n in nodes if n is not leader]


def test_a_killed_master_is_replaced_within_two_seconds(tmp_path: Path) -> None:
    nodes = make(tmp_path, 3)
    try:
        leader, others = split(nodes, str(agreed(nodes, 3)))
        before = leader.state
        leader.kill()
        killed = time.monotonic()
        wait_until("the death is noticed", lambda: all(
            before["node_id"] not in n.state["nodes"] for n in others), 2)
        noticed = time.monotonic() - killed
        master = wait_until("another master", lambda: next(iter(
            {n.state["master"] for n in others} - {None, before["node_id"]}), None), 5)
        replaced = time.monotonic() - killed
        wait_until("both agree", lambda: {n.state["master"] for n in others} == {master}, 2)
        assert noticed < 0.5 and replaced < 2, (noticed, replaced)
        assert all(n.state["term"] > before["term"] for n in others)
        assert not any(n.state["provisional"] for n in others)
        leader.start()
        wait_until("it is back", lambda: agreed(nodes, 3), 10)
    finally:
        end([n for n in nodes if n.process and n.process.process.poll() is None])


def test_two_nodes_survive_one_death_and_come_together_again(tmp_path: Path) -> None:
    nodes = make(tmp_path, 2)
    try:
        leader, (other,) = split(nodes, str(agreed(nodes, 2)))
        before = leader.state
        leader.kill()
        killed = time.monotonic()
        wait_until("the survivor leads", lambda: other.state["master"] == other.state["node_id"], 5)
        assert time.monotonic() - killed < 2
        alone = other.state
        assert alone["provisional"] and alone["term"] > before["term"]
        assert other.process is not None
        placed = other.process.post("/place_instance", {"model_id": "tiny"})
        assert placed.status == 200, placed.body
        leader.start()
        wait_until("one cluster again", lambda: agreed(nodes, 2), 15)
        for node in nodes:
            state = node.state
            assert not state["provisional"] and state["term"] >= alone["term"]
            assert list(state["instances"]) == [placed.json["instance_id"]]
    finally:
        end(nodes)


def test_instances_survive_a_power_cut(tmp_path: Path) -> None:
    nodes = make(tmp_path, 2)
    try:
        assert nodes[0].process is not None
        placed = nodes[0].process.post("/place_instance", {"model_id": "tiny", "min_nodes": 2})
        assert placed.status == 200, placed.body
        instance = placed.json["instance_id"]
        for node in nodes:
            node.kill()
        for node in reversed(nodes):
            node.start()

        def as_before() -> bool:
            shown = [n.state["instances"] for n in nodes]
            return all(list(s) == [instance] and s[instance]["state"] == "running"
                       and len(s[instance]["shards"]) == 2 for s in shown)

        wait_until("the cluster is as it was", as_before, 20)
        wait_until("one cluster", lambda: agreed(nodes, 2), 15)
        assert nodes[1].process is not None
        asked = nodes[1].process.post(CHAT, {"model": "tiny", "max_tokens": 4, "messages": [
            {"role": "user", "content": "hello"}]})
        assert asked.status == 200, asked.body
        gone = nodes[1].process.http("DELETE", f"/instance/{instance}")
        assert gone.status == 200, gone.body
        wait_until("it is deleted for all", lambda: not any(n.state["instances"] for n in nodes), 5)
        assert nodes[1].process.http("DELETE", f"/instance/{instance}").status == 404
    finally:
        end(nodes)


def test_no_running_answer_notices_the_death_of_the_master(tmp_path: Path) -> None:
    nodes = make(tmp_path, 3)
    try:
        leader, others = split(nodes, str(agreed(nodes, 3)))
        process = others[0].process
        assert process is not None
        assert process.post("/place_instance", {"model_id": "tiny"}).status == 200
        events: list[Any] = []
        request = {"model": "tiny", "max_tokens": 1500, "ignore_eos": True, "temperature": 0,
                   "messages": [{"role": "user", "content": "Tell me a story."}]}
        thread = threading.Thread(target=lambda: events.extend(process.stream(CHAT, request)))
        thread.start()
        time.sleep(0.3)
        leader.kill()
        thread.join(60)
        assert events[-1] == "[DONE]" and not any("error" in e for e in events[:-1])
    finally:
        end([n for n in nodes if n is not leader])


def test_a_damaged_log_is_said_and_the_last_good_part_is_used(tmp_path: Path) -> None:
    (node,) = make(tmp_path, 1)
    try:
        assert node.process is not None
        placed = node.process.post("/place_instance", {"model_id": "tiny"})
        assert placed.status == 200
        node.process.stop()
        file = tmp_path / "n0" / "cluster.db"
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        content = bytearray(file.read_bytes())
        at = content.rindex(placed.json["instance_id"].encode())  # the entry that created it
        content[at] ^= 1
        file.write_bytes(content)
        node.start()
        assert "is damaged" in node.log and "cluster.db.damaged" in node.log
        assert node.state["master"] == node.state["node_id"]
        assert (tmp_path / "n0" / "cluster.db.damaged").exists()
        node.process.stop()
        file.write_bytes(os.urandom(40000))
        node.start()
        assert node.log.count("is damaged") == 1  # of this run; the file begins anew
        assert node.state["master"] == node.state["node_id"]
        assert node.process.post("/place_instance", {"model_id": "tiny"}).status == 200
    finally:
        end([node])


def test_one_data_directory_belongs_to_one_node(tmp_path: Path,
                                                start: Callable[..., Process]) -> None:
    (node,) = make(tmp_path, 1)
    try:
        second = Process(node.arguments[:3] + ["--port", "0"], tmp_path / "n0",
                         {"EXO_CLUSTER_KEY": KEY})
        assert second.process.wait(10) == 1
        assert "another exo node" in second.log.read_text()
    finally:
        end([node])


def test_a_stall_is_no_death(tmp_path: Path) -> None:
    nodes = make(tmp_path, 3)
    try:
        leader, others = split(nodes, str(agreed(nodes, 3)))
        stalled = others[0]
        assert stalled.process is not None and leader.process is not None
        identity = stalled.state["node_id"]
        stalled.process.process.send_signal(signal.SIGSTOP)
        try:
            end_at = time.monotonic() + 3
            while time.monotonic() < end_at:
                assert identity in leader.state["nodes"]
                time.sleep(0.1)
        finally:
            stalled.process.process.send_signal(signal.SIGCONT)
        wait_until("all is as it was", lambda: agreed(nodes, 3), 10)
        assert "left" not in leader.log
    finally:
        end(nodes)
