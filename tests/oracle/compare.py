#!/usr/bin/python3
"""Compares exo's next-token distributions with llama.cpp's, on models of random weights.

  compare.py [SHAPE[:LAYERS]...] [--types f32,q4_0,... | --types all] [--turned]
      prints a table: for each shape and weight type the largest deviation of a log-probability
      among llama.cpp's most probable tokens; "*" where the most probable token differed once or
      more.  Without shapes: one of every architecture; without types: the usual ones.  Encoders:
      the largest deviation of an element of the embedding, whose length is 1.  Models with experts
      take all of them, but for f32.  --turned: types are the rows.

llama.cpp is that of the npm package node-llama-cpp, installed into build/oracle at first use.  EXO
names the exo binary (default build/exo).  Both get the same token ids.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT / "tests" / "integration"))
from conftest import KEY, Process, run  # noqa: E402
from gguf_edit import Gguf  # noqa: E402
from javascript import Unavailable, node, npm_install  # noqa: E402

VERSION = "3.22.1"
MODULES = ROOT / "build" / "oracle"
BINARIES = {("Linux", "x86_64"): "linux-x64", ("Linux", "aarch64"): "linux-arm64",
            ("Darwin", "arm64"): "mac-arm64-metal"}
TOP = 20
TYPES = ("f32", "f16", "bf16", "q8_0", "q6_K", "q4_0", "q4_K", "q4_K_M",
         "q4_1", "q5_0", "q5_1", "iq4_nl", "mxfp4", "q2_K", "q3_K", "q5_K", "iq4_xs",
         "iq2_xxs", "iq2_xs", "iq2_s", "iq3_xxs", "iq3_s", "iq1_s", "iq1_m",
         "q3_K_S", "q3_K_M", "q3_K_L", "q4_K_S", "q5_K_S", "q5_K_M")
USUAL = ("f32", "f16", "bf16", "q8_0", "q6_K", "q5_K_M", "q4_K_M", "q4_0", "iq4_xs", "mxfp4")
PROMPT = [(37 * i * i + 11 * i + 5) % 508 for i in range(40)]
LOOK_AT = [1, 2, 12, 33, 40]  # tokens read before looking
ENCODERS = ("test-bert", "test-nomic-bert")
SHAPES = ("test-256", "test-mixtral", "test-qwen2", "test-qwen2moe", "test-qwen3", "test-qwen3moe",
          "test-gemma", "test-gemma2", "test-gemma3", "test-phi", "test-granite",
          "test-granitemoe", "test-glm4", "test-gpt-oss", "test-deepseek2", "test-deepseek2-lite",
          "test-olmo2", "test-starcoder2", "test-command-r", "test-smollm3", "test-internlm2",
          "test-exaone", "test-ernie4_5", "test-seed_oss", "test-olmoe", "test-cohere2",
          "test-exaone4", "test-exaone-moe", "test-glm4moe", "test-ernie4_5-moe", "test-dots1",
          "test-deepseek", "test-bailingmoe", "test-bailingmoe2", "test-minimax-m2",
          "test-minicpm", "test-qwen2vl", "test-qwen3vl", "test-qwen3vlmoe", "test-stablelm",
          "test-phi2", "test-falcon", "test-granitemoeshared", *ENCODERS)
WITH_EXPERTS = ("test-mixtral", "test-qwen2moe", "test-qwen3moe", "test-granitemoe",
                "test-gpt-oss", "test-deepseek2", "test-deepseek2-lite", "test-olmoe",
                "test-exaone-moe", "test-glm4moe", "test-ernie4_5-moe", "test-dots1",
                "test-deepseek", "test-bailingmoe", "test-bailingmoe2", "test-minimax-m2",
                "test-qwen3vlmoe", "test-granitemoeshared")
# What exo needs to be told so that both do the same: llama.cpp chooses longrope's factors by the
# size of its context, which is 256 here.
OPTIONS = {"test-phi": ("--ctx", "256")}


def install() -> Path:
    """The folder of the pinned package; npm fetches it once."""
    binary = BINARIES.get((platform.system(), platform.machine()))
    if binary is None:
        raise Unavailable(f"node-llama-cpp has no build for {platform.system()} "
                          f"{platform.machine()}")
    wanted = [f"node-llama-cpp@{VERSION}", f"@node-llama-cpp/{binary}@{VERSION}"]
    stamp = MODULES / "installed"
    if stamp.exists() and stamp.read_text() == str(wanted):
        return MODULES
    npm_install(MODULES, *wanted)
    stamp.write_text(str(wanted))
    return MODULES


# ---- the two sides ----

@dataclass
class Job:
    """Which model, which tokens, and after how many of them to look at the distribution."""

    model: Path
    ids: list[int]
    at: list[int]
    embed: bool = False


Ranking = list[tuple[int, float]]  # (token id, log-probability), best first


def ask_llama(jobs: list[Job], kv: str = "F32") -> list[Any]:
    """For each job, for each n of at: the most probable tokens; or its embedding."""
    wire = [{"model": str(j.model), "ids": j.ids, "at": j.at, "embed": j.embed} for j in jobs]
    done = subprocess.run(
        [node(), str(HERE / "oracle.mjs"), str(install()), "--top", str(TOP), "--kv", kv],
        input=json.dumps(wire), capture_output=True, text=True, timeout=600, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"oracle.mjs failed: {done.stderr[-2000:]}")
    return [json.loads(line) for line in done.stdout.splitlines()]


class Exo:
    """`exo serve` on one model."""

    def __init__(self, model: Path, data_dir: Path, *options: str):
        self.process = Process(["serve", "-m", str(model), "--threads", "1", *options], data_dir)

    def __enter__(self) -> "Exo":
        self.process.wait_healthy()
        self.model_id = self.process.get("/v1/models")["data"][0]["id"]
        return self

    def __exit__(self, *_: Any) -> None:
        self.process.stop()

    def log_probability(self, ids: list[int], force: int | None = None) -> float:
        """Of token `force` after ids, or of the most probable one.  A bias makes exo choose the
        token; what is reported is the model's own distribution, before any bias."""
        bias = {} if force is None else {"logit_bias": {str(force): 100}}
        reply = self.process.post("/v1/completions", {
            "model": self.model_id, "prompt": ids, "max_tokens": 1, "temperature": 0,
            "logprobs": 0, **bias})
        assert reply.status == 200, reply.body
        return float(reply.json["choices"][0]["logprobs"]["token_logprobs"][0])


# ---- the comparison ----

@dataclass
class Deviation:
    largest: float = 0.0  # of a log-probability
    smallest: float = math.inf  # what the best distribution has as its largest
    same_first: int = 0
    n: int = 0  # distributions compared
    gap: float = 0.0  # by how much a first token that differs is ahead, at most

    def add(self, exo: Exo, ids: list[int], theirs: Ranking) -> None:
        """The first of theirs is the best; all that are given are compared."""
        ours = [exo.log_probability(ids, force=token) for token, _ in theirs]
        best = exo.log_probability(ids)
        worst = max(abs(a - b) for a, (_, b) in zip(ours, theirs))
        self.largest = max(self.largest, worst)
        self.smallest = min(self.smallest, worst)
        self.gap = max(self.gap, best - ours[0])
        self.same_first += best == ours[0]
        self.n += 1


def compare(job: Job, theirs: list[Ranking], data_dir: Path, *options: str,
            top: int = TOP) -> Deviation:
    deviation = Deviation()
    with Exo(job.model, data_dir, *options) as exo:
        for n, ranking in zip(job.at, theirs, strict=True):
            deviation.add(exo, job.ids[:n], ranking[:top])
    return deviation


def compare_embedding(job: Job, theirs: list[float]) -> float:
    """The largest difference of an element; theirs is brought to length 1 first."""
    done = run("embed", "-m", str(job.model), "--ids", json.dumps(job.ids), "--json")
    assert done.returncode == 0, done.stderr
    ours = json.loads(done.stdout)["embedding"]
    length = math.sqrt(sum(x * x for x in theirs))
    return max(abs(a - b / length) for a, b in zip(ours, theirs, strict=True))


def synth(shape: str, kind: str, path: Path) -> Path:
    """shape is NAME or NAME:LAYERS."""
    name, _, layers = shape.partition(":")
    done = run("synth", "--shape", name, "--type", kind, "--seed", "1",
               *(["--layers", layers] if layers else []), "-o", str(path), timeout=300)
    assert done.returncode == 0, done.stderr
    return path


def every_expert(g: Gguf) -> None:
    """Every row takes every expert.  Where two are nearly as good, rounding decides which one is
    taken, and from there on the distance says nothing about the products that are compared."""
    (arch,) = {key.split(".")[0] for key in g.values if key.endswith(".expert_count")}
    g.values[f"{arch}.expert_used_count"] = g.values[f"{arch}.expert_count"]
    if f"{arch}.expert_group_count" in g.values:
        g.set_u32(f"{arch}.expert_group_count", 1)


class Node(Exo):
    """One node with many models."""

    def __init__(self, models: list[Path], data_dir: Path, *options: str):
        given = [word for path in models for word in ("-m", str(path))]
        self.process = Process(["node", "--threads", "1", *options, *given], data_dir,
                               {"EXO_CLUSTER_KEY": KEY})

    def about(self, model: Path) -> "Node":
        self.model_id = model.stem
        return self


def row(shape: str, kinds: list[str], folder: Path) -> list[str]:
    """A shape in all types."""
    models = [synth(shape, kind, folder / f"{i}.gguf") for i, kind in enumerate(kinds)]
    for model, kind in zip(models, kinds):
        if shape in WITH_EXPERTS and kind != "f32":
            g = Gguf(model)
            every_expert(g)
            g.write(model)
    jobs = [Job(model, PROMPT, LOOK_AT, shape in ENCODERS) for model in models]
    answers = ask_llama(jobs)
    if shape in ENCODERS:
        return [f"{compare_embedding(j, a):.2g}" for j, a in zip(jobs, answers)]
    cells = []
    with Node(models, folder / "data", *OPTIONS.get(shape, ())) as node:
        for model, rankings in zip(models, answers):
            d = Deviation()
            for n, ranking in zip(LOOK_AT, rankings, strict=True):
                d.add(node.about(model), PROMPT[:n], ranking)
            cells.append(f"{d.largest:.2g}" + ("" if d.same_first == d.n else "*"))
    return cells


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("shapes", nargs="*", default=SHAPES)
    parser.add_argument("--types", default=",".join(USUAL))
    parser.add_argument("--turned", action="store_true")
    options = parser.parse_args()
    kinds = options.types.split(",") if options.types != "all" else list(TYPES)
    table = [["", *kinds]]
    for shape in options.shapes:
        with tempfile.TemporaryDirectory() as folder:
            table.append([shape, *row(shape, kinds, Path(folder))])
        print(f"compared: {shape}", file=sys.stderr, flush=True)
    for i, cells in enumerate(zip(*table) if options.turned else table):
        print("| " + " | ".join(cells) + " |" + ("" if i else "\n|" + "---|" * len(cells)))


if __name__ == "__main__":
    main()
