"""Small vocabularies made for tests, as GGUF files without tensors.

Merges are learnt from text that was not cut into words, so that they reach over every kind of
boundary: a tokenizer that cuts in the wrong place gives other ids.
"""

from __future__ import annotations

import struct
from collections import Counter
from pathlib import Path

from gguf_edit import ARRAY, BOOL, F32, STRING, U32, packed_str

I32 = 5
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6


def stand_ins() -> list[str]:
    """GPT-2's printable character for each byte."""
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = iter(range(0x100, 0x200))
    return [chr(b) if b in shown else chr(next(others)) for b in range(256)]


STAND_INS = stand_ins()


def learn(symbols: list[str], n_merges: int) -> list[tuple[str, str]]:
    """The commonest pair of neighbours becomes one symbol, again and again."""
    merges = []
    for _ in range(n_merges):
        counts = Counter(zip(symbols, symbols[1:]))
        counts = Counter({p: n for p, n in counts.items() if "\0" not in p[0] + p[1]})
        if not counts:
            break
        pair = counts.most_common(1)[0][0]
        merges.append(pair)
        merged, i = [], 0
        while i < len(symbols):
            if i + 1 < len(symbols) and (symbols[i], symbols[i + 1]) == pair:
                merged.append(symbols[i] + symbols[i + 1])
                i += 2
            else:
                merged.append(symbols[i])
                i += 1
        symbols = merged
    return merges


class Vocabulary:
    def __init__(self) -> None:
        self.tokens: list[str] = []
        self.types: list[int] = []
        self.scores: list[float] = []
        self.merges: list[tuple[str, str]] = []

    def add(self, text: str, kind: int = NORMAL, score: float = 0.0) -> None:
        self.tokens.append(text)
        self.types.append(kind)
        self.scores.append(score)

    def write(self, path: Path, settings: dict[str, str | int | bool]) -> Path:
        values = {"general.architecture": "llama", **settings}
        out = b""
        for key, value in values.items():
            out += packed_str(key) + packed_value(value)
        lists = [("tokens", STRING, [packed_str(t) for t in self.tokens]),
                 ("token_type", I32, [struct.pack("<i", t) for t in self.types]),
                 ("scores", F32, [struct.pack("<f", s) for s in self.scores]),
                 ("merges", STRING, [packed_str(f"{a} {b}") for a, b in self.merges])]
        for name, kind, items in lists:
            out += packed_str(f"tokenizer.ggml.{name}")
            out += struct.pack("<IIQ", ARRAY, kind, len(items)) + b"".join(items)
        header = struct.pack("<4sIQQ", b"GGUF", 3, 0, len(values) + len(lists))
        path.write_bytes(header + out)
        return path


def packed_value(value: str | int | bool) -> bytes:
    if isinstance(value, bool):
        return struct.pack("<IB", BOOL, value)
    if isinstance(value, int):
        return struct.pack("<II", U32, value)
    return struct.pack("<I", STRING) + packed_str(value)


def byte_level(training: list[str], n_merges: int = 700) -> Vocabulary:
    v = Vocabulary()
    for symbol in STAND_INS:
        v.add(symbol)
    symbols = [s for text in training for s in [*(STAND_INS[b] for b in text.encode()), "\0"]]
    v.merges = learn(symbols, n_merges)
    for left, right in v.merges:
        if left + right not in v.tokens:
            v.add(left + right)
    v.add("<|user|>", USER_DEFINED)
    v.add("<|bos|>", CONTROL)
    return v


def characters(training: list[str], escape: bool, n_merges: int = 700) -> Vocabulary:
    """Raw: tokens are texts, bytes are spelled <0x0A>."""
    v = Vocabulary()
    v.add("<unk>", UNKNOWN)
    for b in range(256):
        v.add(f"<0x{b:02X}>", BYTE)
    known = Counter(c for text in training for c in text if c != "\0")
    for c, _ in known.most_common(400):
        text = c.replace(" ", "\u2581") if escape else c
        if text != " " and text not in v.tokens:
            v.add(text)
    lines = [line for text in training for line in text.split("\n")]
    symbols = [s for line in lines
               for s in [*(line.replace(" ", "\u2581") if escape else line), "\0"]]
    for left, right in learn([s if s in v.tokens else "\0" for s in symbols], n_merges):
        v.merges.append((left, right))
        if left + right not in v.tokens:
            v.add(left + right)
    for run in ("\n\n", "\n\n\n"):
        v.add(run)
    v.add("<|user|>", USER_DEFINED)
    v.add("<|bos|>", CONTROL)
    return v
