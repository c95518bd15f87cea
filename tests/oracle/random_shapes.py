#!/usr/bin/python3
"""Models of random shapes against llama.cpp: odd numbers of heads, every ratio of shared ones, one
layer, one expert, all experts, windows shorter and longer than the prompt, caps, rope scaling
beyond the original context.

  random_shapes.py [--seed S] [--count N] [--show]
      compares N models and prints those that differ by more than the tolerance of their type,
      the exo synth command that makes the model; --show prints all.  Exit code 1: some did.

Each model is made by exo synth with other numbers in the shape of an architecture.
"""

from __future__ import annotations

import argparse
import random
import shlex
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from compare import (ENCODERS, OPTIONS, SHAPES, WITH_EXPERTS, Deviation, Job, Node, Ranking,
                     Unavailable, ask_llama, compare_embedding, every_expert, install)
from conftest import run
from gguf_edit import Gguf

SKIPPED = 5
EXACT, GELU, ROUNDED = 2e-4, 0.008, 0.5
WITH_GELU = ("test-gemma", "test-gemma2", "test-gemma3", "test-starcoder2", "test-phi2",
             "test-falcon")
# llama.cpp wants heads of these to make up the width of the model.
WHOLE_WIDTH = ("test-qwen2", "test-qwen2vl", "test-qwen2moe", "test-olmo2", "test-olmoe",
               "test-starcoder2", "test-command-r", "test-cohere2", "test-phi2", "test-falcon",
               "test-stablelm", "test-phi", "test-internlm2", "test-exaone", "test-exaone4",
               "test-exaone-moe", "test-dots1", "test-deepseek", "test-bailingmoe",
               "test-bailingmoe2", "test-minicpm", "test-smollm3", "test-granite",
               "test-granitemoe", "test-granitemoeshared", "test-mixtral", "test-ernie4_5",
               "test-ernie4_5-moe",
               "test-seed_oss", "test-glm4", "test-256")
ONE_KEY_HEAD_EACH = ("test-olmoe", "test-dots1", "test-phi2")  # no shared keys and values there
# llama.cpp knows these by their number of layers, which makes them slow.
FIXED = ("test-deepseek2-lite", "test-exaone4")
SLIDING = ("test-gemma2", "test-gemma3", "test-gpt-oss", "test-cohere2", "test-exaone-moe")
PART_ROTATED = ("test-phi", "test-glm4", "test-glm4moe", "test-minimax-m2", "test-stablelm",
                "test-phi2")
SECTIONED = ("test-qwen2vl", "test-qwen3vl", "test-qwen3vlmoe")
SHARED = {"test-deepseek2": 2, "test-qwen2moe": 3, "test-exaone-moe": 2, "test-glm4moe": 2,
          "test-ernie4_5-moe": 2, "test-dots1": 2, "test-deepseek": 2, "test-bailingmoe": 2,
          "test-bailingmoe2": 1, "test-granitemoeshared": 2}
SCALED = ("test-exaone-moe", "test-glm4moe", "test-dots1", "test-bailingmoe", "test-bailingmoe2")
ORIGINAL_IS_EIGHTH = ("test-gpt-oss", "test-phi")  # of the context: yarn, longrope
TYPES = ("f32", "f32", "f32", "f16", "q8_0", "q4_0", "q4_K", "q5_K", "q6_K", "mxfp4", "iq4_nl")
LONGEST = 200  # tokens of a prompt; both sides have a context of 256
TOP = 6


@dataclass
class Trial:
    shape: str
    kind: str
    settings: dict[str, float]
    ids: list[int]
    at: list[int]
    seed: int
    path: Path = Path()
    command: list[str] = field(default_factory=list)

    @property
    def tolerance(self) -> float:
        # A short row has few elements to average what rounding does.
        rounded = {"f32": EXACT, "f16": 0.05}.get(self.kind, ROUNDED)
        if self.shape in ENCODERS:  # elements of a vector of length 1
            return 4e-4 if self.kind in ("f32", "f16") else 0.03
        scaled = self.settings.get("expert_scale", 1) > 1 or self.shape == "test-deepseek2"
        wider = 4 if self.kind != "f32" and scaled else 1
        return max(rounded * wider, GELU if self.shape in WITH_GELU else 0)


def heads(rng: random.Random, shape: str) -> dict[str, float]:
    if shape == "test-deepseek2":  # the rest hangs together
        return {"n_heads": rng.choice((1, 2, 3, 6, 8)), "n_embd": rng.choice((64, 160, 256))}
    if shape in ENCODERS:
        n, dim = rng.choice((1, 2, 3, 5, 8)), rng.choice((32, 48, 64, 96, 128))
        return {"n_heads": n, "n_kv_heads": n, "head_dim": dim, "n_embd": n * dim}
    n = rng.choice((1, 2, 3, 4, 5, 6, 7, 8, 9, 12))
    sharing = [d for d in range(1, n + 1) if n % d == 0]
    n_kv = n if shape in ONE_KEY_HEAD_EACH else rng.choice(sharing)
    if shape in SECTIONED:
        dim = 96 if shape != "test-qwen2vl" else rng.choice((48, 96))
    else:
        dim = rng.choice((32, 48, 64, 80, 96, 128, 256))
    if n * dim > 1024:
        dim = 64 if shape not in SECTIONED else dim
        n = n_kv = min(n, 1024 // dim)
    whole = shape in WHOLE_WIDTH or rng.random() < 0.3
    width = n * dim if whole else rng.choice((64, 96, 160, 224, 256, 512))
    return {"n_heads": n, "n_kv_heads": n_kv, "head_dim": dim, "n_embd": width}


def experts(rng: random.Random, shape: str) -> dict[str, float]:
    if shape == "test-deepseek2":  # in four groups
        return {"n_experts": rng.choice((8, 16, 24)), "n_experts_used": rng.randint(1, 4)}
    n = rng.choice((1, 2, 3, 4, 6, 8, 16))
    return {"n_experts": n, "n_experts_used": rng.choice((1, n, rng.randint(1, n)))}


def trial(seed: int) -> Trial:
    rng = random.Random(seed)
    shape = rng.choice([s for s in SHAPES if s not in FIXED])
    kind = rng.choice(TYPES)
    s: dict[str, float] = heads(rng, shape)
    s["n_layers"] = rng.choice((1, 1, 2, 3, 5, 8) if shape in SLIDING else (1, 1, 2, 3, 4))
    s["n_ff"] = 32 * rng.choice((1, 3, 5, 7, 11))
    s["n_vocab"] = rng.choice((512, 513, 531, 640, 1001))
    s["rope_base"] = rng.choice((500, 10000, 1e6))
    s["norm_eps"] = rng.choice((1e-6, 1e-5, 1e-3)) if shape != "test-qwen2vl" else 1e-12
    if shape in WITH_EXPERTS:
        s.update(experts(rng, shape))
    if shape in SLIDING:
        s["window"] = rng.choice((1, 2, 7, 31, 32, 33, 64, 100))
    if shape in PART_ROTATED:
        s["rope_dims"] = 2 * rng.randint(1, int(s["head_dim"]) // 2)
    if shape == "test-gemma2":
        s["attn_softcap"], s["logit_softcap"] = rng.choice((1, 5, 50)), rng.choice((2, 30))
    if shape in ORIGINAL_IS_EIGHTH:
        s["ctx"] = rng.choice((256, 512, 1024, 4096))
    if shape in ("test-gpt-oss", "test-gemma3", "test-256"):
        s["rope_factor"] = rng.choice((1, 2, 8, 32))
    if shape in SHARED:  # so many shared experts at most, in one
        s["n_ff_shared"] = s["n_ff"] * rng.randint(1, SHARED[shape])
    if shape in SCALED:
        s["expert_scale"] = rng.choice((1, 2.5))
    ids = [rng.randrange(508) for _ in range(rng.choice((3, 40, 70, LONGEST)))]
    window = int(s.get("window", 1))
    places = {1, 2, window, window + 1, len(ids) // 2, len(ids)}
    return Trial(shape, kind, s, ids, sorted(n for n in places if 1 <= n <= len(ids)), seed)


def make(t: Trial, folder: Path) -> None:
    t.path = folder / f"t{t.seed}.gguf"
    t.command = ["synth", "--shape", t.shape, "--type", t.kind, "--seed", str(t.seed)]
    for name, value in t.settings.items():
        t.command += ["--set", f"{name}={value:g}"]
    done = run(*t.command, "-o", str(t.path), timeout=120)
    assert done.returncode == 0, (t, done.stderr)
    if t.shape in WITH_EXPERTS and t.kind != "f32":
        g = Gguf(t.path)
        every_expert(g)
        g.write(t.path)


def ask(trials: list[Trial]) -> list[list[Ranking] | str]:
    """All at once; one by one where llama.cpp takes one of them ill.  A text says how."""
    jobs = [Job(t.path, t.ids, t.at, t.shape in ENCODERS) for t in trials]
    try:
        return ask_llama(jobs)
    except RuntimeError as error:
        if len(trials) == 1:
            told = [line for line in str(error).splitlines() if "ASSERT" in line or "rror" in line]
            return [told[0] if told else str(error)]
        half = len(trials) // 2
        return ask(trials[:half]) + ask(trials[half:])


def measure(trials: list[Trial], folder: Path) -> list[Deviation | str]:
    """At most as many as a node takes models (64)."""
    for t in trials:
        make(t, folder)
    out: list[Deviation | str] = []
    models = [t.path for t in trials if t.shape not in ENCODERS]
    with Node(models, folder / "node", *OPTIONS["test-phi"]) as node:
        for t, rankings in zip(trials, ask(trials), strict=True):
            if isinstance(rankings, str):
                out.append(rankings)
                continue
            if t.shape in ENCODERS:
                job = Job(t.path, t.ids, [], True)
                out.append(Deviation(largest=compare_embedding(job, rankings)))
                continue
            deviation = Deviation()
            for n, ranking in zip(t.at, rankings, strict=True):
                deviation.add(node.about(t.path), t.ids[:n], ranking[:TOP])
            out.append(deviation)
    return out


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=12)
    parser.add_argument("--show", action="store_true")
    options = parser.parse_args()
    try:
        install()
    except Unavailable as reason:
        print(reason)
        return SKIPPED
    worst = {"f32": 0.0, "f32 with GELU": 0.0, "other types": 0.0}
    failed = refused = 0
    for first in range(options.seed, options.seed + options.count, 48):
        last = min(first + 48, options.seed + options.count)
        trials = [trial(seed) for seed in range(first, last)]
        with tempfile.TemporaryDirectory() as folder:
            for t, d in zip(trials, measure(trials, Path(folder)), strict=True):
                command = shlex.join(["exo", *t.command])
                if isinstance(d, str):
                    refused += 1
                    print(f"not compared: {command}\n    {d}", flush=True)
                    continue
                differs = not d.largest < t.tolerance
                failed += differs
                group = "other types" if t.kind != "f32" else \
                    "f32 with GELU" if t.shape in WITH_GELU or t.shape in ENCODERS else "f32"
                worst[group] = max(worst[group], d.largest)
                if differs or options.show:
                    print(f"{'DIFFERS' if differs else 'agrees'} {d.largest:.2g} after {t.at}: "
                          f"{command}", flush=True)
    print(f"{options.count} models, {failed} differ, {refused} not taken by llama.cpp; largest "
          "deviation " + ", ".join(f"{value:.2g} in {name}" for name, value in worst.items()))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
