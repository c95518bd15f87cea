"""Random texts that look for trouble in tokenizers: every kind of character, side by side.

Only code points that the Unicode version of Python, PCRE2 and llama.cpp at hand agree on: those
assigned in Python's, and some that no version has assigned.
"""

from __future__ import annotations

import random
import sys
import unicodedata
from functools import lru_cache

WHITE = ("\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009"
         "\u200a\u2028\u2029\u202f\u205f\u3000")
UNASSIGNED = "\u0378\ufdd0\uffff\U000e0080\U0010ffff"
WORDS = ["the", "Hello", "WORLD", "iPhone", "don't", "I'LL", "you've", "we'RE", "it's", "'S", "'d",
         "naïve", "ΑΒΓαβγ", "ПриветМир", "ǅungla", "ﬁn", "straße", "İstanbul", "한국어", "日本語",
         "東京", "カタカナ", "हिन्दी", "ภาษาไทย", "العربية", "עברית", "ქართული", "Ⴀⴀ", "ᎠᎡꭰ", "𐐀𐐨",
         "កាន់", "தமிழ்", "বাংলা", "e\u0301", "Z\u0351\u036b\u0343", "x\u20dd"]
EMOJI = ["🦙", "👨\u200d👩\u200d👧", "🏳\ufe0f\u200d🌈", "👍🏽", "🇩🇪", "1\ufe0f\u20e3", "☺\ufe0f"]
ODD = ["\0", "\x01", "\x1c", "\x7f", "\u200b", "\u200d", "\ufeff", "\u2581", "\ufffd", "\ue000",
       "\u180e", "\xad", "\u061c", "\u2060"]
DIGITS = "0123456789٠١٢٣०१२𝟎𝟏①②½¼Ⅷⅻ〇一²³௧０１"
PUNCTUATION = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~…“”‘’—¿¡。，、：；！？।۔،€£¥©™±×÷→∑√"


@lru_cache(maxsize=None)
def assigned() -> list[str]:
    return [chr(c) for c in range(sys.maxunicode + 1)
            if unicodedata.category(chr(c)) not in ("Cn", "Cs", "Co")]


@lru_cache(maxsize=None)
def of_category(letter: str) -> list[str]:
    return [c for c in assigned() if unicodedata.category(c)[0] == letter]


def piece(rng: random.Random) -> str:
    kind = rng.randrange(22)
    if kind < 3:
        return rng.choice(WORDS)
    if kind < 6:
        return "".join(rng.choice("abcdefghijklmnopqrstuvwxyzABCDEF")
                       for _ in range(rng.randrange(1, 7)))
    if kind < 8:
        return " "
    if kind == 8:
        return "".join(rng.choice(WHITE) for _ in range(rng.randrange(1, 4)))
    if kind == 9:
        return rng.choice(["\n", "\r\n", "\n\n", " \n", "\n ", "  ", "   ", "\t", " \t ", "\n\n\n"])
    if kind == 10:
        return rng.choice("0123456789") * rng.randrange(1, 3)
    if kind == 11:
        return "".join(rng.choice("0123456789") for _ in range(rng.randrange(1, 9)))
    if kind == 12:
        return "".join(rng.choice(DIGITS) for _ in range(rng.randrange(1, 4)))
    if kind in (13, 14):
        return "".join(rng.choice(PUNCTUATION) for _ in range(rng.randrange(1, 4)))
    if kind == 15:
        return rng.choice(["'s", "'t", "'re", "'VE", "'m", "'Ll", "'D", "'x", "''", "/", "//", "<|"])
    if kind == 16:
        return rng.choice(EMOJI)
    if kind == 17:
        return rng.choice(ODD)
    if kind == 18:
        return rng.choice(assigned())
    if kind == 19:
        return rng.choice(of_category("M")) * rng.randrange(1, 3)
    if kind == 20:
        return "".join(rng.choice(of_category(rng.choice("LNPSZ"))) for _ in range(3))
    return rng.choice(UNASSIGNED)


def text(rng: random.Random) -> str:
    return "".join(piece(rng) for _ in range(rng.randrange(0, 14)))


def broken(rng: random.Random, whole: str) -> bytes:
    """Bytes that are no UTF-8: some removed, some of no sequence put in.  No first byte above
    0xF3, where llama.cpp stops, and none of overlong forms and surrogates, which it accepts."""
    raw = bytearray(whole.encode())
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(raw) + 1)
        if raw and rng.random() < 0.5:
            del raw[at - 1]
        else:
            raw[at:at] = rng.choice([b"\x80", b"\xbf", b"\xc3", b"\xe2\x82", b"\xf0\x9f\x98", b"\xff"])
    for bad in (b"\xe0", b"\xed", b"\xf0", b"\xf4"):  # whose second byte decides
        raw = raw.replace(bad, b"\xe1")
    return bytes(raw)
