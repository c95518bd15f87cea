"""Conversations with tools: a request, the call in JSON, the tool's result, and the sentence made of it."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from phrases import dress, expand

Json = dict[str, Any]
Draw = Callable[[random.Random], "str | int"]

CITIES = (
    "Paris Berlin Rome Madrid Lisbon London Dublin Oslo Stockholm Helsinki Warsaw Vienna Budapest Athens Ankara Cairo Nairobi "
    "Mumbai Beijing Tokyo Moscow Kyiv Brussels Amsterdam Bern Ottawa Washington Havana Lima Santiago Sydney Bangkok Hanoi Seoul "
    "Chicago Boston Seattle Denver Miami Dallas Toronto Montreal Munich Hamburg Cologne Milan Naples Turin Venice Porto Seville "
    "Valencia Lyon Nice Geneva Zurich Basel Prague Krakow Gdansk Riga Vilnius Tallinn Bergen Malmo Aarhus Glasgow Leeds Bristol "
    "Osaka Kyoto Shanghai Delhi Jakarta Manila Singapore Dubai Tehran Baghdad Lagos Accra Dakar Tunis Casablanca Quito Bogota "
    "Caracas Recife Salvador Rosario Perth Auckland Honolulu Phoenix Houston Atlanta Portland Nashville Memphis Austin"
).split() + ["New York", "Los Angeles", "San Francisco", "Buenos Aires", "Rio de Janeiro", "Hong Kong", "Cape Town", "Mexico City"]
PEOPLE = "Anna Tom Maria Peter Julia Ben Clara David Emma Frank Grace Henry Iris Jonas Karen Leo Mona Nils Olga Paul Rita Sven Tina Uwe Vera Will".split()
ROOMS = ("kitchen", "bedroom", "bathroom", "garage", "office", "garden", "hall", "living room", "cellar", "attic")
SUBJECTS = (
    "red shoes", "old maps", "jazz music", "cheap flights", "green tea", "solar power", "fast cars", "chess rules", "apple pie",
    "cat food", "blue whales", "garden tools", "exo", "open source models", "the moon landing", "train times", "good books",
    "roman history", "bread recipes", "wool socks", "electric bikes", "space travel", "house plants", "rock climbing",
)
SONGS = ("Yellow River", "Blue Moon", "Summer Wine", "Golden Days", "Night Train", "Green Hills", "Silver Bells", "Happy Feet", "Ocean Drive")
MESSAGES = ("I am late", "see you soon", "dinner is ready", "happy birthday", "call me back", "the train is late", "I am at home", "good luck")
SKIES = ("sunny", "cloudy", "rainy", "windy", "foggy", "clear", "snowy")
SYLLABLES = "ba be bo ca co da de do fa fi ga go ka ki la li lo ma mi mo na ni no pa po ra ri ro sa se ta ti to va vi wa ze zo".split()


def invented(rng: random.Random) -> str:
    """A name that the model has never met, so that it learns to copy."""
    return "".join(rng.choice(SYLLABLES) for _ in range(rng.choice((2, 2, 3)))).capitalize() + rng.choice(("", "", "n", "r", "s", "ville"))


def city(rng: random.Random) -> str:
    return invented(rng) if rng.random() < 0.35 else rng.choice(CITIES)


def person(rng: random.Random) -> str:
    return invented(rng) if rng.random() < 0.3 else rng.choice(PEOPLE)


@dataclass(frozen=True)
class Tool:
    """names and keys are what different users call the same thing; slots of `asks` are the parameters in order."""

    names: tuple[str, ...]
    about: tuple[str, ...]
    params: tuple[tuple[tuple[str, ...], str, Draw], ...]  # (names, JSON type, values)
    asks: tuple[str, ...]
    result: Callable[[random.Random, list[Any]], tuple[Json, str]]


def weather(rng: random.Random, args: list[Any]) -> tuple[Json, str]:
    degrees, sky = rng.randrange(-5, 36), rng.choice(SKIES)
    return {"temperature": degrees, "condition": sky}, f"It is {degrees} degrees and {sky} in {args[0]}."


def clock(rng: random.Random, args: list[Any]) -> tuple[Json, str]:
    now = f"{rng.randrange(24):02d}:{rng.randrange(60):02d}"
    return {"time": now}, f"It is {now} in {args[0]}."


def found(rng: random.Random, args: list[Any]) -> tuple[Json, str]:
    n = rng.randrange(1, 90)
    return {"results": n}, f"I found {n} results for {args[0]}."


def done(text: str) -> Callable[[random.Random, list[Any]], tuple[Json, str]]:
    return lambda _rng, args: ({"status": "ok"}, text.format(*args))


def total(rng: random.Random, args: list[Any]) -> tuple[Json, str]:
    return {"result": args[0] + args[1]}, f"The result is {args[0] + args[1]}."


def product(rng: random.Random, args: list[Any]) -> tuple[Json, str]:
    return {"result": args[0] * args[1]}, f"The result is {args[0] * args[1]}."


def node_count(rng: random.Random, _args: list[Any]) -> tuple[Json, str]:
    n = rng.randrange(2, 20)
    return {"nodes": n}, f"The cluster has {n} nodes."


def number(low: int, high: int) -> Draw:
    return lambda rng: rng.randrange(low, high)


def one_of(values: tuple[str, ...]) -> Draw:
    return lambda rng: rng.choice(values)


TOOLS = (
    Tool(("get_weather", "get_weather", "get_weather", "weather", "get_current_weather", "weather_lookup"),
         ("Get the weather in a city", "Get the current weather", "Current weather of a place", "Weather for a location"),
         ((("city", "city", "location", "place"), "string", city),),
         ("[what is|what's|whats|how is|tell me|check|get|show me|i want to know|do you know] the [|current] weather [|like|] in {0} [||right now|today|now]",
          "[is it [raining|sunny|cold|warm|hot|windy|snowing] in {0}|weather in {0}|{0} weather|how warm is it in {0}|do i need "
          "an umbrella in {0}|how cold is it in {0}|what is the temperature in {0}|will it rain in {0}|what about the weather in {0}|"
          "temperature in {0}|i am going to {0}, how is the weather there|how's the weather in {0}]"), weather),
    Tool(("get_time", "get_time", "get_current_time", "clock", "time_in"),
         ("Get the time in a city", "Get the current time", "Current time of a place"),
         ((("city", "city", "location", "timezone", "place"), "string", city),),
         ("[what time is it|what is the time|tell me the time|what's the time|how late is it|do you know the time|current time|"
          "the time|get the time|what hour is it|check the time] in {0} [||now|right now]",),
         clock),
    Tool(("add", "add", "sum", "add_numbers"), ("Add two numbers", "The sum of two numbers"),
         ((("a", "a", "x", "first"), "integer", number(0, 1000)), (("b", "b", "y", "second"), "integer", number(0, 1000))),
         ("[add {0} and {1}|what is {0} + {1}|what is {0} plus {1}|sum {0} and {1}|{0} + {1}|how much is {0} plus {1}|calculate {0} + {1}|"
          "compute {0} + {1}|the sum of {0} and {1}|add {0} to {1}|what's {0} plus {1}|use the tool to add {0} and {1}]",), total),
    Tool(("multiply", "multiply", "times", "product"), ("Multiply two numbers", "The product of two numbers"),
         ((("a", "a", "x", "first"), "integer", number(0, 100)), (("b", "b", "y", "second"), "integer", number(0, 100))),
         ("[multiply {0} and {1}|multiply {0} by {1}|what is {0} times {1}|{0} * {1}|how much is {0} times {1}|calculate {0} * {1}|"
          "the product of {0} and {1}|what is {0} * {1}]",), product),
    Tool(("search", "web_search", "search_web", "find"), ("Search the web", "Search for a text", "Find pages"),
         ((("query", "query", "text", "q"), "string", one_of(SUBJECTS)),),
         ("[search for|look up|find|search the web for|google|find pages about|search|find something about|look for|find out about] {0}",), found),
    Tool(("set_timer", "set_timer", "timer", "start_timer"), ("Set a timer", "Start a timer for some minutes"),
         ((("minutes", "minutes", "duration"), "integer", number(1, 90)),),
         ("[set a timer for {0} minutes|timer {0} minutes|start a timer of {0} minutes|wake me in {0} minutes|remind me in {0} minutes|"
          "i need a timer for {0} minutes|set the timer to {0} minutes|count down {0} minutes]",), done("The timer is set to {0} minutes.")),
    Tool(("send_message", "send_message", "send_text", "message"), ("Send a message to a person", "Send a text message"),
         ((("to", "to", "recipient", "name"), "string", person), (("text", "text", "message", "body"), "string", one_of(MESSAGES))),
         ("[send a message to {0}: {1}|tell {0}: {1}|write to {0}: {1}|send {0} the message {1}|text {0}: {1}|message {0}: {1}|"
          "let {0} know: {1}]",), done("I sent the message to {0}.")),
    Tool(("set_light", "set_light", "switch_light", "light"), ("Switch a light", "Turn the light of a room on or off"),
         ((("room", "room", "place"), "string", one_of(ROOMS)), (("state", "state", "value"), "string", one_of(("on", "off")))),
         ("[turn {1} the light in the {0}|switch the light in the {0} {1}|turn the {0} light {1}|light {1} in the {0}|"
          "switch {1} the {0} light|make the light in the {0} go {1}|turn {1} the {0} lamp]",), done("The light in the {0} is {1}.")),
    Tool(("play_music", "play_song", "play"), ("Play a song", "Play music"),
         ((("song", "song", "title"), "string", one_of(SONGS)),),
         ("[play|put on|i want to hear|start|play the song|let me hear|turn on] {0}",), done("Now playing {0}.")),
    Tool(("count_nodes", "list_nodes", "get_nodes"), ("Count the nodes of the cluster", "The nodes of the cluster"), (),
         ("[how many nodes are online|count the nodes|how many nodes are in the cluster|how many nodes do we have|count my nodes|"
          "how many nodes are running|check the nodes]",), node_count),
)
VERBS = ("open", "close", "start", "stop", "check", "paint", "move", "book", "order", "delete", "print", "read", "lock", "clean", "call")
NOUNS = ("door", "window", "file", "table", "car", "page", "room", "hotel", "ticket", "pizza", "robot", "page", "shop", "job", "user")


def any_tool(rng: random.Random) -> Tool:
    """A tool made up on the spot, so that the list in the system message has to be read."""
    verb, noun = rng.choice(VERBS), rng.choice(NOUNS)
    kind = rng.random() < 0.3
    value: Draw = number(1, 100) if kind else invented
    article = rng.choice(("a", "the"))
    return Tool((f"{verb}_{noun}",), (f"{verb.capitalize()} {article} {noun}", f"{verb.capitalize()} one {noun}"),
                (((noun, "name", "id", f"{noun}_id"), "integer" if kind else "string", value),),
                (f"[{verb} the {noun} {{0}}|{verb} {noun} {{0}}|i want to {verb} {noun} {{0}}|could you {verb} the {noun} {{0}}]",),
                done(f"I did it: {verb} {noun} {{0}}."))


@dataclass(frozen=True)
class Scene:
    """A tool as one user defines it, with a request for it."""

    schema: Json
    request: str
    arguments: Json
    result: Json
    answer: str


def make_scene(tool: Tool, rng: random.Random) -> Scene:
    keys = [rng.choice(names) for names, _, _ in tool.params]
    values = [draw(rng) for _, _, draw in tool.params]
    described = rng.random() < 0.2
    properties: Json = {}
    for key, (_, kind, _) in zip(keys, tool.params):
        properties[key] = {"type": kind, "description": f"The {key}"} if described else {"type": kind}
    schema: Json = {"name": rng.choice(tool.names)}
    if rng.random() < 0.85:
        schema["description"] = rng.choice(tool.about) + rng.choice(("", "", "."))
    schema["parameters"] = {"type": "object", "properties": properties}
    if keys and rng.random() < 0.75:
        schema["parameters"]["required"] = keys
    result, answer = tool.result(rng, values)
    shown = [v.lower() if isinstance(v, str) and rng.random() < 0.02 else v for v in values]
    request = expand(rng.choice(tool.asks), rng).format(*shown)
    request = dress(request, rng, typos=False)
    if request.isupper() or request.istitle():
        request = expand(rng.choice(tool.asks), rng).format(*shown)
    return Scene(schema, request, dict(zip(keys, shown)), result, answer)


def draw_scenes(rng: random.Random) -> list[Scene]:
    """The scene that is asked for, and the other tools on offer."""
    n = rng.choice((1, 1, 1, 1, 2, 2, 3))
    pool = rng.choices(TOOLS, (3, 2, 2, 1, 1, 1, 1, 1, 1, 1), k=n)
    tools = [any_tool(rng) if rng.random() < 0.2 else tool for tool in pool]
    scenes = [make_scene(tool, rng) for tool in tools]
    names = {scene.schema["name"] for scene in scenes}
    return scenes if len(names) == n and len(set(pool)) == n else scenes[:1]


def definitions(scenes: list[Scene], rng: random.Random) -> list[Json]:
    tools = [{"type": "function", "function": scene.schema} for scene in scenes]
    rng.shuffle(tools)
    return tools


def conversation(scene: Scene, rng: random.Random) -> list[Json]:
    """Request and call, and in half of the cases the result and the final sentence."""
    call = {"type": "function", "function": {"name": scene.schema["name"], "arguments": scene.arguments}}
    messages: list[Json] = [
        {"role": "user", "content": scene.request},
        {"role": "assistant", "content": None, "tool_calls": [call]},
    ]
    if rng.random() < 0.5:
        messages.append({"role": "tool", "content": json.dumps(scene.result, ensure_ascii=False)})
        messages.append({"role": "assistant", "content": scene.answer})
    return messages
