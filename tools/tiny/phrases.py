"""Ways to say things: the bracket grammar of text/*.txt, and the noise people add to a question.

`[a|b]` is a choice and choices nest; `$name` stands for a macro of the same file.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, field
from pathlib import Path

TEXT_DIR = Path(__file__).parent / "text"
INNERMOST = re.compile(r"\[([^\[\]]*)\]")

PREFIXES = (
    "please ", "can you tell me ", "could you tell me ", "tell me ", "hey, ", "hi, ", "hello, ", "ok, ",
    "so ", "well, ", "quick question: ", "i have a question: ", "excuse me, ", "i want to know ",
    "i would like to know ", "do you know ", "please tell me ", "and ", "now ", "exo, ", "um, ", "just ",
    "question: ", "may i ask ", "i wonder, ", "i was wondering, ", "hello! ", "one more thing: ",
    "my question is: ", "hi exo, ", "help me, ", "let me ask you: ", "hey tiny, ", "by the way, ",
)
SUFFIXES = (
    " please", ", please", " thanks", " for me", " exactly", " in short", " then", " again", " now", " briefly",
    " in one sentence", " in simple words", " today", ", do you know", ", thank you", " right now", ", exo",
    " actually", " anyway", " here", " in a few words", ", can you tell me", " at all", " by the way",
)
SMALL_WORDS = ("the", "a", "an", "is", "are", "do", "does", "of", "to", "i", "in", "on", "my")
QUESTION_WORDS = (
    "what", "which", "how", "who", "why", "where", "when", "is", "are", "does", "do", "can", "will", "did",
    "may", "must", "should", "on", "in", "under", "could", "at",
)


@dataclass
class Topic:
    """One thing people ask about: the phrasings that ask for it, and its answer."""

    name: str
    questions: list[str] = field(default_factory=list)
    answer: str = ""


def expand(pattern: str, rng: random.Random) -> str:
    """Resolve every choice of the pattern at random."""
    while match := INNERMOST.search(pattern):
        choice = rng.choice(match.group(1).split("|"))
        pattern = pattern[: match.start()] + choice + pattern[match.end() :]
    return " ".join(pattern.split(" ")).replace("  ", " ").strip()


def pattern_weight(pattern: str) -> float:
    """Grows with the number of phrasings behind a pattern, but slower."""
    return (1 + pattern.count("|")) ** 0.7


def load_topics(file_name: str) -> list[Topic]:
    """Read the topics of text/<file_name>; several answer lines are the lines of one answer."""
    macros: dict[str, str] = {}
    topics: list[Topic] = []
    for line in (TEXT_DIR / file_name).read_text(encoding="utf-8").splitlines():
        mark, _, rest = line.partition(" ")
        if mark == "@":
            name, _, value = rest.partition(" ")
            macros[name] = value
        elif mark == "=":
            topics.append(Topic(rest))
        elif mark == "?":
            topics[-1].questions.append(re.sub(r"\$(\w+)", lambda m: macros[m.group(1)], rest))
        elif mark == "!":
            topics[-1].answer += ("\n" if topics[-1].answer else "") + rest
    return topics


def load_pairs(file_name: str) -> list[tuple[str, str]]:
    """Read the `left = right` lines of text/<file_name>."""
    lines = (TEXT_DIR / file_name).read_text(encoding="utf-8").splitlines()
    pairs = (line.split(" = ") for line in lines if not line.startswith("#"))
    return [(left, right) for left, right in pairs]


def ask(patterns: list[str], rng: random.Random) -> str:
    pattern = rng.choices(patterns, [pattern_weight(p) for p in patterns])[0]
    return expand(pattern, rng)


def misspell(text: str, rng: random.Random) -> str:
    """Drop, double or swap one letter of one longer word."""
    words = text.split(" ")
    long_words = [i for i, word in enumerate(words) if len(word) >= 4 and word.isalpha()]
    if not long_words:
        return text
    i = rng.choice(long_words)
    word = words[i]
    at = rng.randrange(1, len(word) - 1)
    words[i] = rng.choice((
        word[:at] + word[at + 1 :],
        word[:at] + word[at] + word[at:],
        word[:at] + word[at + 1] + word[at] + word[at + 2 :],
    ))
    return " ".join(words)


def drop_word(text: str, rng: random.Random) -> str:
    """Leave out one of the small words, as hurried people do."""
    words = text.split(" ")
    small = [i for i, word in enumerate(words) if word in SMALL_WORDS]
    if small and len(words) > 3:
        del words[rng.choice(small)]
    return " ".join(words)


def punctuate(text: str, rng: random.Random) -> str:
    if text[-1] in "?!.=":
        return text
    asks = any(word in QUESTION_WORDS for word in text.replace(",", "").split(" ")[:4])
    return text + rng.choice(("?", "?", "?", "?", "??", " ?", "?!") if asks else (".", "!", ".", "", "?", "..."))


def letter_case(text: str, rng: random.Random) -> str:
    kind = rng.random()
    if kind < 0.5:
        text = text[0].upper() + text[1:]
        text = re.sub(r"\bi\b(?=[ '])", "I", text)
    elif kind < 0.55:
        return text.upper()
    elif kind < 0.58:
        return text.title()
    if rng.random() < 0.12:
        text = re.sub(r"\bexo\b", rng.choice(("Exo", "EXO")), text)
    return text


def dress(text: str, rng: random.Random, typos: bool = True) -> str:
    """The question as somebody might type it."""
    if rng.random() < 0.3:
        text = rng.choice(PREFIXES) + text
    if rng.random() < 0.15:
        text = text + rng.choice(SUFFIXES)
    if typos and rng.random() < 0.12:
        text = misspell(text, rng)
    if typos and rng.random() < 0.1:
        text = drop_word(text, rng)
    if rng.random() < 0.7:
        text = punctuate(text, rng)
    return letter_case(text, rng)
