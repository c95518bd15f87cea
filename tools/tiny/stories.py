"""Short stories, as plain text and as answers to requests."""

from __future__ import annotations

import random

from phrases import TEXT_DIR, ask, dress, expand

KINDS = (
    "fox", "cat", "dog", "mouse", "rabbit", "bear", "owl", "duck", "frog", "horse", "hedgehog", "bird", "cow", "goat",
    "lion", "turtle", "squirrel", "wolf", "pig", "bee", "robot", "dragon", "girl", "boy", "princess", "king", "penguin",
    "elephant", "monkey", "whale", "fish", "tiger", "sheep", "snail", "crow", "farmer", "pirate", "wizard", "knight",
    "giraffe", "donkey", "deer", "swan", "camel", "zebra", "kitten", "puppy", "unicorn", "witch", "sailor", "panda",
)
NAMES = (
    "Mila", "Tom", "Lily", "Max", "Ruby", "Oscar", "Nina", "Leo", "Bella", "Sam", "Emma", "Finn", "Zoe", "Ben", "Luna",
    "Otto", "Ida", "Hugo", "Mia", "Paul", "Rosa", "Toby", "Ella", "Jack", "Nora", "Pip", "Coco", "Felix", "Wanda", "Bruno",
)
PLACES = (
    "a green forest", "a small village", "a quiet valley", "the old castle", "a deep lake", "a high mountain", "a big city",
    "the sea", "a little farm", "a wide meadow", "a sunny garden", "a dark wood", "a small island", "an old mill",
)
THINGS = ("lamp", "book", "ball", "key", "hat", "bell", "box", "map", "coin", "shell", "ring", "cup", "kite", "flute", "boat")
FOODS = ("bread", "honey", "apples", "nuts", "soup", "cake", "berries", "cheese", "carrots", "cookies", "pears")
COLORS = ("red", "blue", "green", "yellow", "golden", "silver", "white", "black", "brown", "purple")
TRAITS = ("brave", "kind", "curious", "clever", "shy", "happy", "funny", "gentle", "quick", "friendly", "patient", "small")
NUMBERS = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")

REQUESTS = [
    "[tell|tell me|write|write me|make up|give me|can you tell me|could you tell me|can you write|i want|i would like|please tell me|"
    "invent] a [||short|little|nice|small|funny|new|bedtime] [story|tale|story|fairy tale] [about|with|of] a [||little|small|brave] {kind}",
    "a [|short] story about a {kind}[|, please]",
    "story [about|with] a {kind}",
    "do you know a story about a {kind}",
]
OPEN_REQUESTS = [
    "[tell|tell me|write|write me|make up|give me|can you tell me|could you tell me|i want|i would like|read me|tell us] a "
    "[||short|little|nice|funny|good|bedtime|new] [story|tale|fairy tale]",
    "[a story|story|story time|a story please|another story|do you know a story|do you know any stories|i want to hear a story|"
    "one more story|can you tell stories|tell me something nice|write a text|once upon a time]",
]


def load_lines() -> dict[str, list[str]]:
    lines: dict[str, list[str]] = {}
    for line in (TEXT_DIR / "stories.txt").read_text(encoding="utf-8").splitlines():
        key, _, text = line.partition(" ")
        lines.setdefault(key, []).append(text)
    return lines


LINES = load_lines()


def slots(rng: random.Random, kind: str | None) -> dict[str, str]:
    name, friend = rng.sample(NAMES, 2)
    hero = kind or rng.choice(KINDS)
    other = rng.choice([k for k in KINDS if k != hero])
    place = rng.choice(PLACES)
    return {
        "name": name, "kind": hero, "friend": friend, "fkind": other, "place": place, "thing": rng.choice(THINGS),
        "there": "the " + place.split(" ")[-1],
        "food": rng.choice(FOODS), "color": rng.choice(COLORS), "trait": rng.choice(TRAITS), "number": rng.choice(NUMBERS),
    }


def tell(rng: random.Random, n_arcs: int, kind: str | None = None) -> str:
    """A story of n_arcs events."""
    fill = slots(rng, kind)
    parts = [rng.choice(LINES["start"])]
    for i, arc in enumerate(rng.sample(LINES["arc"], n_arcs)):
        if i:
            parts.append(rng.choice(LINES["link"]))
        parts.append(arc)
    parts.append(rng.choice(LINES["end"]))
    text = " ".join(expand(part, rng).format(**fill) for part in parts)
    for vowel in "aeiou":
        text = text.replace(f" a {vowel}", f" an {vowel}").replace("an unicorn", "a unicorn")
    return text


def raw_story(rng: random.Random) -> str:
    return tell(rng, rng.choice((1, 1, 2, 3, 4)))


def question(rng: random.Random) -> tuple[str, str]:
    """A request for a story, and a story of one event."""
    if rng.random() < 0.3:
        return dress(ask(OPEN_REQUESTS, rng), rng), tell(rng, 1)
    kind = rng.choice(KINDS)
    article = "an" if kind[0] in "aeo" else "a"
    text = ask(REQUESTS, rng).replace("a {kind}", f"{article} {kind}").replace("{kind}", kind)
    return dress(text, rng, typos=False), tell(rng, 1, kind)
