#!/usr/bin/env python3
"""Writes the seed corpus of fuzz_gguf: small well-formed files, and one of each common fault.

Usage: make_gguf_corpus.py FOLDER.  The output is the same every time; the files are committed so
that the corpus can be replayed without Python."""
import struct
import sys
from pathlib import Path

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
PACK = {U8: "B", I8: "b", U16: "H", I16: "h", U32: "I", I32: "i", F32: "f", BOOL: "?", U64: "Q", I64: "q", F64: "d"}


def string(s):
    b = s.encode()
    return struct.pack("<Q", len(b)) + b


def value(kind, v):
    if kind == STRING:
        return string(v)
    if kind == ARRAY:
        elem, items = v
        return struct.pack("<IQ", elem, len(items)) + b"".join(value(elem, i) for i in items)
    return struct.pack("<" + PACK[kind], v)


def gguf(kvs=(), tensors=(), version=3, alignment=32):
    """tensors: (name, type, dims, bytes)."""
    out = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(kvs))
    for key, kind, v in kvs:
        out += string(key) + struct.pack("<I", kind) + value(kind, v)
    offset = 0
    for name, kind, dims, size in tensors:
        out += string(name) + struct.pack("<I", len(dims)) + struct.pack(f"<{len(dims)}Q", *dims)
        out += struct.pack("<IQ", kind, offset)
        offset += -(-size // alignment) * alignment
    out += b"\0" * (-len(out) % alignment) if tensors else b""
    return out + bytes(i * 7 & 0x3F for i in range(offset))


def llama():
    """A whole model of one layer, width 4, whose shapes all agree."""
    tokens = ["<unk>", "<s>", "</s>", "a", "b"]
    kvs = [("general.architecture", STRING, "llama"), ("llama.block_count", U32, 1),
           ("llama.embedding_length", U32, 4), ("llama.feed_forward_length", U32, 8),
           ("llama.attention.head_count", U32, 2), ("llama.attention.head_count_kv", U32, 1),
           ("llama.context_length", U32, 16), ("llama.attention.layer_norm_rms_epsilon", F32, 1e-5),
           ("tokenizer.ggml.model", STRING, "llama"), ("tokenizer.ggml.tokens", ARRAY, (STRING, tokens)),
           ("tokenizer.ggml.scores", ARRAY, (F32, [0.0] * 5)),
           ("tokenizer.ggml.token_type", ARRAY, (I32, [2, 3, 3, 1, 1]))]
    shapes = {"token_embd.weight": [4, 5], "blk.0.attn_norm.weight": [4], "blk.0.attn_q.weight": [4, 4],
              "blk.0.attn_k.weight": [4, 2], "blk.0.attn_v.weight": [4, 2], "blk.0.attn_output.weight": [4, 4],
              "blk.0.ffn_norm.weight": [4], "blk.0.ffn_gate.weight": [4, 8], "blk.0.ffn_up.weight": [4, 8],
              "blk.0.ffn_down.weight": [8, 4], "output_norm.weight": [4]}
    tensors = []
    for name, dims in shapes.items():
        n = dims[0] * (dims[1] if len(dims) > 1 else 1)
        tensors.append((name, 0, dims, 4 * n))
    return gguf(kvs, tensors)


def main(folder):
    kinds = [(f"k.{kind}", kind, "text" if kind == STRING else 1) for kind in PACK | {STRING: ""}]
    arrays = [(f"a.{kind}", ARRAY, (kind, ["x", "", "yz"] * 7 if kind == STRING else [1, 0, 1]))
              for kind in PACK | {STRING: ""}]
    q8 = ("q", 8, [32, 2], 68)
    seeds = {
        "empty": gguf(),
        "version-2": gguf([("general.architecture", STRING, "llama")], version=2),
        "every-kind": gguf(kinds),
        "every-array": gguf(arrays),
        "tensors": gguf([], [("f", 0, [3, 5], 60), q8, ("none", 1, [0, 7], 0), ("k", 12, [256], 144)]),
        "alignment-64": gguf([("general.alignment", U32, 64)], [("f", 0, [3], 12), q8], alignment=64),
        "llama": llama(),
        "bad-nested-arrays": gguf([("a", ARRAY, (ARRAY, [(ARRAY, [(U8, [1])])]))]),
        "bad-duplicate-key": gguf([("k", U8, 1), ("k", U8, 2)]),
        "bad-duplicate-tensor": gguf([], [q8, q8]),
        "bad-count": b"GGUF" + struct.pack("<IQQ", 3, 1 << 61, 1 << 61) + b"\0" * 64,
        "bad-string": gguf([("k", STRING, "text")])[:-2],
        "bad-data-cut": gguf([], [q8])[:-1],
        "bad-shape": gguf([], [("f", 0, [1 << 32, 1 << 32], 64)]),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in seeds.items():
        (folder / f"{name}.gguf").write_bytes(data)


main(Path(sys.argv[1]))
