"""Weights, tokenizer and chat template to a GGUF file that exo and llama.cpp load."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import gguf
from bpe import SPECIALS, Tokenizer
from model import Model, Shape

TOKEN_NORMAL, TOKEN_CONTROL = 1, 3
FILE_TYPE_Q8_0 = 7
QUANTIZATION_VERSION = 2


def metadata(shape: Shape, tokenizer: Tokenizer, template: str) -> dict[str, gguf.Value]:
    return {
        "general.architecture": "llama",
        "general.type": "model",
        "general.name": "exo tiny",
        "general.description": "The demo model built into exo: a small network trained on exo's own text.",
        "general.license": "apache-2.0",
        "general.languages": ["en"],
        "general.file_type": FILE_TYPE_Q8_0,
        "general.quantization_version": QUANTIZATION_VERSION,
        "general.alignment": gguf.ALIGNMENT,
        "llama.vocab_size": shape.n_vocab,
        "llama.block_count": shape.n_layer,
        "llama.context_length": shape.n_ctx,
        "llama.embedding_length": shape.n_embd,
        "llama.feed_forward_length": shape.n_ff,
        "llama.attention.head_count": shape.n_head,
        "llama.attention.head_count_kv": shape.n_head_kv,
        "llama.attention.layer_norm_rms_epsilon": shape.norm_eps,
        "llama.rope.dimension_count": shape.head_dim,
        "llama.rope.freq_base": shape.rope_base,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": tokenizer.tokens,
        "tokenizer.ggml.token_type": [TOKEN_CONTROL if t in SPECIALS else TOKEN_NORMAL for t in tokenizer.tokens],
        "tokenizer.ggml.merges": [f"{left} {right}" for left, right in tokenizer.merges],
        "tokenizer.ggml.bos_token_id": tokenizer.end_of_text,
        "tokenizer.ggml.eos_token_id": tokenizer.im_end,
        "tokenizer.ggml.eot_token_id": tokenizer.im_end,
        "tokenizer.ggml.padding_token_id": tokenizer.end_of_text,
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.ggml.add_eos_token": False,
        "tokenizer.chat_template": template,
    }


def tensors(model: Model) -> dict[str, gguf.Floats]:
    """Tensors by their GGUF names, rows first; joined matrices are split."""
    shape = model.shape
    n_kv = shape.n_head_kv * shape.head_dim
    weights = {name: p.detach().numpy().astype(np.float32) for name, p in model.named_parameters()}
    out = {"token_embd.weight": weights["token_embd"]}
    for il in range(shape.n_layer):
        source, target = f"layers.{il}.", f"blk.{il}."
        q, k, v = np.split(weights[source + "qkv"], (shape.n_embd, shape.n_embd + n_kv))
        gate, up = np.split(weights[source + "gate_up"], 2)
        out[target + "attn_norm.weight"] = weights[source + "attn_norm"]
        out[target + "attn_q.weight"] = q
        out[target + "attn_k.weight"] = k
        out[target + "attn_v.weight"] = v
        out[target + "attn_output.weight"] = weights[source + "attn_output"]
        out[target + "ffn_norm.weight"] = weights[source + "ffn_norm"]
        out[target + "ffn_gate.weight"] = gate
        out[target + "ffn_up.weight"] = up
        out[target + "ffn_down.weight"] = weights[source + "ffn_down"]
    out["output_norm.weight"] = weights["output_norm"]
    return out


def write(path: Path, model: Model, tokenizer: Tokenizer, template: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    gguf.write(path, metadata(model.shape, tokenizer, template), tensors(model))
