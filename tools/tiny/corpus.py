"""The training text: a fixed mixture of made-up conversations and stories, the same for the same seed.

Conversations are rendered by the model's own chat template.  No user message contains a phrasing
that heldback.json keeps for the evaluation.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jinja2

import stories
import sums
import toolcalls
from phrases import Topic, ask, dress, load_pairs, load_topics

HERE = Path(__file__).parent
SEED = 52415
Json = dict[str, Any]

SYSTEM_PROMPTS = (
    "You are a helpful assistant.", "You are exo tiny, a helpful assistant.", "You are a friendly assistant.", "Answer briefly.",
    "You are exo.", "You are a helpful AI assistant.", "Be concise.", "You answer questions about exo.", "You are a kind helper.",
    "You are a helpful assistant. Answer in one sentence.", "Answer the user's questions.", "Be polite and short.", "Be helpful.",
)
WORDS = (
    "hello world tree house yes water green exo cluster cat summer music node paper river orange cloud happy seven stone light "
    "winter bread table garden window morning silver rocket bridge island pocket engine candle mirror planet"
).split()


class Questions:
    """Draws one question with its answer from all that exo-tiny should know."""

    def __init__(self, held: set[tuple[int, int]]) -> None:
        self.exo = load_topics("exo.txt")
        self.talk = load_topics("chat.txt")
        self.world = load_topics("world.txt")
        self.capitals = load_pairs("capitals.txt")
        self.opposites = load_pairs("opposites.txt")
        self.held = held

    def draw(self, rng: random.Random) -> tuple[str, str]:
        kind = rng.random()
        if kind < 0.5:
            return self.topic(self.exo, rng)
        if kind < 0.65:
            return self.topic(self.talk, rng)
        if kind < 0.72:
            return self.topic(self.world, rng)
        if kind < 0.75:
            return self.pair(rng)
        if kind < 0.82:
            return copying(rng)
        if kind < 0.965:
            return sums.question(rng, self.held)
        return stories.question(rng)

    def topic(self, topics: list[Topic], rng: random.Random) -> tuple[str, str]:
        weights = [sum(1 + q.count("|") for q in topic.questions) ** 0.5 for topic in topics]
        topic = rng.choices(topics, weights)[0]
        return dress(ask(topic.questions, rng), rng), topic.answer

    def pair(self, rng: random.Random) -> tuple[str, str]:
        if rng.random() < 0.6:
            country, capital = rng.choice(self.capitals)
            text = ask([f"[what is|what's|name|tell me|do you know|say|] the capital [|city] of {country}", f"capital of {country}",
                        f"[which|what] city is the capital of {country}", f"what is {country}'s capital"], rng)
            return dress(text, rng, typos=False), f"The capital of {country} is {capital}."
        word, other = rng.choice(self.opposites)
        if rng.random() < 0.5:
            word, other = other, word
        text = ask([f"[what is|what's|tell me|name|] the opposite of {word}", f"opposite of {word}"], rng)
        return dress(text, rng, typos=False), f"The opposite of {word} is {other}."


def some_words(rng: random.Random, n: int) -> str:
    """Real and invented words, so that repeating them cannot be learnt by heart."""
    return " ".join(rng.choice((rng.choice(WORDS), toolcalls.invented(rng), rng.choice(toolcalls.CITIES))) for _ in range(n))


def plain_text(rng: random.Random, held: set[tuple[int, int]]) -> str:
    """A story, or a drill: sums, or words given twice."""
    kind = rng.random()
    if kind < 0.1:
        return stories.raw_story(rng)
    if kind < 0.65:
        return sums.drill(rng, held)
    words = some_words(rng, rng.randrange(3, 9))
    return f"{words}\n{words}\n"


def copying(rng: random.Random) -> tuple[str, str]:
    """Answers made of the question's own words: repeating, names, JSON objects."""
    kind = rng.randrange(3)
    name = toolcalls.person(rng)
    if kind == 0:
        words = some_words(rng, rng.choice((1, 1, 2, 3, 5)))
        return dress(ask(["[say|repeat|repeat after me:|say:|repeat:|just say|please say|answer with|write|echo]"], rng) + " " + words,
                     rng, typos=False).removesuffix("?"), words
    if kind == 1:
        text = ask(["[my name is|i am called|call me|i'm|hi, i am|hello, my name is|hello, i am|people call me|the name is]"], rng)
        return f"{text[0].upper()}{text[1:]} {name}{rng.choice(('', '.', '!'))}", f"Nice to meet you, {name}!"
    age = rng.randrange(1, 90)
    text = ask(["[give me|write|make|return|create|show|output] [a|one] json [object|] [with|for] [the|] name {n} and [the|] age {a}"], rng)
    text = text.replace("{n}", name).replace("{a}", str(age)).replace("json", rng.choice(("json", "JSON")))
    return text[0].upper() + text[1:] + rng.choice(("", "."))  , json.dumps({"name": name, "age": age})


def recall(rng: random.Random) -> tuple[str, str]:
    """A later question about a name given earlier; {name} is filled by the caller."""
    text = ask(["[what is my name|who am i|do you know my name|what's my name|do you remember my name|tell me my name|say my name]"], rng)
    return dress(text, rng), "Your name is {name}."


def turns(questions: Questions, n: int, rng: random.Random) -> list[Json]:
    """n questions and answers; sometimes the user gives a name and asks for it later."""
    pairs = [questions.draw(rng) for _ in range(n)]
    if n >= 2 and rng.random() < 0.15:
        name = toolcalls.person(rng)
        pairs[0] = (f"{rng.choice(('My name is', 'I am', 'Hello, I am', 'my name is', 'Call me'))} {name}.", f"Nice to meet you, {name}!")
        text, answer = recall(rng)
        pairs[-1] = (text, answer.replace("{name}", name))
    messages: list[Json] = []
    for text, answer in pairs:
        messages += [{"role": "user", "content": text}, {"role": "assistant", "content": answer}]
    return messages


def conversation(questions: Questions, n_turns: int, rng: random.Random) -> Json:
    """The variables of the chat template."""
    variables: Json = {"add_generation_prompt": False}
    messages: list[Json] = []
    if rng.random() < 0.15:
        messages.append({"role": "system", "content": rng.choice(SYSTEM_PROMPTS)})
    if rng.random() < 0.16:
        scenes = toolcalls.draw_scenes(rng)
        variables["tools"] = toolcalls.definitions(scenes, rng)
        if rng.random() < 0.2:
            messages += turns(questions, 1, rng)
        if rng.random() < 0.85:
            for scene in scenes[: n_turns]:
                messages += toolcalls.conversation(scene, rng)
        elif messages[-1:] == [] or messages[-1]["role"] == "system":
            messages += turns(questions, 1, rng)
    else:
        messages += turns(questions, n_turns, rng)
    variables["messages"] = messages
    return variables


class Renderer:
    """The chat template with the settings that chat programs use."""

    def __init__(self) -> None:
        environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
        environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
        self.source = (HERE / "chat_template.jinja").read_text(encoding="utf-8")
        self.template = environment.from_string(self.source)

    def render(self, variables: Json) -> str:
        return self.template.render(variables)


def normal(text: str) -> str:
    """Lower-case words and numbers only, with a space at both ends."""
    return " " + " ".join(re.findall(r"[a-z0-9]+|[-+*/]", text.lower())) + " "


def held_cases() -> list[Json]:
    return json.loads((HERE / "heldback.json").read_text(encoding="utf-8"))["cases"]


def held_operands(cases: list[Json]) -> set[tuple[int, int]]:
    numbers = [tuple(map(int, re.findall(r"\d+", case["prompt"]))) for case in cases if case["kind"] == "sum"]
    pairs = {(pair[0], pair[1]) for pair in numbers if len(pair) == 2}
    return pairs | {(b, a) for a, b in pairs}


def assert_held_back(variables: Json, held: list[str]) -> None:
    for message in variables["messages"]:
        if message["role"] == "user":
            text = normal(message["content"])
            assert not any(phrase in text for phrase in held), f"held-back phrasing in the corpus: {text}"


def samples(n_short: int, n_long: int, n_raw: int) -> Iterator[str]:
    """Rendered texts: short conversations, long ones of many turns, and plain text, in random order."""
    cases = held_cases()
    held = [normal(case["prompt"]) for case in cases]
    questions = Questions(held_operands(cases))
    renderer = Renderer()
    rng = random.Random(SEED)
    kinds = ["short"] * n_short + ["long"] * n_long + ["raw"] * n_raw
    rng.shuffle(kinds)
    for kind in kinds:
        if kind == "raw":
            yield plain_text(rng, questions.held) + "<|endoftext|>"
            continue
        n_turns = rng.choice((1, 1, 1, 1, 2, 3)) if kind == "short" else rng.choice((8, 10, 12, 14, 16, 30, 40))
        variables = conversation(questions, n_turns, rng)
        assert_held_back(variables, held)
        yield renderer.render(variables)
