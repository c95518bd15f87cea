"""Clusters of real processes: exactness over cuts, strangers, deaths, requests at any node."""

from __future__ import annotations

import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Callable

import pytest
from conftest import Cluster, Process, free_port, run, wait_until

CHAT = "/v1/chat/completions"


def body(model: str, text: str = "Tell me about clusters.", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}], "temperature": 1,
            "seed": 5, "max_tokens": 16, "ignore_eos": True, "exo_logits_hash": True, **more}


def fingerprint(node: Process, model: str, **more: Any) -> tuple[str, str]:
    reply = node.post(CHAT, body(model, **more))
    assert reply.status == 200, reply.body
    return reply.json["exo_logits_sha256"], reply.json["choices"][0]["message"]["content"]


def one_process(start: Callable[..., Process], model: str) -> tuple[str, str]:
    server = start("serve", "-m", model, "--threads", "2").wait_healthy()
    result = fingerprint(server, server.get("/v1/models")["data"][0]["id"])
    server.stop()
    return result


@pytest.mark.parametrize("kind", ["q8_0", "q4_K_M"])
def test_every_cut_gives_the_same_bits(models, start, cluster, kind: str) -> None:
    model = models("test-256", kind)
    expected = one_process(start, model)
    c: Cluster = cluster(3, model)
    for cuts in ([1], [2], [3], [1, 2], [1, 3], [2, 3]):
        assert c.place(len(cuts) + 1, cuts).status == 200
        assert fingerprint(c.nodes[0], c.model_id) == expected, cuts


@pytest.mark.parametrize("chunk", ["1", "7", "32", "512"])
def test_chunks_and_company_change_no_bit(models, start, cluster, chunk: str) -> None:
    model = models("test-256", "q4_K_M")
    expected = one_process(start, model)
    c: Cluster = cluster(2, model, ["--threads", "1", "--chunk", chunk])
    assert c.place(2).status == 200
    others = [f"Something else, number {i}." * (i + 1) for i in range(7)]
    with ThreadPoolExecutor(8) as pool:
        company = [pool.submit(fingerprint, c.nodes[0], c.model_id, text=t) for t in others]
        assert fingerprint(c.nodes[0], c.model_id) == expected
        for f in company:
            f.result()
    assert fingerprint(c.nodes[0], c.model_id) == expected


def test_the_f16_wire_hides_the_cuts(models, cluster) -> None:
    c: Cluster = cluster(3, models("test-256", "q8_0"), ["--threads", "1", "--wire-f16"])
    results = set()
    for cuts in ([1], [3], [1, 2]):
        assert c.place(len(cuts) + 1, cuts).status == 200
        results.add(fingerprint(c.nodes[0], c.model_id))
    assert len(results) == 1


def test_state_shows_every_shard_on_every_node(cluster) -> None:
    c: Cluster = cluster(3, "tiny")
    assert c.place(3).status == 200
    node_ids = {n.get("/state")["node_id"] for n in c.nodes}

    def complete(node: Process) -> bool:
        state = node.get("/state")
        if len(state["instances"]) != 1 or set(state["nodes"]) != node_ids:
            return False
        (instance,) = state["instances"].values()
        shards = instance["shards"]
        return (instance["state"] == "running" and len(state["links"]) == 2
                and {s["node_id"] for s in shards} == node_ids
                and [(s["start_layer"], s["end_layer"]) for s in shards] == [(0, 2), (2, 4), (4, 6)]
                and all(s["rank"] == 0 and s["world_size"] == 1 for s in shards))

    for node in c.nodes:
        wait_until("the whole picture", lambda: complete(node))
    wait_until("one master", lambda: len({n.get("/state")["master"] for n in c.nodes}) == 1)


def test_any_node_answers(cluster) -> None:
    c: Cluster = cluster(2, "tiny")
    assert c.place(2).status == 200
    wait_until("the other node knows the instance",
               lambda: len(c.nodes[1].get("/state")["instances"]) == 1)
    here, there = (fingerprint(n, "tiny") for n in c.nodes)
    assert here == there
    assert len(c.nodes[1].get("/state")["instances"]) == 1
    events = list(c.nodes[1].stream(CHAT, body("tiny")))
    assert events[-1] == "[DONE]"


def test_hop_costs_at_most_the_row_and_128_bytes(models, cluster) -> None:
    c: Cluster = cluster(2, models("test-256", "q8_0"))
    assert c.place(2).status == 200

    def sent() -> tuple[int, int]:
        (instance,) = c.nodes[0].get("/state")["instances"].values()
        stats = instance["shards"][0]["stats"]
        return stats["bytes_sent"], stats["rows"]

    fingerprint(c.nodes[0], c.model_id)
    time.sleep(0.6)
    bytes0, rows0 = sent()
    plain = body(c.model_id, max_tokens=200, exo_logits_hash=False)
    assert c.nodes[0].post(CHAT, plain).status == 200
    time.sleep(0.6)
    bytes1, rows1 = sent()
    per_row = (bytes1 - bytes0) / (rows1 - rows0)
    assert per_row <= 256 * 4 + 128, per_row  # the admission is in it, too


def test_a_wrong_key_is_refused_and_both_sides_say_why(start) -> None:
    port = free_port()
    a = start("node", "--port", str(port), "-m", "tiny", env={"EXO_CLUSTER_KEY": "the right passphrase"})
    a.wait_healthy()
    b = start("node", "--port", "0", "-m", "tiny", "--peer", f"127.0.0.1:{port}",
              env={"EXO_CLUSTER_KEY": "another passphrase"})
    b.wait_healthy()
    for side in (a, b):
        wait_until("the reason is logged", lambda: "cluster key does not match" in side.log.read_text())
    assert len(a.get("/state")["nodes"]) == 1 and len(b.get("/state")["nodes"]) == 1


def test_keys_are_not_too_short(tmp_path: Path) -> None:
    done = run("node", "--listen", "127.0.0.1", "--port", "0", "--api-port", "0", "-m", "tiny",
               env={"EXO_CLUSTER_KEY": "short", "EXO_HOME": str(tmp_path / "home")})
    assert done.returncode == 2 and b"EXO_CLUSTER_KEY has 5 characters" in done.stderr
    assert done.stderr.count(b"\n") == 1 and not any(tmp_path.iterdir())


def collect(node: Process, request: dict[str, Any], out: list[Any]) -> None:
    for event in node.stream(CHAT, request):
        out.append((time.monotonic(), event))


@pytest.mark.parametrize("victim", [1, 2])
def test_a_worker_killed_in_mid_answer(cluster, victim: int) -> None:
    c: Cluster = cluster(3, "tiny")
    assert c.place(3).status == 200
    events: list[Any] = []
    thread = threading.Thread(target=collect, args=(
        c.nodes[0], body("tiny", max_tokens=1900, exo_logits_hash=False), events))
    thread.start()
    wait_until("the answer runs", lambda: len(events) > 20)
    c.nodes[victim].process.send_signal(signal.SIGKILL)
    killed = time.monotonic()
    thread.join(10)
    assert not thread.is_alive()
    assert events[-1][1] == "[DONE]" and "error" in events[-2][1], events[-3:]
    assert events[-1][0] - killed < 2
    c.wait_for_nodes(2)
    again = c.nodes[0].post(CHAT, body("tiny"))
    assert again.status == 200
    (instance,) = c.nodes[0].get("/state")["instances"].values()
    assert len(instance["shards"]) == 2


def test_a_frozen_worker_does_not_hang_the_client(cluster) -> None:
    c: Cluster = cluster(2, "tiny")
    assert c.place(2).status == 200
    events: list[Any] = []
    thread = threading.Thread(target=collect, args=(
        c.nodes[0], body("tiny", max_tokens=1900, exo_logits_hash=False), events))
    thread.start()
    wait_until("the answer runs", lambda: len(events) > 20)
    c.nodes[1].process.send_signal(signal.SIGSTOP)
    try:
        thread.join(10)
        assert not thread.is_alive()
        assert "error" in events[-2][1]
    finally:
        c.nodes[1].process.send_signal(signal.SIGCONT)


def test_a_cancelled_answer_stops_on_every_node(models, cluster) -> None:
    c: Cluster = cluster(2, models("smollm2-135m", "q8_0"))  # the whole answer takes many seconds
    assert c.place(2).status == 200
    stream = c.nodes[0].stream(CHAT, body(c.model_id, max_tokens=1900, exo_logits_hash=False))
    for _ in range(10):
        next(stream)
    stream.close()

    def rows() -> list[int]:
        (instance,) = c.nodes[0].get("/state")["instances"].values()
        return [s["stats"]["rows"] for s in instance["shards"]]

    time.sleep(0.9)  # 0.2 s to stop, then the counters' next report
    still = rows()
    assert max(still) < 1000
    time.sleep(0.8)
    assert rows() == still


def test_placing_on_more_nodes_than_there_are(cluster) -> None:
    c: Cluster = cluster(2, "tiny")
    reply = c.place(3)
    assert reply.status == 400
    assert "3 nodes" in reply.json["error"]["message"] and "2 can" in reply.json["error"]["message"]
    reply = c.nodes[0].post("/place_instance", {"model_id": "tiny", "sharding": "Rows"})
    assert reply.status == 400
    assert c.place(2, [9]).status == 400
    assert c.nodes[0].post("/place_instance", {"model_id": "nope"}).status == 404


def test_a_node_maps_only_its_own_layers(models, cluster) -> None:
    model = models("smollm2-135m", "q8_0")
    c: Cluster = cluster(3, model)
    assert c.place(3).status == 200
    fingerprint(c.nodes[0], c.model_id)
    (instance,) = c.nodes[0].get("/state")["instances"].values()
    by_node = {s["node_id"]: s for s in instance["shards"]}
    for node in c.nodes:
        shard = by_node[node.get("/state")["node_id"]]
        fields = dict(line.split(":", 1) for line in
                      open(f"/proc/{node.process.pid}/status").read().splitlines())
        rss = int(fields["VmRSS"].split()[0]) * 1024
        assert rss <= shard["weight_bytes"] + shard["kv_bytes"] + (64 << 20)
