#!/usr/bin/env python3
"""Speed of exo on this machine: usage: ./dev bench [--quick] [--only PART] [--note TEXT]

Measures, side by side in one run, and appends one row per figure to bench/results/figures.csv:
decode and prompt speed per weight type beside the machine's own read bandwidth; two pinned nodes
of one thread beside one process of one thread; bytes per token and hop; resident memory; the time
from exec to /health; the size of the binary; how many ways of running a model give the same bits;
the Vulkan backend on software devices beside llama.cpp's.
These machines are shared and noisy: ratios within a run count, absolute figures do not.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from exactness import measure_exactness
from harness import Server, bench, free_port, machine, synth
from vulkan import measure_beside_llama, measure_drivers

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results" / "figures.csv"
FIELDS = ["date", "commit", "machine", "figure", "value", "unit", "beside", "beside_value", "ratio",
          "note"]


class Rows:
    """Collects figures, prints them, appends them to the CSV."""

    def __init__(self, note: str):
        commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, text=True,
                                capture_output=True, check=False).stdout.strip()
        self.base = {"date": datetime.date.today().isoformat(), "commit": commit,
                     "machine": machine(), "note": note}
        self.rows: list[dict[str, Any]] = []

    def add(self, figure: str, value: float, unit: str, beside: str = "",
            beside_value: float | None = None) -> None:
        ratio = "" if not beside_value else f"{value / beside_value:.3f}"
        self.rows.append({**self.base, "figure": figure, "value": f"{value:.4g}", "unit": unit,
                          "beside": beside, "ratio": ratio,
                          "beside_value": "" if beside_value is None else f"{beside_value:.4g}"})
        print(f"{figure:52} {value:10.4g} {unit:10}"
              + (f" {ratio:>6} of {beside} ({beside_value:.4g})" if ratio else ""), flush=True)

    def write(self) -> None:
        RESULTS.parent.mkdir(parents=True, exist_ok=True)
        new = not RESULTS.exists()
        with RESULTS.open("a", newline="") as f:
            writer = csv.DictWriter(f, FIELDS)
            if new:
                writer.writeheader()
            writer.writerows(self.rows)


def measure_types(exo: str, models: Path, rows: Rows, quick: bool) -> None:
    pp, tg = ("64", "16") if quick else ("512", "64")
    shape = "smollm2-135m" if quick else "llama-3.2-1b"
    for kind in ("q4_0", "q4_K_M", "q8_0", "f16"):
        for threads in ("1", "2"):
            model = synth(exo, models, shape, kind)
            runs = [bench(exo, "-m", model, "--pp", pp, "--tg", tg, "--threads", threads)
                    for _ in range(1 if quick else 3)]
            r = sorted(runs, key=lambda run: float(run["read_share"]))[len(runs) // 2]
            name = f"{shape} {kind} {threads} thread(s)"
            rows.add(f"{name}: decode reads weights", r["read_gbps"], "GB/s", "read bandwidth",
                     r["peak_read_gbps"])
            rows.add(f"{name}: decode", r["tg_tps"], "tokens/s")
            rows.add(f"{name}: prompt {pp}", r["pp_tps"], "tokens/s")
            rows.add(f"{name}: resident memory", max(x["rss_bytes"] for x in runs) / 2**20, "MiB",
                     "weights + KV + 128 MiB",
                     (r["weights_bytes"] + r["kv_bytes"]) / 2**20 + 128)
            rows.add(f"{name}: exec to the first token, best", min(
                x["first_token_s"] for x in runs), "s")


def ask(server: Server, model: str, tokens: int) -> float:
    """Seconds per token after the first one."""
    body = {"model": model, "prompt": [5] * 8, "max_tokens": tokens, "temperature": 0,
            "ignore_eos": True}
    times = []
    for n in (1, tokens):
        begin = time.monotonic()
        server.request("POST", "/v1/completions", {**body, "max_tokens": n})
        times.append(time.monotonic() - begin)
    return (times[1] - times[0]) / (tokens - 1)


def measure_two_nodes(exo: str, models: Path, root: Path, rows: Rows, quick: bool) -> None:
    """One process of one thread and two pinned nodes of one thread each, in turns."""
    shape = "smollm2-135m" if quick else "llama-3.2-1b"
    model = synth(exo, models, shape, "q4_0")
    port = free_port()
    link = ["--listen", "127.0.0.1", "--threads", "1", "-m", model]
    servers = [
        Server(exo, root, ["serve", "-m", model, "--threads", "1"], {0}),
        Server(exo, root, ["node", "--port", str(port), *link], {0}),
        Server(exo, root, ["node", "--port", "0", "--peer", f"127.0.0.1:{port}", *link], {1}),
    ]
    try:
        for s in servers:
            s.wait_healthy()
        one, two = servers[0], servers[1]
        name = one.request("GET", "/v1/models")["data"][0]["id"]
        while sum("models" in n for n in two.request("GET", "/state")["nodes"].values()) < 2:
            time.sleep(0.05)
        two.request("POST", "/place_instance", {"model_id": name, "min_nodes": 2})
        n = 16 if quick else 48
        turns = [(ask(one, name, n), ask(two, name, n)) for _ in range(2 if quick else 5)]
        best_one, best_two = (1 / min(t[i] for t in turns) for i in (0, 1))
        rows.add(f"{shape} q4_0: two pinned nodes of one thread", best_two, "tokens/s",
                 "one process, one thread", best_one)
        time.sleep(0.6)
        (instance,) = two.request("GET", "/state")["instances"].values()
        stats = instance["shards"][0]["stats"]
        rows.add(f"{shape}: bytes per row and hop, TLS included", stats["bytes_sent"] / stats["rows"],
                 "bytes")
        shard = instance["shards"][1]
        rows.add(f"{shape} q4_0: resident memory of the second node", servers[2].rss() / 2**20,
                 "MiB", "its weights + KV pool", (shard["weight_bytes"] + shard["kv_bytes"]) / 2**20)
    finally:
        for s in servers:
            s.stop()


def measure_golden(exo: str, root: Path, rows: Rows) -> None:
    """stories260K: ids and first-step log-probabilities against the golden ones."""
    folder = ROOT.parent / "shared" / "data" / "stories260K"
    if not folder.is_dir():
        print("stories260K is not here: ids and logits are not compared")
        return
    golden = json.loads((folder / "golden-once-upon-a-time.json").read_text())
    logits = golden["first_step_logits"]
    total = math.log(sum(math.exp(x - max(logits)) for x in logits)) + max(logits)
    likeliest = sorted((x - total for x in logits), reverse=True)[:20]
    for kind, kv in (("f32", "f32"), ("f32", "f16"), ("f16", "f32"), ("f16", "f16")):
        server = Server(exo, root, ["serve", "-m", str(folder / f"stories260K-{kind}.gguf"),
                                    *(["--kv-f16"] if kv == "f16" else [])])
        try:
            server.wait_healthy()
            reply = server.request("POST", "/v1/completions", {
                "model": f"stories260K-{kind}", "prompt": golden["prompt_ids"], "max_tokens": 120,
                "temperature": 0, "logprobs": 20})
        finally:
            server.stop()
        choice = reply["choices"][0]
        name = f"stories260K {kind}, KV {kv}"
        rows.add(f"{name}: bytes of the 120 tokens' text as the golden", same_bytes(
            choice["text"], golden["text"]), "bytes", "all", len(golden["text"].encode()))
        found = sorted(choice["logprobs"]["top_logprobs"][0].values(), reverse=True)
        rows.add(f"{name}: worst of 20 first log-probabilities",
                 max(abs(a - b) for a, b in zip(found, likeliest, strict=True)), "nats")


def same_bytes(a: str, b: str) -> int:
    """Length of the common beginning."""
    n = 0
    for x, y in zip(a.encode(), b.encode()):
        if x != y:
            break
        n += 1
    return n


def measure_start(exo: str, root: Path, rows: Rows) -> None:
    times = []
    for _ in range(5):
        server = Server(exo, root, ["serve", "-m", "tiny"])
        times.append(1000 * server.wait_healthy())
        server.stop()
    rows.add("exo serve -m tiny: exec to /health, best of 5", min(times), "ms")
    with tempfile.NamedTemporaryFile(dir=root) as stripped:
        subprocess.run(["strip", "-o", stripped.name, exo], check=True)
        model = (ROOT / "models" / "exo-tiny.gguf").stat().st_size
        rows.add("stripped binary without the built-in model",
                 (os.stat(stripped.name).st_size - model) / 2**20, "MiB")


def main() -> None:
    parser = argparse.ArgumentParser(prog="./dev bench", description=__doc__)
    parser.add_argument("--exo", default="build/exo", help=argparse.SUPPRESS)
    parser.add_argument("--quick", action="store_true", help="a small model; for trying the script")
    parser.add_argument("--models", type=Path, help="keep the synthetic models here")
    parser.add_argument("--only", choices=(
        "golden", "start", "types", "nodes", "exactness", "vulkan", "vulkan-drivers"))
    parser.add_argument("--every-cut", action="store_true", help="exactness: all cuts in three, for an hour")
    parser.add_argument("--note", default="", help="written beside the figures")
    options = parser.parse_args()
    exo = str(Path(options.exo).resolve())
    rows = Rows(options.note)
    print(f"{rows.base['machine']}, commit {rows.base['commit']}")
    root = Path(tempfile.mkdtemp(prefix="exo-bench-"))
    models = options.models or root
    models.mkdir(parents=True, exist_ok=True)
    try:
        parts = {
            "golden": lambda: measure_golden(exo, root, rows),
            "start": lambda: measure_start(exo, root, rows),
            "types": lambda: measure_types(exo, models, rows, options.quick),
            "nodes": lambda: measure_two_nodes(exo, models, root, rows, options.quick),
            "exactness": lambda: measure_exactness(exo, models, root, rows, options.every_cut),
            "vulkan": lambda: measure_beside_llama(exo, models, root, rows, options.quick),
            "vulkan-drivers": lambda: measure_drivers(exo, models, root, rows),
        }
        for name, measure in parts.items():
            if options.only in (None, name):
                measure()
    finally:
        shutil.rmtree(root, ignore_errors=True)
    rows.write()


if __name__ == "__main__":
    sys.exit(main())
