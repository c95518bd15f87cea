"""Packed weights kept on disk: mapped at the next start, and never a wrong answer."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import EXO

LIMIT = 8 << 20  # bytes of a file, where the disk is said to be full


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pack") / "m.gguf"
    subprocess.run([EXO, "synth", "--shape", "smollm2-135m", "--type", "q8_0", "--layers", "12",
                    "-o", path],
                   check=True, timeout=120)
    settled = path.stat().st_ctime + 2.1  # what is newer is not kept yet
    time.sleep(max(0.0, settled - time.time()))
    return path


def ask(model: Path, home: Path, cache: str = "always",
        limit: Callable[[], None] | None = None,
        prefix: list[str] | None = None) -> tuple[str, int, str]:
    """The hash of all logits, how many bytes of weights were mapped, and stderr."""
    environment = {**os.environ, "EXO_HOME": str(home), "EXO_PACK_CACHE": cache}
    done = subprocess.run([*(prefix or []), EXO, "run", "-m", model, "-p", "hello", "-n", "2", "--raw", "--temp", "0",
                           "--logits-hash", "--json", "--threads", "2"], capture_output=True,
                          timeout=120, env=environment, preexec_fn=limit, text=True)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    assert answer["timings"]["first_token_s"] > 0
    return answer["logits_sha256"], answer["mapped_bytes"], done.stderr


def packs(home: Path) -> list[Path]:
    return sorted((home / "packed").glob("*.pack"))


@pytest.fixture(scope="module")
def expected(model: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    home = tmp_path_factory.mktemp("off")
    answer, mapped, _ = ask(model, home, "off")
    assert mapped == 0 and not (home / "packed").exists()
    return answer


@pytest.fixture(scope="module")
def filled(model: Path, expected: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("filled")
    assert ask(model, home) == (expected, 0, "")
    assert not [p for p in (home / "packed").iterdir() if p.name.startswith(".tmp")]
    return home


@pytest.fixture
def kept(filled: Path, tmp_path: Path) -> Path:
    """A home whose cache has all of the model."""
    shutil.copytree(filled / "packed", tmp_path / "packed")
    (tmp_path / "packed").chmod(0o700)
    return tmp_path


def test_second_start_maps_what_the_first_packed(model: Path, expected: str, kept: Path) -> None:
    weights = sum(p.stat().st_size for p in packs(kept))
    answer, mapped, said = ask(model, kept)
    assert (answer, said) == (expected, "")
    assert 0.9 * weights < mapped <= weights


@pytest.mark.parametrize("cache", ["off", "always"])
def test_weights_are_held_once(model: Path, kept: Path, cache: str) -> None:
    """Resident: the weights, packed or mapped, and little else; not what they were packed from."""
    done = subprocess.run([EXO, "bench", "-m", model, "--pp", "16", "--tg", "4", "--json"],
                          capture_output=True, timeout=120, check=True,
                          env={**os.environ, "EXO_HOME": str(kept), "EXO_PACK_CACHE": cache})
    r = json.loads(done.stdout)
    assert (r["mapped_bytes"] > 0.9 * r["weights_bytes"]) == (cache == "always")
    assert 0.9 * r["weights_bytes"] < r["rss_bytes"] < 1.6 * r["weights_bytes"] + r["kv_bytes"]


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="this machine has one core")
def test_placed_weights_are_not_mapped(model: Path, expected: str, kept: Path, tmp_path: Path,
                                       monkeypatch: pytest.MonkeyPatch) -> None:
    """With memory nodes to place them on (here by a folder like /sys), kept ones stay unused."""
    nodes = tmp_path / "sys" / "devices" / "system" / "node"
    for i, core in enumerate(sorted(os.sched_getaffinity(0))[:2]):
        (nodes / f"node{i}").mkdir(parents=True)
        (nodes / f"node{i}" / "cpulist").write_text(f"{core}\n")
    (nodes / "online").write_text("0-1\n")
    monkeypatch.setenv("EXO_SYSFS", str(tmp_path / "sys"))
    assert ask(model, kept)[1] > 0
    monkeypatch.setenv("EXO_NUMA", "1")
    assert ask(model, kept)[:2] == (expected, 0)


def test_damaged_files_are_packed_anew(model: Path, expected: str, kept: Path) -> None:
    whole = ask(model, kept)[1]
    flipped, cut, emptied, zeroed = sorted(packs(kept), key=lambda p: -p.stat().st_size)[:4]
    data = bytearray(flipped.read_bytes())
    data[len(data) // 2] ^= 1
    flipped.write_bytes(data)
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    emptied.write_bytes(b"")
    data = bytearray(zeroed.read_bytes())
    data[4096:8192] = bytes(4096)
    zeroed.write_bytes(data)
    lost = sum(p.stat().st_size for p in (flipped, zeroed))
    answer, mapped, said = ask(model, kept)
    assert answer == expected
    assert 0 < mapped <= whole - lost + 1000
    assert said.count("\n") == 1 and "cannot be used" in said and "packed anew" in said
    assert ask(model, kept) == (expected, whole, "")


def test_damaged_note_is_as_good_as_none(model: Path, expected: str, kept: Path) -> None:
    (note,) = (kept / "packed").glob("*.memo")
    data = bytearray(note.read_bytes())
    data[100] ^= 1
    note.write_bytes(data)
    assert ask(model, kept) == (expected, 0, "")
    assert ask(model, kept)[1] > 0


def test_full_disk_is_said_and_harmless(model: Path, expected: str, tmp_path: Path) -> None:
    def full() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, LIMIT))

    answer, mapped, said = ask(model, tmp_path, limit=full)
    assert (answer, mapped) == (expected, 0)
    assert said.count("\n") == 1 and "File too large" in said and "are not kept in" in said
    assert not [p for p in (tmp_path / "packed").iterdir() if p.name.startswith(".tmp")]
    assert ask(model, tmp_path)[0] == expected


@pytest.mark.parametrize("room", ["size=6m", "size=40m", "size=100m,nr_inodes=4"])
def test_file_system_that_is_really_full(model: Path, expected: str, tmp_path: Path,
                                         room: str) -> None:
    """No room for the largest matrix, for all of them, for more files; in a mount namespace."""
    def inside(afterwards: str) -> list[str]:
        return ["unshare", "--mount", "--propagation", "private", "sh", "-c",
                f'mount -t tmpfs -o {room} none "$EXO_HOME" && "$@" && {afterwards}', "sh"]

    (tmp_path / "packed").mkdir()
    if shutil.which("unshare") is None or subprocess.run(
            [*inside("true"), "true"], capture_output=True,
            env={**os.environ, "EXO_HOME": str(tmp_path)}).returncode != 0:
        pytest.skip("mounting a file system is not allowed here")
    listed = inside('ls -A "$EXO_HOME/packed" >&2')
    answer, mapped, said = ask(model, tmp_path, prefix=listed)
    assert (answer, mapped) == (expected, 0)
    line, *files = said.splitlines()
    assert "packed weights are not kept in" in line, said
    assert "no room" in line or "No space left on device" in line
    assert all(f.endswith((".pack", ".memo")) for f in files), said


def test_folder_that_cannot_be_made_is_said(model: Path, expected: str, tmp_path: Path) -> None:
    (tmp_path / "packed").write_text("in the way")
    answer, mapped, said = ask(model, tmp_path)
    assert (answer, mapped) == (expected, 0)
    assert said.count("\n") == 1 and "packed weights are not kept" in said


def test_cap_is_kept(model: Path, expected: str, tmp_path: Path) -> None:
    answer, _, said = ask(model, tmp_path, "20M")
    assert answer == expected
    assert sum(p.stat().st_size for p in packs(tmp_path)) <= 20 << 20


def test_contents_count_and_not_names(model: Path, expected: str, kept: Path) -> None:
    """A copy finds what its original left, and a file that was changed does not."""
    before, whole = packs(kept), ask(model, kept)[1]
    copy = kept / "copy.gguf"
    data = bytearray(model.read_bytes())
    copy.write_bytes(data)
    time.sleep(2.1)
    assert ask(copy, kept) == (expected, 0, "")
    assert packs(kept) == before
    assert ask(copy, kept) == (expected, whole, "")
    data[len(data) // 2] ^= 0x55
    with copy.open("r+b") as f:
        f.write(data)
    assert ask(copy, kept)[0] == ask(copy, kept, "off")[0]


def test_bad_setting_is_refused(tmp_path: Path) -> None:
    done = subprocess.run([EXO, "--version"], capture_output=True, text=True,
                          env={**os.environ, "EXO_PACK_CACHE": "plenty"})
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and "EXO_PACK_CACHE must be" in done.stderr
