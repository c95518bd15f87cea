"""exo's own API on two real nodes: events, previews, instances, waiting, metrics, odd questions."""

from __future__ import annotations

import http.client
import json
import re
import socket
import threading
import time
from pathlib import Path
from typing import Any, Callable, Iterator

import pytest
from conftest import Cluster, Process, run, wait_until


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    c = Cluster(tmp_path_factory.mktemp("own-api"), 2, "tiny")
    wait_until("a master that both know", lambda: len(
        {n.get("/state/master") for n in c.nodes}) == 1 and c.nodes[0].get("/state/master"))
    yield c
    c.stop()


def error(node: Process, method: str, path: str, body: Any = None) -> tuple[int, dict[str, Any]]:
    reply = node.http(method, path, body)
    assert reply.status >= 400, (path, reply.body)
    return reply.status, reply.json["error"]


# ---- instances ----

def test_previews_say_what_placing_does(pair: Cluster) -> None:
    node = pair.nodes[0]
    first, second = (n.get("/node_id") for n in pair.nodes)
    previews = node.get("/instance/previews?model_id=tiny")["previews"]
    one, two, tensor = previews
    assert [p["sharding"] for p in previews] == ["Pipeline", "Pipeline", "Tensor"]
    assert one["error"] is None and two["error"] is None
    assert [s["node_id"] for s in two["instance"]["shards"]] == [first, second]
    assert tensor["instance"] is None and "not built" in tensor["error"]

    made = node.post("/instance", two)
    assert made.status == 200, made.body
    instance_id = made.json["instance_id"]
    shown = node.get(f"/instance/{instance_id}")
    assert shown["instance_id"] == instance_id and shown["state"] == "running"
    for shard, promised in zip(shown["shards"], two["instance"]["shards"]):
        assert {k: shard[k] for k in promised} == promised
        bytes_of = shard["weight_bytes"] + shard["kv_bytes"]
        assert bytes_of == pytest.approx(two["memory_delta_by_node"][shard["node_id"]], rel=0.01)
    assert pair.nodes[1].get(f"/instance/{instance_id}")["model_id"] == "tiny"

    uneven = {"model_id": "tiny", "shards": [
        {"node_id": first, "start_layer": 0, "end_layer": 1},
        {"node_id": second, "start_layer": 1, "end_layer": 6}]}
    made = node.post("/instance", {"instance": uneven})
    assert made.status == 200, made.body
    shards = node.get(f"/instance/{made.json['instance_id']}")["shards"]
    assert [s["end_layer"] for s in shards] == [1, 6]
    assert node.http("DELETE", f"/instance/{made.json['instance_id']}").status == 200
    assert error(node, "GET", f"/instance/{made.json['instance_id']}")[0] == 404


def test_a_preview_says_why_not(pair: Cluster) -> None:
    node = pair.nodes[0]
    assert error(node, "GET", "/instance/previews")[1]["param"] == "model_id"
    status, e = error(node, "GET", "/instance/previews?model_id=..%2Fnone")
    assert status == 404 and e["param"] == "model_id"
    tensor = node.get("/instance/previews?model_id=tiny")["previews"][-1]
    status, e = error(node, "POST", "/instance", tensor)
    assert status == 400 and e["param"] == "error" and "not possible" in e["message"]


def test_a_node_without_the_file_is_named(tmp_path: Path, models: Callable[..., str]) -> None:
    path = models("stories-15m", "q4_0", 2)
    c = Cluster(tmp_path, 2, "tiny", None, [(["-m", path], {}), ([], {})])
    try:
        model_id = Path(path).stem
        one, two, _ = c.nodes[0].get(f"/instance/previews?model_id={model_id}")["previews"]
        assert one["error"] is None and two["instance"] is None
        assert "n1" in two["error"] and "does not have the model's file" in two["error"]
    finally:
        c.stop()


def shards(pair: Cluster, **change: Any) -> dict[str, Any]:
    first, second = (n.get("/node_id") for n in pair.nodes)
    last = {"node_id": second, "start_layer": 3, "end_layer": 6, **change}
    return {"model_id": "tiny",
            "shards": [{"node_id": first, "start_layer": 0, "end_layer": 3}, last]}


@pytest.mark.parametrize("change, words", [
    ({"node_id": "0000000000000000"}, "not linked"), ({"node_id": "x"}, "node_id"),
    ({"node_id": None}, "node_id"), ({"start_layer": 4}, "begins at layer 4"),
    ({"end_layer": 7}, "the model has 6"), ({"end_layer": 5}, "the model has 6"),
    ({"end_layer": 3}, "without layers"), ({"end_layer": 10 ** 18}, "without layers"),
    ({"start_layer": -1}, "without layers"), ({"start_layer": "3"}, "without layers"),
    ({"device_id": "vulkan:0"}, "which has cpu:0"), ({"device_id": 7}, "which has cpu:0"),
    ({"world_size": 2}, "world_size"), ({"world_size": "x"}, "world_size"),
])
def test_a_wrong_shard_is_named(pair: Cluster, change: dict[str, Any], words: str) -> None:
    status, e = error(pair.nodes[0], "POST", "/instance", shards(pair, **change))
    assert status == 400 and words in e["message"], e


def test_wrong_instances_are_named(pair: Cluster) -> None:
    node = pair.nodes[0]
    good = shards(pair)
    turned = {**good, "shards": [
        {**s, "node_id": t["node_id"]} for s, t in zip(good["shards"], good["shards"][::-1])]}
    assert "first stage" in error(node, "POST", "/instance", turned)[1]["message"]
    twice = {**good, "shards": [
        {**s, "node_id": good["shards"][0]["node_id"]} for s in good["shards"]]}
    assert "two stages" in error(node, "POST", "/instance", twice)[1]["message"]
    for body, words in [
            (b"{", "JSON"), (b"[]", "object"), (b"\xff", "JSON"), ({}, "shards"),
            ({"instance": 5}, "object"), ({"instance": {"shards": {}}}, "shards"),
            ({"instance": {"shards": [5]}}, "node_id"), ({**good, "model_id": 5}, "model_id"),
            ({**good, "model_id": None}, "model_id"), ({**good, "sharding": "Tensor"}, "Tensor"),
            ({**good, "shards": good["shards"] * 40}, "1 to 64")]:
        status, e = error(node, "POST", "/instance", body)
        assert status == 400 and words in e["message"], (body, e)
    assert error(node, "POST", "/instance", {**good, "model_id": "none"})[0] == 404


def test_await_is_ready_or_late(pair: Cluster) -> None:
    node, other = pair.nodes
    for path in ("/instance/await?model_id=none&timeout_s=0.3",
                 "/instance/await?instance_id=0123456789abcdef&timeout_s=0"):
        began = time.monotonic()
        status, e = error(node, "GET", path)
        assert status == 504 and e["code"] == "instance_not_ready" and "there is none" in e["message"]
        assert time.monotonic() - began < 10

    answers: list[Any] = []
    waiting = threading.Thread(target=lambda: answers.append(
        other.http("GET", "/instance/await?model_id=tiny&timeout_s=60", timeout=90)))
    waiting.start()  # asked of the other node, before there is one
    made = pair.place(2).json["instance_id"]
    waiting.join(60)
    assert answers[0].status == 200 and answers[0].json["instance_id"] == made
    assert answers[0].json["status"] == "ready"

    connection = http.client.HTTPConnection("127.0.0.1", node.api_port, timeout=30)
    for wish, word in ((f"instance_id={made}", "ready"), ("model_id=none&timeout_s=0", "timeout")):
        connection.request("GET", f"/instance/await?{wish}", headers={"Accept": "text/event-stream"})
        reply = connection.getresponse()
        assert reply.status == 200 and reply.getheader("Content-Type", "").startswith("text/event")
        (line,) = [x for x in reply.read().splitlines() if x.startswith(b"data: ")]
        assert json.loads(line[6:])["status"] == word
    connection.close()

    for wish in ("model_id=tiny&timeout_s=x", "model_id=tiny&timeout_s=-1", "model_id=tiny&timeout_s=",
                 "model_id=tiny&timeout_s=1e99", "model_id=tiny&timeout_s=nan", "timeout_s=1",
                 "model_id=tiny&timeout_s=99999"):
        assert error(node, "GET", f"/instance/await?{wish}")[0] == 400, wish
    assert error(node, "GET", f"/instance/await?model_id={'x' * 200}")[0] == 404


# ---- odd questions ----

@pytest.mark.parametrize("method, path, allowed", [
    ("PUT", "/instance/abc", "GET, DELETE"), ("GET", "/place_instance", "POST"),
    ("DELETE", "/instance", "POST"), ("POST", "/events", "GET"), ("POST", "/metrics", "GET"),
    ("POST", "/state", "GET"), ("PUT", "/state/nodes", "GET"), ("POST", "/node_id", "GET"),
])
def test_a_wrong_method_is_405_and_says_which(pair: Cluster, method: str, path: str,
                                              allowed: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", pair.nodes[0].api_port, timeout=30)
    connection.request(method, path)
    reply = connection.getresponse()
    assert reply.status == 405 and reply.getheader("Allow") == allowed
    assert "takes" in json.loads(reply.read())["error"]["message"]
    connection.close()


def test_unknown_ids_are_not_found(pair: Cluster) -> None:
    node = pair.nodes[0]
    for name in ("x", "x" * 3000, "%00", "%ff%fe", "..", "0" * 16, "a/b", "%0a"):
        assert error(node, "GET", f"/instance/{name}")[0] == 404, name
        assert error(node, "DELETE", f"/instance/{name}")[0] == 404, name
    assert node.healthy()


def test_placing_names_what_is_wrong(pair: Cluster) -> None:
    for body, words in [
            (b"", "JSON"), ({}, "model_id"), ({"model_id": "tiny", "min_nodes": 10 ** 30}, "whole number"),
            ({"model_id": "tiny", "min_nodes": 65}, "1 to 64"),
            ({"model_id": "tiny", "min_nodes": 0}, "1 to 64"),
            ({"model_id": "tiny", "min_nodes": 3}, "3 nodes"),
            ({"model_id": "tiny", "sharding": "Expert"}, "sharding"),
            ({"model_id": "tiny", "cuts": [0]}, "cuts"), ({"model_id": "tiny", "cuts": [9]}, "layers"),
            ({"model_id": "tiny", "cuts": list(range(1, 99))}, "cuts")]:
        status, e = error(pair.nodes[0], "POST", "/place_instance", body)
        assert status == 400 and words in e["message"], (body, e)


# ---- events ----

class Stream:
    """Server-sent events of GET /events."""

    def __init__(self, node: Process, path: str = "/events", headers: dict[str, str] | None = None):
        self.connection = http.client.HTTPConnection("127.0.0.1", node.api_port, timeout=30)
        self.connection.request("GET", path, headers={"Accept": "text/event-stream",
                                                      **(headers or {})})
        self.reply = self.connection.getresponse()
        assert self.reply.status == 200

    def next(self) -> tuple[str, Any]:
        """The id and the data of the next one; fails after 30 s without a byte."""
        name = ""
        for line in self.reply:
            if line.startswith(b"id: "):
                name = line[4:].strip().decode()
            elif line.startswith(b"data: "):
                return name, json.loads(line[6:])
        raise AssertionError("the stream has ended")

    def close(self) -> None:
        self.connection.close()


def test_events_are_one_list_on_every_node(pair: Cluster) -> None:
    first, second = pair.nodes
    made = pair.place(1).json["instance_id"]

    def both_have_it() -> Any:
        lists = [n.get("/events") for n in pair.nodes]
        found = [[e for e in events if e.get("instance_id") == made] for events in lists]
        return found if all(found) else None
    one, other = wait_until("both nodes have the event", both_have_it)
    assert one == other  # index and log included
    created = one[0]
    assert created["type"] == "instance_created" and created["model_id"] == "tiny"
    assert created["node_id"] == first.get("/node_id") and created["min_nodes"] == 1

    events = first.get("/events")
    indices = [e["index"] for e in events]
    assert indices == sorted(set(indices)) and len({e["log"] for e in events}) == 1
    later = first.get(f"/events?since={created['index'] - 1}&log={created['log']}")
    assert later[0] == created
    assert first.get(f"/events?since={indices[-1]}") == []
    assert first.get("/events?since=999999999999999999") == []
    assert first.get(f"/events?since={indices[-1]}&log=1") == events  # of another log: all
    for wish in ("since=-1", "since=x", "since=", "since=9999999999999999999999", "since=1.5",
                 "log=xyz", "log=", f"log={'0' * 17}", "stream=maybe"):
        status, e = error(first, "GET", f"/events?{wish}")
        assert status == 400 and e["param"] == wish.split("=")[0], wish


def test_events_come_as_they_happen(pair: Cluster) -> None:
    node = pair.nodes[1]
    known = node.get("/events")
    last = known[-1]
    stream = Stream(node, f"/events?since={last['index']}")
    made = pair.place(1).json["instance_id"]
    name, event = stream.next()
    while event.get("instance_id") != made:
        name, event = stream.next()
    assert event["type"] == "instance_created" and name == f"{event['log']}:{event['index']}"
    pair.nodes[0].http("DELETE", f"/instance/{made}")
    while event["type"] != "instance_deleted" or event["instance_id"] != made:
        name, event = stream.next()
    stream.close()

    again = Stream(node, headers={"Last-Event-ID": f"{last['log']}:{last['index']}"})
    assert again.next()[1]["index"] > last["index"]  # as a browser that comes back
    again.close()
    whole = Stream(node, headers={"Last-Event-ID": "of another server"})
    assert whole.next()[1] == known[0]
    whole.close()


def test_streams_end_with_their_node(start: Callable[..., Process]) -> None:
    node = start("node", "-m", "tiny", "--threads", "1",
                 env={"EXO_CLUSTER_KEY": "integration tests only"}).wait_healthy()
    streams = [Stream(node) for _ in range(3)]
    for s in streams:
        assert s.next()[1]["type"]
    streams[0].close()
    node.stop()
    for s in streams[1:]:
        try:
            s.reply.read()  # to its end: no wait without one
        except http.client.IncompleteRead:
            pass
        s.close()


# ---- metrics ----

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"'
SAMPLE = re.compile(rf"({NAME})(?:\{{({LABEL}(?:,{LABEL})*)\}})? (\S+)")


def parse(text: str) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """Prometheus' text format, strictly: what it does not allow fails."""
    assert text.endswith("\n")
    types: dict[str, str] = {}
    samples: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    family = ""
    for line in text.splitlines():
        if line.startswith("# HELP "):
            family = line.split(" ", 3)[2]
            assert family not in types, f"{family} is there twice"
            continue
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name == family and kind in ("gauge", "counter", "histogram")
            types[name] = kind
            continue
        match = SAMPLE.fullmatch(line)
        assert match, line
        name, labels = match.group(1), tuple(re.findall(LABEL, match.group(2) or ""))
        value = float(match.groups()[-1])
        suffixes = ("_bucket", "_sum", "_count") if types[family] == "histogram" else ("",)
        assert name in [family + s for s in suffixes], f"{name} among {family}"
        assert len({k for k, _ in labels}) == len(labels)
        assert types[family] != "counter" or name.endswith("_total") and value >= 0
        assert labels not in samples.setdefault(name, {}), line
        samples[name][labels] = value
    for name, kind in types.items():
        if kind == "histogram":
            check_histogram(name, samples)
    return samples


def check_histogram(name: str, samples: dict[str, dict[Any, float]]) -> None:
    """Buckets rise to +Inf, which is the count."""
    for labels, count in samples.get(f"{name}_count", {}).items():
        buckets = [(float(dict(k)["le"]), v) for k, v in samples[f"{name}_bucket"].items()
                   if tuple(x for x in k if x[0] != "le") == labels]
        assert buckets == sorted(buckets) and buckets[-1] == (float("inf"), count), name
        assert [v for _, v in buckets] == sorted(v for _, v in buckets)


def metrics(node: Process) -> dict[str, dict[Any, float]]:
    return parse(node.http("GET", "/metrics").body.decode())


def test_metrics_count_what_was_asked(pair: Cluster) -> None:
    node, other = pair.nodes
    pair.place(2)
    before = metrics(node)
    tiny = (("model_name", "tiny"),)
    assert before["vllm:num_requests_running"][tiny] == 0

    def value(m: dict[str, dict[Any, float]], name: str, labels: Any = tiny) -> float:
        return m.get(name, {}).get(labels, 0)
    usage = node.post("/v1/completions", {"model": "tiny", "prompt": "Once upon", "max_tokens": 7,
                                          "ignore_eos": True}).json["usage"]
    assert node.post("/v1/completions", {"model": "tiny", "prompt": "Once", "max_tokens": 5,
                                         "ignore_eos": True}).status == 200
    after = metrics(node)
    for own, vllm in (("exo_answer_tokens_total", "vllm:generation_tokens_total"),
                      ("exo_prompt_tokens_total", "vllm:prompt_tokens_total"),
                      ("exo_first_token_seconds_count", "vllm:time_to_first_token_seconds_count"),
                      ("exo_next_token_seconds_count", "vllm:inter_token_latency_seconds_count"),
                      ("exo_answer_seconds_count", "vllm:e2e_request_latency_seconds_count")):
        assert value(after, own) == value(after, vllm), own
    assert value(after, "exo_answer_tokens_total") - value(before, "exo_answer_tokens_total") == 12
    assert (value(after, "exo_prompt_tokens_total") - value(before, "exo_prompt_tokens_total")
            >= usage["prompt_tokens"] + 1)
    times = "exo_first_token_seconds_count"
    assert value(after, times) - value(before, times) == 2
    assert value(after, "exo_next_token_seconds_count") - value(
        before, "exo_next_token_seconds_count") == 10
    long = tiny + (("end", "length"),)
    assert value(after, "exo_answers_total", long) - value(before, "exo_answers_total", long) == 2
    # Computed on both, counted where it was asked.
    assert value(metrics(other), "exo_answer_tokens_total") == 0


def test_metrics_show_running_answers_and_their_pages(start: Callable[..., Process],
                                                      models: Callable[..., str]) -> None:
    path = models("smollm2-135m", "q4_0", 2)  # slow enough to be looked at
    node = start("serve", "-m", path).wait_healthy()
    model_id = Path(path).stem
    label = (("model_name", model_id),)
    connection = socket.create_connection(("127.0.0.1", node.api_port), timeout=30)
    body = json.dumps({"model": model_id, "prompt": "Once", "max_tokens": 2000, "ignore_eos": True,
                       "stream": True}).encode()
    connection.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: exo\r\nContent-Length: %d\r\n\r\n"
                       % len(body) + body)
    assert connection.recv(100)

    def seen() -> bool:
        m = metrics(node)
        used = m.get("vllm:kv_cache_usage_perc", {}).get(label, 0)
        return m["vllm:num_requests_running"][label] == 1 and 0 < used <= 1
    wait_until("one runs and holds pages", seen)
    connection.close()
    wait_until("the client that left is counted", lambda: metrics(node)["exo_answers_total"][
        label + (("end", "abort"),)] == 1)
    assert metrics(node)["exo_requests_running"][label] == 0


def test_metrics_show_the_cluster(pair: Cluster) -> None:
    ids = {n.get("/node_id") for n in pair.nodes}

    def of_both(m: dict[str, dict[Any, float]]) -> bool:
        return len(m.get("exo_device_memory_used_bytes", {})) == 2 and bool(
            m.get("exo_link_rtt_milliseconds")) and m["exo_cluster_device_count"][()] == 2
    for node in pair.nodes:
        m = wait_until("figures of both nodes", lambda n=node: (lambda x: of_both(x) and x)(metrics(n)))
        assert {dict(k)["node_id"] for k in m["exo_device_memory_total_bytes"]} == ids
        assert {dict(k)["device"] for k in m["exo_device_memory_total_bytes"]} == {"cpu:0"}
        total = sum(m["exo_device_memory_total_bytes"].values())
        assert m["exo_cluster_total_memory_bytes"][()] == total
        heat = node.get("/state/telemetry/cluster/average_temperature_celsius")
        assert (() in m.get("exo_cluster_average_temperature_celsius", {})) == (heat is not None)
    assert sum(metrics(n)["exo_is_master"][()] for n in pair.nodes) == 1


def test_a_link_s_rate_is_where_people_look(pair: Cluster) -> None:
    for node in pair.nodes:
        rate = wait_until("a train that arrived", lambda n=node: metrics(n).get(
            "exo_link_bandwidth_megabits"), 90)
        assert all(v > 0 for v in rate.values())
        assert b" Mbit/s " in run("top", "--once", "--data-dir", str(node.data_dir)).stdout


def test_a_name_is_written_as_prometheus_reads_it(start: Callable[..., Process]) -> None:
    name = 'a "b" \\c {d="e"}'
    node = start("node", "-m", "tiny", "--name", name,
                 env={"EXO_CLUSTER_KEY": "integration tests only"}).wait_healthy()
    (labels,) = metrics(node)["exo_node_info"]
    shown = dict(labels)["node"].replace("\\\\", "\0").replace('\\"', '"').replace("\0", "\\")
    assert shown == node.get(f"/state/nodes/{node.get('/node_id')}/name")
