"""Every architecture over two real nodes: the same bits as in one process, at two cuts."""

from __future__ import annotations

from typing import Any, Callable

import pytest
from conftest import Cluster, Process

LAYERS = {"test-mixtral": 3, "test-qwen2moe": 3, "test-qwen3moe": 3, "test-gemma": 3,
          "test-gemma2": 4, "test-gemma3": 7, "test-phi": 3, "test-granite": 3,
          "test-granitemoe": 3, "test-glm4": 3, "test-gpt-oss": 4, "test-deepseek2": 3,
          "test-olmo2": 3, "test-starcoder2": 3, "test-command-r": 3, "test-smollm3": 5,
          "test-qwen2": 3, "test-qwen3": 3}


def fingerprint(node: Process, model: str) -> tuple[str, str]:
    reply = node.post("/v1/chat/completions", {
        "model": model, "temperature": 1, "seed": 5, "max_tokens": 12, "ignore_eos": True,
        "exo_logits_hash": True,
        "messages": [{"role": "user", "content": "Tell me about clusters of many devices."}]})
    assert reply.status == 200, reply.body
    return reply.json["exo_logits_sha256"], reply.json["choices"][0]["message"]["content"]


def one_process(start: Callable[..., Process], model: str) -> tuple[str, str]:
    server = start("serve", "-m", model, "--threads", "2", "--ctx", "512").wait_healthy()
    result = fingerprint(server, server.get("/v1/models")["data"][0]["id"])
    server.stop()
    return result


@pytest.mark.parametrize("shape", LAYERS)
def test_two_nodes_give_the_bits_of_one(models: Any, start: Any, cluster: Any, shape: str) -> None:
    model = models(shape, "q8_0")
    expected = one_process(start, model)
    c: Cluster = cluster(2, model, ["--threads", "1", "--chunk", "7", "--ctx", "512"])
    for cut in (1, LAYERS[shape] - 1):
        assert c.place(2, [cut]).status == 200
        assert fingerprint(c.nodes[0], c.model_id) == expected, cut
