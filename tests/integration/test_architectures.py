"""Every architecture over two real nodes: the same bits as in one process, at two cuts."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Iterator

import pytest
from conftest import Cluster, Process

# Every architecture that answers: one shape of each, and its layers.
LAYERS = {"test-256": 4, "test-mixtral": 3, "test-qwen2": 3, "test-qwen2moe": 3, "test-qwen3": 3,
          "test-qwen3moe": 3, "test-gemma": 3, "test-gemma2": 4, "test-gemma3": 7, "test-phi": 3,
          "test-granite": 3, "test-granitemoe": 3, "test-granitemoeshared": 3, "test-glm4": 3,
          "test-gpt-oss": 4,
          "test-deepseek2": 3, "test-deepseek2-lite": 27, "test-olmo2": 3, "test-starcoder2": 3,
          "test-command-r": 3, "test-smollm3": 5, "test-internlm2": 3, "test-exaone": 3,
          "test-ernie4_5": 3, "test-seed_oss": 3, "test-olmoe": 3, "test-cohere2": 5,
          "test-exaone4": 64, "test-exaone-moe": 5, "test-glm4moe": 3, "test-ernie4_5-moe": 3,
          "test-dots1": 3, "test-deepseek": 3, "test-bailingmoe": 3, "test-bailingmoe2": 3,
          "test-minimax-m2": 3, "test-minicpm": 3, "test-qwen2vl": 3, "test-qwen3vl": 3,
          "test-qwen3vlmoe": 3, "test-stablelm": 3, "test-phi2": 3, "test-falcon": 3}


Fingerprint = tuple[str, str]  # SHA-256 of all logits' bits; the text


def fingerprint(node: Process, model: str) -> Fingerprint:
    reply = node.post("/v1/chat/completions", {
        "model": model, "temperature": 1, "seed": 5, "max_tokens": 12, "ignore_eos": True,
        "exo_logits_hash": True,
        "messages": [{"role": "user", "content": "Tell me about clusters of many devices."}]})
    assert reply.status == 200, reply.body
    return reply.json["exo_logits_sha256"], reply.json["choices"][0]["message"]["content"]


@pytest.fixture(scope="module")
def files(models: Callable[..., str]) -> dict[str, str]:
    """Model ids, and their files."""
    return {f"{shape}-q8_0-all": models(shape, "q8_0") for shape in LAYERS}


def nodes(n: int, files: dict[str, str], root: Path, *options: str) -> Cluster:
    first, *others = files.values()
    given = [word for path in others for word in ("-m", path)]
    return Cluster(root, n, first, ["--ctx", "512", *options, *given])


@pytest.fixture(scope="module")
def alone(files: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    c = nodes(1, files, tmp_path_factory.mktemp("one"), "--threads", "2")
    yield c.nodes[0]
    c.stop()


@pytest.fixture(scope="module")
def pair(files: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    c = nodes(2, files, tmp_path_factory.mktemp("two"), "--threads", "1", "--chunk", "7")
    yield c
    c.stop()


@pytest.mark.parametrize("shape", LAYERS)
def test_two_nodes_give_the_bits_of_one(alone: Process, pair: Cluster, shape: str) -> None:
    model = f"{shape}-q8_0-all"
    expected = fingerprint(alone, model)
    for cut in sorted({1, LAYERS[shape] - 1}):
        placed: dict[str, Any] = {"model_id": model, "sharding": "Pipeline", "min_nodes": 2,
                                  "cuts": [cut]}
        reply = pair.nodes[0].post("/place_instance", placed)
        assert reply.status == 200, reply.body
        (instance,) = [i for i in pair.nodes[0].get("/state")["instances"].values()
                       if i["model_id"] == model]
        assert [s["start_layer"] for s in instance["shards"]] == [0, cut]
        assert fingerprint(pair.nodes[0], model) == expected, cut
