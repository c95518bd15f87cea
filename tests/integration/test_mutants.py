"""Models with one number changed: none may run wrongly in silence.

Every number in the metadata, and every tensor's shape, of small models, one at a time.  Each mutant
is refused by one line, or gives the same logits as the original since what was changed is said
elsewhere, too, or the number is one that nothing else says (FREE): a base of rotations, say.

EXO_MUTANTS=all takes every architecture and more values for each number.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Iterator

import pytest

from conftest import run
from hf_folder import SCALARS, Gguf, write_folder  # which makes gguf_edit importable
from gguf_edit import Tensor

ALL = os.environ.get("EXO_MUTANTS") == "all"
GGUFS = ["test-qwen2", "test-gemma2", "test-deepseek2", "test-gpt-oss"]
FOLDERS = ["test-qwen3", "test-deepseek2", "test-granitemoeshared", "test-internlm2"]
if ALL:
    GGUFS += ["test-256", "test-mixtral", "test-qwen2moe", "test-phi", "test-glm4", "test-olmo2", "test-command-r"]
    FOLDERS += ["test-256", "test-gemma3", "test-gpt-oss", "test-qwen2moe", "test-phi", "test-seed_oss"]
# What only this number says.
FREE = {
    "rope.freq_base", "rope.scaling.factor", "rope.scaling.original_context_length",
    "rope.scaling.yarn_log_multiplier", "rope.scaling.attn_factor", "rope.dimension_count",
    "attention.layer_norm_rms_epsilon", "attention.layer_norm_epsilon", "attention.scale",
    "attention.sliding_window", "attn_logit_softcapping", "final_logit_softcapping",
    "embedding_scale", "residual_scale", "logit_scale", "expert_used_count", "expert_group_count",
    "expert_group_used_count", "expert_gating_func", "expert_weights_scale", "expert_weights_norm",
    "context_length",  # where windows, or yarn, begin when nothing else says it
    "ggml.bos_token_id", "ggml.add_bos_token",
}
FREE_IN_CONFIG = {
    "rope_theta", "factor", "original_max_position_embeddings", "mscale", "mscale_all_dim",
    "attention_factor", "rms_norm_eps", "layer_norm_eps", "attention_multiplier",
    "embedding_multiplier", "residual_multiplier", "logits_scaling", "logit_scale",
    "num_experts_per_tok", "n_group", "topk_group", "routed_scaling_factor", "norm_topk_prob",
    "sliding_window", "sliding_window_pattern", "rope_local_base_freq", "partial_rotary_factor",
    "low_freq_factor", "high_freq_factor", "beta_fast", "beta_slow", "long_factor", "short_factor",
    "max_position_embeddings", "final_logit_softcapping", "attn_logit_softcapping",
}


@dataclass
class Mutant:
    what: str
    make: Callable[[], Path]  # called when it is its turn: there are hundreds


def other_numbers(v: float | int | bool) -> list[Any]:
    if isinstance(v, bool):
        return [not v]
    if isinstance(v, float):
        return [v * 2 + 1, 0.0, -v - 1] + ([v / 2, 1e30] if ALL else [])
    return [v + 1, 2 * v + 2, 0, v - 1] + ([v // 2, 2**31 - 1] if ALL else [])


def verdict(path: Path, want: str) -> str:
    """"same", "other", or the line with which it is refused."""
    done = run("run", "-m", str(path), "-p", "Hello there, 12!", "-n", "3", "--temp", "0", "--json",
               "--logits-hash", "--raw", "--threads", "1", timeout=60)
    if done.returncode == 0:
        return "same" if json.loads(done.stdout)["logits_sha256"] == want else "other"
    assert done.returncode == 1, (path, done.returncode, done.stderr)
    assert done.stderr.startswith(b"exo: ") and done.stderr.count(b"\n") == 1, (path, done.stderr)
    return done.stderr.decode()


def hash_of(path: Path) -> str:
    done = run("run", "-m", str(path), "-p", "Hello there, 12!", "-n", "3", "--temp", "0", "--json",
               "--logits-hash", "--raw", "--threads", "1", timeout=60)
    assert done.returncode == 0, done.stderr
    return str(json.loads(done.stdout)["logits_sha256"])


def judge(mutants: Iterator[Mutant], want: str, is_free: Callable[[str], bool]) -> None:
    def one(m: Mutant) -> tuple[str, str]:
        path = m.make()
        answer = verdict(path, want)
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        return m.what, answer

    by_name = {m.what: m for m in mutants}
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(one, by_name.values()))
    wrong = [what for what, answer in answers if answer == "other" and not is_free(what)]
    assert not wrong, wrong
    refused = sum(answer not in ("same", "other") for _, answer in answers)
    assert refused > len(answers) / 3, "nothing much is refused"


# ---- GGUF ----

def gguf_mutants(source: Path, folder: Path) -> Iterator[Mutant]:
    def write(what: str, change: Callable[[Gguf], None]) -> Mutant:
        def make() -> Path:
            g = Gguf(source)
            change(g)
            path = folder / f"{abs(hash(what))}.gguf"
            g.write(path)
            return path

        return Mutant(what, make)

    def set_value(key: str, kind: int, v: Any) -> Callable[[Gguf], None]:
        return lambda g: g.values.update({key: (kind, struct.pack(SCALARS[kind], v))})

    def set_dims(name: str, dims: tuple[int, ...]) -> Callable[[Gguf], None]:
        return lambda g: g.tensors.update({name: Tensor(dims, g.tensors[name].kind, g.tensors[name].offset)})

    original = Gguf(source)
    for key, (kind, raw) in original.values.items():
        if kind not in SCALARS or key.startswith("general."):
            continue
        (v,) = struct.unpack(SCALARS[kind], raw)
        for other in other_numbers(v):
            if kind in (4, 10) and not 0 <= other < 2**32:
                continue
            yield write(f"{key}={other}", set_value(key, kind, other))
    for name, t in list(original.tensors.items())[:None if ALL else 24]:
        for dims in other_dims(t.dims):
            yield write(f"{name} {t.dims}->{dims}", set_dims(name, dims))


def other_dims(dims: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Of as many elements, since others are noticed anyway, and one more."""
    if len(dims) > 1 and dims[0] != dims[1]:
        yield (dims[1], dims[0], *dims[2:])
    if len(dims) > 1 and dims[0] % 2 == 0:
        yield (dims[0] // 2, dims[1] * 2, *dims[2:])
    yield (*dims[:-1], dims[-1] * 2)
    yield (*dims[:-1], 0)


@pytest.mark.parametrize("shape", GGUFS)
def test_gguf(models: Callable[..., str], tmp_path: Path, shape: str) -> None:
    source = Path(models(shape, "q4_0"))

    def is_free(what: str) -> bool:
        key = what.split("=")[0].split(".", 1)
        return len(key) == 2 and key[1] in FREE

    judge(gguf_mutants(source, tmp_path), hash_of(source), is_free)


# ---- folders ----

def numbers_in(v: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    if isinstance(v, (bool, int, float)):
        yield path, v
    elif isinstance(v, dict):
        for key, member in v.items():
            yield from numbers_in(member, (*path, key))
    elif isinstance(v, list):
        for i, element in enumerate(v[:2]):
            yield from numbers_in(element, (*path, i))


def changed(config: Any, path: tuple[Any, ...], v: Any) -> Any:
    copy = json.loads(json.dumps(config))
    at = copy
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = v
    return copy


def folder_mutants(source: Path, root: Path) -> Iterator[Mutant]:
    config = json.loads((source / "config.json").read_text())
    raw = (source / "model.safetensors").read_bytes()
    (n,) = struct.unpack_from("<Q", raw)
    header, data = json.loads(raw[8:8 + n]), raw[8 + n:]

    def write(what: str, config: Any, header: Any) -> Mutant:
        def make() -> Path:
            path = root / str(abs(hash(what)))
            path.mkdir()
            for name in ("tokenizer.json", "tokenizer_config.json"):
                (path / name).symlink_to(source / name)
            (path / "config.json").write_text(json.dumps(config))
            text = json.dumps(header).encode()
            text += b" " * (-len(text) % 8)
            (path / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)
            return path

        return Mutant(what, make)

    for path, v in numbers_in(config):
        for other in other_numbers(v):
            yield write(f"{path[-1] if isinstance(path[-1], str) else path[-2]}={other}",
                        changed(config, path, other), header)
    for name in [n for n in header if n != "__metadata__"][:None if ALL else 24]:
        shape = header[name]["shape"]
        for dims in other_dims(tuple(shape)):
            yield write(f"{name} {shape}->{dims}", config, changed(header, (name, "shape"), list(dims)))


@pytest.mark.parametrize("shape", FOLDERS)
def test_folder(models: Callable[..., str], tmp_path: Path, shape: str) -> None:
    source = write_folder(Path(models(shape, "bf16")), tmp_path / "source")
    (tmp_path / "mutants").mkdir()

    def is_free(what: str) -> bool:
        return what.split("=")[0] in FREE_IN_CONFIG

    judge(folder_mutants(source, tmp_path / "mutants"), hash_of(source), is_free)
