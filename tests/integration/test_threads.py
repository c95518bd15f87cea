"""More threads than cores, one core, cores taken away, cores and memory that differ, huge pages
refused: it runs, gives the same bits, and says what it did."""

from __future__ import annotations

import ctypes
import json
import os
import platform
import resource
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import EXO, run, wait_until

needs_two = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="this machine has one core")


@pytest.fixture
def model(models: Callable[..., str]) -> str:
    return models("smollm2-135m", "q4_0", 4)


def ask(model: str, *arguments: str, cores: set[int] | None = None,
        before: Callable[[], None] | None = None, **environment: str) -> tuple[str, str]:
    pin = (lambda: os.sched_setaffinity(0, cores)) if cores else before
    done = subprocess.run([EXO, "run", "-m", model, "-p", "hello", "-n", "8", "--raw", "--temp",
                           "0", "--logits-hash", "--json", *arguments], capture_output=True,
                          text=True, timeout=120, preexec_fn=pin,
                          env={**os.environ, **environment})
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["logits_sha256"], done.stderr


def test_any_number_of_threads_gives_the_same_bits(model: str) -> None:
    one = {min(os.sched_getaffinity(0))}
    expected, said = ask(model, "--threads", "1")
    assert said == ""
    assert ask(model, cores=one) == (expected, "")
    answer, said = ask(model, "--threads", "8", cores=one)
    assert answer == expected
    assert said.count("\n") == 1 and "8 threads asked for" in said and "1 core(s)" in said
    assert ask(model, "--threads", "8")[0] == expected
    assert ask(model, "--threads", "2", EXO_PIN="1")[0] == expected
    assert ask(model, "--threads", "2", "--pin") == (expected, "")


def test_settings_that_are_neither_on_nor_off_are_said(model: str) -> None:
    expected, _ = ask(model)
    answer, said = ask(model, EXO_PIN="off", EXO_NUMA="maybe", EXO_CPU_ISA="")
    assert answer == expected
    assert said.count("\n") == 2, said
    assert 'EXO_PIN must be 1 or 0, not "off"' in said and "EXO_NUMA must be 1 or 0" in said


@needs_two
def test_cores_taken_away_are_noticed(model: str) -> None:
    cores = sorted(os.sched_getaffinity(0))[:2]
    process = subprocess.Popen([EXO, "run", "-m", model, "-p", "hello", "-n", "100000", "--raw",
                                "--temp", "0", "--ignore-eos", "--threads", "2"],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               preexec_fn=lambda: os.sched_setaffinity(0, cores))
    assert process.stdout is not None and process.stderr is not None
    said: list[str] = []
    out = process.stdout
    readers = [threading.Thread(target=lambda: out.read(), daemon=True),
               threading.Thread(target=lambda: said.extend(process.stderr or []), daemon=True)]
    try:
        assert process.stdout.read(1) != ""  # it answers
        for r in readers:
            r.start()
        for task in Path(f"/proc/{process.pid}/task").iterdir():
            os.sched_setaffinity(int(task.name), {cores[0]})
        wait_until("a line about cores", lambda: any("only 1 core" in line for line in said)
                   or process.poll() is not None, 60)
        assert any("only 1 core" in line for line in said), said
    finally:
        process.kill()
        process.wait()


def put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def sysfs(tmp_path: Path) -> Path:
    """A folder like /sys that knows nothing yet."""
    (tmp_path / "sys").mkdir()
    return tmp_path / "sys"


def test_one_memory_node_is_said(model: str, sysfs: Path) -> None:
    """Whatever this machine has."""
    put(sysfs / "devices/system/node/online", "0\n")
    put(sysfs / "devices/system/node/node0/cpulist", "0-4095\n")
    expected, _ = ask(model)
    answer, said = ask(model, "--numa", EXO_SYSFS=str(sysfs))
    assert answer == expected
    assert said.count("\n") == 1 and "one memory node: nothing to place" in said
    answer, again = ask(model, EXO_NUMA="1", EXO_SYSFS=str(sysfs))
    assert answer == expected and again.split(" ", 1)[1] == said.split(" ", 1)[1]  # but the time


@needs_two
def test_memory_on_a_node_that_refuses(model: str, sysfs: Path) -> None:
    """Two nodes with a core each, the second of which has no memory that could be asked for."""
    nodes = {0: sorted(os.sched_getaffinity(0))[0], 1023: sorted(os.sched_getaffinity(0))[1]}
    put(sysfs / "devices/system/node/online", "0,1023\n")
    for node, core in nodes.items():
        put(sysfs / f"devices/system/node/node{node}/cpulist", f"{core}\n")
    expected, _ = ask(model)
    cores = set(nodes.values())
    for threads in ("1", "2"):
        answer, said = ask(model, "--numa", "--threads", threads, cores=cores, EXO_SYSFS=str(sysfs))
        assert answer == expected
        if threads == "2":  # one thread alone has all rows on its own node
            assert said.count("\n") == 1 and "no memory on node 1023" in said, said
    _, said = ask(model, "--numa", "--threads", "2", cores=cores, EXO_SYSFS=str(sysfs),
                  EXO_LOG="info")
    assert "threads and weights on 2 memory nodes" in said


@needs_two
@pytest.mark.parametrize("fastest", [0, 1])
def test_threads_take_the_fastest_cores_first(model: str, sysfs: Path, fastest: int) -> None:
    """The caller's thread is free; the second one gets the second fastest core."""
    cores = sorted(os.sched_getaffinity(0))[:2]
    for i, core in enumerate(cores):
        put(sysfs / f"devices/system/cpu/cpu{core}/cpu_capacity",
            "1024\n" if i == fastest else "446\n")
    process = subprocess.Popen([EXO, "run", "-m", model, "-p", "hello", "-n", "100000", "--raw",
                                "--ignore-eos", "--pin", "--threads", "2"],
                               stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                               preexec_fn=lambda: os.sched_setaffinity(0, cores),
                               env={**os.environ, "EXO_SYSFS": str(sysfs)})
    assert process.stdout is not None
    try:
        assert process.stdout.read(1) != b""  # it answers
        bound = {int(task.name): os.sched_getaffinity(int(task.name))
                 for task in Path(f"/proc/{process.pid}/task").iterdir()}
        assert bound.pop(process.pid) == set(cores)
        assert {cores[1 - fastest]} in bound.values()
    finally:
        process.kill()
        process.wait()


def test_time_to_the_first_token_is_told(model: str) -> None:
    _, said = ask(model, EXO_LOG="info")
    assert "first token" in said and "after exec" in said
    done = run("bench", "-m", model, "--pp", "8", "--tg", "2")
    assert b"from exec to the first token" in done.stdout


def refuse_madvise() -> None:
    """As a kernel without huge pages does: madvise(..., MADV_HUGEPAGE) is invalid, for this process
    and its children, by a seccomp filter."""
    number = {"x86_64": 28, "aarch64": 233}[platform.machine()]
    advice = 16 + 8 * 2  # seccomp_data.args[2]
    code = b"".join(struct.pack("<HBBI", *i) for i in (
        (0x20, 0, 0, 0),  # load the call's number
        (0x15, 0, 3, number),  # another one: allow
        (0x20, 0, 0, advice), (0x15, 0, 1, 14),  # MADV_HUGEPAGE
        (0x06, 0, 0, 0x00050000 | 22),  # fail with EINVAL
        (0x06, 0, 0, 0x7FFF0000)))  # allow
    libc = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(code)
    program = struct.pack("<HxxxxxxQ", len(code) // 8, ctypes.addressof(buffer))
    if libc.prctl(38, 1, 0, 0, 0) != 0 or libc.prctl(22, 2, program, 0, 0) != 0:
        os._exit(111)


def disable_huge_pages() -> None:
    if ctypes.CDLL(None).prctl(41, 1, 0, 0, 0) != 0:  # PR_SET_THP_DISABLE
        os._exit(111)


def allowed(change: Callable[[], None]) -> bool:
    return subprocess.run([sys.executable, "-c", ""], preexec_fn=change).returncode == 0


@pytest.mark.skipif(sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64"),
                    reason="by a filter of Linux's calls")
@pytest.mark.parametrize("change, why", [(refuse_madvise, "Invalid argument"),
                                         (disable_huge_pages, "this process was started without")])
def test_huge_pages_refused(model: str, change: Callable[[], None], why: str) -> None:
    if not allowed(change):
        pytest.skip("refusing huge pages to a process is not allowed here")
    expected, _ = ask(model)
    answer, said = ask(model, before=change)
    assert answer == expected
    assert said.count("\n") == 1 and "huge pages are refused" in said and why in said, said


def test_huge_pages_switched_off(model: str, sysfs: Path) -> None:
    put(sysfs / "kernel/mm/transparent_hugepage/enabled", "always madvise [never]\n")
    expected, _ = ask(model)
    answer, said = ask(model, EXO_SYSFS=str(sysfs))
    assert answer == expected
    assert said.count("\n") == 1 and "huge pages are refused" in said, said
    put(sysfs / "kernel/mm/transparent_hugepage/hugepages-2048kB/enabled",
        "always inherit [madvise] never\n")
    assert ask(model, EXO_SYSFS=str(sysfs)) == (expected, "")


def test_threads_that_the_system_refuses_are_done_without(model: str) -> None:
    expected, _ = ask(model)
    _, hard = resource.getrlimit(resource.RLIMIT_STACK)
    stack = 1 << 46  # of each thread: there is no room for eight
    if hard != resource.RLIM_INFINITY and hard < stack:
        pytest.skip("stacks of any size are not allowed here")
    answer, said = ask(model, "--threads", "8", before=lambda: resource.setrlimit(
        resource.RLIMIT_STACK, (stack, hard)))
    assert answer == expected
    assert "the system refused thread" in said and " of 8: " in said, said


def test_more_threads_than_a_pool_has_is_refused(model: str) -> None:
    done = run("run", "-m", model, "-p", "hello", "--threads", "1025")
    assert done.returncode == 2
    assert done.stderr.count(b"\n") == 1
