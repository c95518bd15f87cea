"""What befalls the file of the cluster's log: damage of every kind, and a disk that is full.  The
node says so in one line, goes on from what is whole, and doctor remembers."""

from __future__ import annotations

import resource
import subprocess
from pathlib import Path
from typing import Callable

import pytest
from conftest import EXO, KEY, Process, wait_until

Spoil = Callable[[bytearray], bytes]


def start(root: Path) -> Process:
    return Process(["node", "--name", "n", "--port", "0", "-m", "tiny", "--threads", "1"], root,
                   {"EXO_CLUSTER_KEY": KEY}).wait_healthy()


def place(node: Process) -> str:
    placed = node.post("/place_instance", {"model_id": "tiny"})
    assert placed.status == 200, placed.body
    return str(placed.json["instance_id"])


def flip_in_the_middle(content: bytearray) -> bytes:
    for at in range(len(content) // 2, len(content), 500):
        content[at] ^= 0x5A
    return bytes(content)


def zero_a_page(content: bytearray) -> bytes:
    content[4096:8192] = bytes(4096)
    return bytes(content)


def cut_in_half(content: bytearray) -> bytes:
    return bytes(content[:len(content) // 2])


@pytest.mark.parametrize("spoil", [flip_in_the_middle, zero_a_page, cut_in_half])
def test_a_spoiled_file_is_said_and_the_node_comes_up(tmp_path: Path, spoil: Spoil) -> None:
    node = start(tmp_path)
    place(node)
    node.stop()
    file = tmp_path / "cluster.db"
    file.write_bytes(spoil(bytearray(file.read_bytes())))
    node = start(tmp_path)
    try:
        text = node.log.read_text()
        assert text.count("is damaged") == 1 and "cluster.db.damaged" in text, text
        state = node.get("/state")
        assert state["master"] == state["node_id"] and "damaged" in state["log"]["trouble"]
        place(node)
        done = subprocess.run([EXO, "doctor", "--data-dir", str(tmp_path)], capture_output=True,
                              timeout=30, check=False)
        assert done.returncode == 0 and b"is damaged" in done.stdout, done
    finally:
        node.stop()


def test_a_full_disk_takes_a_node_out_of_the_log_only(tmp_path: Path) -> None:
    node = start(tmp_path)
    try:
        place(node)
        pid = node.process.pid
        _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (4096, hard))
        node.http("DELETE", "/instance/" + next(iter(node.get("/state")["instances"])), timeout=30)
        wait_until("it is shown", lambda: node.get("/state")["log"]["trouble"])
        assert node.get("/state")["master"] is None
        asked = node.post("/v1/chat/completions", {"model": "tiny", "max_tokens": 4, "messages": [
            {"role": "user", "content": "hello"}]})
        assert asked.status == 200, asked.body  # it goes on computing
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))
        wait_until("the log is written again", lambda: node.get("/state")["log"]["trouble"] is None)
        assert node.get("/state")["master"] == node.get("/state")["node_id"]
        place(node)
    finally:
        node.stop()
