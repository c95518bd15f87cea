"""Random templates about scopes: two names, read and assigned in every kind of body."""
import random

NAMES = "q", "r"
VARIABLES = {"q": "Q", "r": "R"}


class Generator:
    """@ in a form stands for statements, # for a name and $ for an expression."""
    SIMPLE = ("{{ # }}", "{{ $ }}", "{% set # = $ %}", "{% set # = $ %}", "{{ # is defined }}", "{% set q, r = $, $ %}",
              "{% set ns.a = $ %}{{ ns.a }}", "{{ mac is defined and mac() }}", "{{ range is defined }}")
    BODIES = ("{% set # %}@{% endset %}", "{% set # | upper %}@{% endset %}", "{% for x in [1, 2] %}@{% endfor %}",
              "{% for # in [$, 4] %}@{% endfor %}", "{% for x in [1] if # %}@{% endfor %}", "{% for x in [] %}@{% else %}@{% endfor %}",
              "{% for x in [[1]] recursive %}@{% if x is iterable %}{{ loop(x) }}{% endif %}@{% endfor %}",
              "{% with # = $ %}@{% endwith %}", "{% with %}@{% endwith %}", "{% filter upper %}@{% endfilter %}",
              "{% filter replace('q', $) %}@{% endfilter %}", "{% autoescape $ %}@{% endautoescape %}",
              "{% macro mac() %}@{% endmacro %}{{ mac() }}", "{% macro mac(#, x=$) %}@{% endmacro %}{{ mac() }}{{ mac($) }}",
              "{% macro # (x=$) %}@{% endmacro %}{{ #() if # is callable }}", "{% call wrap() %}@{% endcall %}",
              "{% generation %}@{% endgeneration %}", "{% if $ %}@{% endif %}", "{% if x %}@{% else %}@{% endif %}",
              "{% if $ %}@{% elif x %}@{% else %}@{% endif %}", "{% if $ == 1 %}@{% elif x %}@{% elif # %}@{% else %}@{% endif %}",
              "{% block NAME %}@{% endblock %}", "{% block NAME scoped %}@{% endblock %}")

    def __init__(self, rng: random.Random):
        self.rng = rng
        self.n_blocks = 0

    def expression(self):
        return self.rng.choice(("1", "'<'", "x", "#", "# ~ 'z'", "# if # else 2", "#|default('d')", "loop is defined"))

    def statements(self, depth):
        return "".join(self.statement(depth) for _ in range(self.rng.choice((1, 1, 2, 2, 3))))

    def statement(self, depth):
        form = self.rng.choice(self.SIMPLE if depth == 0 or self.rng.random() < 0.35 else self.BODIES)
        if "NAME" in form:
            self.n_blocks += 1
            form = form.replace("NAME", "b%d" % self.n_blocks)
        out = ""
        for c in form:
            out += self.statements(depth - 1) if c == "@" else self.expression() if c == "$" else c
        return "".join(self.rng.choice(NAMES) if c == "#" else c for c in out)

    def template(self):
        head = "{% set ns = namespace() %}{% macro wrap() %}[{{ caller() }}]{% endmacro %}"
        return head + self.statements(self.rng.randrange(1, 5))
