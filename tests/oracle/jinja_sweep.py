"""Every operator, filter, test, method and format with values of every kind, one at a time.

Where jinja_grammar.py makes templates that mostly work, most of these fail, and must fail in exo
too.  jinja_diff.py --sweep runs them.
"""

from __future__ import annotations

import itertools
import re
from typing import Iterator

VARIABLES = {
    "i0": 0, "i1": 1, "i3": -3, "i7": 7, "big": 12345, "f0": 0.0, "f2": 2.5, "f3": 3.0, "fn": -0.75,
    "fb": 1e16, "t": True, "u": False, "nothing": None, "e": "", "a": "a", "s": "aBc dEf", "sp": " x\n",
    "un": "éß 日Ǆ", "dig": "12", "num": "-3.5", "html": "<b>\"&'</b>", "lines": "a\tb\r\nc\n\nd", "hy": "to-do foo_bar",
    "fmt": "%s{0}", "el": [], "l": [1, 2, 3], "ls": ["b", "A", "c"], "lp": [["x", 1], ["y", 2]],
    "lm": [None, 2, "z"], "ld": [{"a": 2, "b": "q"}, {"a": 1, "b": "P"}], "ed": {}, "d": {"a": 1, "b": "x"},
    "dn": {"k": {"a": [1, 2.5, None, True, "é\"'"]}},
}
PRELUDE = {
    "m": "{% macro m(x, y=2) %}{{ x }}{{ y }}{% endmacro %}", "tu": "{% set tu = (1, 'b') %}",
    "safe": "{% set safe = '<i>&'|safe %}", "r": "{% set r = range(3) %}", "ns": "{% set ns = namespace(a=1) %}",
    "keys": "{% set keys = d.keys() %}", "items": "{% set items = d.items() %}"}
OPAQUE = ["ls|map('upper')", "m", "range", "s.upper", "cycler(1, 2)", "joiner()"]  # text that Python makes of an address
VALUES = [*VARIABLES, "missing", "tu", "safe", "r", "ns", "keys", "items", "d.nope", *OPAQUE]
ARGUMENTS = ["0", "1", "-1", "3", "2.5", "true", "none", "missing", "''", "'a'", "' '", "'b'", "safe", "[1, 'a']", "d", "()",
             "('a', 'b')"]
OPERATORS = ["+", "-", "*", "/", "//", "%", "~", "and", "or", "==", "!=", "<", "<=", ">", ">=", "in", "not in"]
FILTERS = """abs attr batch capitalize center count d default dictsort e escape filesizeformat first float
    forceescape format groupby indent int items join last length list lower map max min pprint reject
    rejectattr replace reverse round safe select selectattr slice sort string striptags sum title tojson trim
    truncate unique upper urlencode urlize wordcount wordwrap xmlattr""".split()
NAMED = {
    "batch": ["2, 'x'", "2, none", "linecount=2", "0, 1"], "center": ["width=9"], "d": ["'x', true", "default_value=1"],
    "default": ["'x', boolean=true", "boolean=true"], "dictsort": ["true, 'key'", "by='value'", "reverse=true",
    "false, 'value', true", "by='x'"], "float": ["default=7"], "groupby": ["'a'", "'b', 'z'", "0", "attribute='a'",
    "'b', case_sensitive=true"], "indent": ["2, true", "'> ', true, true", "width=2, blank=true", "first=true"],
    "int": ["7", "7, 16", "base=8", "none, 2", "0, 0", "default='x'"], "join": ["'-'", "'-', 'a'", "attribute='b'", "1",
    "', ', 0", "d=safe"], "map": ["'upper'", "attribute='a'", "attribute=0", "attribute='a', default=5", "'nosuch'",
    "'join', '-'", "attribute='a.b'", "attribute='a', x=1", "'default', 3", "'int', 9, base=16"],
    "max": ["true", "attribute='a'", "case_sensitive=true"], "min": ["true", "attribute='b'", "false, 0"],
    "select": ["'odd'", "'string'", "'equalto', 2", "'nosuch'", "'in', [1, 'a']"], "reject": ["'none'", "'defined'"],
    "selectattr": ["'a'", "'a', 'odd'", "'b', 'eq', 'q'", "0", "'a.b'", "'zz', 'undefined'", "1, 'gt', 1"],
    "rejectattr": ["'a'", "'b', 'string'"], "replace": ["'a', 'X'", "'', '-'", "'B', '<', 1", "1, 2", "'a', 'b', none",
    "old='a', new='b'", "'<', safe", "'a', 'b', count=0"], "round": ["2, 'floor'", "-1", "1, 'ceil'", "0, 'x'",
    "method='ceil'", "precision=1", "-1, 'floor'", "400"], "slice": ["2, 'x'", "4", "slices=2"],
    "sort": ["true", "attribute='a'", "attribute='b,a'", "false, true", "reverse=true, attribute=0", "attribute='zz'"],
    "sum": ["'a'", "attribute='a'", "start=10", "start=[]", "0", "start='x'", "attribute=1"],
    "tojson": ["indent=2", "true", "indent='-'", "indent=0", "indent=-1", "none, none, (',', ':')", "sort_keys=true",
               "separators=[';', '=']", "indent=true", "indent=1.5", "separators=none", "indent=2, separators=(',', ':')"],
    "trim": ["'a '", "chars='b'"], "truncate": ["4", "5, true", "3, false, ''", "4, true, '..', 0", "2", "0, true, ''",
    "length=5, leeway=0", "6, end='é', leeway=1", "5, leeway=-1"], "unique": ["true", "attribute='b'", "false, 'a'"],
    "urlize": ["5", "nofollow=true", "target='_blank'", "rel='x y'", "10, true, 't', 'r'", "extra_schemes=['tel:']"],
    "wordwrap": ["3", "5, false", "4, true, '|'", "4, wrapstring='<br>'", "3, break_on_hyphens=false", "width=1", "7, false, '-', false"],
    "xmlattr": ["false", "autospace=true"], "filesizeformat": ["true", "binary=true"], "attr": ["'a'", "'items'", "name='b'"],
    "format": ["1", "1, 2", "a=1", "1, b=2", "'<'", "safe"], "urlencode": [], "first": [], "items": [],
}
TESTS = """boolean callable defined divisibleby eq equalto escaped even false filter float ge greaterthan gt in
    integer iterable le lessthan lower lt mapping ne none number odd sameas sequence string test true undefined
    upper""".split()
STRING_METHODS = """capitalize casefold center count endswith expandtabs find format format_map index isalnum
    isalpha isascii isdecimal isdigit isidentifier islower isnumeric isprintable isspace istitle isupper join ljust
    lower lstrip partition removeprefix removesuffix replace rfind rindex rjust rpartition rsplit rstrip
    split splitlines startswith strip swapcase title upper zfill""".split()
STRINGS = ["e", "a", "s", "sp", "un", "dig", "num", "html", "lines", "hy", "fmt", "safe"]
PAIRS = ["'a', 'b'", "'a', 1", "1, 2", "'', 1", "7, '-'", "7, ''", "7, 'ab'", "none, 1", "'a', none", "'a', -1", "none, -1",
         "'a', 0, -1", "'a', 'b', 1", "'a', 'b', none", "'a', 'b', -1", "'B', 1, 5", "'B', none, none", "('a', 'b'), 1",
         "'a', 'b', 1, 2", "'a', true", "' ', 1", "sep='B'", "maxsplit=1", "sep='B', maxsplit=1", "keepends=true", "x=1",
         "tabsize=4", "'<', '&', 1", "safe, 'a'"]
METHODS = {
    "l": "append clear copy count extend index insert pop remove reverse sort".split(),
    "ls": "append count extend index insert pop remove sort".split(), "tu": ["count", "index"],
    "d": "clear copy get items keys pop popitem setdefault update values".split(),
    "r": "count index start stop step".split(), "i7": "real imag numerator denominator".split(), "f2": ["real", "imag"], "t": ["real"],
    "cycler(1, 2)": "next reset current items pos".split(), "ns": ["a", "items"], "m": "name arguments caller".split(),
}
INDICES = ["0", "1", "-1", "-9", "5", "true", "1.0", "'a'", "'b'", "'upper'", "'items'", "none", "missing", "[1]", "(1, 2)", "safe",
           "1:", ":-1", "::-1", "::2", ":0", "-2:9", "5:1:-2", "none:2", "::0", "'a':", "1.5:", "true:", "missing:", "1, 2",
           "-9::3", ":missing:", "::-3"]
PERCENT = ["%s", "%r", "%a", "%d", "%i", "%5d", "%-5d|", "%05d", "%+d", "% d", "%x", "%#x", "%X", "%o", "%#o", "%u", "%c", "%f",
           "%.2f", "%8.3f", "%-8.1f|", "%08.2f", "%+.1f", "%e", "%.3E", "%g", "%.2g", "%#g", "%G", "%10s|", "%-10s|", "%.2s",
           "%5.1s|", "%010s", "%%", "%", "%q", "%l", "%ld", "%hd", "%5", "%.d", "%.3d", "%#.3x", "%+s", "%(a)s", "%(b)r", "%(a)05d",
           "%(zz)s", "%(a", "%.0f", "%#.0f", "%b", "a%sb%sc", "%*d", "%.*f", "%-*d|", "%5%", "%F", "%.50f", "%s%%", "%-05d|",
           "% +d", "%0-5d|", "%##x", "%.5x", "%+x", "%08x", "%#08x", "% x", "%5c|", "%-3c|", "%3r", "%.1r", "%3a", "%.1000s", "%.0s",
           "%(a)", "%()s", "%((a))s", "%(a)s%(b)s", "%1$s", "%I64d", "%Lf"]
SPECS = ["", "d", "5", "<5", ">5", "^5", "=5", "05", "+", " ", "-", "+d", "x", "#x", "X", "#X", "o", "#o", "b", "#b", "c", "e", "E", "f",
         "F", "g", "G", "n", "%", "s", ".2f", ".3", ".0f", "10.3f", "010.2f", "+.1e", ",", ",d", "_", "_d", "_x", "#_b", ",.2f", "12,",
         "012,", "*^9", "é<4", "{<5", "x=7", "*=+8d", ".2s", "5.1s", ".1", "5.", ".", "zz", "5x5", "?", "z", "z.1f", "#.3g", "#", "<",
         "0", "00", "<05", "=05", ">+5", "+5s", "=s", "0s", "09s", ",s", ",x", ".2d", "1e", "%d", ".1%", "08b", "#010x", "_.3f", "d5",
         "+s", " s", "#s", ".3n", ".", "=+", "^", "<<", "0.0", ".0", ".0e", ".1g", ",%", "_%", ",e", "c5", "5c", "+c", ",c"]
TEMPLATES = ["{}", "{0}", "{0}{1}", "{}{0}", "{1}", "{a}", "{0.a}", "{0[a]}", "{0[0]}", "{0[1]}", "{0[-1]}", "{0.upper}", "{0.real}",
             "{0[b].real}", "{0[b][0]}", "{a.b}", "{!r}", "{!s}", "{!a}", "{!x}", "{!r:>9}", "{0!r}", "{", "}", "{{", "}}", "{{}}", "{{{}}}",
             "{:{}}", "{:{1}}", "{0:{1}}", "{:>{}}", "{0", "{0!}", "{0!r", "{0:", "{ 0}", "{0 }", "{0.}", "{0[}", "{0[]}", "{0[a}", "{0]}", "{0[a]b}",
             "{0..a}", "{.a}", "{[0]}", "{[a]}", "{0._x}", "{0[a][b]}", "{-1}", "{:}", "{:{}{}}", "{0!r!s}", "{!}", "{:!r}", "{a!r:{b}}",
             "{00}", "{0.a.b}", "{99999999999999999999}", "a{}b{}c{}", "{:}}", "{{:}", "{0:{{}}}", "{0[x:y]}", "{0:%s}", "{kw}", "{0.a:>5}", "{0[a]:>5}"]
BODIES = ["{%% for x in %s %%}{{ x }},{%% else %%}none{%% endfor %%}", "{%% for x, y in %s %%}{{ x }}{{ y }},{%% endfor %%}",
          "{%% for x in %s %%}{{ loop.index }}{{ loop.last }}{{ loop.length }}{{ loop.nextitem }},{%% endfor %%}",
          "{%% for x in %s if x %%}{{ loop.revindex }}{{ x }},{%% endfor %%}", "{%% set x, y = %s %%}{{ x }}{{ y }}",
          "{%% if %s %%}yes{%% else %%}no{%% endif %%}", "{{ m(*%s) }}", "{{ m(**%s) }}", "{{ dict(%s) }}", "{{ range(%s) }}",
          "{{ namespace(%s).a }}", "{%% set ns.b = %s %%}{{ ns.b }}", "{{ [%s] }}", "{{ (%s,) }}", "{{ {1: %s} }}", "{{ {%s: 1} }}",
          "{{ joiner(%s)() }}", "{{ cycler(%s).next() }}", "{{ raise_exception(%s) }}", "{{ strftime_now(%s) }}", "{{ -%s }}", "{{ +%s }}",
          "{{ not %s }}", "{{ %s() }}", "{{ %s(1) }}", "{{ %s(a=1) }}", "{{ %s.a }}", "{{ %s.zz.y }}",
          "{%% filter replace('a', %s) %%}abc{%% endfilter %%}", "{%% autoescape true %%}{{ %s }}{%% endautoescape %%}",
          "{%% autoescape true %%}{{ %s ~ '<' }}{{ '<' + a }}{%% endautoescape %%}", "{%% autoescape %s %%}{{ html }}{%% endautoescape %%}",
          "{%% autoescape true %%}{%% set x %%}<{{ %s }}{%% endset %%}{{ x }}{{ m(%s) }}{%% endautoescape %%}",
          "{%% autoescape true %%}{{ [%s, html]|join('<') }}{{ html|replace('b', %s) }}{%% endautoescape %%}", "{{ [%s]|tojson }}",
          "{{ [%s]|pprint }}", "{{ '%%s' %% (%s,) }}", "{{ '<%%s>'|safe %% (%s,) }}", "{{ ('<{}>'|safe).format(%s) }}", "{{ ('-'|safe).join([%s]) }}",
          "{{ [%s, %s]|sort }}", "{{ [%s, 1]|unique|list }}", "{{ [%s]|random }}", "{{ (%s)[:1]|random }}", "{{ (%s)[:0]|random }}", "{{ %s is sameas true }}", "{{ dict(a=%s)|xmlattr }}",
          "{{ {'a': %s}|dictsort }}", "{{ [%s, 2]|max }}", "{{ [[%s]]|sum(start=[]) }}", "{{ %s if %s }}", "{{ [1, 2][%s] }}", "{{ d[%s] }}",
          "{{ 'abc'[%s] }}", "{{ 'abc'[%s:] }}", "{{ 'abc' * %s }}", "{{ 2 ** %s }}", "{{ %s ** 2 }}", "{{ %s ** -1 }}", "{{ '%%d' %% %s }}", "{{ '%%5.2f' %% %s }}"]


def expressions() -> Iterator[str]:
    for value in VALUES:
        for name in FILTERS:
            yield "%s|%s" % (value, name)
            for arguments in [*ARGUMENTS, *NAMED.get(name, ())]:
                yield "%s|%s(%s)" % (value, name, arguments)
        for name in TESTS:
            yield "%s is %s" % (value, name)
            for argument in ARGUMENTS:
                yield "%s is %s(%s)" % (value, name, argument)
        for index in INDICES:
            yield "(%s)[%s]" % (value, index)
    for left, operator, right in itertools.product(VALUES, OPERATORS, VALUES):
        if operator == "-" and {left, right} & {"keys", "items"}:
            continue  # sets, which exo does not have
        yield "(%s) %s (%s)" % (left, operator, right)
    for value, name in itertools.product(STRINGS, STRING_METHODS):
        for arguments in ["", *ARGUMENTS, *PAIRS]:
            yield "%s.%s(%s)" % (value, name, arguments)
    for value, names in METHODS.items():
        for name, arguments in itertools.product(names, ["", *ARGUMENTS, *PAIRS]):
            yield "[%s.%s(%s), %s]" % (value, name, arguments, value)
        for name in names:
            yield "%s.%s" % (value, name)
    for form, value in itertools.product(PERCENT, VALUES):
        yield "'%s' %% (%s)" % (form, value)
        yield "'%s' %% (7, %s)" % (form, value)
    for spec, value in itertools.product(SPECS, VALUES):
        yield "'{:%s}'.format(%s)" % (spec, value)
    for form, value in itertools.product(TEMPLATES, VALUES):
        yield "'%s'.format(%s, 1, a=d, b='>5')" % (form, value)
        yield "'%s'.format(%s)" % (form, value)


def with_prelude(text: str) -> str:
    names = set(re.findall(r"\w+", text))
    return "".join(PRELUDE[name] for name in PRELUDE if name in names) + text


def is_opaque(template: str) -> bool:
    """Whether the text cannot be compared, but only whether there is one."""
    return any(value in template for value in OPAQUE)


def templates() -> Iterator[str]:
    for body, value in itertools.product(BODIES, VALUES):
        yield with_prelude(body % ((value,) * body.replace("%%", "").count("%s")))
    for expression in expressions():
        yield with_prelude("{{ %s }}" % expression)
