#!/usr/bin/python3
"""Compares exo's ids with those of Hugging Face's tokenizers library, on generated tokenizers.

  hf_diff.py [--tokenizers N] [--texts M] [--seed S]
      N random tokenizer.json files with small vocabularies: normalizers, pre-tokenizers, models, added
      tokens and post-processors in all combinations; M random texts each, with and without what the
      post-processor adds.  Prints how many ids agreed, what exo refuses, and the first
      differences.  Exit status 1 if any.

The library is the npm package `tokenizers`, fetched into build/ at first use.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "integration"))

from batch import BOS, SPECIAL, JsonTokenizers  # noqa: E402
from hf_random import random_text, random_tokenizer  # noqa: E402
from javascript import Unavailable, node, npm_install  # noqa: E402

VERSION = "0.23.2"
FOLDER = ROOT / "build" / "hf-tokenizers"


class Crashed(Exception):
    """The library's, not exo's."""


class Reference:
    """The library in a child process; raises Unavailable."""

    def __init__(self) -> None:
        if not (FOLDER / "node_modules" / "tokenizers").is_dir():
            npm_install(FOLDER, f"tokenizers@{VERSION}")
        self._start()

    def _start(self) -> None:
        self._child = subprocess.Popen(
            [node(), str(Path(__file__).with_name("hf_reference.mjs")), str(FOLDER)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            encoding="utf-8")

    def ids(self, tokenizer: str, texts: list[str], special: bool) -> list[list[int] | None]:
        record = json.dumps({"tokenizer": tokenizer, "texts": texts, "special": special})
        assert self._child.stdin is not None and self._child.stdout is not None
        self._child.stdin.write(record + "\n")
        self._child.stdin.flush()
        line = self._child.stdout.readline()
        if not line:  # it asserts what some combinations do not keep
            self.close()
            self._start()
            raise Crashed("the library ended its process")
        answer = json.loads(line)
        if "error" in answer:
            raise ValueError(answer["error"])
        return answer["ids"]

    def close(self) -> None:
        self._child.kill()
        self._child.communicate()


class Report:
    def __init__(self) -> None:
        self.texts = self.tokenizers = self.invalid = self.unsure = 0
        self.refused: Counter[str] = Counter()
        self.differ: list[str] = []

    def __str__(self) -> str:
        lines = [f"{self.tokenizers} tokenizers, {self.texts} texts agreed, "
                 f"{self.invalid} files refused by the library, {len(self.differ)} differences"]
        lines += [f"  exo refuses {n:5}: {what}" for what, n in self.refused.most_common()]
        return "\n".join(lines + self.differ[:5])


def brief(tokenizer: dict[str, Any]) -> str:
    model = {k: v for k, v in tokenizer["model"].items() if k not in ("vocab", "merges")}
    return json.dumps({**tokenizer, "model": model}, ensure_ascii=True)


def compare(reference: Reference, exo: JsonTokenizers, tokenizer: dict[str, Any],
            texts: list[str], report: Report) -> None:
    source = json.dumps({k: v for k, v in tokenizer.items() if k != "rows"})
    for special in (False, True):
        try:
            want = reference.ids(source, texts, special)
        except (ValueError, Crashed):
            report.invalid += 1
            return
        try:
            got = exo.ids(source, tokenizer["rows"], texts, SPECIAL | (BOS if special else 0))
        except ValueError as e:
            report.refused[str(e)] += 1
            return
        for text, a, b in zip(texts, want, got):
            if a is None:  # the library refuses the text
                report.unsure += 1
            elif a == b:
                report.texts += 1
            else:
                report.differ.append(f"{brief(tokenizer)}\n  {text!r}\n  want {a}\n  got  {b}")
    report.tokenizers += 1


def run(n_tokenizers: int, n_texts: int, seed: int, only: str = "") -> Report:
    reference, report = Reference(), Report()
    with JsonTokenizers() as exo:
        for i in range(n_tokenizers):
            rng = random.Random(f"{seed}-{i}")
            tokenizer = random_tokenizer(rng)
            texts = [random_text(rng, tokenizer) for _ in range(n_texts)]
            if only in brief(tokenizer):
                compare(reference, exo, tokenizer, texts, report)
    reference.close()
    return report


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--tokenizers", type=int, default=1000)
    p.add_argument("--texts", type=int, default=20)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--only", default="", help="files with this text in them")
    a = p.parse_args()
    try:
        report = run(a.tokenizers, a.texts, a.seed, a.only)
    except Unavailable as reason:
        print(f"skipped: {reason}")
        return 0
    print(report)
    return 1 if report.differ else 0


if __name__ == "__main__":
    sys.exit(main())
