"""Byte-level BPE: training of the merges, and encoding, as GGUF's `gpt2` model with the `gpt-2` pre-tokenizer.

Digits never merge, so that every digit is one token and sums stay regular.  Python's `re` has no
\\p{L} and \\p{N}; the classes below agree with them for ASCII and for the letters of the corpus.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
PIECE = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?[^\W\d_]+| ?\d+| ?(?:[^\s\w]|_)+|\s+(?!\S)|\s+")
SPLIT_SPECIALS = re.compile("(" + "|".join(re.escape(s) for s in SPECIALS) + ")")


def byte_letters() -> list[str]:
    """The printable letter that stands for each byte, in GPT-2's order of ids."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = {b: chr(b) for b in plain}
    for byte in range(256):
        if byte not in letters:
            letters[byte] = chr(256 + len(letters) - len(plain))
    return [letters[b] for b in range(256)]


BYTE_LETTERS = byte_letters()
LETTER_BYTES = {letter: byte for byte, letter in enumerate(BYTE_LETTERS)}


def spell(piece: str) -> str:
    return "".join(BYTE_LETTERS[b] for b in piece.encode("utf-8"))


def merge_pair(word: list[str], left: str, right: str) -> list[str]:
    out: list[str] = []
    i = 0
    while i < len(word):
        if i + 1 < len(word) and word[i] == left and word[i + 1] == right:
            out.append(left + right)
            i += 2
        else:
            out.append(word[i])
            i += 1
    return out


def train_merges(texts: Iterable[str], n_merges: int) -> list[tuple[str, str]]:
    """The n_merges most useful merges, most frequent pair first (ties: the smaller pair)."""
    pieces: Counter[str] = Counter()
    for text in texts:
        for part in SPLIT_SPECIALS.split(text):
            if part not in SPECIALS:
                pieces.update(PIECE.findall(part))
    words = [(list(spell(piece)), count) for piece, count in sorted(pieces.items())]
    merges: list[tuple[str, str]] = []
    while len(merges) < n_merges:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, count in words:
            for pair in zip(word, word[1:]):
                pairs[pair] += count
        candidates = ((-n, pair) for pair, n in pairs.items() if not re.search(r"\d", pair[0] + pair[1]))
        _, (left, right) = min(candidates)
        merges.append((left, right))
        words = [(merge_pair(w, left, right) if left in w and right in w else w, n) for w, n in words]
    return merges


class Tokenizer:
    """Text to ids and back.  Ids: the 256 bytes, the merges in order, the special tokens."""

    def __init__(self, merges: list[tuple[str, str]]) -> None:
        self.merges = merges
        self.tokens = sorted(BYTE_LETTERS) + [left + right for left, right in merges] + list(SPECIALS)
        self.ids = {token: i for i, token in enumerate(self.tokens)}
        self.ranks = {pair: rank for rank, pair in enumerate(merges)}
        self.cache: dict[str, list[int]] = {}
        self.end_of_text, self.im_start, self.im_end = (self.ids[s] for s in SPECIALS)

    def encode_piece(self, piece: str) -> list[int]:
        if piece not in self.cache:
            word = list(spell(piece))
            while len(word) > 1:
                rank, left, right = min(
                    (self.ranks.get(pair, len(self.ranks)), *pair) for pair in zip(word, word[1:]))
                if rank == len(self.ranks):
                    break
                word = merge_pair(word, left, right)
            self.cache[piece] = [self.ids[letter] for letter in word]
        return self.cache[piece]

    def encode(self, text: str) -> list[int]:
        """Special tokens written out in the text become their ids."""
        ids: list[int] = []
        for part in SPLIT_SPECIALS.split(text):
            if part in SPECIALS:
                ids.append(self.ids[part])
            else:
                for piece in PIECE.findall(part):
                    ids += self.encode_piece(piece)
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """Special tokens are left out."""
        letters = "".join(self.tokens[i] for i in ids if self.tokens[i] not in SPECIALS)
        return bytes(LETTER_BYTES[c] for c in letters).decode("utf-8", "replace")
