"""Random tokenizer.json files, and texts that reach into their corners."""

from __future__ import annotations

import random
from typing import Any

from vocabularies import STAND_INS

LETTERS = "aabbccdeAB"
CHARS = ["é", "e\u0301", "\u0301", "ß", "İ", "ſ", "ﬁ", "Å", "ǅ", "Σ", "σ", "中", "文", "豈", "한", "각",
         "\u1100\u1161\u11a8", "カ\u3099", "1", "2", "½", "²", "Ⅳ", "٣", ".", ",", "-", "'", "'s", "_",
         "€", "$", "“", "…", "\u0903", "\u0e33", "क्षि", "🙂", "👍🏽", "👨‍👩‍👧", "\u200b", "\u200d",
         "\ufeff", "\u00ad", "\x00", "\x07", "\x7f", "ａ", "①", "㍿", "▁", "Ġ", "ğ", "<", ">", "|"]
SPACES = [" ", " ", " ", "  ", "\n", "\r\n", "\t", "\u00a0", "\u3000", "\u2028", "\u0085"]
ADDED = ["<s>", "</s>", "[MASK]", "<|x|>", "ab", "a b", "É", " c ", "▁a", "A", "bc", "\n\n", "1",
         "<a", "a>", "中", "abc"]
REGEXES = [
    r"\s+", r"\p{L}+", r"\d", r"[a-c]+", r" ?\w+", r"\p{N}{1,3}", r"[^\s\p{L}]+", r"\s+(?!\S)|\s+",
    r"(?i:'s|'t)|\p{L}+| ?[^\s\p{L}\p{N}]+|\s+", r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{M}]*[\p{Ll}]+",
    r"(?<=a)b", r"\b", r"a|b|", r"[\p{P}$+<=>^~|`]+", r"\p{Han}+", r"[一-龥぀-ゟ゠-ヿ]+", r"\S", r".",
    r"[\S]", r"\W+", r"^a|c$", r"a{2}", r"(?:ab)+", r"\p{^L}+", r"[[:space:]]+", r"\u4e2d", r"[\r\n]",
    r"a{1,2}+", r"\p{Lu}(?=\p{Ll})", r"[^\n]+|[\n]+", r"\p{Alphabetic}+", r"\h+",
]
EMPTY = (r"\b", "a|b|")  # match nothing: to replace that confuses the library's offsets
BEHAVIOURS = ["Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"]


def flag(r: random.Random) -> bool:
    return r.random() < 0.5


def pattern(r: random.Random, empty: bool = True) -> dict[str, str]:
    if r.random() < 0.3:
        return {"String": r.choice([" ", "a", "ab", ".", "'", "中", "▁", "b a"])}
    return {"Regex": r.choice(REGEXES if empty else [x for x in REGEXES if x not in EMPTY])}


# ---- steps ----

def normalizer(r: random.Random) -> dict[str, Any]:
    kind = r.choice(["NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents", "Strip", "Replace",
                     "Prepend", "BertNormalizer", "Nmt", "ByteLevel"])
    return {"type": kind, **{
        "Strip": lambda: {"strip_left": flag(r), "strip_right": flag(r)},
        "Replace": lambda: {"pattern": pattern(r, empty=False), "content": r.choice(["", "▁", " ", "x", "a"])},
        "Prepend": lambda: {"prepend": r.choice(["▁", " ", "a"])},
        "BertNormalizer": lambda: {"clean_text": flag(r), "handle_chinese_chars": flag(r),
                                   "strip_accents": r.choice([None, True, False]),
                                   "lowercase": flag(r)},
    }.get(kind, dict)()}


def metaspace(r: random.Random) -> dict[str, Any]:
    return {"type": "Metaspace", "replacement": "▁", "split": flag(r),
            "prepend_scheme": r.choice(["always", "first", "never"])}


def byte_level(r: random.Random) -> dict[str, Any]:
    return {"type": "ByteLevel", "add_prefix_space": flag(r), "trim_offsets": True,
            "use_regex": flag(r)}


def pre_tokenizer(r: random.Random) -> dict[str, Any]:
    kind = r.choice(["Split", "Split", "ByteLevel", "ByteLevel", "Metaspace", "Digits", "Punctuation",
                     "Whitespace", "WhitespaceSplit", "BertPreTokenizer", "CharDelimiterSplit",
                     "FixedLength"])
    return {
        "Split": lambda: {"type": kind, "pattern": pattern(r), "behavior": r.choice(BEHAVIOURS),
                          "invert": flag(r)},
        "ByteLevel": lambda: byte_level(r),
        "Metaspace": lambda: metaspace(r),
        "Digits": lambda: {"type": kind, "individual_digits": flag(r)},
        "Punctuation": lambda: {"type": kind, "behavior": r.choice(BEHAVIOURS)},
        "CharDelimiterSplit": lambda: {"type": kind, "delimiter": r.choice(" a.")},
        "FixedLength": lambda: {"type": kind, "length": r.choice([1, 2, 3, 5])},
    }.get(kind, lambda: {"type": kind})()


def some(r: random.Random, one: Any, name: str) -> Any:
    n = r.choice([0, 1, 1, 2, 3])
    if n == 0:
        return None
    steps = [one(r) for _ in range(n)]
    return steps[0] if n == 1 and flag(r) else {"type": "Sequence", name: steps}


# ---- models ----

def grow(r: random.Random, tokens: list[str], n: int) -> list[tuple[str, str]]:
    """Random merges of what is there; tokens grows."""
    merges: list[tuple[str, str]] = []
    known = set(tokens)
    often = [t for t in tokens if t in "abcdeAB" or t in ("Ġ", "▁")] or tokens
    for _ in range(n):
        a = r.choice(often if flag(r) else tokens)
        b = r.choice(often if flag(r) else tokens)
        if " " in a + b or len(a + b) > 8 or (a, b) in merges:
            continue
        merges.append((a, b))
        if a + b not in known:
            known.add(a + b)
            tokens.append(a + b)
            often.append(a + b)
    return merges


def singles(r: random.Random, keep: float) -> list[str]:
    chars = {c for t in [LETTERS, *CHARS, *SPACES] for c in t if c != "\0"}  # no key in jansson
    return [c for c in sorted(chars) if c in LETTERS or r.random() < keep]


def bpe(r: random.Random) -> dict[str, Any]:
    model: dict[str, Any] = {"type": "BPE", "dropout": None, "unk_token": None,
                             "continuing_subword_prefix": None, "end_of_word_suffix": None,
                             "fuse_unk": flag(r), "byte_fallback": flag(r),
                             "ignore_merges": flag(r)}
    if flag(r):
        tokens = list(STAND_INS)
    else:
        tokens = singles(r, r.choice([0.3, 0.9]))
    if r.random() < 0.2:
        model["end_of_word_suffix"] = "</w>"
        tokens += [t + "</w>" for t in tokens[:]]
    merges = grow(r, tokens, r.choice([0, 10, 80]))
    if model["byte_fallback"]:
        tokens += [f"<0x{b:02X}>" for b in range(256)]
    if flag(r):
        model["unk_token"] = "<unk>"
        tokens.append("<unk>")
    pairs = flag(r)
    return {**model, "vocab": {t: i for i, t in enumerate(tokens)},
            "merges": [[a, b] if pairs else f"{a} {b}" for a, b in merges]}


def word_piece(r: random.Random) -> dict[str, Any]:
    prefix = r.choice(["##", "##", ""])
    tokens = ["[UNK]", *singles(r, 0.5)]
    grow(r, tokens, 40)
    if prefix:
        tokens += [prefix + t for t in tokens[1:] if flag(r)]
    return {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": prefix,
            "max_input_chars_per_word": r.choice([5, 100]),
            "vocab": {t: i for i, t in enumerate(tokens)}}


def word_level(r: random.Random) -> dict[str, Any]:
    tokens = ["[UNK]", *singles(r, 0.5)]
    grow(r, tokens, 40)
    return {"type": "WordLevel", "unk_token": "[UNK]", "vocab": {t: i for i, t in enumerate(tokens)}}


def unigram(r: random.Random) -> dict[str, Any]:
    tokens = ["<unk>", "▁", *singles(r, r.choice([0.3, 0.8]))]
    grow(r, tokens, 60)
    fallback = flag(r)
    if fallback:
        tokens += [f"<0x{b:02X}>" for b in range(256)]
    tokens = list(dict.fromkeys(tokens))
    vocab = [[t, -r.randrange(1, 4000) / 256] for t in tokens]
    return {"type": "Unigram", "unk_id": 0 if r.random() < 0.9 else None, "byte_fallback": fallback,
            "vocab": vocab}


# ---- around ----

def added_tokens(r: random.Random, tokens: list[str], ids: dict[str, int]) -> list[dict[str, Any]]:
    out, next_id = [], len(tokens)
    for content in r.sample(ADDED, r.choice([0, 0, 2, 5])):
        known = ids.get(content)
        out.append({"id": next_id if known is None else known, "content": content,
                    "single_word": r.random() < 0.3, "lstrip": r.random() < 0.3,
                    "rstrip": r.random() < 0.3, "normalized": flag(r), "special": flag(r)})
        next_id += known is None
    return out


def special_items(r: random.Random, n_ids: int) -> tuple[list[Any], dict[str, Any]]:
    known = {}
    for name in ("[X]", "[Y]", "[Z]"):
        ids = [r.randrange(n_ids) for _ in range(r.choice([1, 1, 2]))]
        known[name] = {"id": name, "ids": ids, "tokens": [name] * len(ids)}

    def some_of(most: int) -> list[Any]:
        return [{"SpecialToken": {"id": r.choice(list(known)), "type_id": 0}}
                for _ in range(r.randint(0, most))]

    return [*some_of(2), {"Sequence": {"id": "A", "type_id": 0}}, *some_of(1)], known


def post_processor(r: random.Random, n_ids: int) -> dict[str, Any]:
    kind = r.choice(["TemplateProcessing", "BertProcessing", "RobertaProcessing", "ByteLevel"])
    ends = {"sep": ["[S]", r.randrange(n_ids)], "cls": ["[C]", r.randrange(n_ids)]}
    if kind == "TemplateProcessing":
        single, known = special_items(r, n_ids)
        pair = [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}]
        return {"type": kind, "single": single, "pair": pair, "special_tokens": known}
    if kind == "ByteLevel":
        return byte_level(r)
    extra = {"trim_offsets": flag(r), "add_prefix_space": flag(r)} if kind[0] == "R" else {}
    return {"type": kind, **ends, **extra}


def around(r: random.Random, n_ids: int) -> dict[str, Any] | None:
    """At most one post-processor that adds tokens: exo refuses more."""
    one = post_processor(r, n_ids)
    return r.choice([None, one, {"type": "Sequence", "processors": [byte_level(r), one]}])


def random_tokenizer(r: random.Random) -> dict[str, Any]:
    model = r.choice([bpe, bpe, unigram, word_piece, word_level])(r)
    vocab = model["vocab"]
    tokens = [t for t, _ in vocab] if isinstance(vocab, list) else list(vocab)
    added = added_tokens(r, tokens, {t: i for i, t in enumerate(tokens)})
    rows = len(tokens) + len(added)
    normalised = some(r, normalizer, "normalizers")
    if "Replace" in str(normalised):  # of two tokens with one text the library takes any
        for t in added:
            t["normalized"] = False
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added,
        "normalizer": normalised,
        "pre_tokenizer": some(r, pre_tokenizer, "pretokenizers"),
        "post_processor": around(r, len(tokens)),
        "decoder": None, "model": model, "rows": rows}


def random_text(r: random.Random, tokenizer: dict[str, Any]) -> str:
    contents = [t["content"] for t in tokenizer["added_tokens"]] or ["a"]
    out = []
    for _ in range(r.choice([0, 1, 3, 10, 30])):
        kind = r.randrange(5)
        one = r.choice([LETTERS, LETTERS, CHARS, SPACES, contents][kind])
        out.append(one * r.choice([1, 2, 5]) if kind == 0 else one)
    return "".join(out)
