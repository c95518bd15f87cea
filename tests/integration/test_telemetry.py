"""How hot and how busy the nodes are, as both of two real nodes and `exo nodes` tell it."""

from __future__ import annotations

import json
from pathlib import Path

from conftest import Cluster, run, wait_until


def test_two_nodes_show_one_picture(cluster, tmp_path: Path) -> None:
    c: Cluster = cluster(2, "tiny")
    first, second = (node.get("/node_id") for node in c.nodes)
    assert first != second
    devices = {f"{first}/cpu:0", f"{second}/cpu:0"}

    def known() -> bool:
        return all(
            {i for i, d in n.get("/state/telemetry/devices").items() if d["metrics"]} == devices
            for n in c.nodes)
    wait_until("both nodes know both devices", known)

    meminfo = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    total = int(meminfo["MemTotal"].split()[0]) * 1024
    d = c.nodes[0].get(f"/state/telemetry/devices/{second}/cpu:0")
    assert d["metrics"]["device_id"] == d["capabilities"]["device_id"] == f"{second}/cpu:0"
    assert d["hostname"] == "n1" and d["port"] == c.link_ports[1] and d["is_available"] is True
    assert d["metrics"]["memory_total_bytes"] == total
    assert 0 < d["metrics"]["memory_used_bytes"] < total
    heat = d["metrics"]["temperature_celsius"]
    assert heat is None or heat != 0
    assert ("temperature_celsius" in d["score_without"]) == (heat is None)
    assert (d["thermal_state"] is None) == (heat is None)
    assert 0 < d["score"] <= 1
    for node in c.nodes:  # the master adds up, and the other hears of it with a heartbeat
        wait_until("the cluster's sum", lambda n=node: n.get(
            "/state/telemetry/cluster/total_memory_bytes") == 2 * total)
    wait_until("one adds up for both, the master", lambda: {
        n.get("/state/telemetry/cluster/aggregated_by") for n in c.nodes} == {
            c.nodes[0].get("/state/master")})

    wait_until("a load between two reads", lambda: c.nodes[0].get(
        f"/state/telemetry/devices/{second}/cpu:0/metrics/compute_utilization_percent") is not None)


def test_parts_of_the_state_and_exo_nodes(cluster, tmp_path: Path) -> None:
    c: Cluster = cluster(2, "tiny")
    node = c.nodes[0]
    own, other = (n.get("/node_id") for n in c.nodes)
    assert node.get("/state/node_id") == own
    assert node.get(f"/state/nodes/{other}/name") == "n1"
    assert node.get("/state/nodes/") == node.get("/state")["nodes"]
    assert node.get("/state/links/0/sink") == other
    for path in ("nothing", "links/1", "links/x", "links/99999999999", "node_id/x", "nodes//x"):
        reply = node.http("GET", f"/state/{path}")
        assert reply.status == 404 and path in reply.json["error"]["message"], path

    data_dir = str(node.data_dir)
    wait_until("a master", lambda: node.get("/state/master"))
    wait_until("a round trip", lambda: node.get("/state/links/0/rtt_ms") > 0)
    wait_until("telemetry of both", lambda: len(node.get("/state/telemetry/devices")) == 2)
    done = run("nodes", "--data-dir", data_dir)
    assert done.returncode == 0, done.stderr
    head, *rows = done.stdout.decode().splitlines()
    assert head.split()[:4] == ["NAME", "ID", "ROLE", "DEVICE"]
    assert sorted(row.split()[0] for row in rows) == ["n0", "n1"]
    assert all("cpu:0" in row and "GiB" in row for row in rows)
    assert sum("master" in row for row in rows) == 1
    here = next(row for row in rows if own in row)
    there = next(row for row in rows if other in row)
    assert here.endswith("this node") and there.endswith(" ms")
    shown = json.loads(run("nodes", "--json", "--data-dir", data_dir).stdout)
    assert shown["node_id"] == own and set(shown["nodes"]) == {own, other}
    assert set(shown["telemetry"]["devices"]) == {f"{own}/cpu:0", f"{other}/cpu:0"}


def test_exo_nodes_without_a_node_says_so(tmp_path: Path) -> None:
    done = run("nodes", "--data-dir", str(tmp_path))
    assert done.returncode == 1 and done.stdout == b""
    assert b"no exo node runs" in done.stderr and done.stderr.count(b"\n") == 1
