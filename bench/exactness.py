"""The same bits however a model is run: hashes of all logits of all steps, by real processes.

One request at temperature 1 with a seed is answered by one process, then with other thread
counts, prompt chunks, instruction sets and company, and over two and three nodes for the cuts of
the layers.  Every hash must be the first one.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations
from pathlib import Path
from typing import Any, Iterator

from harness import Server, free_port, synth

MODELS = (("smollm2-135m", "q8_0"), ("qwen3-0.6b", "q8_0"), ("qwen3-0.6b", "q4_K_M"),
          ("llama-3.2-1b", "q4_K_M"))
PROMPT = [(i * 7919 + 11) % 4096 for i in range(41)]
N_ANSWER = 12
Hash = tuple[str, str]  # of the logits; the text


def fingerprint(server: Server, model: str, prompt: list[int] = PROMPT) -> Hash:
    reply = server.request("POST", "/v1/completions", {
        "model": model, "prompt": prompt, "max_tokens": N_ANSWER, "temperature": 1, "seed": 5,
        "ignore_eos": True, "exo_logits_hash": True})
    return reply["exo_logits_sha256"], reply["choices"][0]["text"]


def name_of(server: Server) -> str:
    return str(server.request("GET", "/v1/models")["data"][0]["id"])


def one_process(exo: str, root: Path, model: str, *options: str, company: int = 0,
                **environment: str) -> Hash:
    server = Server(exo, root, ["serve", "-m", model, *options], **environment)
    try:
        server.wait_healthy()
        name = name_of(server)
        with ThreadPoolExecutor(company + 1) as pool:
            others = [pool.submit(fingerprint, server, name, [i + 1] * (9 * i + 5))
                      for i in range(company)]
            result = fingerprint(server, name)
            for other in others:
                other.result()
        return result
    finally:
        server.stop()


def ways_of_one(exo: str, root: Path, model: str) -> Iterator[tuple[str, Hash]]:
    def run(*options: str, company: int = 0, **environment: str) -> Hash:
        return one_process(exo, root, model, *options, company=company, **environment)

    yield "1 thread", run("--threads", "1")
    yield "2 threads", run("--threads", "2")
    for chunk in ("1", "7", "32", "512"):
        yield f"chunks of {chunk}", run("--chunk", chunk)
    yield "among 7 others", run(company=7)
    for isa in ("avx2", "avxvnni", "avx512"):
        yield isa, run(EXO_CPU_ISA=isa)


def cuts_of(n_layers: int, every_cut: bool) -> Iterator[list[int]]:
    """Every cut in two; in three every cut, or each layer alone in the middle."""
    yield from ([a] for a in range(1, n_layers))
    if every_cut:
        yield from ([a, b] for a, b in combinations(range(1, n_layers), 2))
    else:
        yield from ([a, a + 1] for a in range(1, n_layers - 1))


def n_layers_of(instance: Any) -> int:
    return max(int(shard["end_layer"]) for shard in instance["shards"])


def ways_of_three(exo: str, root: Path, model: str, every_cut: bool) -> Iterator[tuple[str, Hash]]:
    port = free_port()
    link = ["--listen", "127.0.0.1", "--threads", "1", "-m", model]
    servers = [Server(exo, root, ["node", "--port", str(port), *link])]
    servers += [Server(exo, root, ["node", "--port", "0", "--peer", f"127.0.0.1:{port}", *link])
                for _ in range(2)]
    try:
        for server in servers:
            server.wait_healthy()
        first = servers[0]
        name = name_of(first)
        while sum("models" in n for n in first.request("GET", "/state")["nodes"].values()) < 3:
            time.sleep(0.05)

        def place(**how: Any) -> None:
            first.request("POST", "/place_instance", {"model_id": name, **how})

        place(min_nodes=1)
        (instance,) = first.request("GET", "/state")["instances"].values()
        for cuts in cuts_of(n_layers_of(instance), every_cut):
            place(cuts=cuts, min_nodes=len(cuts) + 1)
            yield f"cut at {cuts}", fingerprint(first, name)
    finally:
        for server in servers:
            server.stop()


def measure_exactness(exo: str, models: Path, root: Path, rows: Any, every_cut: bool) -> None:
    """Adds a row per model: how many ways were tried, and how many gave the first one's hash."""
    for shape, kind in MODELS:
        model = synth(exo, models, shape, kind)
        expected = one_process(exo, root, model)
        tried, same = 0, 0
        for ways in (ways_of_one(exo, root, model), ways_of_three(exo, root, model, every_cut)):
            for way, found in ways:
                tried += 1
                same += found == expected
                if found != expected:
                    print(f"{shape} {kind}: {way} gives other bits: {found[0]}", flush=True)
        rows.add(f"{shape} {kind}: ways to run it with the same bits, {expected[0][:16]}", same,
                 "ways", "ways tried", tried)
