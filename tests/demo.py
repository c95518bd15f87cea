#!/usr/bin/env python3
"""The demo: three nodes on this machine, one model split over them, one question.

Starts three `exo node` processes with their own data directories, which join into one cluster
over encrypted links on loopback, places the model on all three, asks the first node through its
OpenAI API, streams the answer, and shows what each node did.

The first node computes on the CPU, the others on Vulkan devices that are programs: lavapipe and
SwiftShader, where tests/vulkan/icd.sh could get them.  What is known of these devices is kept in
build/vulkan.  A model of the user's goes on CPU nodes: these devices are slow.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Iterator

NODES = 3
START_SECONDS = 20
PLACE_SECONDS = 300
SELFTEST_SECONDS = 600
DRIVERS = Path(__file__).resolve().parents[1] / "build" / "vulkan"
GPUS = {"lavapipe": "package mesa-vulkan-drivers", "swiftshader": "out of package chromium-common"}


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def environment(gpu: str) -> dict[str, str]:
    """What makes `gpu` the only Vulkan device of a process."""
    driver = str(DRIVERS / f"{gpu}.json")
    return {"VK_ICD_FILENAMES": driver, "VK_DRIVER_FILES": driver,
            "EXO_HOME": str(DRIVERS / "home"), "MESA_SHADER_CACHE_DIR": str(DRIVERS / "mesa")}


def usable_gpus(exo: str) -> list[str]:
    """The software devices that are here and pass their self-test, which is run at first."""
    trials: dict[str, subprocess.Popen[bytes]] = {}
    for gpu, source in GPUS.items():
        if (DRIVERS / f"{gpu}.json").exists():
            trials[gpu] = subprocess.Popen(
                [exo, "devices", "--json"], env=dict(os.environ, **environment(gpu)),
                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        else:
            print(f"no {gpu} ({source}) to be had here: its node computes on the CPU")
    good = []
    begin, told = time.monotonic(), False
    while any(t.poll() is None for t in trials.values()):
        if not told and time.monotonic() - begin > 2:
            told = True
            print("trying out each kernel on the software devices; only the first start does that",
                  flush=True)
        if time.monotonic() - begin > SELFTEST_SECONDS:
            for trial in trials.values():
                trial.kill()
        time.sleep(0.05)
    for gpu, trial in trials.items():
        assert trial.stdout is not None
        text = trial.stdout.read()
        devices = json.loads(text)[1:] if trial.returncode == 0 else []
        if any(d["usable"] for d in devices):
            good.append(gpu)
        else:
            reason = devices[0]["reason"] if devices else "its self-test did not end"
            print(f"{gpu} is left out: {reason}")
    return good


class Node:
    """One `exo node` process, on the CPU or on the software device `gpu`."""

    def __init__(self, exo: str, index: int, root: Path, model: str, peer: str | None, key: str,
                 gpu: str | None):
        self.name = f"node-{index + 1}"
        self.link_port, self.api_port = free_port(), free_port()
        command = [exo, "node", "--name", self.name, "--data-dir", str(root / self.name),
                   "--listen", "127.0.0.1", "--port", str(self.link_port), "--api-port", str(self.api_port),
                   "--threads", "1", "-m", model]
        if peer is not None:
            command += ["--peer", peer]
        env = dict(os.environ, EXO_CLUSTER_KEY=key)
        if gpu is not None:
            command += ["--device", "vulkan:0"]
            env |= environment(gpu)
        self.process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL)

    def request(self, path: str, body: Any = None, timeout: float = 10) -> Any:
        data = None if body is None else json.dumps(body).encode()
        url = f"http://127.0.0.1:{self.api_port}{path}"
        with urllib.request.urlopen(urllib.request.Request(url, data), timeout=timeout) as reply:
            return json.load(reply)

    def stream(self, path: str, body: Any) -> Iterator[Any]:
        url = f"http://127.0.0.1:{self.api_port}{path}"
        with urllib.request.urlopen(
            urllib.request.Request(url, json.dumps(body).encode()), timeout=PLACE_SECONDS
        ) as reply:
            for line in reply:
                text = line.decode().strip()
                if text.startswith("data: ") and text != "data: [DONE]":
                    yield json.loads(text[6:])

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()


def wait_for_cluster(nodes: list[Node]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        for node in nodes:
            if node.process.poll() is not None:
                sys.exit(f"demo: {node.name} ended with code {node.process.returncode}")
        try:
            state = nodes[0].request("/state")
            if sum("models" in n for n in state["nodes"].values()) == len(nodes):
                return
        except (urllib.error.URLError, ConnectionError):
            pass
        time.sleep(0.05)
    sys.exit(f"demo: the nodes did not find each other within {START_SECONDS} s")


def ask(node: Node, model: str, question: str) -> tuple[int, float]:
    """Streams the answer to the terminal; returns its tokens and seconds from the first on."""
    print(f"\n\033[1m{question}\033[0m")
    body = {"model": model, "messages": [{"role": "user", "content": question}], "stream": True,
            "temperature": 0, "max_tokens": 120, "stream_options": {"include_usage": True}}
    first = 0.0
    tokens = 0
    for chunk in node.stream("/v1/chat/completions", body):
        if "error" in chunk:
            sys.exit(f"\ndemo: {chunk['error']['message']}")
        for choice in chunk["choices"]:
            text = choice["delta"].get("content", "")
            if text and not first:
                first = time.monotonic()
            print(text, end="", flush=True)
        if chunk.get("usage"):
            tokens = chunk["usage"]["completion_tokens"]
    print()
    return tokens, time.monotonic() - first


def wait_for_stats(node: Node, tokens: int) -> dict[str, Any]:
    """The counters of the other nodes come with their next report."""
    for _ in range(40):
        state = node.request("/state")
        (instance,) = state["instances"].values()
        if all(s["stats"]["tokens"] >= tokens or s["stats"]["decode_steps"] >= tokens - 1
               for s in instance["shards"]):
            break
        time.sleep(0.1)
    return state


def mib(n: float) -> str:
    return f"{n / 2**20:.1f} MiB"


def device_name(state: dict[str, Any], shard: dict[str, Any]) -> str:
    (device,) = state["nodes"][shard["node_id"]]["devices"]
    return " ".join(device["name"].split(" (")[0].split()[:2])


def print_table(state: dict[str, Any], tokens: int, seconds: float) -> None:
    (instance,) = state["instances"].values()
    rows = [("node", "device", "layers", "weights", "KV pool", "ms per token", "bytes sent per token")]
    for shard in instance["shards"]:
        stats = shard["stats"]
        rows.append((
            state["nodes"][shard["node_id"]]["name"],
            f"{shard['device_id']} {device_name(state, shard)}",
            f"{shard['start_layer']}..{shard['end_layer'] - 1}",
            mib(shard["weight_bytes"]),
            mib(shard["kv_bytes"]),
            f"{stats['decode_us'] / max(stats['decode_steps'], 1) / 1000:.2f}",
            f"{stats['bytes_sent'] / max(stats['rows'], 1):.0f}",
        ))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    print()
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
    print(f"{tokens} tokens, {1000 * seconds / max(tokens - 1, 1):.2f} ms per token end to end")


def run(exo: str, model: str, question: str, gpus: list[str]) -> None:
    devices = [None, *gpus, *[None] * NODES][:NODES]
    key = secrets.token_urlsafe(24)
    nodes: list[Node] = []
    with tempfile.TemporaryDirectory(prefix="exo-demo-") as root:
        try:
            for i in range(NODES):
                peer = None if i == 0 else f"127.0.0.1:{nodes[0].link_port}"
                nodes.append(Node(exo, i, Path(root), model, peer, key, devices[i]))
            wait_for_cluster(nodes)
            (model_id, *_) = [m["id"] for m in nodes[0].request("/v1/models")["data"]]
            print(f"{NODES} nodes are one cluster; placing {model_id} on all of them")
            nodes[0].request("/place_instance", {"model_id": model_id, "sharding": "Pipeline",
                                                 "min_nodes": NODES}, PLACE_SECONDS)
            tokens, seconds = ask(nodes[0], model_id, question)
            print_table(wait_for_stats(nodes[0], tokens), tokens, seconds)
        except urllib.error.HTTPError as e:
            sys.exit(f"demo: {json.load(e)['error']['message']}")
        finally:
            for node in nodes:
                node.stop()


def main() -> None:
    parser = argparse.ArgumentParser(prog="./dev demo", description=__doc__)
    parser.add_argument("--exo", default="build/exo", help=argparse.SUPPRESS)
    parser.add_argument("-m", metavar="FILE", help="ask this GGUF file as well")
    parser.add_argument("-q", metavar="TEXT", default="What is exo?", help="the question")
    options = parser.parse_args()
    exo = str(Path(options.exo).resolve())
    run(exo, "tiny", options.q, usable_gpus(exo))
    if options.m is not None:
        print(f"\nThe same of {options.m}, on CPU nodes:")
        run(exo, str(Path(options.m).resolve()), options.q, [])


if __name__ == "__main__":
    main()
