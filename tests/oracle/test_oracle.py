"""exo's forward pass against llama.cpp's: the same files, the same token ids, the same numbers?

Every architecture with every weight type; settings that exo synth does not make, written into the
file; and, so that the tolerance is known to be sharp, llama.cpp on files with one thing wrong,
where the comparison must fail.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

import pytest

from compare import (ENCODERS, LOOK_AT, OPTIONS, PROMPT, SHAPES, TYPES, WITH_EXPERTS, Deviation, Job,
                     Ranking, Unavailable, ask_llama, compare, compare_embedding, every_expert,
                     install, synth)
from gguf_edit import BF16_TENSOR, F16_TENSOR, F32_TENSOR, Gguf

try:
    install()
except Unavailable as reason:
    pytest.skip(str(reason), allow_module_level=True)

EVERY_TYPE = ("test-256", "test-qwen2", "test-qwen3")  # llama, qwen2, qwen3
LONG = [(37 * i * i + 11 * i + 5) % 508 for i in range(1200)]  # where slow rotations show
EXACT = 2e-4  # both compute in f32; only the order of sums differs
GELU = 0.004  # llama.cpp looks gelu up in a table of f16
TOLERANCE = {
    "f32": EXACT,
    "f16": 0.02,  # llama.cpp may round activations to f16
    "bf16": 0.15,  # llama.cpp rounds activations to bf16
    "q8_0": 0.3, "q4_0": 0.3,  # activations in int8 with an f32 scale here, f16 there
}  # and the others, in blocks of 256: equal until one activation rounds differently
ROUNDED = 0.3  # whatever multiplies with activations of 8 bits
TOLERANCE.update({kind: ROUNDED for kind in TYPES if kind not in TOLERANCE})
IN_256 = [kind for kind in TYPES if "_K" in kind or kind.startswith(("iq1", "iq2", "iq3", "iq4_xs"))]


WITH_GELU = ("test-gemma", "test-gemma2", "test-gemma3", "test-starcoder2", "test-phi2",
             "test-falcon", "test-bert")


ROUNDED_KINDS = ("q8_0", "q4_K_M")
Q8_0_ONLY = SHAPES[SHAPES.index("test-olmoe"):]  # architectures whose parts others test in more types


# All experts of test-deepseek2 together weigh 2.5, not 1: so does what is rounded in them.
WIDER = {"test-deepseek2": 2, "test-dots1": 2, "test-bailingmoe2": 2,
         "test-exaone4": 2}  # 64 layers


def tolerance(shape: str, kind: str) -> float:
    wider = 1 if kind == "f32" else WIDER.get(shape, 1)
    return max(wider * TOLERANCE[kind], GELU if shape in WITH_GELU else 0)


@dataclass
class Case:
    shape: str
    kind: str = "f32"
    both: Callable[[Gguf], None] | None = None  # changes the file of exo and of llama.cpp
    theirs: Callable[[Gguf], None] | None = None  # then changes llama.cpp's copy alone
    ids: list[int] = field(default_factory=lambda: PROMPT)
    at: list[int] = field(default_factory=lambda: LOOK_AT)
    kv: str = "F32"
    options: tuple[str, ...] | None = None  # of exo; None = as the shape needs them
    top: int = 20  # tokens compared


# ---- settings that exo synth does not make ----

def tied_head(g: Gguf) -> None:
    del g.tensors["output.weight"]


def own_head(g: Gguf) -> None:
    """The embedding with its rows moved on by 100."""
    t = g.tensors["token_embd.weight"]
    raw = g.raw("token_embd.weight")
    row = 4 * t.dims[0]
    g.add_tensor("output.weight", t.dims, t.kind, raw[100 * row:] + raw[:100 * row])


def linear_scaling(g: Gguf) -> None:
    g.set_str("llama.rope.scaling.type", "linear")
    g.set_f32("llama.rope.scaling.factor", 4)


def attention_biases(g: Gguf) -> None:
    for name, n in (("attn_q", 256), ("attn_k", 128), ("attn_v", 128)):
        for il in range(4):
            bias = [((13 * i + 7 * il) % 17 - 8) / 20 for i in range(n)]
            g.set_vector(f"blk.{il}.{name}.bias", bias)


def layer_for_the_token_after_next(g: Gguf) -> None:
    """One more layer, which is not to be used, as files of GLM-4.5 have it."""
    layers, width = 3, 256
    for name, t in list(g.tensors.items()):
        if name.startswith(f"blk.{layers - 1}."):
            copy = name.replace(f"blk.{layers - 1}.", f"blk.{layers}.")
            g.add_tensor(copy, t.dims, t.kind, g.raw(name))
    g.add_tensor(f"blk.{layers}.nextn.eh_proj.weight", (2 * width, width), F32_TENSOR,
                 bytes(8 * width * width))
    for name in ("enorm", "hnorm"):
        g.set_vector(f"blk.{layers}.nextn.{name}.weight", [1.0] * width)
    g.set_u32("glm4moe.block_count", layers + 1)
    g.set_u32("glm4moe.nextn_predict_layers", 1)


def no_head_norms(g: Gguf) -> None:
    g.remove([name for name in g.tensors if "attn_q_norm" in name or "attn_k_norm" in name])


def wide(kind: int, raw: bytes) -> bytes:
    """The same numbers in f32."""
    if kind == F16_TENSOR:
        n = len(raw) // 2
        return struct.pack(f"<{n}f", *struct.unpack(f"<{n}e", raw))
    if kind == BF16_TENSOR:
        out = bytearray(2 * len(raw))
        out[2::4], out[3::4] = raw[0::2], raw[1::2]
        return bytes(out)
    return raw


def widened(g: Gguf) -> None:
    old = {name: (t, g.raw(name)) for name, t in g.tensors.items()}
    g.tensors, g.data = {}, bytearray()
    for name, (t, raw) in old.items():
        g.add_tensor(name, t.dims, F32_TENSOR, wide(t.kind, raw))


# ---- one thing wrong ----

def other_base(g: Gguf) -> None:
    g.set_f32("llama.rope.freq_base", 11000)


def other_eps(g: Gguf) -> None:
    g.set_f32("qwen3.attention.layer_norm_rms_epsilon", 1e-5)  # 1e-6


def no_rope_factors(g: Gguf) -> None:
    g.set_vector("rope_freqs.weight", [1.0] * 32)


def no_key_bias(g: Gguf) -> None:
    g.set_vector("blk.1.attn_k.bias", [0.0] * 64)


def no_query_norm(g: Gguf) -> None:
    g.set_vector("blk.1.attn_q_norm.weight", [1.0] * 128)


def gate_is_up(g: Gguf) -> None:
    gate, up = "blk.1.ffn_gate.weight", "blk.1.ffn_up.weight"
    raw = g.raw(gate)
    g.overwrite(gate, g.raw(up))
    g.overwrite(up, raw)


def permuted_rows(g: Gguf, name: str, source: Callable[[int], int]) -> None:
    """Row i of an f32 matrix becomes what row source(i) was."""
    cols, n_rows = g.tensors[name].dims
    old = g.raw(name)
    rows = [old[4 * cols * i:4 * cols * (i + 1)] for i in range(n_rows)]
    g.overwrite(name, b"".join(rows[source(i)] for i in range(n_rows)))


def heads_share_wrongly(g: Gguf) -> None:
    """Key and value heads in the other order."""
    for name in ("attn_k", "attn_v"):
        permuted_rows(g, f"blk.1.{name}.weight", lambda i: (i + 64) % 128)


def pairs_of_halves(g: Gguf) -> None:
    """What rotating (i, i + 32) instead of (2i, 2i + 1) amounts to."""
    for name in ("attn_q", "attn_k"):
        permuted_rows(g, f"blk.1.{name}.weight",
                      lambda i: i // 64 * 64 + i % 2 * 32 + i % 64 // 2)


def other_window(g: Gguf) -> None:
    g.set_u32("gpt-oss.attention.sliding_window", 11)  # 12


def no_sinks(g: Gguf) -> None:
    g.set_vector("blk.1.attn_sinks.weight", [-1e9] * 4)


def other_residual_scale(g: Gguf) -> None:
    g.set_f32("granite.residual_scale", 0.49)  # 0.5


def other_expert_scale(g: Gguf) -> None:
    g.set_f32("deepseek2.expert_weights_scale", 2.4)  # 2.5


def other_yarn_multiplier(g: Gguf) -> None:
    g.set_f32("deepseek2.rope.scaling.yarn_log_multiplier", 0.08)  # 0.0707


def no_choice_bias(g: Gguf) -> None:
    g.set_vector("blk.1.exp_probs_b.bias", [0.0] * 16)


def other_score_cap(g: Gguf) -> None:
    g.set_f32("gemma2.final_logit_softcapping", 25)  # 30


def other_local_base(g: Gguf) -> None:
    g.set_f32("gemma3.rope.freq_base_swa", 30000)  # 10000


PLAIN = {f"{s}-{k}": Case(s, k, at=[1, 12, 40], top=8) for s in EVERY_TYPE for k in TYPES}
# Choosing experts is compared in f32: see every_expert().
ARCHITECTURES = {f"{s}-{k}": Case(s, k, at=[2, 40], top=8,
                                  both=every_expert if s in WITH_EXPERTS and k != "f32" else None)
                 for s in SHAPES if s not in EVERY_TYPE and s not in ENCODERS
                 for k in ("f32", *ROUNDED_KINDS) if k != "q4_K_M" or s not in Q8_0_ONLY}
ARCHITECTURES["test-gpt-oss-mxfp4"] = Case("test-gpt-oss", "mxfp4", at=[2, 40], top=8,
                                           both=every_expert)
SPECIAL = {
    "phi's long factors": Case("test-phi", ids=LONG, at=[700, 1200], options=()),
    "yarn beyond its original context": Case("test-gpt-oss", ids=LONG, at=[700, 1200]),
    "latents at 1200 tokens": Case("test-deepseek2", ids=LONG, at=[700, 1200]),
    "rope factors at 1200 tokens": Case("test-256", ids=LONG, at=[700, 1200]),
    "qwen2 with a tied head": Case("test-qwen2", both=tied_head),
    "qwen3 with a head of its own": Case("test-qwen3", both=own_head),
    "linear rope scaling": Case("test-256", both=linear_scaling),
    "llama with biases": Case("test-256", both=attention_biases),
    "f16 against the same in f32": Case("test-qwen3", "f16", theirs=widened),
    "bf16 against the same in f32": Case("test-qwen3", "bf16", theirs=widened),
    "glm4moe with a layer for later": Case("test-glm4moe", both=layer_for_the_token_after_next,
                                           at=[2, 40], top=8),
    "glm4moe without norms of heads": Case("test-glm4moe", both=no_head_norms, at=[2, 40], top=8),
    "keys and values in f16": Case("test-qwen3", kv="F16"),
}
WRONG = {
    "window": Case("test-gpt-oss", theirs=other_window, at=[40]),
    "sinks": Case("test-gpt-oss", theirs=no_sinks, at=[40]),
    "residual scale": Case("test-granite", theirs=other_residual_scale, at=[40]),
    "expert scale": Case("test-deepseek2", theirs=other_expert_scale, at=[40]),
    "yarn multiplier": Case("test-deepseek2", theirs=other_yarn_multiplier, at=[40]),
    "choice bias": Case("test-deepseek2", theirs=no_choice_bias, at=[40]),
    "score cap": Case("test-gemma2", theirs=other_score_cap, at=[40]),
    "local rope base": Case("test-gemma3", theirs=other_local_base, at=[40]),
    "rope base": Case("test-256", theirs=other_base, at=[40]),
    "epsilon": Case("test-qwen3", theirs=other_eps, at=[40]),
    "rope factors": Case("test-256", theirs=no_rope_factors, ids=LONG, at=[1200]),
    "key bias": Case("test-qwen2", theirs=no_key_bias, at=[40]),
    "query norm": Case("test-qwen3", theirs=no_query_norm, at=[40]),
    "gate and up": Case("test-256", theirs=gate_is_up, at=[40]),
    "order of heads": Case("test-256", theirs=heads_share_wrongly, at=[40]),
    "pairs of a rotation": Case("test-256", theirs=pairs_of_halves, at=[40]),
}
CASES = {**PLAIN, **ARCHITECTURES, **SPECIAL, **WRONG}


# ---- running ----

def edited(model: Path, change: Callable[[Gguf], None] | None, suffix: str) -> Path:
    if change is None:
        return model
    g = Gguf(model)
    change(g)
    path = model.with_suffix(suffix)
    g.write(path)
    return path


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Job, list[Ranking]]]:
    """For each case, exo's job and llama.cpp's answer to it; one llama.cpp process for all."""
    root = tmp_path_factory.mktemp("models")
    ours: dict[str, Job] = {}
    theirs: dict[str, Job] = {}
    for i, (name, case) in enumerate(CASES.items()):
        base = synth(case.shape, case.kind, root / f"{i}.gguf")
        model = edited(base, case.both, ".both.gguf")
        ours[name] = Job(model, case.ids, case.at)
        theirs[name] = Job(edited(model, case.theirs, ".theirs.gguf"), case.ids, case.at)
    answers: dict[str, tuple[Job, list[Ranking]]] = {}
    for kv in ("F32", "F16"):
        names = [name for name, case in CASES.items() if case.kv == kv]
        for name, ranking in zip(names, ask_llama([theirs[n] for n in names], kv), strict=True):
            answers[name] = (ours[name], ranking)
    return answers


@pytest.fixture(scope="module")
def measured(asked: dict[str, tuple[Job, list[Ranking]]],
             tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Deviation]:
    done: dict[str, Deviation] = {}

    def measure(name: str) -> Deviation:
        if name not in done:
            job, ranking = asked[name]
            case = CASES[name]
            options = OPTIONS.get(case.shape, ()) if case.options is None else case.options
            options = [*options, *(["--kv-f16"] if case.kv == "F16" else [])]
            done[name] = compare(job, ranking, tmp_path_factory.mktemp("data"), *options,
                                 top=case.top)
        return done[name]

    return measure


@pytest.mark.parametrize("name", PLAIN)
def test_every_architecture_and_type(measured: Callable[[str], Deviation], name: str) -> None:
    d, most = measured(name), TOLERANCE[PLAIN[name].kind]
    assert d.largest < most
    assert d.gap < most  # a different first token only where two are as good


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_other_architecture(measured: Callable[[str], Deviation], name: str) -> None:
    case = ARCHITECTURES[name]
    d, most = measured(name), tolerance(case.shape, case.kind)
    assert d.largest < most
    assert d.gap < most


@pytest.mark.parametrize("shape", ENCODERS)
@pytest.mark.parametrize("kind", ["f32", "q8_0"])
def test_embeddings(tmp_path: Path, shape: str, kind: str) -> None:
    job = Job(synth(shape, kind, tmp_path / "m.gguf"), PROMPT, [], embed=True)
    deviation = compare_embedding(job, ask_llama([job])[0])
    exact = 2e-4 if shape in WITH_GELU else 1e-6
    assert deviation < (exact if kind == "f32" else 0.01)


@pytest.mark.parametrize("pooling", [1, 2, 3])  # mean, first, last: qwen3-embedding has the last
def test_embeddings_of_models_that_answer(tmp_path: Path, pooling: int) -> None:
    def pooled(g: Gguf) -> None:
        g.set_u32("qwen3.pooling_type", pooling)

    model = edited(synth("test-qwen3", "f32", tmp_path / "m.gguf"), pooled, ".pooled.gguf")
    job = Job(model, PROMPT, [], embed=True)
    assert compare_embedding(job, ask_llama([job])[0]) < 1e-6


@pytest.mark.parametrize("kind", IN_256)
def test_k_quants_are_equal_until_one_activation_rounds_differently(
        measured: Callable[[str], Deviation], kind: str) -> None:
    assert min(measured(f"{shape}-{kind}").smallest for shape in EVERY_TYPE) < 1e-4


@pytest.mark.parametrize("name", SPECIAL)
def test_special_settings(measured: Callable[[str], Deviation], name: str) -> None:
    most = TOLERANCE["f16"] if SPECIAL[name].kv == "F16" else EXACT
    assert measured(name).largest < most


@pytest.mark.parametrize("name", WRONG)
def test_an_error_would_be_noticed(measured: Callable[[str], Deviation], name: str) -> None:
    assert measured(name).largest > 2 * tolerance(WRONG[name].shape, "f32")
