"""The command line that scripts rely on: exact output, exit codes, one line on stderr."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import ROOT, run
from hf_folder import Gguf

TINY = str(ROOT / "models" / "exo-tiny.gguf")
COMMANDS = ["run", "serve", "node", "check", "tokenize", "template", "bench", "perplexity",
            "synth", "devices", "pull", "models", "embed", "convert", "invite", "join", "leave",
            "remove", "rekey", "doctor", "nodes"]


@pytest.mark.parametrize("kind", ["f32", "f16"])
@pytest.mark.parametrize("threads", ["1", "2"])
def test_stories260k_golden(shared: Path, kind: str, threads: str) -> None:
    golden = json.loads((shared / "stories260K" / "golden-once-upon-a-time.json").read_text())
    model = str(shared / "stories260K" / f"stories260K-{kind}.gguf")
    done = run("run", "-m", model, "-p", golden["prompt"], "-n", "120", "--temp", "0", "--raw",
               "--json", "--threads", threads)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["prompt_ids"] == golden["prompt_ids"]
    assert answer["ids"] == golden["ids"]
    assert answer["text"] == golden["text"]


@pytest.mark.parametrize("name", ["llama-bpe", "qwen2", "gpt-2", "llama-spm"])
def test_tokenizer_goldens(shared: Path, name: str) -> None:
    base = shared / "tokenizers" / f"ggml-vocab-{name}.gguf"
    texts = Path(f"{base}.inp").read_bytes().split(b"\n__ggml_vocab_test__\n")[:-1]
    expected = Path(f"{base}.out").read_text().split("\n")
    assert len(texts) == 46
    for text, line in list(zip(texts, expected))[::5]:
        done = run("tokenize", "-m", str(base), "--no-special", "--json", stdin=text)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == [int(i) for i in line.split()]


def test_template_renders_exactly(shared: Path) -> None:
    golden = json.loads((shared / "templates" / "golden-templates.json").read_text())
    template = "Qwen-Qwen2.5-7B-Instruct.jinja"
    for case, variables in golden["cases"].items():
        expected = golden["renders"][template][case]
        done = run("template", "--template", str(shared / "templates" / template),
                   stdin=json.dumps({**golden["common"], **variables}).encode())
        assert "ok" in expected and done.returncode == 0, done.stderr
        assert done.stdout.decode() == expected["ok"]


def test_a_template_that_raises_says_its_message(tmp_path: Path) -> None:
    path = tmp_path / "t.jinja"
    path.write_text("{{ raise_exception('roles must alternate') }}")
    done = run("template", "--template", str(path), stdin=b"{}")
    assert done.returncode == 1
    assert b"roles must alternate" in done.stderr


def test_integers_beyond_64_bits_are_read(tmp_path: Path) -> None:
    path = tmp_path / "t.jinja"
    path.write_text("{{ schema.maximum }} {{ schema.minimum }}")
    schema = {"maximum": 2**64 - 1, "minimum": 3}  # as a tool's schema has it for a uint64
    done = run("template", "--template", str(path), stdin=json.dumps({"schema": schema}).encode())
    assert done.returncode == 0, done.stderr
    assert done.stdout == b"1.8446744073709552e+19 3"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(command: str) -> None:
    done = run(command, "--help")
    assert done.returncode == 0
    text = done.stdout.decode()
    assert text.startswith(f"usage: exo {command}")
    assert f"\n  exo {command}" in text or f" exo {command} " in text.split("\n\n")[-1]


def test_version_names_commit_and_options() -> None:
    done = run("--version")
    assert done.returncode == 0 and b"commit" in done.stdout


@pytest.mark.parametrize("arguments", [
    ["nonsense"], ["run"], ["run", "-m", "tiny"], ["run", "-m", "tiny", "-p", "x", "--temp", "hot"],
    ["run", "-m", "tiny", "-p", "x", "-n", "-3"], ["check"], ["serve"], ["serve", "--nope"],
    ["synth", "--shape", "x"], ["synth", "--shape", "llama-9", "-o", "/tmp/never.gguf"],
    ["synth", "--shape", "test-256", "--type", "q9", "-o", "/tmp/never.gguf"],
    ["synth", "--shape", "test-256", "-o", "/dev/null"], ["node", "--peer", "no-port"],
    ["run", "-m", "tiny", "-p", "x", "--stop", ""], ["bench", "-m", "tiny", "--batch", "0"], ["check", "a", "b"],
    ["run", "-m", "tiny", "-p", "x", "--device", "gpu"], ["serve", "-m", "tiny", "--device", "vulkan:x"],
    ["bench", "-m", "tiny", "--device", "cpu:"],
    ["embed", "-m", "tiny"], ["embed", "-m", "tiny", "-p", "x", "--ids", "[1]"],
    ["run", "-m", "tiny", "-p", "x", "--kv", "q4_0"], ["serve", "-m", "tiny", "--kv", "f64"],
    ["node", "-m", "tiny", "--kv", ""], ["bench", "-m", "tiny", "--kv", "f16", "--kv-f16"],
    ["perplexity", "-m", "tiny", "README.md", "--kv", "Q8_0"],
])
def test_bad_usage_is_exit_2_and_one_line(arguments: list[str]) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert done.stderr.count(b"\n") == 1 and done.stdout == b""


@pytest.mark.parametrize("arguments, words", [
    (["check", "/nowhere/x.gguf"], [b"/nowhere/x.gguf"]),
    (["run", "-m", "no-such-model", "-p", "x"], [b"no-such-model"]),
    (["run", "-m", "tiny", "-p", "x", "--device", "cpu:9"], [b"cpu:9"]),
    (["run", "-m", "tiny", "-p", "word " * 3000], [b"tokens", b"2048"]),
    (["embed", "-m", "tiny", "-p", "x"], [b"names no pooling"]),
    (["embed", "-m", "tiny", "--ids", "[1, -2]"], [b"--ids[1]"]),
    (["embed", "-m", "tiny", "--ids", "{"], [b"--ids"]),
])
def test_failures_are_exit_1_and_one_line(arguments: list[str], words: list[bytes]) -> None:
    done = run(*arguments)
    assert done.returncode == 1, done.stderr
    assert done.stderr.count(b"\n") == 1
    for word in words:
        assert word in done.stderr


@pytest.mark.parametrize("command", ["leave", "doctor", "rekey", "invite", "nodes", "top"])
def test_a_mistyped_data_directory_is_not_made(tmp_path: Path, command: str) -> None:
    done = run(command, "--data-dir", str(tmp_path / "mistyped"))
    assert done.returncode == 1 and done.stderr.count(b"\n") == 1 and b"mistyped" in done.stderr
    assert not any(tmp_path.iterdir())


def test_the_cpu_computes_where_a_gpu_is_not() -> None:
    """In every build: without Vulkan, without its loader, or without a 30th device."""
    arguments = ["run", "-m", "tiny", "-p", "x", "-n", "4", "--temp", "0", "--json"]
    gpu = run(*arguments, "--device", "vulkan:29")
    cpu = run(*arguments)
    assert gpu.returncode == 0 and cpu.returncode == 0 and cpu.stderr == b""
    assert gpu.stderr.count(b"\n") == 1 and b"vulkan:29" in gpu.stderr
    got, want = json.loads(gpu.stdout), json.loads(cpu.stdout)
    assert got["ids"] == want["ids"]
    assert (got["device"], want["device"]) == ("cpu:0", "cpu:0")
    assert "vulkan:29" in got["device_reason"] and want["device_reason"] is None


def test_the_same_seed_gives_the_same_answer() -> None:
    def answer(seed: str, threads: str) -> list[int]:
        done = run("run", "-m", "tiny", "-p", "Tell me a story.", "-n", "40", "--temp", "1",
                   "--seed", seed, "--json", "--threads", threads)
        return list(json.loads(done.stdout)["ids"])
    assert answer("7", "1") == answer("7", "2")
    assert answer("7", "1") != answer("8", "1")


def test_check_accepts_and_refuses(tmp_path: Path) -> None:
    assert run("check", TINY).returncode == 0
    whole = Path(TINY).read_bytes()
    for n in (0, 3, 24, 100, 1000, len(whole) // 2, len(whole) - 1):
        cut = tmp_path / "cut.gguf"
        cut.write_bytes(whole[:n])
        done = run("check", str(cut), timeout=2)
        assert done.returncode == 1 and done.stderr.count(b"\n") == 1, (n, done.stderr)


def test_keys_of_another_type_are_named(models, tmp_path: Path) -> None:
    g = Gguf(Path(models("test-qwen3moe", "q8_0")))
    g.set_str("qwen3moe.expert_gating_func", "softmax")
    g.write(tmp_path / "m.gguf")
    done = run("check", str(tmp_path / "m.gguf"))
    assert done.returncode == 1 and b"expert_gating_func is not one" in done.stderr, done.stderr
    g = Gguf(Path(models("test-256", "q8_0")))
    g.set_u32("tokenizer.chat_template", 7)
    g.write(tmp_path / "n.gguf")
    done = run("run", "-m", str(tmp_path / "n.gguf"), "-p", "x", "--raw", "-n", "1")
    assert done.returncode == 0 and b"no chat: metadata key tokenizer.chat_template" in done.stderr


def test_perplexity_needs_two_positions(models, tmp_path: Path) -> None:
    g = Gguf(Path(models("test-256", "q8_0")))
    g.set_u32("llama.context_length", 1)
    g.write(tmp_path / "m.gguf")
    (tmp_path / "text").write_text("a text of some words")
    done = run("perplexity", "-m", str(tmp_path / "m.gguf"), str(tmp_path / "text"))
    assert done.returncode == 1 and b"context" in done.stderr and b"weights" not in done.stderr, done.stderr
    assert done.stderr.count(b"\n") == 1


def test_perplexity_is_the_same_for_all_chunks_and_threads(models, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("The node that holds the head draws the token. " * 20)
    model = models("test-256", "q4_K_M")
    hashes = set()
    for threads in ("1", "2"):
        for chunk in ("1", "7", "32", "512"):
            done = run("perplexity", "-m", model, str(text), "--ctx", "128", "--threads", threads,
                       "--chunk", chunk, "--json")
            assert done.returncode == 0, done.stderr
            hashes.add(json.loads(done.stdout)["logits_sha256"])
    assert len(hashes) == 1


def test_keys_and_values_are_kept_in_the_type_asked_for(models, tmp_path: Path) -> None:
    """Each type gives the same bits for every number of threads, and not those of another type."""
    text = tmp_path / "text.txt"
    text.write_text("The node that holds the head draws the token. " * 12)
    model = models("test-256", "q8_0")
    hashes = {}
    for options in (["--kv", "f32"], [], ["--kv", "f16"], ["--kv-f16"], ["--kv", "q8_0"]):
        for threads in ("1", "2"):
            done = run("perplexity", "-m", model, str(text), "--ctx", "512", "--threads", threads,
                       *options, "--json")
            assert done.returncode == 0 and done.stderr == b"", done.stderr
            hashes[" ".join([*options, threads])] = json.loads(done.stdout)["logits_sha256"]
    f32, f16, q8_0 = hashes["--kv f32 1"], hashes["--kv f16 1"], hashes["--kv q8_0 1"]
    assert len({f32, f16, q8_0}) == 3
    assert hashes == {"--kv f32 1": f32, "--kv f32 2": f32, "1": f32, "2": f32,
                      "--kv f16 1": f16, "--kv f16 2": f16, "--kv-f16 1": f16, "--kv-f16 2": f16,
                      "--kv q8_0 1": q8_0, "--kv q8_0 2": q8_0}


@pytest.mark.parametrize("kind", ["f32", "f16", "q8_0"])
def test_every_type_of_keys_and_values_answers(kind: str) -> None:
    done = run("run", "-m", "tiny", "-p", "Tell me a story.", "-n", "20", "--temp", "0", "--json",
               "--kv", kind)
    assert done.returncode == 0 and done.stderr == b"", done.stderr
    assert json.loads(done.stdout)["text"].strip() != ""
    bench = run("bench", "-m", "tiny", "--pp", "8", "--tg", "24", "--depth", "300", "--json",
                "--kv", kind)  # begins and ends within a page
    assert bench.returncode == 0 and bench.stderr == b"", bench.stderr
    assert json.loads(bench.stdout)["tg_tps"] > 0


def test_q8_0_needs_heads_of_whole_blocks(tmp_path: Path) -> None:
    model, text = str(tmp_path / "m.gguf"), tmp_path / "text"
    made = run("synth", "--shape", "test-256", "--type", "q8_0", "--set", "head_dim=48", "-o",
               model)
    assert made.returncode == 0, made.stderr
    text.write_text("a text of some words")
    for command in (["run", "-p", "x", "--raw", "-n", "2"], ["bench", "--pp", "4", "--tg", "2"],
                    ["perplexity", str(text)],
                    ["serve", "--port", "0", "--data-dir", str(tmp_path / "data")]):
        done = run(command[0], "-m", model, *command[1:], "--kv", "q8_0")
        assert done.returncode == 1, (command, done.stderr)
        assert done.stderr.count(b"\n") == 1, (command, done.stderr)
        assert b"keys of 48" in done.stderr and b"blocks of 32: use f16" in done.stderr, command
    assert run("run", "-m", model, "-p", "x", "--raw", "-n", "2", "--kv", "f16").returncode == 0


def test_serve_answers_with_quantised_keys_and_values(start) -> None:
    server = start("serve", "-m", "tiny", "--kv", "q8_0", "--threads", "2").wait_healthy()
    body = {"model": "tiny", "prompt": "Once upon a time", "max_tokens": 20, "temperature": 0}
    reply = server.post("/v1/completions", body)
    assert reply.status == 200, reply.body
    alone = run("run", "-m", "tiny", "--raw", "-p", body["prompt"], "-n", "20", "--temp", "0",
                "--json", "--kv", "q8_0", "--threads", "1")
    assert reply.json["choices"][0]["text"] == json.loads(alone.stdout)["text"]
    (instance,) = server.get("/state")["instances"].values()
    plain = start("serve", "-m", "tiny", "--threads", "1").wait_healthy()
    assert plain.post("/v1/completions", body).status == 200
    (other,) = plain.get("/state")["instances"].values()
    assert instance["shards"][0]["kv_bytes"] * 128 == other["shards"][0]["kv_bytes"] * 34


def test_an_embedding_is_a_vector_of_length_one(models) -> None:
    model = models("test-nomic-bert", "q8_0")
    one = run("embed", "-m", model, "-p", "the day of the night", "--json", "--threads", "1")
    assert one.returncode == 0, one.stderr
    reply = json.loads(one.stdout)
    assert len(reply["embedding"]) == 256
    assert abs(sum(x * x for x in reply["embedding"]) - 1) < 1e-5
    again = run("embed", "-m", model, "--ids", json.dumps(reply["prompt_ids"]), "--json",
                "--threads", "2")
    assert again.stdout == one.stdout
    text = run("run", "-m", model, "-p", "x")
    assert text.returncode == 1 and b"exo embed" in text.stderr


def test_bench_reports_the_promised_members() -> None:
    done = run("bench", "-m", "tiny", "--pp", "64", "--tg", "16", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    for member in ("pp_tps", "tg_tps", "load_s", "weights_bytes", "rss_bytes", "read_gbps"):
        assert result[member] > 0, member
