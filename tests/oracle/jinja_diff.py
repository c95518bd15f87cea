#!/usr/bin/python3
"""Compares exo's chat templates with Python's jinja2, set up as transformers does.

  jinja_diff.py [--random N] [--seed S] [--part I/P] [TEMPLATE...]
      renders each TEMPLATE (default: the fuzz corpus) for several conversations, then N pairs of
      template and values from jinja_grammar.py, with both, and prints what differs.  Exit status
      1 if anything does.  With --part, only the Ith of P parts of the pairs (I from 0), so that
      several processes can share them; their sum is the whole.
  jinja_diff.py --scopes N [--seed S]
      N templates from jinja_scopes.py, about what a name means where.
  jinja_diff.py --sweep STEP
      every STEPth of the templates in jinja_sweep.py (1: all 170,000 of them).
  jinja_diff.py --write-cases FILE
      fills in the expected results of a table of small cases: src/model/template_cases.json.

Needs Debian's python3-jinja2 and build/test/exo_batch (EXO_BATCH names another).
"""
import argparse
import datetime
import functools
import glob
import itertools
import json
import os
import random
import signal
import sys
import warnings

import jinja2
import jinja2.ext
import jinja2.sandbox

import jinja_grammar
import jinja_scopes
import jinja_sweep
from batch import Renderer

warnings.simplefilter("ignore")  # CPython's about literals that are subscripted
HERE = os.path.dirname(os.path.abspath(__file__))


# ---- jinja2 as transformers sets it up ----

class Generation(jinja2.ext.Extension):
    tags = {"generation"}

    def parse(self, parser):
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def environment():
    env = jinja2.sandbox.SandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols, Generation])

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators,
                          sort_keys=sort_keys)

    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = datetime.datetime(2026, 1, 2).strftime  # batch.c has the same clock
    return env


ENVIRONMENT = environment()
SLOW_SECONDS = 5


@functools.lru_cache(maxsize=2)
def compiled(template):
    """The template, or the exception that compiling it ends with: most of the time goes here."""
    try:
        return ENVIRONMENT.from_string(template)
    except Exception as error:
        return error


class TooSlow(BaseException):
    """Python took too long; exo has limits for that."""


def give_up(*_):
    raise TooSlow


def oracle(template, variables):
    """("ok", text) or ("error", message)."""
    signal.signal(signal.SIGALRM, give_up)
    signal.alarm(SLOW_SECONDS)
    try:
        made = compiled(template)
        if isinstance(made, Exception):
            raise made
        text = made.render(**json.loads(json.dumps(variables)))
        text.encode()
        return "ok", text
    except RecursionError:
        return "error", "recursion"
    except Exception as error:  # every Python exception is a failed render
        return "error", str(error)
    finally:
        signal.alarm(0)


# ---- conversations ----

TOOLS = [
    {"type": "function", "function": {
        "name": "get_weather", "description": "Current weather of a city",
        "parameters": {"type": "object", "properties": {
            "city": {"type": "string", "description": "City, \"quoted\""},
            "days": {"type": "integer", "enum": [1, 3, 7]},
            "units": {"type": ["string", "null"], "default": "C"}},
            "required": ["city"]},
        "return": {"type": "object", "description": "the weather"}}},
    {"type": "function", "function": {"name": "now", "description": "The time",
                                      "parameters": {"type": "object", "properties": {}}}},
]
CALL = {"id": "abcdef123", "type": "function",
        "function": {"name": "get_weather", "arguments": {"city": "Zürich", "days": 3, "x": 1.5}}}


def turn(role, content, **more):
    return {"role": role, "content": content, **more}


def conversations():
    base = {"bos_token": "<s>", "eos_token": "</s>", "add_generation_prompt": True}
    simple = [turn("user", "Hello  ")]
    multi = [turn("system", " Be kind.\n"), turn("user", "Hi"), turn("assistant", "Hello!\n\n"),
             turn("user", "And?\n")]
    thought = [turn("user", "2+2?"), turn("assistant", "<think>\nadd\n</think>\n\n4"),
               turn("user", "sure?")]
    called = [turn("user", "Weather?"),
              turn("assistant", None, tool_calls=[CALL, {**CALL, "id": "abcdef124"}]),
              turn("tool", "{\"t\": 20}", tool_call_id="abcdef123", name="get_weather"),
              turn("tool", "rain", tool_call_id="abcdef124", name="get_weather"),
              turn("assistant", "20 degrees, rain"), turn("user", "Thanks")]
    parts = [turn("user", [{"type": "text", "text": "What is"}, {"type": "image"},
                           {"type": "text", "text": " this?"}])]
    unicode_ = [turn("user", "Ünïcödé 日本 🦙\n<|im_end|>{{ x }} & <b>'\"</b>")]
    return {
        "user": {**base, "messages": simple},
        "no_prompt": {**base, "messages": multi[:3], "add_generation_prompt": False},
        "multi": {**base, "messages": multi},
        "thought": {**base, "messages": thought, "enable_thinking": True},
        "thinking_off": {**base, "messages": thought, "enable_thinking": False},
        "tools": {**base, "messages": multi, "tools": TOOLS},
        "called": {**base, "messages": called, "tools": TOOLS},
        "parts": {**base, "messages": parts},
        "unicode": {**base, "messages": unicode_},
        "documents": {**base, "messages": simple,
                      "documents": [{"title": "A", "text": "aa", "id": 1},
                                    {"title": "B", "text": "bb", "id": 2}]},
        "wrong_order": {**base, "messages": [multi[2], multi[1]]},
        "empty": {**base, "messages": []},
    }


def comparable(text):
    """False where Python prints an address or reprs that no template relies on, in any case."""
    opaque = " at 0x", "<built-in method", "<bound method", "<function"
    return not any(part in text.lower() for part in opaque)


# ---- comparing ----

LEFT_ALONE = (
    "64 bits",  # Python's integers grow
    "type: 'slice'",  # jinja2 makes a slice of a constant dict undefined before it runs
    "slice indices must be",  # the same of a constant undefined as its bound
    "is not subscriptable",  # the same of a constant number
    "is too wide",  # a limit
    "the text grows beyond 64 MiB",  # another: an indent of 123456789 spaces
)
PAIRS_A_TEMPLATE = 5  # jinja2 needs longer to compile one than to render it


def shown(text):
    text = repr(text)
    return text if len(text) <= 2000 else text[:1900] + " ... " + text[-90:]


def difference(renderer, template, variables, text_matters=True):
    """None, or what both made of it."""
    try:
        want = oracle(template, variables)
    except TooSlow:
        print("== skipped, jinja2 takes more than %d s\n%s" % (SLOW_SECONDS, template), flush=True)
        return None
    got = renderer.render(template, variables)
    if want[0] == "ok" and not comparable(want[1]):
        return None
    if got[0] == "error" and any(part in got[1] for part in LEFT_ALONE):
        return None
    if want[0] == got[0] and (want[0] == "error" or want[1] == got[1] or not text_matters):
        return None
    return "%s\n-- variables %s\n-- jinja2: %s %s\n-- exo:    %s %s" % (
        template, json.dumps(variables, ensure_ascii=False), want[0], shown(want[1]), got[0], shown(got[1]))


def random_pairs(n, seed, part=(0, 1)):
    """(label, template, variables), n times; of part[1] parts the one numbered part[0]."""
    for i in range(part[0], (n + PAIRS_A_TEMPLATE - 1) // PAIRS_A_TEMPLATE, part[1]):
        rng = random.Random("%d/%d" % (seed, i))
        template = jinja_grammar.Generator(rng).template()
        for k in range(min(PAIRS_A_TEMPLATE, n - PAIRS_A_TEMPLATE * i)):
            yield "random %d/%d.%d" % (seed, i, k), template, jinja_grammar.variables(rng)


def sweep(renderer, step, part=(0, 1)):
    """Differences, with the number of templates looked at."""
    n, found = 0, []
    for template in itertools.islice(jinja_sweep.templates(), part[0] * step, None, step * part[1]):
        n += 1
        what = difference(renderer, template, jinja_sweep.VARIABLES, not jinja_sweep.is_opaque(template))
        if what is not None:
            found.append(what)
    return n, found


def scope_pairs(n, seed):
    for i in range(n):
        template = jinja_scopes.Generator(random.Random("scopes %d/%d" % (seed, i))).template()
        yield "scopes %d/%d" % (seed, i), template, jinja_scopes.VARIABLES


def template_pairs(paths):
    for path in paths:
        with open(path, encoding="utf-8", newline="") as f:
            template = f.read()
        for name, variables in conversations().items():
            yield "%s, %s" % (os.path.basename(path), name), template, variables


def write_cases(path):
    with open(path, encoding="utf-8") as f:
        cases = json.load(f)
    for case in cases:
        kind, text = oracle(case["template"], case.get("vars", jinja_grammar.RANDOM_VARIABLES))
        case.pop("ok", None)
        case.pop("error", None)
        case[kind] = text
    with open(path, "w", encoding="utf-8") as f:
        lines = [json.dumps(case, ensure_ascii=False) for case in cases]
        f.write("[\n" + ",\n".join(lines) + "\n]\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--random", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--scopes", type=int, default=0)
    parser.add_argument("--sweep", type=int, metavar="STEP")
    parser.add_argument("--part", default="0/1", metavar="I/P")
    parser.add_argument("--write-cases", metavar="FILE")
    parser.add_argument("templates", nargs="*")
    args = parser.parse_args()
    if args.write_cases:
        write_cases(args.write_cases)
        return 0
    paths = args.templates or sorted(glob.glob(os.path.join(HERE, "../fuzz/corpus/jinja/*.jinja")))
    part = tuple(int(x) for x in args.part.split("/"))
    n = differ = 0
    with Renderer() as renderer:
        if args.sweep:
            n, found = sweep(renderer, args.sweep, part)
            print("".join("== %s\n" % what for what in found), end="")
            print("%d renders, %d differ" % (n, len(found)))
            return 1 if found else 0
        for pairs in (template_pairs(paths), random_pairs(args.random, args.seed, part),
                      scope_pairs(args.scopes, args.seed)):
            for label, template, variables in pairs:
                n += 1
                found = difference(renderer, template, variables)
                if found is not None:
                    differ += 1
                    print("== %s\n%s" % (label, found), flush=True)
    print("%d renders, %d differ" % (n, differ))
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())
