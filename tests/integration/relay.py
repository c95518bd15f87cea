"""A bad cable: carries Ethernet frames between two TAP devices in two network namespaces, late,
out of order, too slowly, or not at all.  For kernels without netem.

    python3 relay.py --a NAMESPACE --b NAMESPACE --device lan0 [--delay-ms 20] [--jitter-ms 10]
                     [--loss 0.01] [--reorder 0.01] [--rate-mbit 100] [--seed 1]

Prints "ready" when both devices are there; runs until it is stopped.  A line on its input changes
the cable from then on: "loss 1", "delay-ms 5 rate-mbit 10".
"""

from __future__ import annotations

import argparse
import ctypes
import fcntl
import heapq
import os
import random
import select
import struct
import time

TUNSETIFF = 0x400454CA
IFF_TAP, IFF_NO_PI = 0x0002, 0x1000
CLONE_NEWNET = 0x40000000
MAX_QUEUED = 10000


def move_to(namespace: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def open_tap(namespace: str, device: str) -> int:
    with open("/proc/self/ns/net", "rb") as home, open(f"/run/netns/{namespace}", "rb") as there:
        move_to(there.fileno())
        try:
            fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
            fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", device.encode(), IFF_TAP | IFF_NO_PI))
            return fd
        finally:
            move_to(home.fileno())


class Direction:
    """Frames on their way to one end."""

    def __init__(self, to: int, options: argparse.Namespace, chance: random.Random):
        self.to, self.options, self.chance = to, options, chance
        self.free_at = self.last_due = 0.0

    def due(self, frame: bytes, now: float) -> float | None:
        """When this frame arrives; None: it is lost."""
        o = self.options
        if self.chance.random() < o.loss:
            return None
        self.free_at = max(self.free_at, now) + len(frame) * 8 / (o.rate_mbit * 1e6)
        late = o.delay_ms + self.chance.uniform(-o.jitter_ms, o.jitter_ms)
        due = self.free_at + max(late, 0) / 1000
        if self.chance.random() < o.reorder:
            return due + 2 * o.jitter_ms / 1000  # others overtake it
        self.last_due = max(due, self.last_due)  # jitter alone keeps the order
        return self.last_due


class Orders:
    """What comes on the standard input: other options from now on."""

    def __init__(self, options: argparse.Namespace):
        self.options, self.rest = options, b""
        self.inputs = [0]

    def read(self) -> None:
        more = os.read(0, 4096)
        if not more:
            self.inputs = []
        *lines, self.rest = (self.rest + more).split(b"\n")
        for line in lines:
            words = line.decode().split()
            for name, value in zip(words[::2], words[1::2]):
                setattr(self.options, name.replace("-", "_"), float(value))


def carry(ends: tuple[int, int], options: argparse.Namespace) -> None:
    orders = Orders(options)
    chance = random.Random(options.seed)
    ways = {ends[0]: Direction(ends[1], options, chance),
            ends[1]: Direction(ends[0], options, chance)}
    queue: list[tuple[float, int, int, bytes]] = []
    number = 0
    while True:
        wait = max(queue[0][0] - time.monotonic(), 0) if queue else 1
        readable, _, _ = select.select([*ends, *orders.inputs], [], [], wait)
        if 0 in readable:
            readable.remove(0)
            orders.read()
        for end in readable:
            frame = os.read(end, 65536)
            due = ways[end].due(frame, time.monotonic())
            if due is not None and len(queue) < MAX_QUEUED:
                number += 1
                heapq.heappush(queue, (due, number, ways[end].to, frame))
        while queue and queue[0][0] <= time.monotonic():
            _, _, to, frame = heapq.heappop(queue)
            try:
                os.write(to, frame)
            except OSError:
                pass  # that end is down: the frame is lost, as on a real cable


def be_punctual() -> None:
    """A busy machine must not look like a bad cable."""
    try:
        os.nice(-15)
    except PermissionError:
        pass  # a container's root


def main() -> None:
    p = argparse.ArgumentParser()
    p.add_argument("--a", required=True)
    p.add_argument("--b", required=True)
    p.add_argument("--device", default="lan0")
    p.add_argument("--delay-ms", type=float, default=0)
    p.add_argument("--jitter-ms", type=float, default=0)
    p.add_argument("--loss", type=float, default=0)
    p.add_argument("--reorder", type=float, default=0)
    p.add_argument("--rate-mbit", type=float, default=1000)
    p.add_argument("--seed", type=int, default=1)
    options = p.parse_args()
    be_punctual()
    ends = (open_tap(options.a, options.device), open_tap(options.b, options.device))
    print("ready", flush=True)
    carry(ends, options)


if __name__ == "__main__":
    main()
