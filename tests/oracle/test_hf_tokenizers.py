"""exo's ids of generated tokenizer.json files against Hugging Face's tokenizers; see hf_diff.py."""

from __future__ import annotations

import pytest

from hf_diff import Unavailable, run

TOKENIZERS = 400  # hf_diff.py is for more


def test_generated_tokenizers() -> None:
    try:
        report = run(TOKENIZERS, 20, seed=2026)
    except Unavailable as reason:
        pytest.skip(str(reason))
    assert not report.differ, "\n".join(report.differ[:3])
    assert report.tokenizers > TOKENIZERS / 2, str(report)
    assert report.texts > TOKENIZERS * 20 / 2, str(report)
    unknown = [what for what in report.refused if "is not supported" not in what]
    assert not unknown, unknown
