"""A model that says what a test wants: its weights are a table from one token to the next.

Layers add nothing, a token's embedding is a direction of its own, and the head has for that
direction the tokens that may follow.  The second choice is taken when the first is penalised for
having been said: presence_penalty 2.
"""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from conftest import EXO, ROOT

sys.path.insert(0, str(ROOT / "tests" / "oracle"))
from gguf_edit import ARRAY, STRING, Gguf, packed_str  # noqa: E402

WIDTH = 256  # of test-256, whose vocabulary has some fillers
NORMAL, CONTROL, USER_DEFINED = 1, 3, 4


@dataclass
class Script:
    template: str
    tokens: dict[str, int]  # text: type
    follows: dict[str, list[str]]  # the likeliest first; a name may be any one-token text
    renamed: dict[str, int] = field(default_factory=dict)  # filled: text: id


def _tokens(g: Gguf) -> list[bytes]:
    raw = g.values["tokenizer.ggml.tokens"][1]
    kind, n = struct.unpack_from("<IQ", raw)
    assert kind == STRING
    at, out = 12, []
    for _ in range(n):
        (size,) = struct.unpack_from("<Q", raw, at)
        out.append(raw[at + 8:at + 8 + size])
        at += 8 + size
    return out


def _set_tokens(g: Gguf, script: Script) -> None:
    texts = _tokens(g)
    raw_types = g.values["tokenizer.ggml.token_type"][1]
    types = list(struct.unpack_from(f"<{len(texts)}i", raw_types, 12))
    free = [i for i, text in enumerate(texts) if text.startswith(b"<unused")]
    assert len(free) >= len(script.tokens)
    for (text, kind), i in zip(script.tokens.items(), free):
        texts[i], types[i] = text.encode(), kind
        script.renamed[text] = i
    g.values["tokenizer.ggml.tokens"] = (ARRAY, struct.pack("<IQ", STRING, len(texts)) + b"".join(
        packed_str(t.decode()) for t in texts))
    g.values["tokenizer.ggml.token_type"] = (
        ARRAY, struct.pack("<IQ", 5, len(types)) + struct.pack(f"<{len(types)}i", *types))


def write_scripted(script: Script, path: Path) -> str:
    """exo synth's test-256 with other words and weights."""
    subprocess.run([EXO, "synth", "--shape", "test-256", "--type", "f32", "--seed", "1",
                    "--layers", "1", "-o", str(path)], check=True, capture_output=True, timeout=60)
    g = Gguf(path)
    _set_tokens(g, script)
    g.set_str("tokenizer.chat_template", script.template)
    for name in ("blk.0.attn_output.weight", "blk.0.ffn_down.weight", "token_embd.weight",
                 "output.weight"):
        g.overwrite(name, bytes(len(g.raw(name))))
    g.set_vector("output_norm.weight", [1.0] * WIDTH)
    g.write(path)  # so that exo can tokenize with it

    def id_of(text: str) -> int:
        if text in script.renamed:
            return script.renamed[text]
        done = subprocess.run([EXO, "tokenize", "-m", str(path), "--json"], input=text.encode(),
                              capture_output=True, timeout=60, check=True)
        return int(json.loads(done.stdout)[-1])  # of several, the last: what a prompt ends with

    table, head = bytearray(g.raw("token_embd.weight")), bytearray(g.raw("output.weight"))
    for slot, (text, nexts) in enumerate(script.follows.items()):
        struct.pack_into("<f", table, 4 * (WIDTH * id_of(text) + slot), 1.0)
        for rank, following in enumerate(nexts):
            struct.pack_into("<f", head, 4 * (WIDTH * id_of(following) + slot), 1 - 0.05 * rank)
    g.overwrite("token_embd.weight", bytes(table))
    g.overwrite("output.weight", bytes(head))
    g.write(path)
    return str(path)
