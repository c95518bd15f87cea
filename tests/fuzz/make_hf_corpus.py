#!/usr/bin/env python3
"""Writes the seeds of fuzz_safetensors and fuzz_hf into tests/fuzz/corpus: small and well-formed,
and small and lying."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

CORPUS = Path(__file__).resolve().parent / "corpus"


def safetensors(name: str, header: Any, data: bytes) -> None:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    (CORPUS / "safetensors" / name).write_bytes(struct.pack("<Q", len(text)) + text + data)


def hf(name: str, content: Any) -> None:
    (CORPUS / "hf" / name).write_text(json.dumps(content))


def entry(kind: str, shape: list[int], begin: int, end: int) -> dict[str, Any]:
    return {"dtype": kind, "shape": shape, "data_offsets": [begin, end]}


def main() -> None:
    safetensors("two", {"__metadata__": {"format": "pt"}, "a": entry("F32", [2], 0, 8),
                        "b": entry("BF16", [2, 3], 8, 20)}, bytes(20))
    safetensors("empty", {}, b"")
    safetensors("overlap", {"a": entry("F32", [2], 0, 8), "b": entry("F32", [2], 4, 12)}, bytes(12))
    safetensors("overflow", {"a": entry("F64", [2**62, 16], 0, 8)}, bytes(8))
    safetensors("nested", b"{\"a\":" + b"[" * 3000, b"")
    config = {"model_type": "llama", "hidden_size": 8, "intermediate_size": 16,
              "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1,
              "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
              "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
                               "high_freq_factor": 4.0, "original_max_position_embeddings": 32},
              "eos_token_id": [1, 2], "bos_token_id": 0}
    level = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
    hf("bytes", {"config": config, "rows": 8, "tokenizer": {
        "pre_tokenizer": level, "decoder": level, "added_tokens": [
            {"id": 5, "content": "<|end|>", "special": True}],
        "model": {"type": "BPE", "vocab": {"H": 0, "i": 1, "Hi": 2, "Ġ": 3, "1": 4},
                  "merges": ["H i"]}},
        "tokenizer_config": {"eos_token": {"content": "<|end|>"}, "chat_template": "{{ x }}"}})
    hf("pieces", {"config": {**config, "model_type": "mistral"}, "rows": 16, "tokenizer": {
        "normalizer": {"type": "Prepend", "prepend": "▁"}, "pre_tokenizer": None,
        "post_processor": {"type": "TemplateProcessing", "single": [
            {"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}}]},
        "added_tokens": [{"id": 0, "content": "<unk>", "special": True},
                         {"id": 1, "content": "<s>", "special": True}],
        "model": {"type": "BPE", "byte_fallback": True, "unk_token": "<unk>",
                  "vocab": {"<unk>": 0, "<s>": 1, "</s>": 2, "<0x0A>": 3, "▁": 4, "H": 5, "i": 6,
                            "Hi": 7, "▁Hi": 8}, "merges": [["H", "i"], ["▁", "Hi"]]}},
        "tokenizer_config": {"bos_token": "<s>", "tokenizer_class": "LlamaTokenizer",
                             "add_bos_token": True}})
    hf("split", {"config": {**config, "model_type": "qwen2"}, "tokenizer": {
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": "\\p{N}"}, "behavior": "Isolated"}, level]},
        "model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}}})
    half = {**config, "partial_rotary_factor": 0.5, "original_max_position_embeddings": 32}
    hf("longrope", {"config": {**half, "model_type": "phi3", "rope_scaling": {
        "type": "su", "long_factor": [1.5], "short_factor": [1.0]}}})
    hf("experts", {"config": {
        **config, "model_type": "deepseek_v3", "n_routed_experts": 8, "num_experts_per_tok": 2,
        "kv_lora_rank": 8, "qk_nope_head_dim": 4, "qk_rope_head_dim": 2, "v_head_dim": 4,
        "n_group": 2, "topk_group": 1, "norm_topk_prob": True, "rope_scaling": {
            "type": "yarn", "factor": 40, "mscale": 1.0, "mscale_all_dim": 1.0, "beta_fast": 32}}})
    hf("window", {"config": {
        **config, "model_type": "gemma3_text", "head_dim": 4, "sliding_window": 16,
        "layer_types": ["sliding_attention"], "rope_parameters": {
            "full_attention": {"rope_type": "linear", "factor": 8, "rope_theta": 1e6},
            "sliding_attention": {"rope_theta": 1e4}}, "hidden_act": "gelu_pytorch_tanh"}})
    hf("words", {"config": {**config, "model_type": "bert", "type_vocab_size": 2,
                            "hidden_act": "gelu"}, "rows": 8, "tokenizer": {
        "normalizer": {"type": "BertNormalizer", "lowercase": True},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                  "vocab": {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "a": 3, "##b": 4, "##": 5}}}})
    frame = {"type": "TemplateProcessing", "single": [
        {"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}}],
        "special_tokens": {"<s>": {"ids": [1]}}}
    hf("unigram", {"config": config, "rows": 8, "tokenizer": {
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "NFKC"}, {"type": "Nmt"}, {"type": "StripAccents"}, {"type": "Lowercase"},
            {"type": "Strip", "strip_left": True, "strip_right": False},
            {"type": "Precompiled", "precompiled_charsmap": "BAAAAAAAAAAA"},
            {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}]},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "WhitespaceSplit"}, {"type": "Metaspace", "replacement": "▁",
                                          "prepend_scheme": "always", "split": True}]},
        "post_processor": frame, "decoder": {"type": "Metaspace", "replacement": "▁"},
        "added_tokens": [{"id": 5, "content": "Hi", "lstrip": True, "rstrip": True,
                          "single_word": True, "normalized": True, "special": False}],
        "model": {"type": "Unigram", "unk_id": 0, "byte_fallback": True,
                  "vocab": [["<unk>", 0], ["<s>", 0], ["▁", -1.5], ["h", -2], ["▁hi", -0.5]]}}})
    hf("split_steps", {"config": config, "rows": 16, "tokenizer": {
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": r"(?i:'s)|[^\s\w]{1,3}+|\p{Han}+|[[:alpha:]-]\b"},
             "behavior": "MergedWithNext", "invert": True},
            {"type": "Digits", "individual_digits": True}, {"type": "FixedLength", "length": 3},
            {"type": "Punctuation", "behavior": "Contiguous"}, {"type": "ByteLevel"},
            {"type": "Split", "pattern": {"String": "Ġ"}, "behavior": "Removed"}]},
        "post_processor": {"type": "RobertaProcessing", "cls": ["<s>", 0], "sep": ["</s>", 1]},
        "decoder": {"type": "BPEDecoder", "suffix": "</w>"},
        "model": {"type": "BPE", "unk_token": "?", "fuse_unk": True, "ignore_merges": True,
                  "end_of_word_suffix": "</w>", "continuing_subword_prefix": "#",
                  "vocab": {"H": 0, "#i": 1, "Hi": 2, "?": 3, "#i</w>": 4, "Hi</w>": 5},
                  "merges": [["H", "#i"], "H #i</w>"]}}})
    layer = "model.layers.0."
    experts = f"{layer}mlp.experts."
    hf("quants", {"config": {**config, "model_type": "gpt_oss", "num_local_experts": 2,
                             "head_dim": 4}, "tensors": {
        "model.embed_tokens.weight": ["BF16", [8, 8]], "lm_head.weight": ["BF16", [8, 8]],
        **{f"{layer}self_attn.{x}_proj.{y}": ["F32", [8, 8] if y == "weight" else [8]]
           for x in "qkvo" for y in ("weight", "bias")},
        f"{experts}gate_up_proj_blocks": ["U8", [2, 4, 1, 16]],
        f"{experts}gate_up_proj_scales": ["U8", [2, 4, 1]],
        f"{experts}gate_up_proj_bias": ["BF16", [2, 4]],
        f"{experts}down_proj_scales": ["U8", [2, 4, 1]],
        f"{experts}down_proj_blocks": ["U8", [2, 4, 1, 16]]}})
    hf("turned", {"config": {**config, "model_type": "gpt_oss", "attention_bias": False}, "tensors": {
        "model.embed_tokens.weight": ["F16", [8, 8]], "lm_head.weight": ["F16", [8, 8]],
        f"{experts}gate_up_proj": ["BF16", [2, 8, 4]], f"{experts}down_proj": ["BF16", [2, 2, 8]]}})
    hf("groups", {"config": {**config, "model_type": "internlm2"}, "tensors": {
        "model.tok_embeddings.weight": ["F16", [8, 8]], "output.weight": ["F16", [8, 8]],
        f"{layer}attention.wqkv.weight": ["BF16", [16, 8]]}})
    hf("halves", {"config": {**config, "model_type": "granitemoeshared", "num_local_experts": 2,
                             "tie_word_embeddings": True}, "tensors": {
        "model.embed_tokens.weight": ["F16", [8, 8]],
        f"{layer}shared_mlp.input_linear.weight": ["BF16", [8, 4]],
        f"{layer}block_sparse_moe.input_linear.weight": ["BF16", [2, 8, 4]],
        f"{layer}block_sparse_moe.output_linear.weight": ["BF16", [2, 4, 4]]}})
    hf("pictures", {"config": {"model_type": "gemma3", "text_config": config,
                               "eos_token_id": [1, 2]}, "tensors": {
        "model.language_model.embed_tokens.weight": ["F16", [8, 8]],
        "model.vision_tower.x": ["F16", [1]], "language_model.lm_head.weight": ["F16", [8, 8]]}})
    hf("lies", {"config": {**config, "hidden_size": -1}, "tokenizer": {
        "pre_tokenizer": level, "model": {"type": "BPE", "vocab": {"a": 2**31}, "merges": ["a"]}}})


if __name__ == "__main__":
    main()
