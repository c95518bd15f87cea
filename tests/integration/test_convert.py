"""exo convert: folders and GGUF files to one GGUF file, in the same or another weight type."""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
from pathlib import Path
from typing import Any, Callable

import pytest

from conftest import EXO, run
from hf_folder import Gguf, data_of, write_folder
from test_pull import split_model

Q6_K = 14


def convert(source: str, out: Path, *options: str) -> Path:
    done = run("convert", source, "-o", str(out), *options, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout == b"" and not list(out.parent.glob("*.tmp"))
    return out


def answer(model: Path | str) -> dict[str, Any]:
    done = run("run", "-m", str(model), "-p", "Hello there, 12345!", "--raw", "-n", "12", "--temp", "0",
               "--json", "--logits-hash")
    assert done.returncode == 0, done.stderr
    return {k: v for k, v in json.loads(done.stdout).items() if k in ("ids", "prompt_ids", "logits_sha256")}


@pytest.mark.parametrize("kind", ["f32", "bf16"])
@pytest.mark.parametrize("shape", ["test-256", "test-qwen2", "test-qwen3"])
def test_there_and_back(models: Callable[..., str], tmp_path: Path, shape: str, kind: str) -> None:
    """GGUF to a folder by the tests' own writer, back by exo: the same tensors, byte for byte."""
    source = Path(models(shape, kind))
    folder = write_folder(source, tmp_path / "folder", shards=2)
    back = convert(str(folder), tmp_path / "back.gguf")
    assert data_of(Gguf(back)) == data_of(Gguf(source))
    assert answer(back) == answer(source)


def test_types_stay_without_type(models, tmp_path: Path) -> None:
    source = Path(models("test-256", "q4_K_M"))
    out = convert(str(source), tmp_path / "copy.gguf")
    assert data_of(Gguf(out)) == data_of(Gguf(source))
    assert Gguf(out).values == Gguf(source).values


@pytest.mark.parametrize("kind", ["f16", "q8_0", "q4_0", "q4_K_M", "q6_K", "q5_0", "iq4_nl", "q3_K_M"])
def test_each_tensor_gets_the_type_of_the_mix(models, tmp_path: Path, kind: str) -> None:
    """The same types as a synthetic model of that name, which are llama.cpp's (tests/oracle)."""
    out = convert(models("test-256", "f32"), tmp_path / "out.gguf", "--type", kind)
    want = {n: t.kind for n, t in Gguf(Path(models("test-256", kind))).tensors.items()}
    if kind in ("q4_0", "q5_0", "iq4_nl"):  # to synth a type, here a mix: the head gets more bits
        want["output.weight"] = Q6_K
    assert {n: t.kind for n, t in Gguf(out).tensors.items()} == want
    check = run("check", str(out))
    assert check.returncode == 0
    assert answer(out)["prompt_ids"] == answer(models("test-256", "f32"))["prompt_ids"]


def test_a_folder_is_quantised_as_its_gguf_is(models, tmp_path: Path) -> None:
    source = models("test-256", "bf16")
    folder = write_folder(Path(source), tmp_path / "folder")
    a = convert(str(folder), tmp_path / "a.gguf", "--type", "q4_K_M")
    b = convert(source, tmp_path / "b.gguf", "--type", "Q4_K_M", "--threads", "1")
    assert data_of(Gguf(a)) == data_of(Gguf(b))


def test_parts_become_one_file(models, tmp_path: Path) -> None:
    source = tmp_path / "m.gguf"
    source.write_bytes(Path(models("test-256", "f16")).read_bytes())
    want = answer(source)
    for i, part in enumerate(split_model(source)):
        (tmp_path / f"parts-{i + 1:05}-of-00002.gguf").write_bytes(part)
    out = convert(str(tmp_path / "parts-00002-of-00002.gguf"), tmp_path / "whole.gguf")
    assert not any(key.startswith("split.") for key in Gguf(out).values)
    assert answer(out) == want


def test_what_cannot_be_converted(models, tmp_path: Path) -> None:
    source = models("test-256", "f32")
    for arguments, code, word in [
            (["convert", source, "-o", str(tmp_path / "x.gguf"), "--type", "q9"], 2, b"q9"),
            (["convert", source, "-o", str(tmp_path / "x.gguf"), "--type", "iq2_xxs"], 2, b"not made"),
            (["convert", source], 2, b"-o"), (["convert", "-o", "x.gguf"], 2, b"which"),
            (["convert", source, "-o", source], 1, b"itself"),
            (["convert", source, "-o", str(tmp_path)], 1, b"no plain file"),
            (["convert", source, "-o", "/nowhere/x.gguf"], 1, b"/nowhere/x.gguf"),
            (["convert", "/nowhere/y", "-o", str(tmp_path / "x.gguf")], 1, b"/nowhere/y")]:
        done = run(*arguments)
        assert done.returncode == code, (arguments, done.stderr)
        assert word in done.stderr and done.stderr.count(b"\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_what_contradicts_itself_is_neither_well_formed_nor_converted(models, tmp_path: Path) -> None:
    file, folder = tmp_path / "m.gguf", write_folder(Path(models("test-256", "f32")), tmp_path / "folder")
    raw = Path(models("test-256", "f32")).read_bytes()
    at = raw.index(b"llama.block_count") + len(b"llama.block_count") + 4
    file.write_bytes(raw[:at] + struct.pack("<I", 1) + raw[at + 4:])
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 1}))
    for source in file, folder:
        for arguments in ["check", str(source)], ["convert", str(source), "-o", str(tmp_path / "x.gguf")]:
            done = run(*arguments)
            assert done.returncode == 1 and b"'blk.1." in done.stderr, (arguments, done.stderr)
            assert done.stderr.count(b"\n") == 1
    assert not (tmp_path / "x.gguf").exists()
    other = tmp_path / "other.gguf"  # of what exo does not run, the structure
    other.write_bytes(raw.replace(b"llama", b"lambs"))
    checked = run("check", str(other))
    assert checked.returncode == 0 and b"only the structure" in checked.stdout
    assert data_of(Gguf(convert(str(other), tmp_path / "x.gguf"))) == data_of(Gguf(other))


def test_values_that_a_type_cannot_hold_are_named(models, tmp_path: Path) -> None:
    source = tmp_path / "m.gguf"
    g = Gguf(Path(models("test-256", "f32")))
    raw = g.raw("blk.1.attn_q.weight")
    g.overwrite("blk.1.attn_q.weight", raw[:4096] + b"\x00\x00\xc0\x7f" + raw[4100:])  # a NaN
    g.write(source)
    done = run("convert", str(source), "-o", str(tmp_path / "x.gguf"), "--type", "q4_0")
    assert done.returncode == 1 and b"blk.1.attn_q.weight" in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["m.gguf"]


def begin_converting(source: str, out: Path) -> subprocess.Popen[bytes]:
    """Returns once something is being written."""
    process = subprocess.Popen([EXO, "convert", source, "-o", str(out), "--type", "q4_K_M", "--threads", "1"],
                               stderr=subprocess.PIPE)
    while process.poll() is None and not list(out.parent.glob("*.tmp")):
        pass
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_conversion_leaves_nothing(models, tmp_path: Path, number: int) -> None:
    process = begin_converting(models("stories-15m", "f32"), tmp_path / "x.gguf")
    process.send_signal(number)
    _, error = process.communicate(timeout=30)
    if process.returncode == 0:
        pytest.skip("it was done before the signal came")
    assert process.returncode == 1 and error.count(b"\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_conversion_left_is_removed_by_the_next(models, tmp_path: Path) -> None:
    process = begin_converting(models("stories-15m", "f32"), tmp_path / "x.gguf")
    busy = [p.name for p in tmp_path.glob("*.tmp")]
    other = run("convert", models("test-256", "f32"), "-o", str(tmp_path / "x.gguf"))
    assert other.returncode == 0 and b"removed" not in other.stderr  # somebody still writes it
    process.kill()
    process.communicate(timeout=30)
    if process.returncode == 0:
        pytest.skip("it was done before it was killed")
    assert [p.name for p in tmp_path.glob("*.tmp")] == busy != []
    (tmp_path / "y.gguf.77.tmp").write_bytes(b"of another file")
    again = run("convert", models("test-256", "f32"), "-o", str(tmp_path / "x.gguf"))
    assert again.returncode == 0 and busy[0].encode() in again.stderr
    assert again.stderr.count(b"\n") == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.gguf", "y.gguf.77.tmp"]


def test_a_source_that_is_cut_under_way_is_one_line(models, tmp_path: Path) -> None:
    source = tmp_path / "source" / "m.gguf"
    source.parent.mkdir()
    source.write_bytes(Path(models("stories-15m", "f32")).read_bytes())
    (tmp_path / "out").mkdir()
    process = begin_converting(str(source), tmp_path / "out" / "x.gguf")
    os.truncate(source, source.stat().st_size // 8)
    _, error = process.communicate(timeout=60)
    if process.returncode == 0:
        pytest.skip("it was done before the file was cut")
    assert process.returncode == 1 and error.count(b"\n") == 1 and b"was cut" in error, error
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("short, full", [("q3_K", "q3_K_M"), ("q4_K", "q4_K_M"), ("q5_K", "q5_K_M")])
def test_short_names_are_llama_cpps(models, tmp_path: Path, short: str, full: str) -> None:
    source = models("test-256", "f32")
    a = convert(source, tmp_path / "a.gguf", "--type", short)
    b = convert(source, tmp_path / "b.gguf", "--type", full)
    assert a.read_bytes() == b.read_bytes()


@pytest.mark.parametrize("kind", ["q4_1", "q5_1", "q2_K", "q3_K_S", "q3_K_L", "q4_K_S", "q5_K_S", "iq4_xs"])
def test_every_other_type_is_made(models, tmp_path: Path, kind: str) -> None:
    out = convert(models("test-256", "f32"), tmp_path / "out.gguf", "--type", kind)
    assert answer(out)["prompt_ids"]


def test_experts_in_mxfp4(models, tmp_path: Path) -> None:
    out = convert(models("test-gpt-oss", "bf16"), tmp_path / "out.gguf", "--type", "mxfp4")
    kinds = {t.kind for n, t in Gguf(out).tensors.items() if n.endswith("_exps.weight")}
    assert kinds == {39} and answer(out)["prompt_ids"]
