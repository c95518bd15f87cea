"""A network that falls apart: three nodes in network namespaces, the master cut off and linked
again, and all of them without power at once.  Nothing that was decided is lost."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from conftest import KEY, wait_until
from lan import Lan, LanNode, ip, lan  # noqa: F401 (a fixture)

SAME_KEY = {"EXO_CLUSTER_KEY": KEY}


def agreed(nodes: list[LanNode], n_voters: int) -> str | None:
    """The master, when all say the same of it, of the term, and of the members."""
    states = [n.state for n in nodes]
    if any("members" not in s or s["provisional"] for s in states):
        return None
    if len({(s["master"], s["term"], tuple(sorted(s["members"]))) for s in states}) != 1:
        return None
    voters = sum(m["voter"] for m in states[0]["members"].values())
    return states[0]["master"] if voters == n_voters else None


def place(node: LanNode) -> str:
    placed = node.post("/place_instance", {"model_id": "tiny"})
    assert placed.status == 200, placed.body
    return str(placed.json["instance_id"])


def cut(lan: Lan, node: LanNode) -> None:  # noqa: F811
    ip("-n", f"{lan.prefix}switch", "link", "set", f"p{node.host.number}", "nomaster")


def heal(lan: Lan, node: LanNode) -> None:  # noqa: F811
    ip("-n", f"{lan.prefix}switch", "link", "set", f"p{node.host.number}", "master", "br0")


def running(node: LanNode) -> dict[str, Any]:
    instances = node.state.get("instances") or {}
    return {k: i["owner"] for k, i in instances.items() if i["state"] == "running"}


@pytest.fixture
def trio(lan: Lan, tmp_path: Path) -> list[LanNode]:  # noqa: F811
    nodes = [lan.start(h, tmp_path / h.name, env=SAME_KEY) for h in lan.switch(3)]
    for node in nodes:
        node.wait_healthy()
    wait_until("one cluster of three voters", lambda: agreed(nodes, 3), 20)
    return nodes


def test_a_master_that_is_cut_off_is_replaced_and_comes_back(
        lan: Lan, trio: list[LanNode]) -> None:  # noqa: F811
    (old,) = [n for n in trio if n.state["node_id"] == agreed(trio, 3)]
    rest = [n for n in trio if n is not old]
    before = place(old)
    wait_until("all know the instance", lambda: all(before in n.state["instances"] for n in trio))
    term = old.state["term"]

    cut(lan, old)
    begin = time.monotonic()
    wait_until("the majority has another master", lambda: {n.state["master"] for n in rest}
               <= {n.state["node_id"] for n in rest}, 3)
    print(f"another master {time.monotonic() - begin:.2f} s after the cut")
    assert all(not n.state["provisional"] and n.state["term"] > term for n in rest)
    by_majority = place(rest[0])

    wait_until("the minority goes on by itself", lambda: old.state["provisional"], 30)
    print(f"the minority has a provisional term after {time.monotonic() - begin:.2f} s")
    alone = old.state
    assert alone["master"] == alone["node_id"] and alone["term"] > term
    assert before in running(old)
    asked = old.post("/v1/chat/completions", {"model": "tiny", "max_tokens": 4, "messages": [
        {"role": "user", "content": "hello"}]})
    assert asked.status == 200, asked.body
    by_minority = place(old)  # replaces the one that it ran

    heal(lan, old)
    begin = time.monotonic()
    wait_until("one log and one master", lambda: agreed(trio, 3), 30)
    print(f"reconciled {time.monotonic() - begin:.2f} s after the heal")
    both = {by_majority: rest[0].state["node_id"], by_minority: old.state["node_id"]}
    wait_until("what both decided counts", lambda: all(running(n) == both for n in trio), 20)
    assert all(n.state["term"] >= alone["term"] for n in trio)


def test_all_lose_power_and_come_back_as_they_were(lan: Lan,  # noqa: F811
                                                   trio: list[LanNode]) -> None:
    placed = {place(n): n.state["node_id"] for n in trio[:2]}
    wait_until("all run", lambda: all(running(n) == placed for n in trio))
    term = trio[0].state["term"]
    for node in trio:
        node.process.kill()
    for node in trio:
        node.process.wait(5)
    again = [lan.start(n.host, n.data_dir, env=SAME_KEY) for n in trio]
    wait_until("the same instances run", lambda: all(running(n) == placed for n in again), 30)
    wait_until("one cluster", lambda: agreed(again, 3), 20)
    assert all(n.state["term"] > term for n in again)
