"""Folders of transformers as models: the same answers as the GGUF file they were made from."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path
from typing import Any, Callable

import pytest

from conftest import run
from hf_folder import Gguf, data_of, wrap, write_folder
from hub import Hub

SHAPES = ["test-256", "test-qwen2", "test-qwen3"]
OTHERS = ["test-mixtral", "test-qwen2moe", "test-qwen3moe", "test-gemma", "test-gemma2", "test-gemma3",
          "test-phi", "test-granite", "test-granitemoe", "test-glm4", "test-deepseek2-lite",
          "test-olmo2", "test-starcoder2", "test-command-r", "test-smollm3", "test-ernie4_5",
          "test-seed_oss", "test-exaone", "test-olmoe", "test-internlm2", "test-granitemoeshared",
          "test-gpt-oss"]
PERMUTED = ["test-256", "test-mixtral", "test-granite", "test-granitemoe", "test-smollm3",
            "test-internlm2", "test-granitemoeshared"]
TEXTS = ["Hello there, 12345 world!", "  two  spaces\n\n\tand a tab", "naïve café, 日本語 😀",
         "<|im_end|>"]


@pytest.fixture(scope="module")
def folder(models: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """folder(shape, type, ...): a folder made from a synthetic model, once."""
    root = tmp_path_factory.mktemp("hf")

    def make(shape: str, kind: str = "bf16", vectors: str = "F32", shards: int = 1) -> Path:
        path = root / f"{shape}-{kind}-{vectors}-{shards}"
        if not path.exists():
            write_folder(Path(models(shape, kind)), path, vectors, shards)
        return path

    return make


def answer(model: str, *options: str, prompt: str = TEXTS[0]) -> dict[str, Any]:
    done = run("run", "-m", model, "-p", prompt, "-n", "12", "--temp", "0", "--json", "--logits-hash",
               *options)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@pytest.mark.parametrize("kind", ["f32", "f16", "bf16"])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_same_answers_as_the_gguf(models, folder, shape: str, kind: str) -> None:
    ours, theirs = answer(str(folder(shape, kind)), "--raw"), answer(models(shape, kind), "--raw")
    assert ours["prompt_ids"] == theirs["prompt_ids"] and ours["ids"] == theirs["ids"]
    if shape != "test-256":  # there, the order of sums within a head differs
        assert ours["logits_sha256"] == theirs["logits_sha256"]


@pytest.mark.parametrize("shape", OTHERS)
def test_other_architectures(models, folder, tmp_path: Path, shape: str) -> None:
    """The folder answers as its GGUF file does, and the file that is made of it has the same bits."""
    path, source = folder(shape), models(shape, "bf16")
    ours, theirs = answer(str(path), "--raw"), answer(source, "--raw")
    assert ours["prompt_ids"] == theirs["prompt_ids"] and ours["ids"] == theirs["ids"]
    if shape not in PERMUTED:
        assert ours["logits_sha256"] == theirs["logits_sha256"]
    back = tmp_path / "back.gguf"
    done = run("convert", str(path), "-o", str(back), timeout=120)
    assert done.returncode == 0, done.stderr
    assert data_of(Gguf(back)) == data_of(Gguf(Path(source)))
    assert answer(str(back), "--raw")["logits_sha256"] == theirs["logits_sha256"]


def test_mxfp4_has_its_scales_in_another_tensor(models, tmp_path: Path) -> None:
    """As gpt-oss is published: the same bits from the folder, and back as a GGUF file."""
    g = Gguf(Path(models("test-gpt-oss", "bf16")))
    quantised = Gguf(Path(models("test-gpt-oss", "mxfp4_moe")))
    old = {name: (t, g.raw(name)) for name, t in g.tensors.items()}
    g.tensors, g.data = {}, bytearray()
    for name, (t, raw) in old.items():
        if name.endswith("_exps.weight"):
            g.add_tensor(name, t.dims, quantised.tensors[name].kind, quantised.raw(name))
        else:
            g.add_tensor(name, t.dims, t.kind, raw)
    source, back = tmp_path / "source.gguf", tmp_path / "back.gguf"
    g.write(source)
    path = write_folder(source, tmp_path / "folder")
    done = run("convert", str(path), "-o", str(back), timeout=120)
    assert done.returncode == 0, done.stderr
    assert data_of(Gguf(back)) == data_of(Gguf(Path(source)))
    ours, theirs = answer(str(path), "--raw"), answer(str(source), "--raw")
    assert ours["ids"] == theirs["ids"] and ours["logits_sha256"] == theirs["logits_sha256"]
    (name,) = [n for n in json.loads(headers(path)) if n.endswith("0.mlp.experts.down_proj_scales")]
    edit_header(rename(name, name.replace("down_proj_scales", "down_proj_odd")))(path)
    done = run("run", "-m", str(path), "-p", "x", "--raw")
    assert done.returncode == 1 and b"down_proj_odd" in done.stderr


@pytest.mark.parametrize("shape, model_type, newer", [
    ("test-gemma3", "gemma3", True), ("test-gemma3", "gemma3", False), ("test-256", "llava", False)])
def test_the_text_part_of_what_sees_pictures(models, folder, tmp_path: Path, shape: str,
                                             model_type: str, newer: bool) -> None:
    path = tmp_path / "m"
    shutil.copytree(folder(shape), path)
    wrap(path, model_type, newer)
    done = run("run", "-m", str(path), "-p", TEXTS[0], "-n", "12", "--temp", "0", "--json",
               "--logits-hash", "--raw")
    assert done.returncode == 0 and b"1 tensors are for pictures" in done.stderr, done.stderr
    plain = answer(str(folder(shape)), "--raw")
    assert json.loads(done.stdout)["logits_sha256"] == plain["logits_sha256"]


def test_latents_in_another_form(models, folder) -> None:
    """GGUF has keys and values apart and the keys turned; the folder has them as one matrix."""
    ours = answer(str(folder("test-deepseek2")), "--raw")
    theirs = answer(models("test-deepseek2", "bf16"), "--raw")
    assert ours["prompt_ids"] == theirs["prompt_ids"] and ours["ids"] == theirs["ids"]


def embedding(model: Path | str, text: str) -> Any:
    done = run("embed", "-m", str(model), "-p", text, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["embedding"]


def test_another_encoder(models, folder) -> None:
    source, path = models("test-nomic-bert", "bf16"), folder("test-nomic-bert")
    assert embedding(path, TEXTS[0]) == embedding(source, TEXTS[0])


def test_encoder(models, folder, tmp_path: Path) -> None:
    source, path = models("test-bert", "bf16"), tmp_path / "bert"
    shutil.copytree(folder("test-bert"), path)
    assert embedding(path, TEXTS[0]) == embedding(source, TEXTS[0])
    edit_json("config.json", position_embedding_type="relative_key")(path)
    done = run("embed", "-m", str(path), "-p", "x")
    assert done.returncode == 1 and b"relative_key" in done.stderr
    edit_json("config.json", position_embedding_type="absolute")(path)
    (path / "1_Pooling" / "config.json").unlink()
    done = run("embed", "-m", str(path), "-p", "x")
    assert done.returncode == 1 and b"1_Pooling/config.json is missing" in done.stderr


def word_pieces(g: Gguf) -> None:
    """The tokenizer of a bert: 520 tokens that words fall into."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)] + list("0123456789!,.")
    words = ["▁hello", "▁there", "▁world", "▁naive", "ing", "▁日", "45", "▁12"]
    tokens = special + words + ["▁" + c for c in letters] + letters
    tokens += [f"▁unused{i}" for i in range(520 - len(tokens))]
    types = [3] * len(special) + [1] * (520 - len(special))
    for key in [k for k in g.values if k.startswith("tokenizer.")]:
        del g.values[key]
    g.set_str("tokenizer.ggml.model", "bert")
    g.values["tokenizer.ggml.tokens"] = (9, struct.pack("<IQ", 8, 520) + b"".join(
        struct.pack("<Q", len(t.encode())) + t.encode() for t in tokens))
    g.values["tokenizer.ggml.token_type"] = (9, struct.pack("<IQ520i", 5, 520, *types))
    for name, i in {"bos": 2, "seperator": 3, "unknown": 1, "padding": 0, "mask": 4}.items():
        g.set_u32(f"tokenizer.ggml.{name}_token_id", i)


def test_word_pieces(models, tmp_path: Path) -> None:
    g = Gguf(Path(models("test-bert", "f32")))
    word_pieces(g)
    source = tmp_path / "bert.gguf"
    g.write(source)
    path = write_folder(source, tmp_path / "folder")
    for text in [*TEXTS, "Hello THERE worlds, naïve [MASK] 12 日本 hellohello 1245!"]:
        got = [run("tokenize", "-m", str(m), "--json", stdin=text.encode()) for m in (path, source)]
        assert got[0].returncode == 0, got[0].stderr
        assert got[0].stdout == got[1].stdout
    ids = json.loads(run("tokenize", "-m", str(path), "--json", stdin=b"Hello worlds 1245").stdout)
    assert json.dumps(ids).replace(" ", "").find("[2,5,7") >= 0, ids
    edit_json("tokenizer.json", pre_tokenizer={"type": "Odd"})(path)
    done = run("tokenize", "-m", str(path), "--json", stdin=b"x")
    assert done.returncode == 1 and b"Odd" in done.stderr


@pytest.mark.parametrize("shape", SHAPES)
def test_the_same_tokens_and_templates(models, folder, shape: str) -> None:
    path = str(folder(shape))
    for text in TEXTS:
        for options in ([], ["--no-special"]):
            got = [run("tokenize", "-m", m, *options, "--json", stdin=text.encode())
                   for m in (path, models(shape, "bf16"))]
            assert got[0].returncode == 0 and got[0].stdout == got[1].stdout
    conversation = json.dumps({"messages": [{"role": "user", "content": "Hi"}],
                               "add_generation_prompt": True}).encode()
    got = [run("template", "-m", m, stdin=conversation) for m in (path, models(shape, "bf16"))]
    assert got[0].returncode == 0 and got[0].stdout == got[1].stdout


def test_shards_and_narrow_vectors(folder) -> None:
    whole = answer(str(folder("test-qwen3")), "--raw")
    assert answer(str(folder("test-qwen3", shards=3)), "--raw")["logits_sha256"] == whole["logits_sha256"]
    narrow = answer(str(folder("test-qwen3", "bf16", "BF16")), "--raw")
    assert narrow["prompt_ids"] == whole["prompt_ids"]


def test_a_folder_is_a_model_with_an_id(folder, tmp_path: Path) -> None:
    shutil.copytree(folder("test-qwen2"), tmp_path / "models" / "My-Model")
    env = {"EXO_HOME": str(tmp_path), "EXO_MODELS_DIRS": ""}
    done = run("run", "-m", "My-Model", "-p", "x", "--raw", "-n", "2", env=env)
    assert done.returncode == 0, done.stderr
    listed = json.loads(run("models", "--json", env=env).stdout)["models"]
    assert {"My-Model": "BF16"}.items() <= {m["id"]: m["type"] for m in listed}.items()
    named = run("run", "-m", "My-Model", "-p", "x", "--raw", "-n", "2", cwd=tmp_path / "models")
    assert named.returncode == 0, named.stderr
    slashes = run("run", "-m", f"{tmp_path}/models/My-Model//", "-p", "x", "--raw", "-n", "2")
    assert slashes.returncode == 0
    check = run("check", str(tmp_path / "models" / "My-Model"))
    assert check.returncode == 0 and b"well-formed safetensors, architecture qwen2" in check.stdout
    assert run("models", "rm", "My-Model", env=env).returncode == 0
    assert not (tmp_path / "models" / "My-Model").exists()


def test_a_folder_is_pulled(folder, tmp_path: Path) -> None:
    files = {p.name: p.read_bytes() for p in folder("test-qwen3", shards=3).iterdir()}
    hub = Hub(files)
    try:
        env = hub.env(EXO_HOME=str(tmp_path))
        hub.faults.cut = 3
        done = run("pull", "hf:owner/repo", env=env)
        assert done.returncode == 0, done.stderr
        assert {p.name for p in (tmp_path / "models" / "repo").iterdir()} == set(files)
        assert run("run", "-m", "repo", "-p", "x", "--raw", "-n", "2", env=env).returncode == 0
        again = run("pull", "hf:owner/repo", "--json", env=env)
        assert again.returncode == 0 and json.loads(again.stdout)["was_there"]
    finally:
        hub.stop()


def test_an_encoder_is_pulled_with_its_pooling(folder, tmp_path: Path) -> None:
    source = folder("test-bert")
    files = {str(p.relative_to(source)): p.read_bytes() for p in source.rglob("*") if p.is_file()}
    assert "1_Pooling/config.json" in files
    hub = Hub(files)
    try:
        env = hub.env(EXO_HOME=str(tmp_path))
        assert run("pull", "hf:owner/repo", env=env).returncode == 0
        path = tmp_path / "models" / "repo"
        assert {str(p.relative_to(path)) for p in path.rglob("*") if p.is_file()} == set(files)
        assert embedding(path, TEXTS[0]) == embedding(source, TEXTS[0])
        assert run("models", "rm", "repo", env=env).returncode == 0 and not path.exists()
        del hub.files["tokenizer.json"]
        done = run("pull", "hf:owner/repo", env=env)
        assert done.returncode == 1 and b"no tokenizer.json" in done.stderr
        assert not path.exists()
    finally:
        hub.stop()


def test_stories260k(shared: Path, tmp_path: Path) -> None:
    golden = json.loads((shared / "stories260K" / "golden-once-upon-a-time.json").read_text())
    path = write_folder(shared / "stories260K" / "stories260K-f32.gguf", tmp_path / "f32")
    done = run("run", "-m", str(path), "-p", golden["prompt"], "-n", "120", "--temp", "0", "--raw", "--json")
    assert done.returncode == 0, done.stderr
    got = json.loads(done.stdout)
    assert got["prompt_ids"] == golden["prompt_ids"] and got["ids"] == golden["ids"]
    # The folder that others wrote, with this tokenizer beside it: its weights are rounded to BF16.
    bf16 = tmp_path / "bf16"
    shutil.copytree(shared / "stories260K" / "stories260K-hf-BF16", bf16)
    bf16.chmod(0o755)
    shutil.copy(path / "tokenizer.json", bf16)
    done = run("run", "-m", str(bf16), "-p", golden["prompt"], "-n", "40", "--temp", "0", "--raw", "--json")
    assert done.returncode == 0, done.stderr
    same = sum(a == b for a, b in zip(json.loads(done.stdout)["ids"], golden["ids"]))
    assert same >= 10


# ---- hostile folders ----

def edit_json(name: str, **members: Any) -> Callable[[Path], None]:
    def edit(path: Path) -> None:
        content = json.loads((path / name).read_text())
        for key, value in members.items():
            if value is None:
                content.pop(key, None)
            else:
                content[key] = value
        (path / name).write_text(json.dumps(content))
    return edit


def write(name: str, data: bytes) -> Callable[[Path], None]:
    return lambda path: (path / name).write_bytes(data) and None


def headers(path: Path) -> bytes:
    raw = (path / "model.safetensors").read_bytes()
    return raw[8:8 + struct.unpack_from("<Q", raw)[0]]


def edit_header(change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    def edit(path: Path) -> None:
        raw = (path / "model.safetensors").read_bytes()
        (n,) = struct.unpack_from("<Q", raw)
        header = json.loads(raw[8:8 + n])
        change(header)
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        (path / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + raw[8 + n:])
    return edit


def rename(old: str, new: str) -> Callable[[dict[str, Any]], None]:
    def change(header: dict[str, Any]) -> None:
        header[new] = header.pop(old)
    return change


def set_member(tensor: str, key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda header: header[tensor].update({key: value})


NORM = "model.norm.weight"


EXPERT = "model.layers.1.block_sparse_moe.experts.%d.w3.weight"


@pytest.mark.parametrize("shape, spoil, words", [
    ("test-mixtral", edit_header(rename(EXPERT % 3, EXPERT % 8)), [EXPERT % 8, "there are 8"]),
    ("test-mixtral", edit_json("config.json", num_local_experts=9), ["expert 8", "is missing"]),
    ("test-mixtral", edit_json("config.json", num_local_experts=2**40), ["expert"]),
    ("test-mixtral", edit_json("config.json", num_experts_per_tok=9), ["expert_used_count"]),
    ("test-mixtral", edit_header(set_member(EXPERT % 3, "shape", [256, 128])), ["unlike the other"]),
    ("test-mixtral", edit_header(set_member(EXPERT % 3, "shape", [128 * 256])), ["1 dimensions"]),
    ("test-qwen3moe", edit_json("config.json", mlp_only_layers=[0]), ["mlp_only_layers"]),
    ("test-gemma2", edit_json("config.json", query_pre_attn_scalar=144), ["144"]),
    ("test-gemma2", edit_json("config.json", hidden_activation="silu"), ["silu", "gelu"]),
    ("test-phi", edit_json("config.json", original_max_position_embeddings=None), ["longrope"]),
    ("test-phi", edit_json("config.json", rope_scaling={"type": "longrope"}), ["rope"]),
    ("test-deepseek2-lite", edit_json("config.json", rope_scaling={
        "type": "yarn", "factor": 40, "mscale": 1.0, "mscale_all_dim": 0.7}), ["mscale"]),
    ("test-granite", edit_json("config.json", attention_multiplier="x"), ["attention_multiplier"]),
    ("test-qwen3", edit_json("config.json", attention_bias=True),
     ["attention_bias true", "blk.0.attn_q.bias", "missing"]),
    ("test-256", edit_json("config.json", mlp_bias=True), ["mlp_bias true", "blk.0.ffn_gate.bias"]),
    ("test-seed_oss", edit_json("config.json", attention_bias=False),
     ["attention_bias false", ".bias' is there"]),
    ("test-seed_oss", edit_json("config.json", attention_bias="x"), ["attention_bias is neither"]),
    ("test-starcoder2", edit_json("config.json", use_bias=False), ["use_bias false", "is there"]),
    ("test-qwen2", edit_json("config.json", model_type="mistral"), ["mistral", "no such bias"]),
    ("test-smollm3", edit_json("config.json", no_rope_layers=[1, 1, 0]), ["no_rope_layers[2]"]),
    ("test-deepseek2", edit_json("config.json", topk_method="group_limited_greedy"), ["topk_method"]),
    ("test-deepseek2", edit_json("config.json", rope_interleave=False), ["rope_interleave"]),
    ("test-deepseek2", edit_json("config.json", num_hidden_layers=2), ["blk.2"]),
    ("test-gpt-oss", edit_json("config.json", swiglu_limit=6.0), ["swiglu_limit"]),
    ("test-internlm2", edit_json("config.json", num_key_value_heads=4), ["512 rows", "768"]),
    ("test-gemma3", edit_json("config.json", use_bidirectional_attention=True), ["bidirectional"]),
    ("test-gemma3", edit_json("config.json", layer_types=["odd_attention"]), ["odd_attention"]),
])
def test_what_contradicts_itself_is_one_line(folder, tmp_path: Path, shape: str,
                                             spoil: Callable[[Path], None],
                                             words: list[str]) -> None:
    path = tmp_path / "m"
    shutil.copytree(folder(shape), path)
    spoil(path)
    done = run("run", "-m", str(path), "-p", "x", "--raw", timeout=20)
    assert done.returncode == 1, (done.stdout, done.stderr)
    assert done.stderr.count(b"\n") == 1, done.stderr
    for word in words:
        assert word.encode() in done.stderr, done.stderr


def move_tensor(path: Path, tensor: str, into: str, keep: bool = False) -> str:
    """A file of one more tensor; the index is left as it is.  Where the tensor was."""
    index = json.loads((path / "model.safetensors.index.json").read_text())["weight_map"]
    where = index[tensor]

    def read(file: str) -> tuple[dict[str, Any], bytes]:
        raw = (path / file).read_bytes()
        (n,) = struct.unpack_from("<Q", raw)
        return json.loads(raw[8:8 + n]), raw[8 + n:]

    header, data = read(where)
    begin, end = header[tensor]["data_offsets"]
    other, other_data = read(into)
    other[tensor] = header[tensor] | {"data_offsets": [len(other_data), len(other_data) + end - begin]}
    text = json.dumps(other).encode()
    text += b" " * (-len(text) % 8)
    (path / into).write_bytes(struct.pack("<Q", len(text)) + text + other_data + data[begin:end])
    return str(where)


def test_what_shards_and_their_index_say_must_agree(folder, tmp_path: Path) -> None:
    def refusal(path: Path) -> bytes:
        done = run("run", "-m", str(path), "-p", "x", "--raw", timeout=20)
        assert done.returncode == 1 and done.stderr.count(b"\n") == 1, done.stderr
        return done.stderr

    source = folder("test-qwen3", shards=3)
    files = sorted(p.name for p in source.glob("*.safetensors"))
    index = json.loads((source / "model.safetensors.index.json").read_text())
    shutil.copytree(source, tmp_path / "twice")
    (into,) = [f for f in files if f != index["weight_map"][NORM]][:1]
    move_tensor(tmp_path / "twice", NORM, into)
    assert NORM.encode() in (line := refusal(tmp_path / "twice"))
    assert into.encode() in line and index["weight_map"][NORM].encode() in line
    shutil.copytree(source, tmp_path / "unnamed")
    del index["weight_map"][NORM]
    (tmp_path / "unnamed" / "model.safetensors.index.json").write_text(json.dumps(index))
    assert b"does not name it" in refusal(tmp_path / "unnamed")
    shutil.copytree(source, tmp_path / "cut")
    whole = (source / files[1]).read_bytes()
    (tmp_path / "cut" / files[1]).write_bytes(whole[:-1])
    assert files[1].encode() in refusal(tmp_path / "cut")
    (tmp_path / "cut" / files[1]).unlink()
    assert files[1].encode() in refusal(tmp_path / "cut")


def test_an_index_that_was_left_behind(folder, tmp_path: Path) -> None:
    """As in transformers the one file is taken."""
    path = tmp_path / "m"
    shutil.copytree(folder("test-qwen2"), path)
    want = answer(str(path))["logits_sha256"]
    write("model.safetensors.index.json", json.dumps(
        {"weight_map": {NORM: "model-00001-of-00002.safetensors"}}).encode())(path)
    assert answer(str(path))["logits_sha256"] == want


def test_names_without_the_model_before_them(folder, tmp_path: Path) -> None:
    path = tmp_path / "m"
    shutil.copytree(folder("test-qwen2"), path)
    want = answer(str(path))["logits_sha256"]

    def strip(header: dict[str, Any]) -> None:
        for name in [n for n in header if n.startswith("model.")]:
            header[name.removeprefix("model.")] = header.pop(name)

    edit_header(strip)(path)
    assert answer(str(path))["logits_sha256"] == want


def index_alone(path: Path, file: str) -> None:
    (path / "model.safetensors").unlink()
    (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {NORM: file}}))


@pytest.mark.parametrize("spoil, words", [
    (write("config.json", b"{"), ["config.json"]),
    (write("config.json", b"[" * 100000), ["config.json"]),
    (write("config.json", b'{"a":1,"a":2}'), ["config.json", "duplicate"]),
    (edit_json("config.json", model_type="mamba9"), ["mamba9"]),
    (edit_json("config.json", hidden_size=None), ["hidden_size"]),
    (edit_json("config.json", hidden_size="x"), ["hidden_size"]),
    (edit_json("config.json", num_hidden_layers=2**40), ["num_hidden_layers"]),
    (edit_json("config.json", num_hidden_layers=100000), ["block_count"]),
    (edit_json("config.json", num_hidden_layers=1), ["blk.1"]),
    (edit_json("config.json", num_hidden_layers=9), ["missing"]),
    (edit_json("config.json", intermediate_size=64), ["ffn", "feed_forward_length"]),
    (edit_json("config.json", rope_theta=-1), ["rope_theta"]),
    (edit_json("config.json", hidden_act="gelu"), ["gelu"]),
    (edit_json("config.json", quantization_config={"quant_method": "awq"}), ["awq"]),
    (edit_json("config.json", rope_scaling={"type": "odd"}), ["odd"]),
    (write("tokenizer.json", b"{}"), ["tokenizer.json"]),
    (write("tokenizer.json", b'{"model":{"type":"Unigramx"}}'), ["Unigramx"]),
    (edit_json("tokenizer.json", pre_tokenizer={"type": "Odd"}), ["tokenizer.json", "Odd"]),
    (edit_json("tokenizer.json", added_tokens=[{"id": 2**31, "content": "x"}]), ["2147483648"]),
    (edit_json("tokenizer.json", added_tokens=[{"id": 5, "content": "x"}]), ["id 5"]),
    (write("model.safetensors", b""), ["model.safetensors"]),
    (write("model.safetensors", struct.pack("<Q", 2**63) + b"{}"), ["header is cut"]),
    (edit_json("config.json", vocab_size=641), ["vocab_size 641", "640 rows"]),
    (edit_json("config.json", eos_token_id=640), ["eos_token_id is 640", "640 rows"]),
    (edit_json("config.json", eos_token_id=[1, -1]), ["eos_token_id is -1"]),
    (edit_json("config.json", bos_token_id="x"), ["bos_token_id is no token id"]),
    (write("generation_config.json", b'{"eos_token_id": [1, 999]}'), ["generation_config", "999"]),
    (edit_json("config.json", tie_word_embeddings=True), ["tie_word_embeddings", "lm_head"]),
    (write("config.json", b'{"a":[' + b"[]," * 30000 + b"[]]}"), ["config.json", "20000"]),
    (write("generation_config.json", b'{"a":[' + b"[]," * 30000 + b"[]]}"), ["generation_config"]),
    (write("model.safetensors.index.json", b'{"a":[' + b"[]," * 2**21 + b"[]]}"), ["index.json", "1500000"]),
    (write("model.safetensors", struct.pack("<Q", 8 + 3 * 2**21) + b'{"a":[' + b"[]," * 2**21 + b"0]"),
     ["model.safetensors", "600000"]),
    (edit_header(set_member(NORM, "shape", [0])), [NORM]),
    (edit_header(set_member(NORM, "shape", [])), [NORM]),
    (edit_header(rename(NORM, "model.other.weight")), ["model.other.weight"]),
    (edit_header(lambda h: h.update({"x": h[NORM]})), ["overlaps"]),
    (edit_header(set_member(NORM, "shape", [999])), [NORM, "asks for"]),
    (edit_header(set_member(NORM, "dtype", "F64")), [NORM]),
    (edit_header(set_member(NORM, "data_offsets", [0, 2**60])), [NORM]),
    (lambda p: (p / "model.safetensors").unlink(), ["model.safetensors"]),
    (lambda p: (p / "tokenizer.json").unlink(), ["tokenizer.json is missing"]),
    (lambda p: index_alone(p, "model-2.safetensors"), ["model-2.safetensors"]),
    (lambda p: index_alone(p, "../x.safetensors"), [NORM]),
    (edit_json("config.json", rope_scaling="linear"), ["rope_scaling"]),
    (edit_json("config.json", hidden_act=3), ["hidden_act"]),
    (lambda p: write("model.safetensors.index.json", json.dumps(
        {"weight_map": {"nothing": "model.safetensors"}}).encode())(p), ["nothing"]),
])
def test_hostile_folders_are_one_line(folder, tmp_path: Path, spoil: Callable[[Path], None],
                                      words: list[str]) -> None:
    path = tmp_path / "m"
    shutil.copytree(folder("test-qwen2"), path)
    spoil(path)
    done = run("run", "-m", str(path), "-p", "x", "--raw", timeout=20)
    assert done.returncode == 1, (done.stdout, done.stderr)
    assert done.stderr.count(b"\n") == 1, done.stderr
    for word in words:
        assert word.encode() in done.stderr, done.stderr
