#!/usr/bin/python3
"""Compares exo's token ids with llama.cpp's and with the models' own rules, on random texts.

  tokenizer_diff.py [--texts N] [--seed S] [NAME...]
      NAME is one of tokenizer.ggml.pre (default: all), or spm, wpm, ugm.  Prints, for each, how
      many texts were compared with what, and the first ones that differ.  Exit status 1 if any.

Needs the npm package that compare.py fetches, and Debian's python3-regex.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import unicodedata
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import texts
import vocabularies
import word_rules
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "integration"))
from batch import BOS, SPECIAL, Tokenizer
from llama_vocab import LlamaVocab, sources


@dataclass
class Result:
    name: str
    with_llama: int = 0
    with_rules: int = 0
    skipped: int = 0  # texts where llama.cpp is known to differ from the model's own tokenizer
    differ: list[str] = field(default_factory=list)

    def check(self, what: str, text: bytes | str, want: list[int], got: list[int]) -> None:
        if want != got:
            self.differ.append(f"{self.name}, {what}: {text!r}\n  want {want}\n  got  {got}")

    def __str__(self) -> str:
        return (f"{self.name:25} {self.with_llama:7} with llama.cpp, {self.skipped:6} skipped, "
                f"{self.with_rules:7} with its own rules, {len(self.differ)} differ")


# ---- BPE by the book ----

class Bpe:
    """Words by word_rules, merges one at a time."""

    def __init__(self, name: str, v: vocabularies.Vocabulary):
        self.name, self.rule = name, word_rules.RULE_OF[name]
        self.ids = {t: i for i, t in enumerate(v.tokens)
                    if v.types[i] in (vocabularies.NORMAL, vocabularies.USER_DEFINED)}
        self.bytes = {t: i for i, t in enumerate(v.tokens) if v.types[i] == vocabularies.BYTE}
        self.ranks = {pair: i for i, pair in reversed(list(enumerate(v.merges)))}
        self.word = lru_cache(maxsize=100000)(self._word)

    def _word(self, word: str) -> list[int]:
        if self.name in word_rules.RAW:
            if self.name in word_rules.WHOLE_NEWLINES and word in self.ids and not word.strip("\n"):
                return [self.ids[word]]
            parts = list(word)
        else:
            parts = [vocabularies.STAND_INS[b] for b in word.encode()]
            whole = "".join(parts)
            if self.name in word_rules.WHOLE_WORDS and whole in self.ids:
                return [self.ids[whole]]
        while True:
            ranked = [(self.ranks[pair], i) for i, pair in enumerate(zip(parts, parts[1:]))
                      if pair in self.ranks]
            if not ranked:
                break
            _, i = min(ranked)
            parts[i:i + 2] = [parts[i] + parts[i + 1]]
        ids = []
        for part in parts:
            if part in self.ids:
                ids.append(self.ids[part])
            else:
                ids += [self.bytes[f"<0x{b:02X}>"] for b in part.encode()]
        return ids

    def __call__(self, text: str) -> list[int]:
        if self.name in word_rules.ESCAPED:
            text = text.replace(" ", "\u2581")
        if self.name == "whitespace":
            return [i for word in word_rules.words(self.rule, text) for i in self.word(word)
                    if word.strip(texts.WHITE)]
        return [i for word in word_rules.words(self.rule, text) for i in self.word(word)]


# ---- WordPiece by the book ----

class WordPiece:
    """BERT's, small letters without accents; from a vocabulary as GGUF has it."""

    def __init__(self, tokens: list[str], unknown: int):
        self.ids = {t: i for i, t in enumerate(tokens)}
        self.unknown = unknown
        self.longest = max(map(len, tokens))

    @staticmethod
    def _chinese(c: str) -> bool:
        return any(a <= ord(c) <= b for a, b in (
            (0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F),
            (0x2B740, 0x2B81F), (0x2B920, 0x2CEAF), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F)))

    def _words(self, text: str) -> list[str]:
        out = ""
        for c in text:
            if c in "\0\ufffd" or (unicodedata.category(c) in ("Cc", "Cf", "Co")
                                   and c not in "\t\n\r"):
                continue
            out += " " if c.isspace() else f" {c} " if self._chinese(c) else c
        out = "".join(c for c in unicodedata.normalize("NFD", out)
                      if unicodedata.category(c) != "Mn")
        out = "".join(c.lower() if len(c.lower()) == 1 else c for c in out)
        parted = "".join(
            f" {c} " if unicodedata.category(c)[0] == "P" or
            (ord(c) < 127 and unicodedata.category(c)[0] == "S") else c for c in out)
        return parted.split(" ")

    def _cover(self, word: str) -> list[int]:
        ids, at = [], 0
        while at < len(word):
            for end in range(min(len(word), at + self.longest), at, -1):
                if word[at:end] in self.ids:
                    ids.append(self.ids[word[at:end]])
                    at = end
                    break
            else:
                return [self.unknown]
        return ids

    def __call__(self, text: str) -> list[int]:
        return [i for word in self._words(text) if word for i in self._cover("\u2581" + word)]


def bert_differs(text: str) -> bool:
    """llama.cpp keeps one character of a decomposition, takes every mark for an accent, and parts
    words at control characters that are white space."""
    parts = unicodedata.normalize("NFD", text)
    return any(unicodedata.category(c) in ("Mc", "Me") or c in "\v\f\x85" or
               0x1100 <= ord(c) < 0x1200 for c in parts) or any(
        len([d for d in unicodedata.normalize("NFD", c) if unicodedata.category(d) != "Mn"]) > 1
        for c in text)


# ---- comparing ----

def random_texts(n: int, seed: int) -> list[str]:
    rng = random.Random(seed)
    return [texts.text(rng) for _ in range(n)]


def compare_whole(result: Result, exo: Tokenizer, llama: LlamaVocab, rng: random.Random,
                  all_texts: list[str], differs) -> None:
    for text in all_texts:
        if differs(text):
            result.skipped += 1
            continue
        raw, special, bos = text.encode(), rng.random() < 0.2, rng.random() < 0.2
        if special:  # whole, so that no two could overlap
            raw = raw.replace(b"<", b"") + rng.choice([b"<|user|>", b"<|bos|>", b"<s>"]) + b" x"
        elif rng.random() < 0.1:
            raw = texts.broken(rng, text)
            if differs(raw.decode(errors="replace")):
                continue
        flags = (BOS if bos else 0) | (SPECIAL if special else 0)
        result.check("llama.cpp", raw, llama.ids(raw, bos, special), exo.ids(raw, flags))
        result.with_llama += 1


def compare_name(name: str, v: vocabularies.Vocabulary, all_texts: list[str], folder: Path,
                 seed: int) -> Result:
    result = Result(name)
    path = v.write(folder / f"{name}.gguf", {
        "tokenizer.ggml.model": "whitespace" if name == "whitespace" else "gpt2",
        "tokenizer.ggml.pre": name,
        "tokenizer.ggml.bos_token_id": v.tokens.index("<|bos|>"),
        "tokenizer.ggml.eos_token_id": v.tokens.index("<|bos|>")})
    own = Bpe(name, v)
    with Tokenizer(path) as exo, LlamaVocab(path) as llama:
        compare_whole(result, exo, llama, random.Random(seed), all_texts,
                      lambda text: word_rules.llama_differs(name, text))
        for text in all_texts:
            if "<|" in text or word_rules.exo_differs(name, text):
                continue
            result.check("own rules", text, own(text), exo.ids(text.encode()))
            result.with_rules += 1
    return result


def compare_file(name: str, path: Path, all_texts: list[str], seed: int) -> Result:
    """A real vocabulary."""
    result = Result(name)
    differs = bert_differs if name == "wpm" else lambda text: False
    with Tokenizer(path) as exo, LlamaVocab(path) as llama:
        compare_whole(result, exo, llama, random.Random(seed), all_texts, differs)
        if name == "wpm":
            own = WordPiece(read_tokens(path), 100)
            for text in all_texts:
                result.check("own rules", text, own(text), exo.ids(text.encode()))
                result.with_rules += 1
    return result


def read_tokens(path: Path) -> list[str]:
    import struct
    from gguf_edit import Gguf
    raw = Gguf(path).values["tokenizer.ggml.tokens"][1]
    (_, n), at, tokens = struct.unpack_from("<IQ", raw), 12, []
    for _ in range(n):
        (size,) = struct.unpack_from("<Q", raw, at)
        tokens.append(raw[at + 8:at + 8 + size].decode())
        at += 8 + size
    return tokens


FILES = {"spm": "ggml-vocab-llama-spm.gguf", "wpm": "ggml-vocab-bert-bge.gguf",
         "ugm": "ggml-vocab-nomic-bert-moe.gguf"}


def compare_all(names: list[str], n_texts: int, seed: int):
    training = random_texts(700, 0)
    all_texts = random_texts(n_texts, seed)
    by_bytes = vocabularies.byte_level(training)
    raw = {escape: vocabularies.characters(training, escape) for escape in (True, False)}
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            if name in FILES:
                yield compare_file(name, sources() / "models" / FILES[name], all_texts, seed)
            else:
                v = raw[name in word_rules.ESCAPED] if name in word_rules.RAW else by_bytes
                yield compare_name(name, v, all_texts, Path(folder), seed)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--texts", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("names", nargs="*")
    options = parser.parse_args()
    n_differ = 0
    for result in compare_all(options.names or [*word_rules.RULE_OF, *FILES], options.texts,
                              options.seed):
        print(result, flush=True)
        for line in result.differ[:3]:
            print(line, flush=True)
        n_differ += len(result.differ)
    return 1 if n_differ else 0


if __name__ == "__main__":
    sys.exit(main())
