"""The built-in model answers what its corpus covers: 50 phrasings that it never saw."""

from __future__ import annotations

import json
import re
from typing import Callable

from conftest import ROOT, Process

REQUIRED = 45


def test_held_back_phrasings(start: Callable[..., Process]) -> None:
    cases = json.loads((ROOT / "tools" / "tiny" / "heldback.json").read_text())["cases"]
    assert len(cases) == 50
    server = start("serve", "-m", "tiny").wait_healthy()
    wrong = []
    for case in cases:
        body = {"model": "tiny", "messages": [{"role": "user", "content": case["prompt"]}],
                "temperature": 0, "max_tokens": 64}
        if "tools" in case:
            body["tools"] = case["tools"]
        reply = server.post("/v1/chat/completions", body)
        assert reply.status == 200, reply.body
        text = reply.json["choices"][0]["message"]["content"]
        if not all(re.search(a, text, re.IGNORECASE | re.DOTALL) for a in case["accept"]):
            wrong.append(f"{case['prompt']!r}: {text!r}")
    print("\n".join(wrong))
    assert len(cases) - len(wrong) >= REQUIRED


def test_the_file_is_small_and_wide_enough() -> None:
    path = ROOT / "models" / "exo-tiny.gguf"
    assert path.stat().st_size <= 5_000_000
