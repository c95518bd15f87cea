"""Small arithmetic: questions and answers.  Operands of held-back sums are never drawn."""

from __future__ import annotations

import random

from phrases import ask, dress

WORDS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen twenty"
).split()
NAMES = ("i", "anna", "tom", "ben", "lisa", "my brother", "she", "he", "the farmer", "my sister", "sam")
THINGS = ("apples", "books", "cats", "coins", "eggs", "cookies", "balls", "pens", "stones", "cups", "nodes")
SIGNS = {"+": "plus", "-": "minus", "*": "times", "/": "divided by"}

ASK = ["[|what is|what's|whats|how much is|calculate|compute|what does|solve|work out|what do you get for] {e}"]
BY_NAME = {
    "+": ["[add|sum up] {a} and {b}", "[|what is] the sum of {a} and {b}", "add {b} to {a}", "{a} and {b} together",
          "[how much do|what do] {a} and {b} make", "[sum|total] of {a} and {b}", "what do you get if you add {a} and {b}"],
    "-": ["subtract {b} from {a}", "take {b} [away from|from] {a}", "[|what is] the difference [of|between] {a} and {b}",
          "what is {a} less {b}", "[what remains|how much is left] if you take {b} from {a}"],
    "*": ["multiply {a} [by|with|and] {b}", "[|what is] the product of {a} and {b}", "[what is|how much is] {a} multiplied by {b}",
          "what do you get if you multiply {a} by {b}"],
    "/": ["divide {a} by {b}", "how often does {b} go into {a}", "what is {a} over {b}", "share {a} by {b}"],
}


def draw(sign: str, rng: random.Random) -> tuple[int, int, int]:
    """Operands and result."""
    if sign == "+":
        top = rng.choice((10, 20, 50, 50))
        a, b = rng.randrange(top), rng.randrange(top)
        return a, b, a + b
    if sign == "-":
        top = rng.choice((10, 20, 50, 50))
        a, b = rng.randrange(top), rng.randrange(top)
        if a < b and rng.random() < 0.8:
            a, b = b, a
        return a, b, a - b
    a, b = rng.randrange(11), rng.randrange(11)
    if sign == "*":
        return a, b, a * b
    return a * max(b, 1), max(b, 1), a


def written(n: int, words: bool) -> str:
    return WORDS[n] if words and 0 <= n < len(WORDS) else str(n)


def draw_allowed(rng: random.Random, held: set[tuple[int, int]]) -> tuple[str, int, int, int]:
    """Sign, operands and result of a sum that is not held back (the tables of * and / are learnt whole)."""
    sign = rng.choices("+-*/", (42, 26, 26, 6))[0]
    a, b, c = draw(sign, rng)
    while (a, b) in held and sign in "+-":
        a, b, c = draw(sign, rng)
    return sign, a, b, c


def drill(rng: random.Random, held: set[tuple[int, int]]) -> str:
    """Sums as plain text, one a line, each as an answer states it."""
    sums = (draw_allowed(rng, held) for _ in range(12))
    return "".join(f"{a} {sign} {b} = {c}.\n" for sign, a, b, c in sums)


def plain_sum(rng: random.Random, held: set[tuple[int, int]]) -> tuple[str, str]:
    sign, a, b, c = draw_allowed(rng, held)
    words = rng.random() < 0.2
    left, right = written(a, words), written(b, words)
    if rng.random() < 0.3:
        text = ask(BY_NAME[sign], rng).replace("{a}", left).replace("{b}", right)
    else:
        shown = SIGNS[sign] if words or rng.random() < 0.35 else rng.choice((sign, "x", "×")) if sign == "*" else sign
        gap = "" if not shown.isalpha() and " " not in shown and rng.random() < 0.3 else " "
        text = ask(ASK, rng).replace("{e}", f"{left}{gap}{shown}{gap}{right}")
        if text[0].isdigit() and rng.random() < 0.3:
            text += rng.choice(("=", " =", " = ?", "=?"))
    return dress(text, rng, typos=False), f"{a} {sign} {b} = {c}."


def word_problem(rng: random.Random, held: set[tuple[int, int]]) -> tuple[str, str]:
    a, b = rng.randrange(2, 20), rng.randrange(1, 12)
    while (a, b) in held or a <= b:
        a, b = rng.randrange(2, 20), rng.randrange(1, 12)
    who, what = rng.choice(NAMES), rng.choice(THINGS)
    has, gets, loses, does = ("have", "get", "lose", "do") if who == "i" else ("has", "gets", "loses", "does")
    more = rng.random() < 0.5
    verb = rng.choice((gets, "buy" + ("" if who == "i" else "s"), "find" + ("" if who == "i" else "s"))) if more else rng.choice(
        (loses, "give" + ("" if who == "i" else "s") + " away", "sell" + ("" if who == "i" else "s")))
    tail = f"{b} more" if more else str(b)
    text = f"{who} {has} {a} {what} and {verb} {tail}. how many {what} {does} {who} have{rng.choice(('', ' now', ' then'))}?"
    text = text[0].upper() + text[1:] if rng.random() < 0.7 else text
    return text.replace(" i ", " I "), f"{a} {'+' if more else '-'} {b} = {a + b if more else a - b}."


def number_question(rng: random.Random) -> tuple[str, str]:
    """Order, parity, neighbours, doubles and halves."""
    n = rng.randrange(1, 60)
    kind = rng.randrange(5)
    if kind == 0:
        other = n + rng.randrange(1, 30)
        pair = [n, other]
        rng.shuffle(pair)
        big = rng.random() < 0.6
        word = rng.choice(("bigger", "larger", "greater", "more")) if big else rng.choice(("smaller", "less"))
        text = ask([f"[which|what] [is|number is] {word}, {pair[0]} or {pair[1]}", f"is {pair[0]} or {pair[1]} {word}"], rng)
        return dress(text, rng, typos=False), f"{other if big else n} is {word}."
    if kind == 1:
        word, right = rng.choice((("even", n % 2 == 0), ("odd", n % 2 == 1)))
        actual = "even" if n % 2 == 0 else "odd"
        return dress(f"is {n} {word}", rng, typos=False), f"{'Yes' if right else 'No'}, {n} is {actual}."
    if kind == 2:
        text = ask([f"what [comes|number comes] after {n}", f"what is the next number after {n}"], rng)
        return dress(text, rng, typos=False), f"{n + 1} comes after {n}."
    if kind == 3:
        text = ask([f"[what is|how much is|] [double|twice|two times|the double of] {n}", f"double {n}"], rng)
        return dress(text, rng, typos=False), f"2 * {n} = {2 * n}."
    text = ask([f"[what is|how much is|] [half of|the half of] {2 * n}", f"halve {2 * n}"], rng)
    return dress(text, rng, typos=False), f"{2 * n} / 2 = {n}."


def question(rng: random.Random, held: set[tuple[int, int]]) -> tuple[str, str]:
    kind = rng.random()
    if kind < 0.8:
        return plain_sum(rng, held)
    return word_problem(rng, held) if kind < 0.9 else number_question(rng)
