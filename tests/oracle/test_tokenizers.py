"""exo's token ids against llama.cpp's, and against the models' own rules; see tokenizer_diff.py.

Every name that llama.cpp accepts in tokenizer.ggml.pre, with small vocabularies made for it; and
the vocabularies that llama.cpp brings along, with the ids that came with them.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import word_rules
from compare import Unavailable

try:
    from llama_vocab import sources
    MODELS = sources() / "models"
except Unavailable as reason:
    pytest.skip(str(reason), allow_module_level=True)

from batch import Tokenizer
from tokenizer_diff import FILES, Result, compare_all

TEXTS = 150  # for each name; tokenizer_diff.py is for more
SEPARATOR = b"\n__ggml_vocab_test__\n"


@pytest.fixture(scope="module")
def results() -> dict[str, Result]:
    return {r.name: r for r in compare_all([*word_rules.RULE_OF, *FILES], TEXTS, seed=7)}


@pytest.mark.parametrize("name", [*word_rules.RULE_OF, *FILES])
def test_random_texts(results: dict[str, Result], name: str) -> None:
    r = results[name]
    assert r.with_llama + r.with_rules > TEXTS / 4
    assert not r.differ, "\n".join(r.differ[:3])


def test_every_name_of_llama_cpp_is_known() -> None:
    source = (sources() / "src" / "llama-vocab.cpp").read_text()
    names = set(re.findall(r'tokenizer_pre == "([^"]+)"', source))
    assert len(names) > 60
    assert names - set(word_rules.RULE_OF) == set()


@pytest.mark.parametrize("path", sorted(MODELS.glob("*.gguf.out")), ids=lambda p: p.name[11:-9])
def test_vocabularies_of_llama_cpp(path: Path) -> None:
    model = str(path)[:-len(".out")]
    asked = Path(model + ".inp").read_bytes().split(SEPARATOR)[:-1]
    wanted = [[int(i) for i in line.split()] for line in path.read_text().split("\n")]
    assert len(asked) >= 40
    with Tokenizer(model) as exo:
        for text, want in zip(asked, wanted):
            assert exo.ids(text) == want, text
