"""More threads than cores, one core, cores taken away: it runs, gives the same bits, and says so."""

from __future__ import annotations

import json
import os
import subprocess
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
        **environment: str) -> tuple[str, str]:
    pin = (lambda: os.sched_setaffinity(0, cores)) if cores else None
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
    assert said.count("\n") == 1 and "8 threads asked for" in said and "1 cores" in said
    assert ask(model, "--threads", "8")[0] == expected
    assert ask(model, "--threads", "2", EXO_PIN="1")[0] == expected


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


def test_more_threads_than_a_pool_has_is_refused(model: str) -> None:
    done = run("run", "-m", model, "-p", "hello", "--threads", "2000")
    assert done.returncode == 2
    assert done.stderr.count(b"\n") == 1
