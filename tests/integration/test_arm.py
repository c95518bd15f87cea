"""exo for ARM under emulation gives this machine's bits, alone and as a node beside it.

tests/neon/whole.sh builds the ARM binary and runs this file.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Callable, Iterator

import pytest
from conftest import EXO, KEY, ROOT, Process, free_port, wait_until

QEMU = ["qemu-aarch64-static", "-L", str(ROOT / "build" / "aarch64-root")]
ARM = str(ROOT / "build" / "aarch64" / "exo")
PROCESSORS = {"max": "neon-i8mm", "cortex-a53": "neon"}  # qemu's name, exo's instruction set


def arm(processor: str = "max") -> list[str]:
    return [*QEMU, "-cpu", processor, ARM]


def answer(exo: list[str], model: str) -> tuple[str, list[int]]:
    done = subprocess.run(
        [*exo, "run", "-m", model, "--raw", "-p", "Some words to begin with, and a few more.",
         "-n", "12", "--temp", "1", "--seed", "5", "--json", "--logits-hash"],
        capture_output=True, timeout=300, check=True)
    reply = json.loads(done.stdout)
    return reply["logits_sha256"], reply["ids"]


@pytest.mark.parametrize("processor", PROCESSORS)
def test_the_instruction_set_is_recognised(processor: str) -> None:
    done = subprocess.run([*arm(processor), "devices", "--json"], capture_output=True, timeout=60,
                          check=True)
    assert json.loads(done.stdout)[0]["driver_version"] == PROCESSORS[processor]


@pytest.mark.parametrize("processor", PROCESSORS)
@pytest.mark.parametrize("shape,kind", [("test-256", "q8_0"), ("test-256", "q4_K_M"),
                                        ("test-256", "q4_0"), ("test-qwen2", "f16"),
                                        ("test-qwen3", "bf16")])
def test_a_whole_model_has_the_same_bits(models: Callable[..., str], processor: str, shape: str,
                                         kind: str) -> None:
    model = models(shape, kind)
    assert answer(arm(processor), model) == answer([EXO], model)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Callable[[str], list[Process]]]:
    """pair(model): this machine's node and an ARM node, joined."""
    started: list[Process] = []

    def begin(model: str) -> list[Process]:
        port = free_port()
        link = ["--threads", "1", "-m", model]
        env = {"EXO_CLUSTER_KEY": KEY}
        started.append(Process(["node", "--port", str(port), *link], tmp_path / "here", env))
        started.append(Process(["node", "--port", "0", "--peer", f"127.0.0.1:{port}", *link],
                               tmp_path / "arm", env, exo=arm()))
        for node in started:
            node.wait_healthy()
        wait_until("two nodes know each other", lambda: all(
            sum("models" in n for n in node.get("/state")["nodes"].values()) == 2
            for node in started))
        return started

    yield begin
    for process in started:
        process.stop()


@pytest.mark.parametrize("cut", [1, 3])
def test_a_cluster_of_both_has_the_same_bits(models: Callable[..., str],
                                             pair: Callable[..., list[Process]],
                                             start: Callable[..., Process], cut: int) -> None:
    model = models("test-256", "q4_K_M")
    nodes = pair(model)
    alone = start("serve", "-m", model).wait_healthy()
    name = alone.get("/v1/models")["data"][0]["id"]
    wish = {"model": name, "prompt": list(range(5, 50)), "max_tokens": 12, "temperature": 1,
            "seed": 5, "ignore_eos": True, "exo_logits_hash": True}
    placed = nodes[0].post("/place_instance", {"model_id": name, "min_nodes": 2, "cuts": [cut]})
    assert placed.status == 200, placed.body
    (instance,) = nodes[0].get("/state")["instances"].values()
    assert len({shard["node_id"] for shard in instance["shards"]}) == 2
    hashes = [p.post("/v1/completions", wish).json["exo_logits_sha256"] for p in (alone, *nodes)]
    assert hashes[0] == hashes[1] == hashes[2]
