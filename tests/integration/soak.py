"""A cluster that has nothing to do, watched for a while: what it costs, whether anybody is taken
for dead who is not, and how soon a death is noticed.  For people; not part of the test suite.

    python3 tests/integration/soak.py [--minutes 30] [--nodes 2] [--jitter-ms 10] [--loss 0.01]

Two nodes are joined by a cable with these faults, more by a good switch.  Needs root (network
namespaces).  EXO names the binary.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import tempfile
import time
from pathlib import Path

from conftest import KEY, wait_until
from lan import Host, Lan, LanNode, remove_stale

SAME_KEY = {"EXO_CLUSTER_KEY": KEY}
TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(node: LanNode) -> float:
    fields = Path(f"/proc/{node.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def resident_mib(node: LanNode) -> float:
    for line in Path(f"/proc/{node.process.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise AssertionError("no VmRSS")


def interface_bytes(host: Host) -> tuple[int, int]:
    """Received and sent, all headers included."""
    for line in host.run("cat", "/proc/net/dev").stdout.decode().splitlines():
        name, _, fields = line.partition(":")
        if name.strip() == "lan0":
            return int(fields.split()[0]), int(fields.split()[8])
    raise AssertionError("no lan0")


def all_linked(nodes: list[LanNode]) -> bool:
    everyone = {f"n{n.host.number}" for n in nodes}
    return all(n.names() == everyone for n in nodes)


def settled(nodes: list[LanNode]) -> bool:
    states = [n.state for n in nodes]
    return all(len(s.get("members", {})) == len(nodes) for s in states) and \
        len({s["master"] for s in states}) == 1 and states[0]["master"] is not None


def alarms(nodes: list[LanNode]) -> int:
    return sum(n.log_text().count(" left: ") for n in nodes)


def watch(nodes: list[LanNode], seconds: float) -> None:
    before = [(interface_bytes(n.host), cpu_seconds(n)) for n in nodes]
    begin = last = time.monotonic()
    while time.monotonic() - begin < seconds:
        time.sleep(min(5, seconds))
        if time.monotonic() - last > 60:
            last = time.monotonic()
            print(f"  {(last - begin) / 60:.0f} min: {alarms(nodes)} taken for dead", flush=True)
    took = time.monotonic() - begin
    for node, ((rx, tx), cpu) in zip(nodes, before):
        rx2, tx2 = interface_bytes(node.host)
        links = len(nodes) - 1
        state = node.state
        print(f"n{node.host.number}{' (master)' if state['master'] == state['node_id'] else ''}: "
              f"received {(rx2 - rx) / took / links:.0f}, sent {(tx2 - tx) / took / links:.0f} B/s "
              f"per link; {100 * (cpu_seconds(node) - cpu) / took:.2f} % of a core; "
              f"{resident_mib(node):.1f} MiB resident")
    print(f"taken for dead in {took / 60:.1f} min: {alarms(nodes)}", flush=True)


def times_of(what: str, times: list[float]) -> None:
    print(f"{what}: median {statistics.median(times):.2f} s, worst {max(times):.2f} s "
          f"of {len(times)}", flush=True)


def kills(lan: Lan, nodes: list[LanNode], root: Path, n: int) -> None:
    times = []
    for i in range(n):
        wait_until("linked", lambda: all_linked(nodes), 30)
        time.sleep(1 + i % 7 / 10)
        nodes[1].process.kill()
        begin = time.monotonic()
        wait_until("noticed", lambda: nodes[0].names() == {"n1"}, 10)
        times.append(time.monotonic() - begin)
        nodes[1].process.wait(5)
        nodes[1] = lan.start(nodes[1].host, root / "n2", env=SAME_KEY)
        nodes[1].wait_healthy()
    times_of("killed, noticed after", times)


def silences(lan: Lan, nodes: list[LanNode], loss: float, n: int) -> None:
    times = []
    for i in range(n):
        wait_until("linked", lambda: all_linked(nodes), 30)
        time.sleep(3 + i % 7 / 10)
        lan.change("loss 1")
        begin = time.monotonic()
        seen: dict[int, float] = {}
        while len(seen) < 2:
            assert time.monotonic() - begin < 10, "a silent loss was not noticed"
            for k, node in enumerate(nodes):
                if k not in seen and len(node.names()) == 1:
                    seen[k] = time.monotonic() - begin
        times.extend(seen.values())
        lan.change(f"loss {loss}")
    times_of("cable cut, noticed after (both ends)", times)


def stalls(nodes: list[LanNode], n: int) -> None:
    before = alarms(nodes)
    for _ in range(n):
        wait_until("linked", lambda: all_linked(nodes), 30)
        nodes[1].process.send_signal(signal.SIGSTOP)
        time.sleep(3)
        nodes[1].process.send_signal(signal.SIGCONT)
        time.sleep(2)
    print(f"stopped for 3 s, taken for dead: {alarms(nodes) - before} of {n}", flush=True)
    for node in nodes:
        for line in node.log_text().splitlines():
            if " left: " in line:
                print(f"  n{node.host.number}: {line}")


def main() -> None:
    p = argparse.ArgumentParser()
    p.add_argument("--minutes", type=float, default=0.2)
    p.add_argument("--nodes", type=int, default=2)
    p.add_argument("--jitter-ms", type=float, default=10)
    p.add_argument("--loss", type=float, default=0.01)
    p.add_argument("--deaths", type=int, default=3, help="of each kind; 0 = none")
    options = p.parse_args()
    remove_stale()
    lan = Lan()
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        try:
            hosts = lan.switch(options.nodes) if options.nodes > 2 else lan.bad_cable(
                "--delay-ms", str(options.jitter_ms), "--jitter-ms", str(options.jitter_ms),
                "--loss", str(options.loss))
            nodes = [lan.start(h, root / f"n{h.number}", env=SAME_KEY) for h in hosts]
            for node in nodes:
                node.wait_healthy()
            begin = time.monotonic()
            wait_until("linked", lambda: all_linked(nodes), 30)
            print(f"one picture {time.monotonic() - begin:.2f} s after all were up", flush=True)
            wait_until("one master", lambda: settled(nodes), 60)
            time.sleep(5)
            watch(nodes, options.minutes * 60)
            if options.nodes == 2 and options.deaths > 0:
                stalls(nodes, options.deaths)
                silences(lan, nodes, options.loss, options.deaths)
                kills(lan, nodes, root, options.deaths)
        finally:
            lan.close()


if __name__ == "__main__":
    main()
