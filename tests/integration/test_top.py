"""`exo top` on a real pseudo-terminal: what is on the screen, keys, signals, sizes, and the terminal
afterwards."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import termios
import time
from pathlib import Path
from typing import Callable, Iterator

import pytest
from conftest import EXO, Cluster, Process, run, wait_until

TOKEN = re.compile(r"\x1b\[(\??)([0-9;]*)([A-Za-z])|\x1b.|\r|\n|[^\x1b\r\n]", re.S)


class Screen:
    """As much of a terminal as exo top uses; anything else fails, and so does a picture beyond the
    edges, except for those of the size before that were still on their way."""

    def __init__(self, columns: int, lines: int):
        self.columns, self.lines = columns, lines
        self.alternate: bool | None = None
        self.wraps: bool | None = None
        self.cursor: bool | None = None
        self.x = self.y = 0
        self.beyond = self.fitted = False
        self.cells = [[" "] * 400 for _ in range(200)]
        self.rest = ""

    def feed(self, data: bytes) -> None:
        text = self.rest + data.decode("utf-8", "surrogateescape")
        cut = text.rfind("\x1b")  # a sequence may come in two pieces
        keep = len(text) if cut < 0 or re.match(r"\x1b\[\??[0-9;]*[A-Za-z]", text[cut:]) else cut
        self.rest = text[keep:]
        for match in TOKEN.finditer(text[:keep]):
            self.take(match)

    def take(self, match: re.Match[str]) -> None:
        token = match.group(0)
        if token == "\r":
            self.x = 0
        elif token == "\n":
            self.y += 1
        elif token[0] != "\x1b":
            assert token >= " " and not "\x7f" <= token < "\xa0", repr(token)
            self.beyond |= self.x >= self.columns
            self.cells[self.y][self.x] = token
            self.x += 1
        else:
            private, number, what = match.groups()
            modes = {"1049": "alternate", "25": "cursor", "7": "wraps"}
            if private and number == "2026":  # a picture begins, or ends
                assert what == "h" or not (self.beyond and self.fitted), "a picture beyond the edges"
                self.fitted |= what == "l" and not self.beyond
            elif private:
                setattr(self, modes[number], what == "h")
            elif what == "H":
                assert number == ""
                self.x = self.y = 0
                self.beyond = False
            elif what == "K":
                self.cells[self.y][self.x:] = [" "] * (400 - self.x)
            elif what == "J":
                if number == "":
                    self.cells[self.y][self.x:] = [" "] * (400 - self.x)
                for y in range(0 if number == "2" else self.y + 1, 200):
                    self.cells[y] = [" "] * 400
            else:
                raise AssertionError(repr(token))
        self.beyond |= self.y >= self.lines

    @property
    def text(self) -> str:
        return "\n".join("".join(row).rstrip() for row in self.cells).rstrip()


class Terminal:
    """exo top on a pseudo-terminal of its own."""

    def __init__(self, data_dir: Path, columns: int = 100, lines: int = 30):
        self.master, slave = pty.openpty()
        self.slave = slave
        self.size(columns, lines)
        self.before = termios.tcgetattr(slave)
        self.process = subprocess.Popen(
            [EXO, "top", "--data-dir", str(data_dir)], stdin=slave, stdout=slave, stderr=slave,
            env={**os.environ, "TERM": "xterm"}, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0) and None)

    def size(self, columns: int, lines: int) -> None:
        self.screen = Screen(columns, lines)
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def read_for(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if not select.select([self.master], [], [], left)[0]:
                return
            try:
                self.screen.feed(os.read(self.master, 65536))
            except OSError:
                return

    def wait_for(self, what: str) -> str:
        def there() -> bool:
            self.read_for(0.05)
            return self.screen.fitted and what in self.screen.text
        wait_until(f"{what!r} on the screen, not\n{self.screen.text}", there)
        return self.screen.text

    def end(self) -> int:
        def ended() -> bool:
            self.read_for(0.02)
            return self.process.poll() is not None
        wait_until("the end of exo top", ended)
        self.read_for(0.1)
        return int(self.process.returncode)

    def check_restored(self) -> None:
        assert self.screen.alternate is False and self.screen.cursor and self.screen.wraps
        assert termios.tcgetattr(self.slave) == self.before

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(5)
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    c = Cluster(tmp_path_factory.mktemp("top"), 2, "tiny")
    wait_until("a master", lambda: c.nodes[0].get("/state/master"))
    wait_until("telemetry of both", lambda: all(
        d["metrics"] for d in c.nodes[0].get("/state/telemetry/devices").values())
        and len(c.nodes[0].get("/state/telemetry/devices")) == 2)
    assert c.place(2).status == 200
    yield c
    c.stop()


@pytest.fixture
def top() -> Iterator[Callable[..., Terminal]]:
    made: list[Terminal] = []

    def begin(node: Process, *size: int) -> Terminal:
        made.append(Terminal(node.data_dir, *size))
        return made[-1]

    yield begin
    for t in made:
        t.close()


def test_the_screen_shows_the_cluster(pair: Cluster, top: Callable[..., Terminal]) -> None:
    node = pair.nodes[0]
    master = node.get("/state/master")
    t = top(node, 120, 40)
    text = t.wait_for("LAYERS")
    lines = text.splitlines()
    name = node.get(f"/state/nodes/{master}/name")
    assert lines[0].startswith("exo ") and "2 nodes" in lines[0] and f"master {name}" in lines[0]
    assert "memory" in lines[1] and "GiB" in lines[1] and "heat" in lines[1] and "power" in lines[1]
    assert "NAME" in text and "ROUND TRIP" in text and "MODEL" in text
    assert sum("cpu:0" in line for line in lines) == 2
    assert any(line.startswith("tiny") and "running" in line and "n0 0-2, n1 3-5" in line
               for line in lines)
    assert t.screen.alternate and t.screen.cursor is False
    before = lines[0]
    wait_until("the next picture", lambda: t.read_for(0.2) or
               t.screen.text.splitlines()[0] != before)
    os.write(t.master, b"x")  # a key that means nothing
    t.read_for(0.2)
    assert t.process.poll() is None
    os.write(t.master, b"q")
    assert t.end() == 0
    t.check_restored()


@pytest.mark.parametrize("how", ["Q", "\x03", signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_whatever_ends_it_gives_the_terminal_back(pair: Cluster, top: Callable[..., Terminal],
                                                  how: str | signal.Signals) -> None:
    t = top(pair.nodes[0])
    t.wait_for("NAME")
    if isinstance(how, str):
        os.write(t.master, how.encode())
    else:
        t.process.send_signal(how)
    assert t.end() == 0
    t.check_restored()


def test_the_picture_fits_every_size(pair: Cluster, top: Callable[..., Terminal]) -> None:
    t = top(pair.nodes[0], 120, 40)
    t.wait_for("LAYERS")
    for columns, lines in ((50, 40), (20, 40), (1, 40), (80, 6), (80, 1), (1, 1), (200, 60)):
        t.size(columns, lines)  # the kernel tells exo; Screen checks that all is within its edges
        t.wait_for(("exo" if lines > 1 else "...")[:columns])
        if columns == 50:
            assert "NAME" in t.screen.text and node_ids(pair)[0] not in t.screen.text
            assert "ROUND TRIP" in t.screen.text
        if (columns, lines) == (80, 6):
            assert t.screen.text.splitlines()[-1].startswith("... ")
    assert node_ids(pair)[0] in t.wait_for(node_ids(pair)[0])
    os.write(t.master, b"q")
    assert t.end() == 0
    t.check_restored()


def node_ids(pair: Cluster) -> list[str]:
    return [str(n.get("/node_id")) for n in pair.nodes]


def test_a_terminal_that_goes_away_ends_it(pair: Cluster, top: Callable[..., Terminal]) -> None:
    t = top(pair.nodes[0])
    t.wait_for("NAME")
    os.close(t.slave)
    os.close(t.master)
    t.process.wait(20)
    t.master, t.slave = os.open(os.devnull, os.O_RDWR), os.open(os.devnull, os.O_RDWR)


def test_without_a_terminal_it_prints_once(pair: Cluster, tmp_path: Path) -> None:
    data_dir = str(pair.nodes[0].data_dir)
    for options in ((), ("--once",)):
        done = run("top", *options, "--data-dir", data_dir)
        assert done.returncode == 0, done.stderr
        assert b"\x1b" not in done.stdout and b"cpu:0" in done.stdout and b"LAYERS" in done.stdout
    narrow = run("top", "--once", "--width", "30", "--data-dir", data_dir).stdout.decode()
    assert all(len(line) <= 30 for line in narrow.splitlines())
    assert run("top", "--width", "0", "--data-dir", data_dir).returncode == 2
    nobody = run("top", "--data-dir", str(tmp_path))
    assert nobody.returncode == 1 and b"no exo node runs" in nobody.stderr
    assert nobody.stdout == b""


def test_names_cannot_move_the_cursor(start: Callable[..., Process],
                                      top: Callable[..., Terminal]) -> None:
    name = "a\x1b[2J\u009b31m\u202eb\u7fa4"  # a screen cleared, a colour, text turned around
    node = start("node", "-m", "tiny", "--name", name,
                 env={"EXO_CLUSTER_KEY": "integration tests only"}).wait_healthy()
    t = top(node, 100, 30)
    text = t.wait_for("cpu:0")
    assert "a?[2J" in text and "b\u7fa4" in text and "\u202e" not in text
    os.write(t.master, b"q")
    assert t.end() == 0
    table = run("nodes", "--data-dir", str(node.data_dir)).stdout.decode()
    assert "\x1b" not in table and "\u009b" not in table and "\u202e" not in table


def test_a_key_is_read_while_the_node_does_not_answer(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute, open(tmp_path / "node.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # as a node that runs
        (tmp_path / "node.api").touch(0o600)
        (tmp_path / "node.api").write_text(f"{mute.getsockname()[1]}\n")
        t = Terminal(tmp_path)
        try:
            mute.settimeout(20)
            with mute.accept()[0]:
                asked = time.monotonic()
                os.write(t.master, b"q")
                assert t.end() == 0
                assert time.monotonic() - asked < 4  # an answer is waited for 5 s
            t.check_restored()
        finally:
            t.close()


def test_a_node_that_ends_is_waited_for(start: Callable[..., Process],
                                        top: Callable[..., Terminal]) -> None:
    node = start("node", "-m", "tiny", "--name", "alone",
                 env={"EXO_CLUSTER_KEY": "integration tests only"}).wait_healthy()
    t = top(node)
    t.wait_for("alone")
    node.stop()
    t.wait_for("no exo node runs")
    assert "asked again" in t.screen.text
    os.write(t.master, b"q")
    assert t.end() == 0
    t.check_restored()
