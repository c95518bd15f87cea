#!/usr/bin/python3
"""Compares exo's chat templates with Python's jinja2, set up as transformers does.

  jinja_diff.py --exo build/exo [--random N] [--seed S] [TEMPLATE...]
      renders each TEMPLATE (default: the fuzz corpus) for several conversations, then N random
      templates, with both, and prints what differs.  Exit status 1 if anything does.
  jinja_diff.py --write-cases FILE
      fills in the expected results of a table of small cases: src/model/template_cases.json.

Needs Debian's python3-jinja2.  No test depends on this tool; the unit tests replay its results.
"""
import argparse
import datetime
import glob
import json
import os
import random
import re
import subprocess
import sys
import warnings

import jinja2
import jinja2.ext
import jinja2.sandbox

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
    env.globals["strftime_now"] = lambda f: datetime.datetime.now().strftime(f)
    return env


def oracle(template, variables):
    """("ok", text) or ("error", message)."""
    try:
        text = environment().from_string(template).render(**json.loads(json.dumps(variables)))
        text.encode()
        return "ok", text
    except RecursionError:
        return "error", "recursion"
    except Exception as error:  # every Python exception is a failed render
        return "error", str(error)


def exo_render(exo, template, variables):
    path = os.path.join("/tmp", "jinja_diff.%d.jinja" % os.getpid())
    with open(path, "w", encoding="utf-8", newline="") as f:
        f.write(template)
    run = subprocess.run([exo, "template", "--template", path], input=json.dumps(variables).encode(),
                         capture_output=True, timeout=30, check=False)
    os.unlink(path)
    if run.returncode == 0:
        return "ok", run.stdout.decode()
    if run.returncode != 1:
        return "crash", "exit status %d: %s" % (run.returncode, run.stderr.decode()[-2000:])
    return "error", run.stderr.decode().strip()


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


# ---- random templates ----

LEAVES = {
    "str": ["s", "t", "''", "'a'", "'aBc d'", "'ab\\nca'", "'é日 x'", '"it\'s"', "' b '", "d.b",
            "messages[0].role", "'<i>'", "'a' 'b'", "'%s|%d'", "'12'", "'4.7'", "'Ǆ ß'"],
    "int": ["n", "0", "1", "2", "-3", "7", "xs[1]", "d.a", "10**3", "0x1f", "1_000"],
    "float": ["f", "0.1", "1e17", "2.5", "1.5e-7", "-0.0", "1e16", "123456789.125"],
    "bool": ["flag", "true", "False", "missing is defined"],
    "list": ["xs", "ys", "[3, 1, 2]", "['b', 'a', 'C']", "[]", "range(4)", "messages", "(1, 2)",
             "[[1, 2], [3]]", "[none, 1.5, 'x', true]", "d.items()|list", "[xs, d]"],
    "dict": ["d", "{}", "{'a': 1, 'b': [true]}", "dict(a=1, z='q')", "messages[-1]", "{1: 2}"],
    "any": ["nothing", "missing", "none", "w", "ns.a", "ns", "d.zz", "[0][5]"],
}

RULES = {
    "str": ["{str}|upper", "{str}|lower", "{str}|title", "{str}|capitalize", "{any}|trim",
            "{list}|join", "{list}|join({str})", "{any}|string", "{any}|tojson", "({str} ~ {any})",
            "{dict}|tojson(indent={int})", "{any}|tojson(sort_keys=true, separators=(',', ':'))",
            "{any}|tojson(ensure_ascii=true)", "({str} + {str})", "{str}[{slice}]", "{str}[0]",
            "{str}|replace({str}, {str})", "{str}|replace('a', 'b', 1)", "{str}.strip({str})",
            "{str}.lstrip()", "{str}.rstrip('\\n')", "{str}.title()", "{str}.split({str} ~ 'a')[-1]",
            "{str}.replace({str}, '')", "{str}|indent({int})", "{str}|indent(2, true, true)",
            "{str}|truncate(9)", "{str}|center(9)", "{any}|default({str})", "{str}|first",
            "{str}|last", "{str}|reverse", "({str} if {bool} else {str})", "({str} * 2)",
            "{str}.removeprefix({str})", "{str}.removesuffix('b')", "{str}.zfill(6)", "{str}.join({str})",
            "{str}.swapcase()", "{str}.partition('b')[0]", "'%s-%s' % ({any}, {any})",
            "'%05.1f|%x' % ({float}, 255)", "'{{}}:{{:>6}}'.format({any}, {str})",
            "'{{:.2f}}'.format({float})", "'%-5s|%5s'|format({str}, {int})", "({str} or {any})",
            "{str}.center(8, '*')", "{str}.ljust(4)", "loop|string", "{str}|d('x', true)"],
    "int": ["{list}|length", "{str}|length", "{dict}|count", "({int} + {int})", "({int} - {int})",
            "({int} * {int})", "({int} // ({int} or 1))", "({int} % ({int} or 3))", "-{int}",
            "{str}|int", "{float}|int", "{str}|wordcount", "{int}|abs", "{str}.find({str})",
            "{str}.count({str})", "{any}|default(4)", "({int} ** 2)", "[{int}, {int}]|max",
            "[{int}, {int}]|sum", "{str}|int(3)", "{bool}|int", "{list}|list|length"],
    "float": ["({int} / ({int} or 4))", "({float} + {int})", "({float} * {float})", "{str}|float",
              "{float}|round", "{float}|round(2)", "{float}|round(1, 'floor')", "{float}|abs",
              "({float} // 0.3)", "({float} % 1.7)", "{int}|float"],
    "bool": ["(not {any})", "({any} == {any})", "({int} < {int})", "({str} in {str})",
             "({any} in {list})", "({str} not in {dict})", "({any} is {test})", "({any} is not {test})",
             "({bool} and {bool})", "({bool} or {bool})", "{str}.startswith({str})",
             "{str}.endswith(({str}, 'c'))", "{str}.isdigit()", "(1 < {int} <= 5)", "{str}.isupper()",
             "({any} is sameas {any})", "({any} is in {list})", "({int} is divisibleby 3)",
             "{str}.isalpha()", "{str}.isspace()", "({list} == {list})", "({str} < {str})"],
    "list": ["{list}[{slice}]", "{list}|list", "{list}|reverse|list", "{str}.split()", "{str}|list",
             "{str}.split({str} ~ 'b', 1)", "{str}.splitlines()", "{dict}|items|list",
             "{dict}|dictsort", "{dict}.keys()|list", "{dict}.values()|list", "{list}|map('string')|list",
             "{list}|select('string')|list", "{list}|reject('none')|list", "{list}|map('upper')|list",
             "messages|selectattr('role', 'equalto', {str})|list", "[{any}, {any}]", "({any}, {int})",
             "messages|map(attribute='content')|list", "{list}|batch(2)|list", "{list}|slice(2)|list",
             "{list}|batch(3, 'x')|list", "({list}|list + [{any}])", "{list}|map('string')|sort|list",
             "{list}|map('string')|unique|list", "messages|groupby('role')", "{str}.rsplit('a', 1)",
             "messages|rejectattr('content', 'in', {list})|list", "messages|sort(attribute='role')",
             "{list}|select|list", "messages|map(attribute='zz', default={any})|list",
             "({list} if {bool} else {list})", "{list}|select('sequence')|list"],
    "dict": ["{dict}", "dict(q={any})", "{{'a': {any}, 'k': {any}}}", "({dict} if {bool} else {dict})",
             "dict({dict}, w={int})"],
    "any": ["{list}|first", "{list}|last", "{dict}.a", "{dict}['a']", "{dict}.get({str})",
            "{dict}.get({str}, {any})", "{list}[{int}]", "({any} or {any})", "({any} and {any})",
            "{any}|default({any}, true)", "({any} if {bool})", "{list}|map('string')|max", "{dict}[{str}]",
            "{list}|first|default('-')", "{dict}|attr('a')", "messages[{int}].role"],
    "test": ["defined", "undefined", "none", "string", "number", "integer", "float", "mapping",
             "iterable", "sequence", "boolean", "true", "false", "callable", "eq 1", "escaped",
             "equalto({any})", "lower", "upper", "ne({any})"],
    "slice": ["1:", ":-1", "::-1", "::2", "1:3", "-2:", "{int}:", ":{int}", "{int}:{int}:-1", ":"],
}


class Generator:
    """Small templates, mostly well-typed so that most of them render; some fail in both."""

    def __init__(self, rng):
        self.r = rng

    def pick(self, *choices):
        return self.r.choice(choices)

    def expr(self, depth=0, kind=None):
        kinds = ["str", "int", "float", "bool", "list", "dict", "any"]
        if kind is None or (kind == "any" and self.r.random() < 0.7) or self.r.random() < 0.01:
            kind = self.pick(*kinds)
        if kind in LEAVES and (depth > 3 or self.r.random() < 0.25 + 0.1 * depth):
            return self.pick(*LEAVES[kind])

        def fill(match):
            return match.group(0)[0] if match.group(1) is None else self.expr(depth + 1, match.group(1))

        text = re.sub(r"\{\{|\}\}|\{(\w+)\}", fill, self.pick(*RULES[kind]))
        return "(%s)" % text if kind not in ("test", "slice") else text

    def text(self):
        return self.pick("", " ", "\n", "text", "  \n  ", "a\n\n", "\t", "<|x|>\n")

    def tag(self, body):
        return "{%%%s %s %s%%}" % (self.pick("", "", "-", "+"), body, self.pick("", "", "-", "+"))

    def statement(self, depth):
        body = lambda: self.body(depth + 1)  # noqa: E731
        kind = self.r.randrange(12)
        if kind <= 3 or depth > 3:
            left, right = self.pick("", "-"), self.pick("", "-")
            return "{{%s %s%s %s}}" % (left, self.expr(), self.pick("", "", "|e", "|safe"), right)
        if kind == 4:
            return (self.tag("if " + self.expr(1)) + body() + self.tag("else") + body() +
                    self.tag("endif"))
        if kind == 5:
            head = "for v in " + self.expr(2) + self.pick("", " if v", " if v is not none")
            inner = body() + "{{ v }}{{ loop.%s }}" % self.pick(
                "index", "index0", "first", "last", "length", "revindex", "previtem", "nextitem")
            jump = self.pick("", "", "{% if loop.index > 1 %}{% break %}{% endif %}",
                             "{% if v %}{% continue %}{% endif %}")
            return (self.tag(head) + jump + inner +
                    self.pick("", self.tag("else") + body()) + self.tag("endfor"))
        if kind == 6:
            return self.tag("set %s = %s" % (self.pick("q", "w", "w", "ns.a", "ns.b"), self.expr(1)))
        if kind == 7:
            return (self.tag("set q" + self.pick("", " | upper", " | trim")) + body() +
                    self.tag("endset") + "{{ q }}")
        if kind == 8:
            return (self.tag("macro m(a, b=%s)" % self.expr(2)) + "{{ a }}{{ b }}" + body() +
                    self.tag("endmacro") + "{{ m(%s) }}" % self.pick("", "1", "1, 2", "b=3", "a=s"))
        if kind == 9:
            return self.tag("with q = " + self.expr(2)) + "{{ q }}" + body() + self.tag("endwith")
        if kind == 10:
            return self.tag("filter " + self.pick("upper", "trim", "indent(1)")) + body() + self.tag(
                "endfilter")
        return self.pick("{# c #}", "{#- c -#}", "{% raw %}{{ x }}{% endraw %}", "\n{#- c #}\n")

    def body(self, depth):
        return "".join(self.text() + self.statement(depth) for _ in range(self.r.randrange(1, 3)))

    def template(self):
        return ("{% set ns = namespace(a=0) %}" +
                "".join(self.text() + self.statement(0) for _ in range(self.r.randrange(1, 5))) +
                self.text())


RANDOM_VARIABLES = {
    "n": 3, "f": 2.5, "s": "abcab", "t": " Some Text\n", "xs": [1, 2, 3, 2], "ys": ["b", "a", "B"],
    "d": {"a": 1, "b": "two", "c": None}, "flag": True, "nothing": None,
    "messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}],
}


def comparable(text):
    """False where Python prints an address or reprs that no template relies on."""
    return " object at 0x" not in text and "<built-in method" not in text and "<function" not in text


# ---- modes ----

def compare(exo, template, variables, label):
    want, got = oracle(template, variables), exo_render(exo, template, variables)
    if want[0] == "ok" and not comparable(want[1]):
        return True
    if got[0] == "error" and "64 bits" in got[1]:
        return True  # exo's integers are 64 bits wide, Python's grow
    if want[0] == got[0] and (want[0] == "error" or want[1] == got[1]):
        return True
    print("== %s\n%s\n-- jinja2: %s %r\n-- exo:    %s %r" % ((label, template) + want + got))
    return False


def write_cases(path):
    with open(path, encoding="utf-8") as f:
        cases = json.load(f)
    for case in cases:
        kind, text = oracle(case["template"], case.get("vars", RANDOM_VARIABLES))
        case.pop("ok", None)
        case.pop("error", None)
        case[kind] = text
    with open(path, "w", encoding="utf-8") as f:
        lines = [json.dumps(case, ensure_ascii=False) for case in cases]
        f.write("[\n" + ",\n".join(lines) + "\n]\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--exo", default=os.path.join(HERE, "../../build/exo"))
    parser.add_argument("--random", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--write-cases", metavar="FILE")
    parser.add_argument("templates", nargs="*")
    args = parser.parse_args()
    if args.write_cases:
        write_cases(args.write_cases)
        return 0
    corpus = os.path.join(HERE, "../fuzz/corpus/jinja/*.jinja")
    n = differ = 0
    for path in args.templates or sorted(glob.glob(corpus)):
        with open(path, encoding="utf-8", newline="") as f:
            template = f.read()
        for name, variables in conversations().items():
            n += 1
            differ += not compare(args.exo, template, variables, "%s, %s" % (path, name))
    for i in range(args.random):
        template = Generator(random.Random("%d/%d" % (args.seed, i))).template()
        n += 1
        differ += not compare(args.exo, template, RANDOM_VARIABLES, "random %d" % i)
    print("%d renders, %d differ" % (n, differ))
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())
