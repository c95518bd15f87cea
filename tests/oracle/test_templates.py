"""exo's chat templates against Python's jinja2; see jinja_diff.py.

Generated pairs of template and values, templates about scopes; and the templates that llama.cpp brings along, where it
can be had from npm, for several conversations.
"""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("jinja2")

from batch import Renderer
from compare import Unavailable
from jinja_diff import difference, random_pairs, scope_pairs, sweep, template_pairs
from llama_vocab import sources

PAIRS = 1500
SCOPES = 400
SWEEP_STEP = 67  # of the templates of jinja_sweep.py
CORPUS = Path(__file__).resolve().parents[1] / "fuzz" / "corpus" / "jinja"


def check(pairs) -> int:
    n = 0
    with Renderer() as renderer:
        for label, template, variables in pairs:
            found = difference(renderer, template, variables)
            assert found is None, f"{label}\n{found}"
            n += 1
    return n


def test_generated_templates() -> None:
    assert check(random_pairs(PAIRS, seed=1)) == PAIRS


def test_scopes() -> None:
    assert check(scope_pairs(SCOPES, seed=1)) == SCOPES


def test_everything_with_everything() -> None:
    with Renderer() as renderer:
        n, found = sweep(renderer, SWEEP_STEP)
    assert n > 2000
    assert not found, "\n".join(found)


def test_corpus() -> None:
    assert check(template_pairs(sorted(CORPUS.glob("*.jinja")))) > 300


def test_templates_of_llama_cpp() -> None:
    try:
        paths = sorted((sources() / "models" / "templates").glob("*.jinja"))
    except Unavailable as reason:
        pytest.skip(str(reason))
    assert check(template_pairs(paths)) > 500
