"""Evaluation of the finished file: reads the GGUF back, answers the held-back phrasings, counts.

    /usr/bin/python3 tools/tiny/evaluate.py [FILE] [--ask TEXT | --raw TEXT]

Written in numpy, apart from the training code, so that a fault in the export is seen here.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

import numpy as np

import corpus
import gguf
from bpe import Tokenizer

MAX_NEW_TOKENS = 64
DEFAULT_FILE = Path(__file__).parent.parent.parent / "models" / "exo-tiny.gguf"


class Runner:
    """One sequence on a model read from a GGUF file, with a KV cache."""

    def __init__(self, path: Path) -> None:
        self.meta, self.weights = gguf.read(path)
        merges = [tuple(line.split(" ")) for line in self.strings("tokenizer.ggml.merges")]
        self.tokenizer = Tokenizer([(left, right) for left, right in merges])
        if self.tokenizer.tokens != self.strings("tokenizer.ggml.tokens"):
            raise ValueError(f"{path}: the tokens do not follow from the merges")
        self.n_layer = self.number("llama.block_count")
        self.n_head = self.number("llama.attention.head_count")
        self.n_head_kv = self.number("llama.attention.head_count_kv")
        self.head_dim = self.number("llama.rope.dimension_count")
        self.eps = float(str(self.meta["llama.attention.layer_norm_rms_epsilon"]))
        self.base = float(str(self.meta["llama.rope.freq_base"]))
        self.ends = {self.number("tokenizer.ggml.eos_token_id"), self.tokenizer.end_of_text}

    def number(self, key: str) -> int:
        value = self.meta[key]
        assert isinstance(value, int), key
        return value

    def strings(self, key: str) -> list[str]:
        value = self.meta[key]
        assert isinstance(value, list), key
        return [str(v) for v in value]

    def norm(self, x: gguf.Floats, name: str) -> gguf.Floats:
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + self.eps) * self.weights[name]

    def rope(self, x: gguf.Floats, start: int) -> gguf.Floats:
        """x is (n_pos, heads, head_dim)."""
        half = self.head_dim // 2
        freq = self.base ** (-np.arange(half) / half)
        angle = (np.arange(start, start + len(x))[:, None] * freq)[:, None, :]
        cos, sin = np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)
        a, b = x[..., 0::2], x[..., 1::2]
        return np.stack((a * cos - b * sin, a * sin + b * cos), -1).reshape(x.shape)

    def attention(self, il: int, x: gguf.Floats, cache: list[tuple[gguf.Floats, gguf.Floats]]) -> gguf.Floats:
        old_k, old_v = cache[il]
        n, start = len(x), len(old_k)
        name = f"blk.{il}.attn_"
        q, k, v = ((x @ self.weights[name + c + ".weight"].T).reshape(n, -1, self.head_dim) for c in "qkv")
        keys = np.concatenate((old_k, self.rope(k, start)))
        values = np.concatenate((old_v, v))
        cache[il] = keys, values
        group = self.n_head // self.n_head_kv
        scores = np.einsum("ihd,jhd->hij", self.rope(q, start), keys.repeat(group, 1)) / np.sqrt(self.head_dim)
        scores = np.where(np.arange(len(keys)) > np.arange(start, start + n)[:, None], -np.inf, scores)
        probs = np.exp(scores - scores.max(-1, keepdims=True))
        probs /= probs.sum(-1, keepdims=True)
        out = np.einsum("hij,jhd->ihd", probs, values.repeat(group, 1)).reshape(n, -1)
        return out @ self.weights[name + "output.weight"].T

    def forward(self, ids: list[int], cache: list[tuple[gguf.Floats, gguf.Floats]]) -> gguf.Floats:
        """Logits after the last of ids; cache grows by len(ids) positions."""
        w = self.weights
        x = w["token_embd.weight"][ids]
        for il in range(self.n_layer):
            x = x + self.attention(il, self.norm(x, f"blk.{il}.attn_norm.weight"), cache)
            h = self.norm(x, f"blk.{il}.ffn_norm.weight")
            gate = h @ w[f"blk.{il}.ffn_gate.weight"].T
            up = h @ w[f"blk.{il}.ffn_up.weight"].T
            x = x + (gate / (1 + np.exp(-gate)) * up) @ w[f"blk.{il}.ffn_down.weight"].T
        return self.norm(x[-1], "output_norm.weight") @ w["token_embd.weight"].T

    def generate(self, prompt: str, n_max: int) -> str:
        """The most likely continuation."""
        empty = np.zeros((0, self.n_head_kv, self.head_dim), np.float32)
        cache = [(empty, empty) for _ in range(self.n_layer)]
        logits = self.forward(self.tokenizer.encode(prompt), cache)
        out: list[int] = []
        while len(out) < n_max and int(logits.argmax()) not in self.ends:
            out.append(int(logits.argmax()))
            logits = self.forward(out[-1:], cache)
        return self.tokenizer.decode(out)


def is_right(answer: str, accept: list[str]) -> bool:
    return all(re.search(pattern, answer, re.IGNORECASE | re.DOTALL) for pattern in accept)


def report(path: Path) -> int:
    """Print every wrong answer and the score; 0 when at least 48 of 50 are right."""
    runner, renderer = Runner(path), corpus.Renderer()
    cases = corpus.held_cases()
    n_right = 0
    for case in cases:
        variables = {"messages": [{"role": "user", "content": case["prompt"]}], "add_generation_prompt": True}
        if "tools" in case:
            variables["tools"] = case["tools"]
        answer = runner.generate(renderer.render(variables), MAX_NEW_TOKENS)
        if is_right(answer, case["accept"]):
            n_right += 1
        else:
            print(f"wrong: {case['prompt']!r} -> {answer!r}")
    print(f"held-back phrasings: {n_right} of {len(cases)} right")
    return 0 if n_right * 50 >= len(cases) * 48 else 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, nargs="?", default=DEFAULT_FILE)
    parser.add_argument("--ask", metavar="TEXT", help="answer one question")
    parser.add_argument("--raw", metavar="TEXT", help="continue a text")
    args = parser.parse_args()
    if args.raw is not None:
        print(args.raw + Runner(args.file).generate(args.raw, 4 * MAX_NEW_TOKENS))
        return 0
    if args.ask is not None:
        message = {"role": "user", "content": args.ask}
        prompt = corpus.Renderer().render({"messages": [message], "add_generation_prompt": True})
        print(Runner(args.file).generate(prompt, 4 * MAX_NEW_TOKENS))
        return 0
    return report(args.file)


if __name__ == "__main__":
    sys.exit(main())
