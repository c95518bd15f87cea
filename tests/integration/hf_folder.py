"""A GGUF model written as a folder of transformers: config.json, safetensors, tokenizer.json.

The other way round than exo's own conversion, and independent of it: what exo reads from the folder
must be what it reads from the GGUF file.
"""

from __future__ import annotations

import json
import struct
import sys
from array import array
from pathlib import Path
from typing import Any

from conftest import ROOT

sys.path.insert(0, str(ROOT / "tests" / "oracle"))
from gguf_edit import (ARRAY, BF16_TENSOR, F16_TENSOR, F32_TENSOR, MXFP4_TENSOR, STRING,  # noqa: E402
                       Gguf)
from hf_odd import by_turns, experts, grouped  # noqa: E402

DTYPES = {F32_TENSOR: "F32", F16_TENSOR: "F16", BF16_TENSOR: "BF16", MXFP4_TENSOR: "MXFP4"}
ELEMENT_BYTES = {"F32": 4, "F16": 2, "BF16": 2, "U8": 1}
SCALARS = {4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
NAMES = {"attn_norm.weight": "input_layernorm.weight", "attn_q": "self_attn.q_proj",
         "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
         "attn_output": "self_attn.o_proj", "attn_q_norm": "self_attn.q_norm",
         "attn_k_norm": "self_attn.k_norm", "ffn_norm": "post_attention_layernorm",
         "attn_norm": "input_layernorm", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
         "ffn_down": "mlp.down_proj"}
MOE = {"ffn_gate_inp": "mlp.gate", "ffn_gate_exps": "mlp.experts.%u.gate_proj",
       "ffn_up_exps": "mlp.experts.%u.up_proj", "ffn_down_exps": "mlp.experts.%u.down_proj"}
GEMMA2 = {"post_attention_norm": "post_attention_layernorm",
          "ffn_norm": "pre_feedforward_layernorm", "post_ffw_norm": "post_feedforward_layernorm"}
BY_ARCH = {  # model_type, names in which it differs, members of config.json: GGUF key or value
    "llama": ("llama", {}, {}),
    "qwen2": ("qwen2", {}, {}),
    "qwen3": ("qwen3", {}, {}),
    "mixtral": ("mixtral", {"ffn_gate_inp": "block_sparse_moe.gate",
                            "ffn_gate_exps": "block_sparse_moe.experts.%u.w1",
                            "ffn_up_exps": "block_sparse_moe.experts.%u.w3",
                            "ffn_down_exps": "block_sparse_moe.experts.%u.w2"},
                {"num_local_experts": "expert_count", "num_experts_per_tok": "expert_used_count"}),
    "qwen2moe": ("qwen2_moe", MOE | {
        "ffn_gate_shexp": "mlp.shared_expert.gate_proj", "ffn_up_shexp": "mlp.shared_expert.up_proj",
        "ffn_down_shexp": "mlp.shared_expert.down_proj",
        "ffn_gate_inp_shexp": "mlp.shared_expert_gate"},
        {"num_experts": "expert_count", "num_experts_per_tok": "expert_used_count",
         "shared_expert_intermediate_size": "expert_shared_feed_forward_length",
         "moe_intermediate_size": "expert_feed_forward_length", "decoder_sparse_step": 1}),
    "qwen3moe": ("qwen3_moe", MOE, {
        "num_experts": "expert_count", "num_experts_per_tok": "expert_used_count",
        "moe_intermediate_size": "expert_feed_forward_length", "mlp_only_layers": [],
        "norm_topk_prob": True}),
    "gemma": ("gemma", {}, {"hidden_act": "gelu", "hidden_activation": "gelu_pytorch_tanh"}),
    "gemma2": ("gemma2", GEMMA2, {
        "hidden_activation": "gelu_pytorch_tanh", "sliding_window": "attention.sliding_window",
        "attn_logit_softcapping": "attn_logit_softcapping", "query_pre_attn_scalar": 64,
        "final_logit_softcapping": "final_logit_softcapping"}),
    "gemma3": ("gemma3_text", GEMMA2, {
        "hidden_activation": "gelu_pytorch_tanh", "sliding_window": "attention.sliding_window",
        "sliding_window_pattern": 6, "rope_local_base_freq": 10000.0,
        "query_pre_attn_scalar": "attention.key_length"}),
    "phi3": ("phi3", {"attn_qkv": "self_attn.qkv_proj", "ffn_up": "mlp.gate_up_proj"}, {
        "original_max_position_embeddings": "rope.scaling.original_context_length"}),
    "granite": ("granite", {}, {
        "attention_multiplier": "attention.scale", "embedding_multiplier": "embedding_scale",
        "residual_multiplier": "residual_scale", "logits_scaling": "logit_scale"}),
    "glm4": ("glm4", {"post_attention_norm": "post_self_attn_layernorm",
                      "post_ffw_norm": "post_mlp_layernorm", "ffn_up": "mlp.gate_up_proj"}, {}),
    "deepseek2": ("deepseek_v2", MOE | {
        "attn_kv_a_mqa": "self_attn.kv_a_proj_with_mqa", "attn_kv_a_norm": "self_attn.kv_a_layernorm",
        "attn_kv_b": "self_attn.kv_b_proj", "ffn_gate_shexp": "mlp.shared_experts.gate_proj",
        "ffn_up_shexp": "mlp.shared_experts.up_proj",
        "ffn_down_shexp": "mlp.shared_experts.down_proj"}, {
        "n_routed_experts": "expert_count", "num_experts_per_tok": "expert_used_count",
        "kv_lora_rank": "attention.kv_lora_rank", "q_lora_rank": "attention.q_lora_rank",
        "n_shared_experts": "expert_shared_count", "v_head_dim": "attention.value_length",
        "moe_intermediate_size": "expert_feed_forward_length",
        "first_k_dense_replace": "leading_dense_block_count",
        "qk_rope_head_dim": "rope.dimension_count", "scoring_func": "softmax",
        "norm_topk_prob": False, "topk_method": "greedy"}),
    "olmo2": ("olmo2", GEMMA2, {}),
    "starcoder2": ("starcoder2", {"ffn_up": "mlp.c_fc", "ffn_down": "mlp.c_proj"}, {
        "hidden_act": "gelu_pytorch_tanh", "norm_epsilon": "attention.layer_norm_epsilon",
        "tie_word_embeddings": False}),
    "command-r": ("cohere", {}, {"layer_norm_eps": "attention.layer_norm_epsilon",
                                 "logit_scale": "logit_scale", "use_qk_norm": False}),
    "smollm3": ("smollm3", {}, {"no_rope_layer_interval": 4}),
    "internlm2": ("internlm2", {
        "token_embd.weight": "model.tok_embeddings.weight", "output.weight": "output.weight",
        "attn_norm": "attention_norm", "attn_output": "attention.wo", "ffn_norm": "ffn_norm",
        "ffn_gate": "feed_forward.w1", "ffn_up": "feed_forward.w3", "ffn_down": "feed_forward.w2"}, {}),
    "olmoe": ("olmoe", MOE, {"num_experts": "expert_count", "num_experts_per_tok": "expert_used_count"}),
    "gpt-oss": ("gpt_oss", {
        "post_attention_norm": "post_attention_layernorm", "ffn_gate_inp": "mlp.router"}, {
        "num_local_experts": "expert_count", "num_experts_per_tok": "expert_used_count",
        "sliding_window": "attention.sliding_window", "attention_bias": True,
        "quantization_config": None}),
    "ernie4_5": ("ernie4_5", {}, {}),
    "seed_oss": ("seed_oss", {"post_attention_norm": "post_attention_layernorm"}, {}),
}
BY_ARCH["deepseek3"] = ("deepseek_v3", BY_ARCH["deepseek2"][1] | {
    "attn_q_a": "self_attn.q_a_proj", "attn_q_a_norm": "self_attn.q_a_layernorm",
    "attn_q_b": "self_attn.q_b_proj"}, BY_ARCH["deepseek2"][2] | {
    "n_group": "expert_group_count", "topk_group": "expert_group_used_count",
    "routed_scaling_factor": "expert_weights_scale", "scoring_func": "sigmoid",
    "norm_topk_prob": True, "topk_method": "noaux_tc",
    "v_head_dim": "attention.value_length_mla"})
BY_ARCH["bert"] = ("bert", {
    "@layers": "bert.encoder.layer", "token_embd.weight": "bert.embeddings.word_embeddings.weight",
    "position_embd.weight": "bert.embeddings.position_embeddings.weight",
    "token_types.weight": "bert.embeddings.token_type_embeddings.weight",
    "token_embd_norm.weight": "bert.embeddings.LayerNorm.weight",
    "token_embd_norm.bias": "bert.embeddings.LayerNorm.bias",
    "attn_q": "attention.self.query", "attn_k": "attention.self.key",
    "attn_v": "attention.self.value", "attn_output": "attention.output.dense",
    "attn_output_norm": "attention.output.LayerNorm", "ffn_up": "intermediate.dense",
    "ffn_down": "output.dense", "layer_output_norm": "output.LayerNorm"},
    {"hidden_act": "gelu", "layer_norm_eps": "attention.layer_norm_epsilon", "type_vocab_size": 2,
     "head_dim": None, "num_key_value_heads": None, "rope_theta": None, "rms_norm_eps": None})
BY_ARCH["nomic-bert"] = ("nomic_bert", {
    "@layers": "encoder.layers", "token_embd.weight": "embeddings.word_embeddings.weight",
    "token_types.weight": "embeddings.token_type_embeddings.weight",
    "token_embd_norm.weight": "emb_ln.weight", "token_embd_norm.bias": "emb_ln.bias",
    "attn_qkv": "attn.Wqkv", "attn_output": "attn.out_proj", "attn_output_norm": "norm1",
    "ffn_up": "mlp.fc11", "ffn_gate": "mlp.fc12", "ffn_down": "mlp.fc2",
    "layer_output_norm": "norm2"},
    {"activation_function": "swiglu", "layer_norm_epsilon": "attention.layer_norm_epsilon",
     "type_vocab_size": 2, "rotary_emb_fraction": 1.0, "prenorm": False,
     "rotary_scaling_factor": None})
BY_ARCH["exaone"] = ("exaone", {
    "@layers": "transformer.h", "token_embd.weight": "transformer.wte.weight",
    "output_norm.weight": "transformer.ln_f.weight", "attn_norm": "ln_1", "ffn_norm": "ln_2",
    "attn_q": "attn.attention.q_proj", "attn_k": "attn.attention.k_proj",
    "attn_v": "attn.attention.v_proj", "attn_output": "attn.attention.out_proj",
    "ffn_gate": "mlp.c_fc_0", "ffn_up": "mlp.c_fc_1", "ffn_down": "mlp.c_proj"},
    {"activation_function": "silu"})
RENAMED = {  # members of config.json
    "nomic-bert": {"hidden_size": "n_embd", "num_hidden_layers": "n_layer",
                   "num_attention_heads": "n_head", "intermediate_size": "n_inner",
                   "max_position_embeddings": "n_positions", "rope_theta": "rotary_emb_base",
                   "hidden_act": None, "head_dim": None, "rms_norm_eps": None,
                   "num_key_value_heads": None},
    "exaone": {"num_hidden_layers": "num_layers", "rms_norm_eps": "layer_norm_epsilon",
               "hidden_act": None}}
BY_ARCH["granitemoe"] = ("granitemoe", {
    "ffn_gate_inp": "block_sparse_moe.router.layer", "ffn_down_exps": "block_sparse_moe.output_linear"},
    BY_ARCH["granite"][2] | {"num_local_experts": "expert_count",
                             "num_experts_per_tok": "expert_used_count"})
BY_ARCH["granitemoeshared"] = ("granitemoeshared", BY_ARCH["granitemoe"][1] | {
    "ffn_down_shexp": "shared_mlp.output_linear"}, BY_ARCH["granitemoe"][2] | {
    "shared_intermediate_size": "expert_shared_feed_forward_length"})
TEXTS = ("hidden_act", "activation_function", "hidden_activation", "scoring_func",
         "topk_method")  # members with a word
PERMUTED = ("llama", "mixtral", "granite", "granitemoe", "granitemoeshared", "smollm3", "internlm2")
CONTRACTION = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
WORDS = "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|%s| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
REGEX = {"llama-bpe": CONTRACTION + WORDS % "\\p{N}{1,3}",
         "smaug-bpe": CONTRACTION + WORDS % "\\p{N}{1,3}",
         "qwen2": CONTRACTION + WORDS % "\\p{N}"}


def value(kind: int, raw: bytes) -> Any:
    if kind == STRING:
        return raw[8:].decode()
    if kind != ARRAY:
        return struct.unpack(SCALARS[kind], raw)[0]
    element, n = struct.unpack_from("<IQ", raw)
    at, out = 12, []
    for _ in range(n):
        if element == STRING:
            (length,) = struct.unpack_from("<Q", raw, at)
            out.append(raw[at + 8:at + 8 + length].decode())
            at += 8 + length
        else:
            out.append(struct.unpack_from(SCALARS[element], raw, at)[0])
            at += struct.calcsize(SCALARS[element])
    return out


def hf_name(name: str, own: dict[str, str]) -> str:
    around = {"token_embd.weight": "model.embed_tokens.weight", "output.weight": "lm_head.weight",
              "output_norm.weight": "model.norm.weight", "output_norm.bias": "model.norm.bias"}
    if name in own or name in around:
        return own.get(name) or around[name]
    _, layer, part, kind = name.split(".")
    return f"{own.get('@layers', 'model.layers')}.{layer}.{own.get(part) or NAMES[part]}.{kind}"


def halves(raw: bytes, n_heads: int, rows: int) -> bytes:
    """Rows of pairs (2i, 2i+1) to rows of pairs (i, i + half)."""
    row = len(raw) // rows
    dim = rows // n_heads
    order = [h * dim + (2 * i if i < dim // 2 else 2 * (i - dim // 2) + 1)
             for h in range(n_heads) for i in range(dim)]
    return b"".join(raw[k * row:(k + 1) * row] for k in order)


def write_safetensors(path: Path, tensors: dict[str, tuple[str, list[int], bytes]]) -> None:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    data = b""
    for name in sorted(tensors, key=lambda n: (-ELEMENT_BYTES[tensors[n][0]], n)):
        kind, shape, raw = tensors[name]
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def data_of(g: Gguf) -> dict[str, tuple[int, bytes]]:
    """Kind and bytes of every tensor."""
    order = sorted(g.tensors, key=lambda n: g.tensors[n].offset)
    ends = [g.tensors[n].offset for n in order[1:]] + [len(g.data)]
    return {n: (g.tensors[n].kind, bytes(g.data[g.tensors[n].offset:end])) for n, end in zip(order, ends)}


def less_1(raw: bytes) -> bytes:
    """Weights of norms as gemma has them."""
    n = len(raw) // 4
    return struct.pack(f"<{n}f", *(v - 1 for v in struct.unpack(f"<{n}f", raw)))


def cut(raw: bytes, n: int) -> list[bytes]:
    each = len(raw) // n
    return [raw[i * each:(i + 1) * each] for i in range(n)]


def gates_above_ups(out: dict[str, tuple[str, list[int], bytes]], layer: str, gate: bytes, up: bytes,
                    kind: str, shape: list[int]) -> None:
    both = b"".join(a + b for a, b in zip(cut(gate, shape[0]), cut(up, shape[0]), strict=True))
    out[f"model.layers.{layer}.block_sparse_moe.input_linear.weight"] = (
        kind, [shape[0], 2 * shape[1], shape[2]], both)


def keys_and_values(k: bytes, v: bytes, heads: int, rank: int) -> bytes:
    """Keys (heads, rank, dims) and values (heads, dims, rank), of 16 bits, as rows of one matrix."""
    out = b""
    for key, values in zip(cut(k, heads), cut(v, heads), strict=True):
        numbers = array("H", key)
        dims = len(numbers) // rank
        out += b"".join(numbers[d::dims].tobytes() for d in range(dims)) + values
    return out


def odd_tensor(g: Gguf, family: str, name: str, t: tuple[str, list[int], bytes], n_heads: int,
               n_kv_heads: int, out: dict[str, tuple[str, list[int], bytes]]) -> bool:
    """Puts what has no name of its own into out; True: it is done with."""
    kind, shape, raw = t
    layer = f"model.layers.{name.split('.')[1]}." if name.startswith("blk.") else ""
    if family == "granitemoeshared" and "_shexp" in name and "down" not in name:
        if "gate" in name:
            up = g.raw(name.replace("gate", "up"))
            out[f"{layer}shared_mlp.input_linear.weight"] = (kind, [2 * shape[0], shape[1]], raw + up)
        return True
    if family == "internlm2" and ".attn_" in name and name.split(".")[2] in ("attn_q", "attn_k", "attn_v"):
        if ".attn_q." in name:
            k = halves(g.raw(name.replace("_q", "_k")), n_kv_heads, shape[0] * n_kv_heads // n_heads)
            both = grouped(raw, k, g.raw(name.replace("_q", "_v")), n_kv_heads)
            out[f"{layer}attention.wqkv.weight"] = (kind, [len(both) * shape[0] // len(raw), shape[1]], both)
        return True
    if family == "gpt-oss" and "attn_sinks" in name:
        out[f"{layer}self_attn.sinks"] = t
        return True
    if family != "gpt-oss" or "_exps" not in name:
        return False
    if "ffn_up" in name:
        return True
    theirs = f"{layer}mlp.experts.{'down' if 'down' in name else 'gate_up'}_proj"
    if "gate" in name:
        up, n_rows = g.raw(name.replace("gate", "up")), shape[0] * shape[1]
        raw, shape = by_turns(raw, up, n_rows), [shape[0], 2 * shape[1], *shape[2:]]
    if name.endswith(".bias"):
        out[f"{theirs}_bias"] = (kind, shape, raw)
    else:
        out.update(experts(theirs, kind, shape, raw))
    return True


def read_tensors(g: Gguf, family: str, n_heads: int, n_kv_heads: int,
                 vectors: str) -> dict[str, tuple[str, list[int], bytes]]:
    out: dict[str, tuple[str, list[int], bytes]] = {}
    own = BY_ARCH[family][1]
    for name, t in g.tensors.items():
        if name.startswith(("rope_freqs", "rope_factors")):
            continue
        raw, shape, kind = g.raw(name), list(reversed(t.dims)), DTYPES[t.kind]
        if family in PERMUTED and (".attn_q." in name or ".attn_k." in name):
            raw = halves(raw, n_heads if ".attn_q." in name else n_kv_heads, shape[0])
        if family.startswith("gemma") and name.endswith("norm.weight"):
            raw = less_1(raw)
        if len(shape) == 1 and vectors == "BF16":
            raw = b"".join(raw[i + 2:i + 4] for i in range(0, len(raw), 4))
            kind = "BF16"
        if odd_tensor(g, family, name, (kind, shape, raw), n_heads, n_kv_heads, out):
            continue
        if family.startswith("granitemoe") and "ffn_gate_exps" in name:
            up = g.raw(name.replace("gate", "up"))
            gates_above_ups(out, name.split(".")[1], raw, up, kind, shape)
            continue
        if family.startswith("granitemoe") and "ffn_up_exps" in name:
            continue
        if "attn_v_b" in name:
            continue
        if "attn_k_b" in name:
            raw = keys_and_values(raw, g.raw(name.replace("k_b", "v_b")), n_heads, shape[1])
            shape = [len(raw) // 2 // shape[1], shape[1]]
            name = name.replace("k_b", "kv_b")
        if name.endswith("exp_probs_b.bias"):
            layer = name.split(".")[1]
            out[f"model.layers.{layer}.mlp.gate.e_score_correction_bias"] = (kind, shape, raw)
            continue
        theirs = hf_name(name, own)
        if "%u" in theirs:
            for e, part in enumerate(cut(raw, shape[0])):
                out[theirs.replace("%u", str(e))] = (kind, shape[1:], part)
        else:
            out[theirs] = (kind, [1, shape[-1]] if "shared_expert_gate" in theirs else shape, raw)
    return out


def bpe(get: Any) -> dict[str, Any]:
    tokens, types = get("tokenizer.ggml.tokens"), get("tokenizer.ggml.token_type")
    pre = get("tokenizer.ggml.pre")
    split = {"type": "Split", "pattern": {"Regex": REGEX.get(pre, "")}, "behavior": "Isolated",
             "invert": False}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    return {
        "version": "1.0", "normalizer": None, "decoder": {"type": "ByteLevel"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, level]},
        "post_processor": {"type": "ByteLevel"},
        "added_tokens": [{"id": i, "content": t, "special": types[i] == 3}
                         for i, t in enumerate(tokens) if types[i] in (3, 4)],
        "model": {"type": "BPE", "ignore_merges": pre == "llama-bpe",
                  "vocab": {t: i for i, t in enumerate(tokens) if types[i] == 1},
                  "merges": get("tokenizer.ggml.merges")}}


def spm(get: Any) -> dict[str, Any]:
    """As transformers converts SentencePiece: every split of a piece is a merge, best piece first."""
    tokens, types = get("tokenizer.ggml.tokens"), get("tokenizer.ggml.token_type")
    scores = get("tokenizer.ggml.scores")
    ids = {t: i for i, t in enumerate(tokens)}
    merges = []
    for i, t in enumerate(tokens):
        if types[i] == 1:
            splits = [(t[:k], t[k:]) for k in range(1, len(t)) if t[:k] in ids and t[k:] in ids]
            merges += [(scores[i], -i, a, b) for a, b in splits]
    merges.sort(key=lambda m: (-m[0], -m[1]))
    return {
        "version": "1.0",
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "▁"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
        "pre_tokenizer": None,
        "post_processor": {
            "type": "TemplateProcessing", "special_tokens": {
                tokens[1]: {"id": tokens[1], "ids": [1], "tokens": [tokens[1]]}},
            "single": [{"SpecialToken": {"id": tokens[1], "type_id": 0}},
                       {"Sequence": {"id": "A", "type_id": 0}}]},
        "decoder": {"type": "Sequence", "decoders": [{"type": "ByteFallback"}]},
        "added_tokens": [{"id": i, "content": tokens[i], "special": True} for i in (0, 1, 2)],
        "model": {"type": "BPE", "byte_fallback": True, "unk_token": tokens[0], "vocab": ids,
                  "merges": [[a, b] for _, _, a, b in merges]}}


def more_members(g: Gguf, family: str, own: Any) -> dict[str, Any]:
    """What is not one key for one member."""
    if family == "deepseek2":
        return {"qk_nope_head_dim": own("attention.key_length") - own("rope.dimension_count"),
                "head_dim": None, "q_lora_rank": own("attention.q_lora_rank")}
    if family == "deepseek3":
        return {"qk_nope_head_dim": own("attention.key_length_mla") - own("rope.dimension_count"),
                "head_dim": None, "num_key_value_heads": own("attention.head_count"),
                "rope_scaling": {
                    "type": "yarn", "factor": own("rope.scaling.factor"), "mscale": 0.707,
                    "mscale_all_dim": 0.707, "original_max_position_embeddings":
                    own("rope.scaling.original_context_length")}}
    if family == "glm4":
        return {"partial_rotary_factor": own("rope.dimension_count") / own("attention.key_length")}
    if family == "gpt-oss":
        return {"rope_scaling": {
            "rope_type": "yarn", "factor": own("rope.scaling.factor"), "beta_fast": 32.0,
            "beta_slow": 1.0, "truncate": False, "original_max_position_embeddings":
            own("rope.scaling.original_context_length")}}
    if family == "gemma3":
        return {"rope_scaling": {"rope_type": "linear", "factor": own("rope.scaling.factor")}}
    if family != "phi3":
        return {}
    factors = {f"{kind}_factor": list(struct.unpack(
        f"<{own('rope.dimension_count') // 2}f", g.raw(f"rope_factors_{kind}.weight")))
        for kind in ("long", "short")}
    return {"partial_rotary_factor": own("rope.dimension_count") / own("attention.key_length"),
            "rope_scaling": {"type": "longrope", **factors,
                             "attention_factor": own("rope.scaling.attn_factor")}}


def biases(g: Gguf) -> dict[str, Any]:
    """The members that say so, whichever a class has."""
    has = {part: f"blk.0.{part}.bias" in g.tensors for part in ("attn_q", "attn_output", "ffn_up")}
    return {"attention_bias": has["attn_q"], "attention_out_bias": has["attn_output"],
            "mlp_bias": has["ffn_up"], "use_bias": has["attn_q"], "bias": has["attn_q"]}


def word_piece(get: Any) -> dict[str, Any]:
    tokens, types = get("tokenizer.ggml.tokens"), get("tokenizer.ggml.token_type")
    words = [t if types[i] == 3 else t[1:] if t[0] == "▁" else "##" + t
             for i, t in enumerate(tokens)]
    return {
        "version": "1.0", "pre_tokenizer": {"type": "BertPreTokenizer"},
        "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True,
                       "strip_accents": None, "lowercase": True},
        "added_tokens": [{"id": i, "content": t, "special": True}
                         for i, t in enumerate(words) if types[i] == 3],
        "post_processor": {"type": "BertProcessing", **{
            end: [name, words.index(name)] for end, name in (("cls", "[CLS]"), ("sep", "[SEP]"))}},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                  "vocab": {t: i for i, t in enumerate(words)}}}


TOKENIZERS = {"llama": spm, "gpt2": bpe, "bert": word_piece}


def wrap(folder: Path, model_type: str, newer: bool) -> None:
    """Makes a text model part of one that sees pictures, with the names of one age or another."""
    text = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({
        "model_type": model_type, "text_config": text, "vision_config": {"model_type": "siglip"}}))
    raw = (folder / "model.safetensors").read_bytes()
    (n,) = struct.unpack_from("<Q", raw)
    header, data = json.loads(raw[8:8 + n]), raw[8 + n:]
    out = {}
    for name, t in header.items():
        if newer and name.startswith("model."):
            name = "model.language_model." + name.removeprefix("model.")
        elif not newer and name != "__metadata__":
            name = "language_model." + name
        out[name] = t
    tower = ("model." if newer else "") + "vision_tower.encoder.weight"
    out[tower] = {"dtype": "F32", "shape": [3, 2, 2], "data_offsets": [len(data), len(data) + 48]}
    text_out = json.dumps(out).encode()
    text_out += b" " * (-len(text_out) % 8)
    (folder / "model.safetensors").write_bytes(
        struct.pack("<Q", len(text_out)) + text_out + data + bytes(48))


def write_folder(source: Path, folder: Path, vectors: str = "F32", shards: int = 1) -> Path:
    g = Gguf(source)

    def get(key: str, default: Any = None) -> Any:
        return value(*g.values[key]) if key in g.values else default

    arch = get("general.architecture")
    family = "mixtral" if arch == "llama" and "llama.expert_count" in g.values else arch
    if f"{arch}.expert_shared_feed_forward_length" in g.values and arch == "granitemoe":
        family = "granitemoeshared"
    if "deepseek2.attention.key_length_mla" in g.values:
        family = "deepseek3"
    folder.mkdir(parents=True, exist_ok=True)

    def own(key: str, default: Any = None) -> Any:
        return get(f"{arch}.{key}", default)

    heads, kv_heads = own("attention.head_count"), own("attention.head_count_kv")
    config = {
        "model_type": BY_ARCH[family][0], "hidden_size": own("embedding_length"),
        "intermediate_size": own("feed_forward_length"), "num_hidden_layers": own("block_count"),
        "num_attention_heads": heads, "num_key_value_heads": kv_heads,
        "head_dim": own("attention.key_length", own("embedding_length") // heads),
        "max_position_embeddings": own("context_length"),
        "rms_norm_eps": own("attention.layer_norm_rms_epsilon"),  # None where it is another norm
        "rope_theta": own("rope.freq_base", 10000.0), "hidden_act": "silu",
        "vocab_size": len(get("tokenizer.ggml.tokens")),
        "tie_word_embeddings": "output.weight" not in g.tensors,
        "bos_token_id": get("tokenizer.ggml.bos_token_id"),
        "eos_token_id": get("tokenizer.ggml.eos_token_id")}
    if "rope_freqs.weight" in g.tensors:
        (factor,) = struct.unpack("<f", g.raw("rope_freqs.weight")[-4:])  # of the slowest rotation
        config["rope_scaling"] = {"rope_type": "llama3", "factor": factor, "low_freq_factor": 1.0,
                                  "high_freq_factor": 4.0,
                                  "original_max_position_embeddings": 8192}
    config.update({member: own(key) if isinstance(key, str) and member not in TEXTS else key
                   for member, key in BY_ARCH[family][2].items()})
    config.update(more_members(g, family, own))
    config.update(biases(g))
    for old, new in RENAMED.get(family, {}).items():
        config[new or "unused"] = config.pop(old)
    (folder / "config.json").write_text(json.dumps(config))
    is_spm = get("tokenizer.ggml.model") == "llama"
    make = TOKENIZERS[get("tokenizer.ggml.model")]
    (folder / "tokenizer.json").write_text(json.dumps(make(get)))
    if own("pooling_type") is not None:
        modes = {"pooling_mode_mean_tokens": 1, "pooling_mode_cls_token": 2}
        (folder / "1_Pooling").mkdir(exist_ok=True)
        (folder / "1_Pooling" / "config.json").write_text(json.dumps(
            {name: kind == own("pooling_type") for name, kind in modes.items()}))
    tokens = get("tokenizer.ggml.tokens")
    named = {f"{end}_token": {"content": tokens[config[f"{end}_token_id"]]}
             for end in ("bos", "eos") if config[f"{end}_token_id"] is not None}
    (folder / "tokenizer_config.json").write_text(json.dumps({
        **named, "model_max_length": int(1e30), "add_bos_token": bool(get("tokenizer.ggml.add_bos_token", is_spm)),
        "chat_template": get("tokenizer.chat_template")}))
    tensors = read_tensors(g, family, heads, kv_heads, vectors)
    if shards == 1:
        write_safetensors(folder / "model.safetensors", tensors)
        return folder
    names = sorted(tensors)
    where = {}
    for i in range(shards):
        file = f"model-{i + 1:05}-of-{shards:05}.safetensors"
        part = {n: tensors[n] for n in names[i::shards]}
        write_safetensors(folder / file, part)
        where.update({n: file for n in part})
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {"total_size": 0}, "weight_map": where}))
    return folder
