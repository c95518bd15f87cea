"""exo pull and exo models against a hub on this machine that fails in every way it can think of."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable, Iterator

import pytest

from conftest import EXO, ROOT, run, wait_until
from hub import Hub

sys.path.insert(0, str(ROOT / "tests" / "oracle"))
from gguf_edit import U32, Gguf  # noqa: E402

MODEL = "small-Q8_0"


@pytest.fixture
def model(models: Callable[..., str]) -> bytes:
    """A model of about 8 MB, so that there are several pieces."""
    return Path(models("stories-15m", "q8_0", 2)).read_bytes()


@pytest.fixture
def hub(model: bytes) -> Iterator[Hub]:
    h = Hub({f"{MODEL}.gguf": model, "README.md": b"# hi\n", "config.json": b"{}",
             "other-Q4_K_M.gguf": model[:1000], "mmproj-F16.gguf": model[:500]})
    yield h
    h.stop()


Pull = Callable[..., subprocess.CompletedProcess[bytes]]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def pull(hub: Hub, home: Path) -> Pull:
    def go(ref: str = "hf:owner/repo:Q8_0", *options: str, env: dict[str, str] | None = None,
           timeout: float = 90) -> subprocess.CompletedProcess[bytes]:
        return run("pull", ref, *options, env=hub.env(**{"EXO_HOME": str(home), **(env or {})}),
                   timeout=timeout)
    return go


def published(home: Path) -> list[str]:
    folder = home / "models"
    return sorted(p.name for p in folder.iterdir() if p.name != ".pull") if folder.exists() else []


def check_whole(home: Path, data: bytes) -> None:
    path = home / "models" / f"{MODEL}.gguf"
    assert hashlib.sha256(path.read_bytes()).digest() == hashlib.sha256(data).digest()
    assert published(home) == [path.name]
    assert not (home / "models" / ".pull").exists()


def fails(done: subprocess.CompletedProcess[bytes], *words: str) -> None:
    """Exit code 1; of stderr, what is no progress is one line that has the words."""
    assert done.returncode == 1, (done.stdout, done.stderr)
    lines = [line for line in done.stderr.decode().splitlines()
             if not line.startswith(("asking", "waiting", "checking"))]
    assert len(lines) == 1 and lines[0].startswith("exo: "), done.stderr
    for word in words:
        assert word in lines[0], lines[0]


# ---- what works ----

def test_a_pulled_model_runs_by_its_id(hub: Hub, pull: Pull, home: Path, model: bytes) -> None:
    done = pull("hf:owner/repo:Q8_0", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["id"] == MODEL and result["bytes"] == len(model) and not result["was_there"]
    check_whole(home, model)
    answer = run("run", "-m", MODEL, "-p", "Hello", "--raw", "-n", "4", "--json",
                 env=hub.env(EXO_HOME=str(home)))
    assert answer.returncode == 0 and len(json.loads(answer.stdout)["ids"]) == 4
    assert len([p for p in hub.paths("cdn")]) >= 4, "several pieces"


@pytest.mark.parametrize("ref", [
    "hf:owner/repo:q8_0", f"hf:owner/repo:{MODEL}.gguf", "hf:owner/repo@main:Q8_0",
    "hf.co/owner/repo:Q8_0", "huggingface.co/owner/repo:Q8_0"])
def test_ways_to_name_it(pull: Pull, home: Path, model: bytes, ref: str) -> None:
    assert pull(ref).returncode == 0
    check_whole(home, model)


def test_a_plain_address(hub: Hub, pull: Pull, home: Path, model: bytes) -> None:
    url = f"{hub.endpoint}/owner/repo/resolve/main/{MODEL}.gguf"
    done = pull(url)
    assert done.returncode == 0, done.stderr
    check_whole(home, model)
    again = pull(url, "--json")
    assert again.returncode == 0 and json.loads(again.stdout)["was_there"]
    hub.generation = 1
    fails(pull(url), "another model")


def test_several_connections_at_once(hub: Hub, pull: Pull, home: Path, model: bytes) -> None:
    hub.faults.slow = 0.01
    assert pull("hf:owner/repo:Q8_0", "--connections", "4").returncode == 0
    check_whole(home, model)
    assert hub.most_open >= 3


def test_a_second_pull_fetches_nothing(hub: Hub, pull: Pull) -> None:
    assert pull().returncode == 0
    before = len(hub.paths("cdn"))
    done = pull("hf:owner/repo:Q8_0", "--json")
    assert done.returncode == 0 and json.loads(done.stdout)["was_there"]
    assert len(hub.paths("cdn")) == before


def test_a_model_in_a_read_only_folder_counts(hub: Hub, pull: Pull, home: Path, model: bytes,
                                              tmp_path: Path) -> None:
    folder = tmp_path / "shared"
    folder.mkdir()
    (folder / f"{MODEL}.gguf").write_bytes(model)
    folder.chmod(0o555)
    done = pull("hf:owner/repo:Q8_0", "--json", env={"EXO_MODELS_DIRS": str(folder)})
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["path"].startswith(str(folder))
    assert published(home) == []


def test_all_parts_of_a_split_model(hub: Hub, pull: Pull, home: Path, tmp_path: Path) -> None:
    source = tmp_path / "source.gguf"
    assert run("synth", "--shape", "test-256", "--type", "f16", "-o", str(source)).returncode == 0
    parts = split_model(source)
    names = [f"big-Q5_K_M-{i + 1:05}-of-{len(parts):05}.gguf" for i in range(len(parts))]
    hub.files.update({f"Q5_K_M/{name}": part for name, part in zip(names, parts)})
    done = pull("hf:owner/repo:Q5_K_M")
    assert done.returncode == 0, done.stderr
    assert published(home) == names
    env = hub.env(EXO_HOME=str(home))
    answer = run("run", "-m", "big-Q5_K_M", "-p", "x", "--raw", "-n", "2", env=env)
    assert answer.returncode == 0, answer.stderr
    assert run("models", "rm", "big-Q5_K_M", env=env).returncode == 0
    assert published(home) == []


def split_model(path: Path) -> list[bytes]:
    """Two parts: the output norm is in the second, everything else in the first."""
    first, second = Gguf(path), Gguf(path)
    name = "output_norm.weight"
    old = {n: (t, first.raw(n)) for n, t in first.tensors.items()}
    second.values = {}
    for part, names in ((first, [n for n in old if n != name]), (second, [name])):
        part.tensors, part.data = {}, bytearray()
        for n in names:
            t, raw = old[n]
            part.add_tensor(n, t.dims, t.kind, raw)
    for no, part in enumerate((first, second)):
        part.values["split.no"] = (U32, struct.pack("<I", no))
        part.values["split.count"] = (U32, struct.pack("<I", 2))
    out = []
    for part in (first, second):
        part.write(path)
        out.append(path.read_bytes())
    return out


def test_a_long_list_comes_in_pages(hub: Hub, pull: Pull, home: Path, model: bytes) -> None:
    hub.pages = 2
    assert pull().returncode == 0
    check_whole(home, model)
    assert sum("/tree/" in p for p in hub.paths("hub")) == 3


# ---- tokens ----

def test_the_token_goes_to_the_hub_only(hub: Hub, pull: Pull, home: Path, model: bytes) -> None:
    hub.faults.token = "hf_very_secret"
    done = pull(env={"HF_TOKEN": "hf_very_secret", "EXO_LOG": "debug"})
    assert done.returncode == 0, done.stderr
    check_whole(home, model)
    for who, _, headers in hub.requests:
        assert ("Authorization" in headers) == (who == "hub")
    assert b"hf_very_secret" not in done.stderr + done.stdout
    assert b"signature" not in done.stderr + done.stdout


@pytest.mark.parametrize("token", ["", "hf_wrong"])
@pytest.mark.parametrize("gated", [False, True])
def test_a_gated_model_says_what_to_do(hub: Hub, pull: Pull, token: str, gated: bool) -> None:
    hub.faults.token, hub.faults.gated = "right", gated
    done = pull(env={"HF_TOKEN": token})
    fails(done, "HF_TOKEN", "403" if gated else "401")
    assert b"hf_wrong" not in done.stderr


# ---- what goes wrong on the way ----

def test_cut_connections(hub: Hub, pull: Pull, home: Path, model: bytes) -> None:
    hub.faults.cut = 12
    assert pull().returncode == 0
    check_whole(home, model)


def test_a_server_that_ignores_ranges(hub: Hub, pull: Pull, home: Path, model: bytes) -> None:
    hub.faults.ignore_range = True
    assert pull().returncode == 0
    check_whole(home, model)


def test_a_server_that_ignores_ranges_and_cuts(hub: Hub, pull: Pull, home: Path,
                                               model: bytes) -> None:
    hub.faults.ignore_range, hub.faults.cut = True, 2
    assert pull().returncode == 0
    check_whole(home, model)


def test_wrong_ranges_are_not_written(hub: Hub, pull: Pull, home: Path, model: bytes) -> None:
    hub.faults.wrong_range = 3
    assert pull().returncode == 0
    check_whole(home, model)


def test_wrong_ranges_for_ever(hub: Hub, pull: Pull, home: Path) -> None:
    hub.faults.wrong_range = 10**6
    done = pull()
    fails(done, "another range")
    assert published(home) == []


@pytest.mark.parametrize("status", [429, 503, 500, 408])
def test_busy_servers(hub: Hub, pull: Pull, home: Path, model: bytes, status: int) -> None:
    hub.faults.status = [(status, {"Retry-After": "1"} if status in (429, 503) else {})] * 3
    hub.faults.hub_status = [(status, {"Retry-After": "1"})]
    begin = time.monotonic()
    assert pull().returncode == 0
    assert time.monotonic() - begin >= 1
    check_whole(home, model)


def test_a_pause_that_nobody_waits_for(hub: Hub, pull: Pull) -> None:
    hub.faults.hub_status = [(429, {"Retry-After": "86400"})]
    fails(pull(), "86400 s", "try later")


def test_stalls(hub: Hub, pull: Pull, home: Path, model: bytes) -> None:
    hub.faults.stall = 2
    assert pull("hf:owner/repo:Q8_0", "--timeout", "2").returncode == 0
    check_whole(home, model)


def test_expired_addresses_are_asked_for_again(hub: Hub, pull: Pull, home: Path,
                                               model: bytes) -> None:
    hub.faults.expire_after = 4
    assert pull().returncode == 0
    check_whole(home, model)
    assert sum("/resolve/" in p for p in hub.paths("hub")) >= 2


@pytest.mark.parametrize("fault, words", [
    ({"lie_size": 1000}, ["lists", "the file has"]),
    ({"lie_size": -400}, ["lists", "the file has"]),
    ({"lie_linked_size": 5}, ["the hub says"]),
    ({"wrong_sha": True}, ["changed on the hub"]),
    ({"redirect_loop": True}, ["redirects"]),
    ({"no_length": True, "ignore_range": True}, ["how large"]),
])
def test_lies_are_one_line(hub: Hub, pull: Pull, home: Path, fault: dict[str, Any],
                           words: list[str]) -> None:
    for key, value in fault.items():
        setattr(hub.faults, key, value)
    fails(pull(), *words)
    assert published(home) == []


def test_longer_bodies_than_promised(hub: Hub, pull: Pull, home: Path, model: bytes) -> None:
    hub.faults.lie_length = 100
    assert pull(timeout=120).returncode == 0
    check_whole(home, model)


def test_a_file_that_changes_under_way(hub: Hub, pull: Pull, home: Path) -> None:
    hub.faults.change_after = 3
    done = pull()
    changed = hub.content(f"{MODEL}.gguf")
    if done.returncode == 0:
        check_whole(home, changed)
    else:
        fails(done, "chang")
        assert published(home) == []


def test_wrong_bytes_never_get_the_name(hub: Hub, pull: Pull, home: Path, model: bytes) -> None:
    """The hub's sha256 is right; its CDN serves something else under an etag of its own."""
    good = hub.sha256
    hub.sha256 = lambda name: hashlib.sha256(hub.files[name]).hexdigest()  # type: ignore
    hub.generation = 1
    done = pull()
    fails(done, "sha256", "removed")
    assert published(home) == []
    hub.sha256, hub.generation = good, 0  # type: ignore
    assert pull().returncode == 0
    check_whole(home, model)


def test_what_is_no_model_is_not_kept(hub: Hub, pull: Pull, home: Path) -> None:
    hub.files["page-Q4_0.gguf"] = b"<html>please log in</html>"
    fails(pull("hf:owner/repo:page-Q4_0.gguf"), "no model")
    assert published(home) == []


def test_nobody_there(home: Path) -> None:
    done = run("pull", "hf:owner/repo", timeout=120,
               env={"HF_ENDPOINT": "http://127.0.0.1:1", "EXO_HOME": str(home), "NO_PROXY": "*"})
    fails(done, "127.0.0.1:1")


def test_unknown_names(hub: Hub, pull: Pull) -> None:
    fails(pull("hf:owner/nothing"), "no such model")
    fails(pull("hf:owner/repo:Q2_K"), "Q2_K", MODEL)
    fails(pull("hf:owner/repo:nothing.gguf"), "nothing.gguf")


@pytest.mark.parametrize("ref", ["model", "hf:", "hf:a", "hf:../x", "hf:a/b/c", "hf:a/..", "hf:a/b:../x",
                                 "hf:a/b:/etc/x", "hf:a/b:.x", "ftp://x/y.gguf", "https://x/y.bin",
                                 "https://user@host/x.gguf", "hf:a/b@../x", "hf:a/b:c\nd"])
def test_bad_references_are_bad_usage(home: Path, ref: str) -> None:
    done = run("pull", ref, env={"EXO_HOME": str(home)})
    assert done.returncode == 2 and done.stderr.count(b"\n") == 1, done.stderr
    assert not home.exists()


def test_offline(hub: Hub, pull: Pull) -> None:
    fails(pull(env={"EXO_OFFLINE": "1"}), "EXO_OFFLINE")
    assert hub.requests == []


def test_hostile_lists(hub: Hub, pull: Pull, home: Path, model: bytes) -> None:
    hub.files["../../evil.gguf"] = model
    hub.files["sub/../../evil2.gguf"] = model
    hub.files[".hidden.gguf"] = model
    fails(pull("hf:owner/repo:evil.gguf"), "no")
    assert pull().returncode == 0
    check_whole(home, model)


# ---- stopping and going on ----

def begin(hub: Hub, home: Path, *options: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([EXO, "pull", "hf:owner/repo:Q8_0", *options],
                            env={**os.environ, **hub.env(EXO_HOME=str(home))},
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def state_bytes(home: Path) -> int:
    path = home / "models" / ".pull" / MODEL / f"{MODEL}.gguf.part.json"
    try:
        return int(sum(json.loads(path.read_text())["done"]))
    except (OSError, ValueError):
        return 0


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_stopped_pull_goes_on(hub: Hub, pull: Pull, home: Path, model: bytes,
                                how: signal.Signals) -> None:
    hub.faults.slow = 0.08
    process = begin(hub, home)
    wait_until("some of it is there", lambda: state_bytes(home) > 1_000_000)
    listed = run("models", "--json", env=hub.env(EXO_HOME=str(home)))
    assert json.loads(listed.stdout)["partials"][0]["active"] is True
    process.send_signal(how)
    _, error = process.communicate(timeout=20)
    if how != signal.SIGKILL:
        assert process.returncode == 1 and b"stopped" in error and error.count(b"\n") == 1
    assert published(home) == []
    there = state_bytes(home)
    assert there > 0
    partial = json.loads(run("models", "--json", env=hub.env(EXO_HOME=str(home))).stdout)["partials"]
    assert partial[0]["done_bytes"] == there and partial[0]["total_bytes"] == len(model)
    assert partial[0]["ref"] == "hf:owner/repo:Q8_0" and partial[0]["active"] is False
    hub.faults.slow = 0
    before = len(hub.requests)
    assert pull().returncode == 0
    check_whole(home, model)
    asked = 0
    for who, _, headers in hub.requests[before:]:
        if who == "cdn" and headers.get("Range") != "bytes=0-0":
            a, b = headers["Range"][6:].split("-")
            asked += int(b) + 1 - int(a)
    assert asked <= len(model) - there + 1, "what was there is not fetched again"


def test_a_damaged_part_is_noticed(hub: Hub, pull: Pull, home: Path, model: bytes) -> None:
    hub.faults.slow = 0.08
    process = begin(hub, home)
    wait_until("some of it is there", lambda: state_bytes(home) > 1_000_000)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    part = home / "models" / ".pull" / MODEL / f"{MODEL}.gguf.part"
    with part.open("r+b") as f:
        f.write(b"damaged!")
    hub.faults.slow = 0
    done = pull()
    assert done.returncode == 0 and b"damaged" in done.stderr
    check_whole(home, model)


@pytest.mark.parametrize("state", [b"", b"{", b"[1]", b'{"identity":1}', b"\xff" * 100, b"[" * 5000])
def test_a_broken_state_file_costs_only_time(hub: Hub, pull: Pull, home: Path, model: bytes,
                                             state: bytes) -> None:
    folder = home / "models" / ".pull" / MODEL
    folder.mkdir(parents=True)
    (folder / f"{MODEL}.gguf.part").write_bytes(b"x" * len(model))
    (folder / f"{MODEL}.gguf.part.json").write_bytes(state)
    assert pull().returncode == 0
    check_whole(home, model)


def test_two_pulls_at_once(hub: Hub, pull: Pull, home: Path, model: bytes) -> None:
    hub.faults.slow = 0.05
    first = begin(hub, home)
    wait_until("it has begun", lambda: state_bytes(home) > 0)
    fails(pull(), "another process", MODEL)
    fails(run("models", "rm", MODEL, env=hub.env(EXO_HOME=str(home))), "another process")
    assert first.wait(60) == 0
    first.communicate()
    check_whole(home, model)


def test_a_full_disk_is_said_before(hub: Hub, pull: Pull, home: Path) -> None:
    hub.faults.lie_size = 10**15
    fails(pull(), "GB are free")
    assert not any("/resolve/" in p for p in hub.paths("hub"))


@pytest.mark.skipif(not Path("/proc/sys").exists(), reason="no place that nobody can write")
def test_a_data_directory_that_cannot_be_written(hub: Hub, pull: Pull) -> None:
    fails(pull(env={"EXO_HOME": "/proc/sys/exo"}), "EXO_HOME")


# ---- exo models ----

def test_models_lists_and_removes(hub: Hub, pull: Pull, home: Path) -> None:
    env = hub.env(EXO_HOME=str(home))
    assert pull().returncode == 0
    listed = json.loads(run("models", "--json", env=env).stdout)
    found = {m["id"]: m for m in listed["models"]}
    assert found[MODEL]["type"] == "Q8_0" and found[MODEL]["architecture"] == "llama"
    assert found["tiny"]["architecture"] == "llama" and listed["partials"] == []
    table = run("models", env=env).stdout.decode()
    assert MODEL in table and "tiny" in table
    fails(run("models", "rm", "../models", env=env), "not a model id")
    fails(run("models", "rm", "tiny", env=env), "tiny is built into exo")
    assert run("models", "rm", MODEL, env=env).returncode == 0
    assert published(home) == []
    fails(run("models", "rm", MODEL, env=env), "not found")


def test_names_do_not_steer_the_terminal(home: Path, model: bytes, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "a\x1b[2Jb\u009bc\u00e9.gguf").write_bytes(model)
    table = run("models", env=os.environ | {"EXO_HOME": str(home), "EXO_MODELS_DIRS": str(folder)}).stdout
    assert b"\x1b" not in table and b"\xc2\x9b" not in table
    assert "a\\x1B[2Jb\\x9Bc\u00e9.gguf".encode() in table


def test_rm_leaves_other_folders_alone(hub: Hub, home: Path, model: bytes, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "own.gguf").write_bytes(model)
    env = hub.env(EXO_HOME=str(home), EXO_MODELS_DIRS=str(folder))
    fails(run("models", "rm", "own", env=env), "by hand")
    assert (folder / "own.gguf").exists()


def test_another_model_of_the_same_name_is_not_overwritten(hub: Hub, pull: Pull, home: Path,
                                                           model: bytes) -> None:
    (home / "models").mkdir(parents=True)
    mine = model[:-32] + bytes(32)
    (home / "models" / f"{MODEL}.gguf").write_bytes(mine)
    fails(pull(), "another model", "exo models rm")
    assert (home / "models" / f"{MODEL}.gguf").read_bytes() == mine
