"""A grammar that makes Jinja templates and the values they are rendered with.

Mostly well-typed, so that most renders succeed; what fails must fail in jinja2 and in exo alike.
The same seed gives the same pair.
"""

from __future__ import annotations

import random
import re

# ---- expressions, by the kind of value they make ----

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
            "{str}.center(8, '*')", "{str}.ljust(4)", "loop|string", "{str}|d('x', true)",
            "{str}|urlencode", "{dict}|urlencode", "{int}|filesizeformat", "{int}|filesizeformat(true)",
            "{str}.expandtabs({int})", "{str}.casefold()", "{str}.ljust({int}, '.')", "{dict}|xmlattr",
            "{str}.rjust({int})", "{str}|format({any})", 
            "{str}|truncate(7, true, '~', 0)", "{str}|center({int})", "{str}[{int}]",
            "'{{0}}{{1!r}}{{0:>{{2}}}}'.format({str}, {any}, 7)", "'{{a[b]}}{{x.a}}'.format(a={dict}, x={dict})",
            "'{{:+d}}|{{:,}}|{{:#x}}|{{:08.3f}}'.format({int}, {int}, 255, {float})", "'{{k}}'.format_map({dict})",
            "'%(a)s %(b)r' % {dict}", "'%+d %e %g %c %%' % ({int}, {float}, {float}, 'z')",
            "{list}|join('-', attribute='role')", "{list}|tojson(indent=2)", "{any}|tojson(indent=none)",
            "{list}|string|length|string", "loop.cycle('a', {any})|string", "loop.changed({any})|string",
            "loop.depth|string", "caller()|string", "{str}|indent('> ')", "{str}.rpartition('b')[2]",
            "{str}|wordwrap({int})", "{str}|wordwrap(4, false, '|')", "{str}|wordwrap(5, break_on_hyphens=false)",
            "{any}|pprint", "{dict}|pprint", "{str}|striptags", "{str}|urlize", "{str}|urlize({int}, true)",
            "{str}|urlize(target='t', rel={str})", "{str}|truncate({int})", "{str}|truncate({int}, true, {str}, 0)",
            "{str}|safe", "{any}|e", "{str}|forceescape", "({str}|safe + {str})", "{str}|safe|upper", "{any}|escape ~ {str}",
            "'{{:{spec}}}'.format({any})", "'{{:{spec}}}'.format({int})", "'{{:{spec}}}'.format({float})",
            "'{{:{spec}}}'.format({str})", "'{{0[a]}}{{0.b!r}}'.format({dict})", "'{{:{{}}}}'.format({any}, {int} % 90)",
            "'{{a.b}}{{0}}'.format({any}, a={dict})", "'{percent}' % {any}", "'{percent}' % ({any}, {int})",
            "'{percent}' % {int}", "'{percent}' % {float}", "'%*d|%-*s' % ({int} % 90, {int}, {int} % 9, {str})",
            "'%(a)s %(b)r' % {dict}", "{str} % {any}", "{str}.format({any}, a={any})", "'<%s>'|safe % {any}",
            "('<{{}}>'|safe).format({any})", "('-'|safe).join({list})", "[{str}]|random", "{str}.replace({str}, {str}, {int})",
            "{any}|string|title", "{any}|replace({any}, {str})", "{list}|join({any}, {any})", "{str}.splitlines()|join('/')",
            "{any}|indent({str})", "{any}|center({int} % 90)", "{any}|tojson({any}, {any})", "{any}|trim({any})",
            "{str}[{int}:{int}]", "{str}[{int}]", "{str}.strip().split({str} ~ ',')[0]", "self.b0()|string"],
    "int": ["{list}|length", "{str}|length", "{dict}|count", "({int} + {int})", "({int} - {int})",
            "({int} * {int})", "({int} // ({int} or 1))", "({int} % ({int} or 3))", "-{int}",
            "{str}|int", "{float}|int", "{str}|wordcount", "{int}|abs", "{str}.find({str})",
            "{str}.count({str})", "{any}|default(4)", "({int} ** 2)", "[{int}, {int}]|max",
            "[{int}, {int}]|sum", "{str}|int(3)", "{bool}|int", "{list}|list|length", "{list}.count({any})", "{str}.index({str})", "{str}.rfind('a')",
            "{list}.index({any})", "{int}|round|int", "({int} * {int} // 3)", "-7 // ({int} or 2)",
            "-7 % ({int} or 2)", "{str}|int(base=16)", "{list}|sum(start={int})", "({bool} + {int})", "{any}|int({any})", "{any}|length",
            "{str}.find({str}, {int})", "{list}.index({any}, {int})", "{int}.real", "{any}|abs"],
    "float": ["({int} / ({int} or 4))", "({float} + {int})", "({float} * {float})", "{str}|float",
              "{float}|round", "{float}|round(2)", "{float}|round(1, 'floor')", "{float}|abs",
              "({float} // 0.3)", "({float} % 1.7)", "{int}|float", "{any}|float({any})", "{any}|round({int} % 9)",
              "{float}|round({int} % 9, 'ceil')", "{float} ** 2", "{float}.imag"],
    "bool": ["(not {any})", "({any} == {any})", "({int} < {int})", "({str} in {str})",
             "({any} in {list})", "({str} not in {dict})", "({any} is {test})", "({any} is not {test})",
             "({bool} and {bool})", "({bool} or {bool})", "{str}.startswith({str})",
             "{str}.endswith(({str}, 'c'))", "{str}.isdigit()", "(1 < {int} <= 5)", "{str}.isupper()",
             "({any} is sameas {bool})", "({any} is in {list})", "({int} is divisibleby 3)",
             "{str}.isalpha()", "{str}.isspace()", "{str}.istitle()", "{str}.isidentifier()",
             "{str}.isprintable()", "{str}.isalnum()", "{str}.isnumeric()", "{str}.isascii()",
             "(not {any} is {test})", "({int} in {list})", "({int} != {float} < {int})", "({list} == {list})", "({str} < {str})"],
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
             "({list} if {bool} else {list})", "{list}|select('sequence')|list", "{list}[::{int}]", "(1, *{list})", "[{any}] * ({int} % 50)",
             "{dict}|items|sort|list", "{list}|sort(reverse=true)", "{list}|map('default', {any})|list",
             "{list}|map('replace', 'a', 'b')|list", "{list}|reject('in', {list})|list",
             "range({int}, {int}, 2)|list", "{list}|select('>', {int})|list", "{list}.copy()",
             "{str}.split('', {int})", "{str}.splitlines(true)", "{list}|unique|list",
             "{list}|batch({int})|list", "{list}|map('int')|list", "{list}|reverse|list",
             "messages|sort(attribute='content', reverse=true)|map(attribute='role')|list",
             "{dict}|dictsort(by='value')", "{dict}|dictsort(true, 'key', true)", "d.items()|first",
             "messages|groupby('role')|map('last')|list", "messages|unique(attribute='role')|list"],
    "dict": ["{dict}", "dict(q={any})", "{{'a': {any}, 'k': {any}}}", "({dict} if {bool} else {dict})",
             "dict({dict}, w={int})", "{{1: {any}, 'x': {dict}, none: 2}}", "messages|first",
             "{dict}.copy()", "dict([['k', {any}]])", "dict({dict}|items)"],
    "any": ["{any}|first", "{any}|last", "{any}|sum", "{any}|min", "{any}.get({any})", "{any}[{slice}]", "{any} + {any}",
            "{any} * ({int} % 9)", "{any}|attr({str})", "{list}|map('upper')|first", "{list}|select('odd')|first",
            "messages|selectattr('content.x', 'defined')|first", "{any}|items|first", "{any}|reverse|first", "self.b1",
            "{list}|map({str})|first|default(0)", "{any}.real", "{any}|batch({any})|first", "{any}|slice({any})|first",
            "{list}|first", "{list}|last", "{dict}.a", "{dict}['a']", "{dict}.get({str})",
            "{dict}.get({str}, {any})", "{list}[{int}]", "({any} or {any})", "({any} and {any})",
            "{any}|default({any}, true)", "({any} if {bool})", "{list}|map('string')|max", "{dict}[{str}]",
            "{list}|first|default('-')", "{dict}|attr('a')", "messages[{int}].role", "{list}|random if false else {any}", "{dict}.pop('a', {any})",
            "{dict}.setdefault('zz', {any})", "{list}.pop() if {list} else 0", "{list}|min", "{list}|max",
            "messages|selectattr('role', 'defined')|first", "{any}[{any}]", "{any}.foo.bar", "m|string|length",
            "{list}|sum", "joiner(', ')()", "cycler('a', 'b').next()", "(namespace(q={any})).q",
            "{any} ~ none", "[{any}][0]", "{{'k': {any}}}.k", "({int}, {str})[{int}]",
            "messages|map(attribute='content')|select('string')|join|trim", "none|default({any}, true)"],
    "test": ["defined", "undefined", "none", "string", "number", "integer", "float", "mapping",
             "iterable", "sequence", "boolean", "true", "false", "callable", "eq 1", "escaped",
             "equalto({any})", "lower", "upper", "ne({any})", "odd", "even", "divisibleby({int})",
             "sameas none", "in {list}", "filter", "test", "gt({int})", "le {int}", "not none",
             "lessthan {int}", "greaterthan(1)", "nosuchtest"],
    "spec": ["", "d", "5", "<5", "*^9", "05", "+", "x", "#o", "b", "c", "e", ".2f", "08.3f", "g", ".3", ",", "_", "012,", "%", ".1%",
             "s", ".2s", "=+7", "z.0f", "n", "q", "5.", "é>4"],
    "percent": ["%s", "%r", "%a", "%d", "%5d", "%-5d|", "%05d", "%+d", "%x", "%#o", "%c", "%.2f", "%08.3f", "%e", "%g", "%#.3g",
                "%10s|", "%.2s", "%5.1r", "%%", "%q", "%5%", "%i|%s", "% d", "%ld", "%.3d", "%F", "%", "%(a)s"],
    "slice": ["1:", ":-1", "::-1", "::2", "1:3", "-2:", "{int}:", ":{int}", "{int}:{int}:-1", ":"],
}


class Generator:
    """Small templates, mostly well-typed so that most of them render; some fail in both."""

    def __init__(self, rng):
        self.r = rng
        self.blocks = 0

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
        return "(%s)" % text if kind not in ("test", "slice", "spec", "percent") else text

    def text(self):
        return self.pick("", " ", "\n", "text", "  \n  ", "a\n\n", "\t", "<|x|>\n")

    def tag(self, body):
        return "{%%%s %s %s%%}" % (self.pick("", "", "-", "+"), body, self.pick("", "", "-", "+"))

    def name(self):
        return self.pick("q", "w", "v", "s", "m", "loop")

    def printed(self, _depth):
        left, right = self.pick("", "", "-", "+"), self.pick("", "", "-")
        return "{{%s %s%s %s}}" % (left, self.expr(), self.pick("", "", "|e", "|safe"), right)

    def condition(self, depth):
        more = self.tag("elif " + self.expr(2)) + self.body(depth + 1) if self.r.random() < 0.3 else ""
        return (self.tag("if " + self.expr(1)) + self.body(depth + 1) + more + self.tag("else") +
                self.body(depth + 1) + self.tag("endif"))

    def loop(self, depth):
        target, over = self.pick(
            ("v", self.expr(2)), ("v", self.expr(2, "list")), ("k, v", self.expr(2, "dict") + ".items()"),
            ("k, v", self.expr(2, "dict") + "|items"), ("v, (k, q)", "[(1, (2, 3))]"),
            ("v", self.expr(2, "str")), ("k, v", self.expr(3, "list")), ("ns.a", self.expr(3, "list")))
        head = "for %s in %s%s" % (target, over, self.pick("", "", " if v", " if v is not none",
                                                           " if loop.index"))
        inner = self.body(depth + 1) + "{{ v }}{{ loop.%s }}" % self.pick(
            "index", "index0", "first", "last", "length", "revindex", "revindex0", "previtem", "nextitem",
            "depth", "cycle(1, 2, 3)", "changed(v)", "nosuch")
        jump = self.pick("", "", "{% if loop.index > 1 %}{% break %}{% endif %}",
                         "{% if v %}{%- continue -%}{% endif %}")
        return (self.tag(head) + jump + inner +
                self.pick("", self.tag("else") + self.body(depth + 1)) + self.tag("endfor"))

    def recursive_loop(self, depth):
        return ("{% for v in " + self.pick("[[1, [2]], [], [[3]]]", "[1, [2, 3], 'x']", "tree") +
                " recursive %}" + self.pick("", self.text()) + "{{ loop.depth }}{{ loop.index }}"
                "{% if v is sequence and v is not string %}<{{ loop(v) }}>{% else %}{{ v }}" +
                self.body(depth + 2) + "{% endif %}{% endfor %}")

    def assignment(self, _depth):
        target = self.pick("q", "w", "w", "ns.a", "ns.b", "q, w", "d.x")
        value = self.expr(1) if "," not in target else self.pick(
            "(1, 2)", "[%s, %s]" % (self.expr(2), self.expr(2)), self.expr(2, "list"))
        return self.tag("set %s = %s" % (target, value)) + self.pick("", "{{ q }}", "{{ w }}{{ ns.a }}")

    def captured(self, depth):
        return (self.tag("set q" + self.pick("", " | upper", " | trim", " | replace('a', '<') | e")) +
                self.body(depth + 1) + self.tag("endset") + "{{ q }}" + self.pick("", "{{ q|e }}"))

    def macro(self, depth):
        extra = self.pick("", "{{ varargs }}", "{{ kwargs }}", "{{ caller is defined }}",
                          "{{ caller() if caller is defined }}", "{{ varargs|length }}{{ kwargs|length }}")
        call = self.pick("", "1", "1, 2", "b=3", "a=s", "*[1, 2]", "**{'a': 1}", "1, 2, 3", "z=1", "1, a=2")
        use = self.pick("{{ m(%s) }}" % call,
                        "{%% call m(%s) %%}%s{%% endcall %%}" % (call, self.body(depth + 2)),
                        "{{ m(%s)|upper }}{{ m.name }}" % call, "{{ m.arguments }}", "")
        return (self.tag("macro m(%s)" % self.pick("a, b=%s" % self.expr(2), "a=1", "", "a, b")) +
                "{{ a }}{{ b }}" + extra + self.body(depth + 1) + self.tag("endmacro") + use)

    def call_with_arguments(self, depth):
        return ("{% macro each(xs) %}{% for x in xs %}{{ caller(x, loop.index) }}{% endfor %}"
                "{% endmacro %}{% call(v, k" + self.pick("", "=1") + ") each(" + self.expr(2, "list") +
                ") %}" + self.body(depth + 1) + "{{ v }}{{ k }}{% endcall %}")

    def with_block(self, depth):
        names = self.pick("q = " + self.expr(2), "q = 1, w = q", "", "q = s, s = t")
        return (self.tag("with " + names) + "{{ q }}" + self.body(depth + 1) + "{{ s }}" +
                self.tag("endwith"))

    def escaping(self, depth):
        return (self.tag("autoescape " + self.pick("true", "true", "false", "flag", "not flag")) + self.text() +
                self.body(depth + 1) + self.pick("", "{% set q %}<{{ s }}{% endset %}{{ q }}", "{{ [s, t|safe]|join(t) }}",
                                                 "{{ s|replace(t, '<') }}", "{{ s ~ t|e }}", "{{ d|xmlattr }}", "{{ m(s) }}") +
                self.tag("endautoescape"))

    def filtered(self, depth):
        return (self.tag("filter " + self.pick("pprint", "striptags", "wordwrap(7)", "urlize", "forceescape", "safe", "upper", "trim", "indent(1)", "replace('a', s)|title",
                                               "e", "nosuchfilter")) +
                self.body(depth + 1) + self.tag("endfilter"))

    def block(self, depth):
        self.blocks += 1
        tag = self.pick("generation", "block b%d" % self.blocks, "block b%d scoped" % self.blocks)
        use = self.pick("", "", "{{ self.%s() }}" % tag.split()[1]) if "block" in tag and "break" not in tag else ""
        return self.tag(tag) + self.body(depth + 1) + self.tag("end" + tag.split()[0]) + use

    def odd(self, _depth):
        return self.pick("{# c #}", "{#- c -#}", "{% raw %}{{ x }}{% endraw %}", "\n{#- c #}\n",
                         "{%- raw -%} {% x %} {%- endraw -%}", "{{ raise_exception(s) }}",
                         "{% include 'x' %}", "{{ '{{' }}{{ \"%}\" }}", "{{ s }}\n\n", "  {%+ if n %}  x\n{% endif %}",
                         "{{ strftime_now('%Y-%m-%d %H:%M:%S %j %a %B %p') }}", "{# {{ #}", "{{ n }}{# c -#}  \n y",
                         "{% if false %}{% import 'x' as y %}{% endif %}", "{{ [1,\n2] }}\r\n", "{{ range(3) }}")

    def statement(self, depth):
        if depth > 3:
            return self.printed(depth)
        return self.pick(*[self.printed] * 5, self.condition, self.condition, self.loop, self.loop,
                         self.recursive_loop, self.assignment, self.assignment, self.captured, self.macro,
                         self.call_with_arguments, self.with_block, self.filtered, self.block,
                         self.escaping, self.odd)(depth)

    def body(self, depth):
        n = self.r.choice([0, 1, 1, 1, 2]) if depth < 3 else 1
        return "".join(self.text() + self.statement(depth) for _ in range(n))

    def template(self):
        return ("{% set ns = namespace(a=0) %}" +
                "".join(self.text() + self.statement(0) for _ in range(self.r.randrange(1, 5))) +
                self.text())


# ---- values ----

RANDOM_VARIABLES = {
    "n": 3, "f": 2.5, "s": "abcab", "t": " Some Text\n", "xs": [1, 2, 3, 2], "ys": ["b", "a", "B"],
    "d": {"a": 1, "b": "two", "c": None}, "flag": True, "nothing": None,
    "messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}],
}
STRINGS = ["", "a", "abcab", " Some Text\n", "ünï", "日本 語", "<b>&'\"</b>", "a\tb\nc\r\nd", "ß Ǆ İ ﬁ",
           "12", "-3.5", "0x1F", "{{ x }}", "%s %d", "user", "x" * 40, "a-b_c d.e", "\u2028\u00a0",
           "👨\u200d👩", "http://a.b/c?d=e f", "True", "none", "(see https://x.org/(y)). mail a.b@c.de,", "<p>A &amp; B</p> <!-- c -->",
           "well-known state-of-the-art -- words of a longer line", "{0} {a} {", "%(a)s %5.1f"]


def scalar(rng: random.Random):
    return rng.choice([rng.choice(STRINGS), rng.choice(STRINGS), rng.randrange(-20, 300), True, False,
                       None, rng.choice([0.5, -1.25, 1e20, 3.0, 0.1, 1e-7, 123456.789])])


def nested(rng: random.Random, depth: int = 0):
    kind = rng.random()
    if depth > 2 or kind < 0.6:
        return scalar(rng)
    if kind < 0.8:
        return [nested(rng, depth + 1) for _ in range(rng.randrange(4))]
    return {rng.choice(["a", "b", "role", "x y", "items", "é", "k"]): nested(rng, depth + 1)
            for _ in range(rng.randrange(4))}


def variables(rng: random.Random) -> dict:
    """Of the kinds that the expressions expect; now and then one is of any kind."""
    made = {
        "n": rng.randrange(-3, 12), "f": rng.choice([2.5, -0.25, 1e16, 7.0, 0.1]),
        "s": rng.choice(STRINGS), "t": rng.choice(STRINGS),
        "xs": [rng.randrange(-5, 9) for _ in range(rng.randrange(5))],
        "ys": [rng.choice(STRINGS) for _ in range(rng.randrange(4))],
        "d": {"a": rng.randrange(-9, 40), "b": rng.choice(STRINGS), "c": nested(rng), "k": 1},
        "flag": rng.random() < 0.5, "nothing": None, "tree": [[1], [[2, [3]]], []],
        "messages": [{"role": rng.choice(["user", "assistant", "system", "tool"]),
                      "content": rng.choice([*STRINGS, None])} for _ in range(rng.randrange(4))]}
    if rng.random() < 0.2:
        made[rng.choice(["n", "f", "s", "t", "xs", "ys", "flag", "nothing", "tree", "messages"])] = nested(rng)
    return made
