#!/usr/bin/python3
"""What exo convert's quantisation costs, beside llama.cpp's of the same f32 model.

  perplexity.py [--types q4_0,q4_K_M,...]
      prints the table of docs/oracle.md: for each type that exo convert writes the mean square
      error of the weights as a share of their mean square, of three models, and the perplexity of
      two of them.

Models: exo synth's test-256 (normal numbers, rows of 256), stories260K out of the shared data, and
the built-in one (its q8_0 weights taken as the truth).  Both files of a type have the same types of
tensors, which is checked; both perplexities are computed by exo, so that the weights alone differ.
The texts are what the models wrote themselves, unquantised, from fixed seeds.
"""

from __future__ import annotations

import argparse
import json
import struct
import sys
import tempfile
from array import array
from dataclasses import dataclass
from math import prod
from pathlib import Path

from compare import ROOT, Unavailable, install
from conftest import SHARED, run
from ggml_lib import FILE_TYPES, NUMBERS, decoded, ggml, quantise
from gguf_edit import BF16_TENSOR, F16_TENSOR, F32_TENSOR, Gguf

NAMES = {number: name for name, number in NUMBERS.items()}
SAMPLE = 16384  # elements of a tensor that are compared
STORIES = 12, 200  # texts, tokens of each


def numbers(g: Gguf, name: str) -> array:
    """The first rows of a tensor, as f32."""
    t = g.tensors[name]
    rows = max(1, min(prod(t.dims[1:]), SAMPLE // t.dims[0]))
    n = rows * t.dims[0]
    start = t.offset
    if t.kind == F32_TENSOR:
        return array("f", bytes(g.data[start:start + 4 * n]))
    if t.kind in (F16_TENSOR, BF16_TENSOR):
        raw = bytes(g.data[start:start + 2 * n])
        if t.kind == F16_TENSOR:
            return array("f", struct.unpack(f"<{n}e", raw))
        wide = bytearray(4 * n)
        wide[2::4], wide[3::4] = raw[0::2], raw[1::2]
        return array("f", bytes(wide))
    size = ggml().ggml_row_size(t.kind, t.dims[0]) * rows
    return array("f", decoded(NAMES[t.kind], bytes(g.data[start:start + size]), n))


def error(truth: Gguf, made: Gguf) -> float:
    """Of the tensors that are no longer f32."""
    squares = total = 0.0
    for name, t in made.tensors.items():
        if t.kind == F32_TENSOR:
            continue
        a, b = numbers(truth, name), numbers(made, name)
        squares += sum((x - y) ** 2 for x, y in zip(a, b, strict=True))
        total += sum(x * x for x in a)
    return squares / total if total else 0.0


@dataclass
class Model:
    name: str
    f32: Path
    text: Path | None

    def perplexity(self, path: Path) -> float:
        done = run("perplexity", "-m", str(path), str(self.text), "--json", timeout=300)
        assert done.returncode == 0, done.stderr
        return float(json.loads(done.stdout)["perplexity"])


def told(path: Path, text: Path) -> Path:
    """Stories of the model's own."""
    out = []
    for seed in range(1, STORIES[0] + 1):
        done = run("run", "-m", str(path), "--raw", "-p", "Once upon a time", "-n", str(STORIES[1]),
                   "--temp", "0.8", "--seed", str(seed), "--json", timeout=120)
        assert done.returncode == 0, done.stderr
        out.append("Once upon a time" + json.loads(done.stdout)["text"])
    text.write_text("\n".join(out))
    return text


def converted(source: str, kind: str, path: Path) -> Path:
    done = run("convert", source, "-o", str(path), "--type", kind, timeout=300)
    assert done.returncode == 0, done.stderr
    return path


def models(folder: Path) -> list[Model]:
    normal = folder / "normal.gguf"
    assert run("synth", "--shape", "test-256", "--type", "f32", "-o", str(normal)).returncode == 0
    out = [Model("normal numbers", normal, None)]
    stories = SHARED / "stories260K" / "stories260K-f32.gguf"
    if stories.exists():
        out.append(Model("stories260K", stories, told(stories, folder / "stories.txt")))
    tiny = converted(str(ROOT / "models" / "exo-tiny.gguf"), "f32", folder / "tiny.gguf")
    out.append(Model("tiny", tiny, told(tiny, folder / "tiny.txt")))
    return out


def cells(model: Model, truth: Gguf, kind: str, folder: Path) -> list[str]:
    ours, theirs = folder / "ours.gguf", folder / "theirs.gguf"
    converted(str(model.f32), kind, ours)
    quantise(model.f32, theirs, FILE_TYPES[kind])
    a, b = Gguf(ours), Gguf(theirs)
    assert {n: t.kind for n, t in a.tensors.items()} == {n: t.kind for n, t in b.tensors.items()}
    row = [f"{error(truth, a):.3g}", f"{error(truth, b):.3g}"]
    if model.text is not None:
        row += [f"{model.perplexity(ours):.4f}", f"{model.perplexity(theirs):.4f}"]
    return row


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--types", default=",".join(FILE_TYPES))
    options = parser.parse_args()
    try:
        install()
    except Unavailable as reason:
        print(reason, file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        all_models = models(folder)
        truths = [Gguf(m.f32) for m in all_models]
        head, bare = ["type"], ["f32"]
        for m in all_models:
            head += [f"{m.name}, error: exo", "llama.cpp"]
            bare += ["0", "0"]
            if m.text is not None:
                n = len(json.loads(run("tokenize", "-m", str(m.f32), "--json",
                                       stdin=m.text.read_bytes()).stdout))
                head += [f"perplexity on {n} tokens: exo", "llama.cpp"]
                bare += [f"{m.perplexity(m.f32):.4f}"] * 2
        print("| " + " | ".join(head) + " |\n|" + "---|" * len(head))
        print("| " + " | ".join(bare) + " |", flush=True)
        for kind in options.types.split(","):
            row = [kind]
            for m, truth in zip(all_models, truths, strict=True):
                row += cells(m, truth, kind, folder)
            print("| " + " | ".join(row) + " |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
