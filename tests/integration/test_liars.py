"""Peers that hold the cluster's key and are wrong: another version, capabilities that cannot be,
names that do things to a terminal.  Real nodes, and a peer made of Python."""

from __future__ import annotations

import re
import socket
import time
from pathlib import Path
from typing import Any, Iterator

import pytest
from conftest import KEY, Cluster, run, wait_until
from lan import Lan, lan  # noqa: F401 (a fixture)
from peer import BEACON_PORT, NODES, PING, TELEMETRY, Key, Peer, beacon, frame

GIB = 1 << 30


@pytest.fixture
def honest(cluster: Any) -> Iterator[Cluster]:
    """Two real nodes that are one cluster."""
    c: Cluster = cluster(2, "tiny")
    ids = {n.get("/node_id") for n in c.nodes}
    wait_until("one cluster", lambda: all(
        set(n.get("/state/members")) == ids and n.get("/state/master") for n in c.nodes))
    yield c


def capabilities(device_id: str, **others: Any) -> dict[str, Any]:
    return {"device_id": device_id, "device_type": "vulkan_linux", "device_name": "GPU",
            "vendor": "V", "compute_units": 4, "memory_bandwidth_gbps": None,
            "max_memory_bytes": GIB, "driver_version": "1", **others}


def registration(device_id: str, **others: Any) -> dict[str, Any]:
    return {"hostname": "liar", "port": 1, "device_id": device_id, "timestamp": time.time(),
            "capabilities": capabilities(device_id, **others)}


def heartbeat(device_id: str, **metrics: Any) -> dict[str, Any]:
    m = {"device_id": device_id, "timestamp": time.time(), "memory_used_bytes": 1,
         "memory_total_bytes": GIB, "compute_utilization_percent": 1.0, "power_watts": None,
         "temperature_celsius": None, "clock_rate_mhz": None}
    return {"device_id": device_id, "timestamp": time.time(), "is_available": True,
            "error_message": None, "metrics": {**m, **metrics}}


REGISTRATIONS = [
    registration("gpu:0", max_memory_bytes=-5),
    registration("gpu:1", max_memory_bytes=(1 << 63) - 1),
    registration("gpu:2", memory_bandwidth_gbps=1e300),
    registration("gpu:3", compute_units=-1),
    registration("gpu:4", device_name="x" * 10000),
    registration("a/b"),
    registration("x" * 10000),
    registration(""),
]
HEARTBEATS = [
    heartbeat("gpu:0", memory_used_bytes=-1),
    heartbeat("gpu:1", memory_total_bytes=(1 << 63) - 1),
    heartbeat("gpu:2", temperature_celsius=1e300),
    heartbeat("gpu:3", compute_utilization_percent=1e300),
    heartbeat("gpu:4", power_watts=-1e300),
]
RECORDS = [
    {"devices": [{"device_id": "gpu:0", "memory_total_bytes": -1}]},
    {"devices": [{"device_id": "gpu:0", "memory_total_bytes": 1e300}]},
    {"devices": [{"device_id": f"gpu:{i}"} for i in range(5000)]},
    {"devices": [{"device_id": "a/b"}]},
    {"devices": [{"device_id": "x" * 10000}]},
    {"devices": [{"device_id": "\x1b[2J"}]},
    {"devices": {"device_id": "gpu:0"}},
    {"models": [{"id": "m"}] * 5000},
    {"models": [{"id": "\x1b]0;owned\x07"}]},
]


def check_sane(c: Cluster, liar: str) -> None:
    """What people and programs read stays what it says it is."""
    for node in c.nodes:
        state = node.get("/state")
        devices = state["telemetry"]["devices"]
        told = {i: d for i, d in devices.items() if i.startswith(liar)}
        assert len(told) <= 16
        assert all(re.fullmatch(r"[!-.0-~]{1,40}", i.split("/", 1)[1]) for i in told), told
        for d in told.values():
            for record in (d["capabilities"] or {}, d["metrics"] or {}):
                assert all(0 <= v <= 1 << 50 for k, v in record.items() if "memory" in k
                           and v is not None), record
        total = state["telemetry"]["cluster"]["total_memory_bytes"]
        assert total is None or 0 <= total < 1 << 60
        text = node.http("GET", "/metrics").body.decode()
        for line in text.splitlines():
            assert re.fullmatch(r'#.*|\w[\w:]*(\{.*\})? [-+.\w]+', line), line
        shown = run("top", "--once", "--data-dir", str(node.data_dir))
        assert shown.returncode == 0 and b"\x1b" not in shown.stdout and b"\x07" not in shown.stdout
        assert max(map(len, shown.stdout.decode().splitlines())) < 400


def test_a_peer_that_lies_about_its_capabilities_harms_nothing(honest: Cluster) -> None:
    c = honest
    liar = Peer("127.0.0.1", c.link_ports[0], name="li\x1b[31mar\n")
    wait_until("it is a peer", lambda: liar.node_id in c.nodes[0].get("/state/nodes"))
    liar.tell(NODES, {"self": {"name": "other", "devices": [{"device_id": "gpu:0"}],
                               "models": [], "instances": {}}, "peers": []})
    wait_until("its record is there", lambda: c.nodes[0].get(
        f"/state/nodes/{liar.node_id}").get("devices"))
    instance = c.nodes[0].post("/place_instance", {"model_id": "tiny"}).json["instance_id"]
    for payload in REGISTRATIONS:
        liar.telemetry("device_registration", payload)
    for payload in HEARTBEATS:
        liar.telemetry("heartbeat", payload)
    for record in RECORDS:
        liar.tell(NODES, {"self": record})
    for i in range(100):  # more devices than anybody has, and names that clear the screen
        liar.telemetry("device_registration", registration(
            f"gpu:{i}\x1b[2J", device_name="\x1b]0;owned\x07", vendor="v\n\n\n"))
    liar.telemetry("heartbeat", {**heartbeat("gpu:0?[2J"), "battery_percent": 1e300, "cluster": {
        "total_memory_bytes": -7, "device_count": 1e300}})
    liar.tell(NODES, {"self": {"instances": {instance: {"owner": liar.node_id, "model_id": "other",
                                                        "state": "running"}}}})
    liar.telemetry("topology", {"timestamp": 1, "links": [{"source_node": "x", "sink_node": "y",
                   "latency_ms": -1, "bandwidth_gbps": 1e300, "link_type": "\x1b[2J"}]})
    log = c.nodes[0].log
    wait_until("one clear line of each kind", lambda: "telemetry of li?[31mar? (" in
               log.read_text() and "says of itself is left out" in log.read_text())
    wait_until("all was read", lambda: len([i for i in c.nodes[0].get("/state/telemetry/devices")
                                            if i.startswith(liar.node_id)]) == 16)
    check_sane(c, liar.node_id)
    assert log.read_text().count("is left out") == 2
    state = c.nodes[0].get("/state")
    assert state["nodes"][liar.node_id]["name"] == "li?[31mar?"
    assert state["instances"][instance]["model_id"] == "tiny"
    assert c.nodes[1].get("/state/master") and liar.bye is None

    liar.telemetry("heartbeat", {})  # no JSON can hold these: the link ends, and says why
    liar.tell(TELEMETRY, '{"type":"heartbeat","version":"1.0","timestamp":NaN,"payload":{}}')
    liar.tell(NODES, '{"self":{"tflops":1e999}}')
    assert liar.ended.wait(20) and "JSON" in (liar.bye or "")
    wait_until("it is gone", lambda: liar.node_id not in c.nodes[0].get("/state/nodes"))
    again = c.nodes[1].post("/place_instance", {"model_id": "tiny", "min_nodes": 2})
    assert again.status == 200, again.body
    assert len(c.nodes[0].get("/state/nodes")) == 2
    liar.close()


def test_broken_frames_of_a_member_end_its_link_only(honest: Cluster) -> None:
    c = honest
    damaged = bytearray(frame(PING))
    damaged[16] ^= 1
    short = b"s\x02\x00\x00" + bytes(8)  # its hash is another
    large = {"self": {"models": [{"id": "m" * 200}] * 8000}}
    oversized = bytearray(frame(PING))
    oversized[28:32] = (1 << 30).to_bytes(4, "little")
    for wrong, said in ((bytes(damaged), "damaged frame"), (short, "damaged frame"),
                        (b"GET / HTTP/1.1\r\n\r\n", "no exo frame"), (large, "bytes of what it"),
                        (bytes(oversized), "claims 0 header and 1073741824 body bytes")):
        peer = Peer("127.0.0.1", c.link_ports[0], name="broken")
        wait_until("it is a peer", lambda: peer.node_id in c.nodes[0].get("/state/nodes"))
        if isinstance(wrong, bytes):
            peer.send(wrong)
        else:
            peer.tell(NODES, wrong)
        assert peer.ended.wait(20) and said in (peer.bye or ""), (said, peer.bye)
        peer.close()
    cut = Peer("127.0.0.1", c.link_ports[0], name="cut")
    wait_until("it is a peer", lambda: cut.node_id in c.nodes[0].get("/state/nodes"))
    cut.send(frame(PING)[:20])
    cut.close()
    wait_until("all are gone", lambda: all(len(n.get("/state/nodes")) == 2 for n in c.nodes))
    assert "left" not in c.nodes[1].log.read_text()


def test_another_version_is_named(lan: Lan, tmp_path: Path) -> None:  # noqa: F811
    a, b = lan.switch(2)
    node = lan.start(a, tmp_path / "a", env={"EXO_CLUSTER_KEY": KEY}).wait_healthy()
    early = node.exo("doctor").stdout.decode()
    if node.get("/state/discovery/listening_s") < 5:  # else this machine was slow
        assert "has only just begun to listen" in early, early
        assert "nobody was heard" not in early
    newer = Key()
    with b.inside():
        dialled = Peer(a.addr, 52416, name="newer", hello={"protocol": {"min": 2, "max": 3}})
        mouth = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    mouth.sendto(beacon(newer.node_id, "newer", (2, 3)), (a.addr, BEACON_PORT))
    heard = wait_until("it is heard", lambda: node.heard("newer"))
    assert heard["status"] == "other_version" and heard["proven"] and not heard["connected"]
    text = node.exo("doctor").stdout.decode()
    assert "it runs exo 9.9.9, which speaks protocol 2 to 3, this node 1 to 1: update the older " \
        "one" in text, text
    assert f"newer ({newer.node_id})" in text
    assert dialled.ended.wait(20)
    assert "it speaks protocol 2 to 3, this node 1 to 1" in (dialled.bye or ""), dialled.bye
