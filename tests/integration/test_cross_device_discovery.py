"""Devices find each other: real processes in network namespaces, with real multicast, over good
and bad cables, with and without Avahi; who is let in, who is not, and what is said about it.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Any, Callable

import pytest
from conftest import KEY
from conftest import wait_until as wait_for
from lan import Host, Lan, LanNode, lan  # noqa: F401 (a fixture)

SAME_KEY = {"EXO_CLUSTER_KEY": KEY}
LINK_PORT, BEACON_PORT, BEACON_BYTES = 52416, 52417, 148
TRAIN_BYTES = 1242  # a datagram that measures bandwidth: 16 of them after 10, 60 and each 600 s


def wait_until(what: str, condition: Callable[[], Any], seconds: float = 30) -> Any:
    """As conftest's, with the patience that a busy machine needs for whole networks."""
    return wait_for(what, condition, seconds)


@pytest.fixture
def trio(lan: Lan) -> list[Host]:
    return lan.switch(3)


def test_two_nodes_are_one_cluster_within_two_seconds(lan: Lan, tmp_path: Path) -> None:
    a, b = lan.switch(2)
    first = lan.start(a, tmp_path / "a", env=SAME_KEY).wait_healthy()
    took: list[float] = []
    while not took or (took[-1] > 2 and len(took) < 5):  # a busy machine may hold up one start
        if took:
            second.stop()
            wait_until("it is gone", lambda: first.names() == {"n1"})
        begin = time.monotonic()
        second = lan.start(b, tmp_path / "b", env=SAME_KEY)
        wait_until("both see both", lambda: first.names() == second.names() == {"n1", "n2"})
        took.append(time.monotonic() - begin)
    print(f"two nodes: one cluster {took} s after the second start")
    assert took[-1] <= 2
    heard = first.heard("n2")
    assert heard["proven"] and heard["connected"] and heard["status"] == "member"
    assert any("beacon" in x["sources"] for x in heard["addresses"])
    wait_until("beacons are rare where all are linked", lambda: beacon_interval(first) == 15)
    second.stop()
    wait_until("and frequent where one is missing", lambda: beacon_interval(first) == 5)


def beacon_interval(node: LanNode) -> Any:
    return node.state["discovery"]["beacons"]["interval_s"]


def test_eight_nodes_have_one_picture_within_five_seconds(lan: Lan, tmp_path: Path) -> None:
    hosts = lan.switch(8)
    begin = time.monotonic()
    nodes = [lan.start(h, tmp_path / h.name, env=SAME_KEY) for h in hosts]
    for node in nodes:
        node.wait_healthy()
    up = time.monotonic()
    everyone = {f"n{i}" for i in range(1, 9)}
    wait_until("all see all", lambda: all(n.names() == everyone for n in nodes))
    now = time.monotonic()
    print(f"eight nodes: one picture {now - begin:.2f} s after the first start, {now - up:.2f} s "
          "after the last was up")
    assert now - up <= 5
    assert len({frozenset(n.state["nodes"]) for n in nodes}) == 1


def test_a_bad_cable_delays_nothing_but_itself(lan: Lan, tmp_path: Path) -> None:
    a, b = lan.bad_cable("--delay-ms", "20", "--jitter-ms", "10", "--loss", "0.05", "--reorder",
                         "0.05", "--rate-mbit", "20")
    first = lan.start(a, tmp_path / "a", env=SAME_KEY).wait_healthy()
    second = lan.start(b, tmp_path / "b", env=SAME_KEY)
    wait_until("both see both", lambda: first.names() == second.names() == {"n1", "n2"})
    wait_until("the round trip is measured",
               lambda: 20 < (only_link(first).get("rtt_ms") or 0) < 2000)
    assert first.names() == {"n1", "n2"}
    assert " left: " not in first.log_text()


def only_link(node: LanNode) -> dict[str, Any]:
    links = node.state.get("links") or [{}]
    assert len(links) == 1
    return dict(links[0])


def shows(node: LanNode, rtt_ms: float, mbps: float) -> bool:
    """Near enough to tell this cable from the other one: what a busy machine adds and takes is
    measured as well."""
    link = only_link(node)
    rtt, rate = link.get("rtt_ms") or 0, link.get("bandwidth_mbps") or 0
    return 0.95 * rtt_ms < rtt < 1.75 * rtt_ms and mbps / 2.2 < rate < 2.2 * mbps


def test_a_link_is_measured_and_its_change_noticed(lan: Lan, tmp_path: Path) -> None:
    a, b = lan.bad_cable("--delay-ms", "20", "--loss", "0.05", "--rate-mbit", "50")
    first = lan.start(a, tmp_path / "a", env=SAME_KEY)
    second = lan.start(b, tmp_path / "b", env=SAME_KEY)
    for node in (first, second):
        node.wait_healthy()
    wait_until("both measured 40 ms and 50 Mbit/s",
               lambda: shows(first, 40, 50) and shows(second, 40, 50), 150)
    wait_until("the loss shows", lambda: 0 < (only_link(first).get("loss") or 0) < 0.5, 150)
    link = only_link(first)
    assert link["interface"] == "lan0" and link["link_type"] == "LAN"
    assert link["address"] == b.addr or ":" in link["address"]
    print(f"20 ms, 5 % loss, 50 Mbit/s: {link}")
    lan.change("delay-ms 40 loss 0 rate-mbit 10")
    wait_until("the change is noticed", lambda: shows(first, 80, 10) and shows(second, 80, 10), 150)
    ids = first.state["node_id"], second.state["node_id"]
    wait_until("the topology has both directions", lambda: {ids, ids[::-1]} == {
        (t["source_node"], t["sink_node"]) for t in first.state["topology"]
        if t["latency_ms"] and t["bandwidth_gbps"]})


def test_a_link_takes_the_better_of_two_ways(lan: Lan, tmp_path: Path) -> None:
    a, b = lan.bad_cable("--delay-ms", "5")
    lan.bad_cable("--delay-ms", "20", device="lan1", network="10.78.0")
    first = lan.start(a, tmp_path / "a", env=SAME_KEY)
    second = lan.start(b, tmp_path / "b", env=SAME_KEY)
    for node in (first, second):
        node.wait_healthy()

    def on(device: str) -> bool:
        return all(n.names() == {"n1", "n2"} and only_link(n).get("interface") == device
                   for n in (first, second))

    wait_until("the shorter way is in use", lambda: on("lan0"), 60)
    lan.change("delay-ms 100")
    begin = time.monotonic()
    wait_until("the link moves when its way gets worse", lambda: on("lan1"), 60)
    print(f"10 ms became 200 ms: moved after {time.monotonic() - begin:.1f} s")
    assert " left: " not in first.log_text() + second.log_text()
    lan.change("delay-ms 5")
    lan.change("loss 1", "lan1")
    wait_until("the other way stands in for a cut one", lambda: on("lan0"), 60)
    assert "nothing was heard or acknowledged" in first.log_text() + second.log_text()


class Counter:
    """What a host's device carries from now on, by the two ends, both directions and all headers
    together; beacons to everyone and trains are left out."""

    def __init__(self, host: Host):
        with host.inside():
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self.socket.settimeout(0.2)

    def count(self, seconds: float) -> dict[frozenset[bytes], float]:
        carried: dict[frozenset[bytes], float] = {}
        begin = time.monotonic()
        while time.monotonic() - begin < seconds:
            try:
                frame, (device, *_) = self.socket.recvfrom(65536)
            except TimeoutError:
                continue
            if device == "lan0" and len(frame) < TRAIN_BYTES:
                ends = frozenset((frame[0:6], frame[6:12]))
                carried[ends] = carried.get(ends, 0) + len(frame)
        took = time.monotonic() - begin
        self.socket.close()
        return {ends: n / took for ends, n in carried.items() if not any(e[0] & 1 for e in ends)}


def test_an_idle_link_carries_little(lan: Lan, tmp_path: Path) -> None:
    hosts = lan.switch(3)
    nodes = [lan.start(h, tmp_path / h.name, env=SAME_KEY) for h in hosts]
    for node in nodes:
        node.wait_healthy()
    wait_until("one cluster of three voters", lambda: all(
        sum(m["voter"] for m in n.state.get("members", {}).values()) == 3 for n in nodes), 30)
    for node in nodes:  # bandwidths are known: no more trains for ten minutes
        wait_until("all is measured", lambda node=node: all(
            x["bandwidth_mbps"] for x in node.state["links"]), 30)

    def idle() -> bool:  # what a start brings along is over: links are told of, records sent
        rates = Counter(hosts[0]).count(5)
        print({n: round(r) for n, r in enumerate(rates.values())})
        return len(rates) == 2 and max(rates.values()) < 1800  # both directions, of 2000

    wait_until("both links are idle", idle, 40)


def test_an_interface_that_comes_up_later_is_used(lan: Lan, tmp_path: Path) -> None:
    a, b = lan.switch(2)
    subprocess.run(["ip", "-n", b.name, "link", "set", "lan0", "down"], check=True)
    first = lan.start(a, tmp_path / "a", env=SAME_KEY).wait_healthy()
    second = lan.start(b, tmp_path / "b", env=SAME_KEY).wait_healthy()
    assert second.names() == {"n2"}
    subprocess.run(["ip", "-n", b.name, "link", "set", "lan0", "up"], check=True)
    wait_until("both see both", lambda: first.names() == second.names() == {"n1", "n2"})


def invite(node: LanNode) -> str:
    done = node.exo("invite", "--minutes", "5")
    assert done.returncode == 0, done.stderr
    return done.stdout.decode().split("\n")[2].strip()


def test_a_code_lets_one_device_in_once(lan: Lan, trio: list[Host], tmp_path: Path) -> None:
    a, b, c = (lan.start(h, tmp_path / h.name) for h in trio)
    for node in (a, b, c):
        node.wait_healthy()
    wait_until("strangers are listed", lambda: a.heard("n2") and b.heard("n1"))
    assert a.heard("n2")["status"] == "other_key" and "exo invite" in a.heard("n2")["reason"]
    code = invite(a)
    no = b.exo("join", code, stdin=b"n\n")
    assert no.returncode == 1 and b"not joined" in no.stderr
    begin = time.monotonic()
    yes = b.exo("join", code, stdin=b"y\n")
    assert yes.returncode == 0, yes.stderr
    wait_until("both see both", lambda: a.names() == b.names() == {"n1", "n2"})
    print(f"joined by a code in {time.monotonic() - begin:.2f} s")
    again = c.exo("join", code, "--yes")
    assert again.returncode == 1 and b"used already, by n2" in again.stderr
    wrong = c.exo("join", *["amberbark"] * 6, "--yes")
    assert wrong.returncode == 1 and b"no join code like this" in wrong.stderr
    garbled = c.exo("join", "amberbark-nonsense")
    assert garbled.returncode == 2 and b'"nonsense" is no word' in garbled.stderr
    assert c.names() == {"n3"}
    for directory in (a.data_dir, b.data_dir):
        for name in ("cluster.json", "node.key", "invites.json"):
            path = directory / name
            assert not path.exists() or path.stat().st_mode & 0o077 == 0


def test_removed_nodes_stay_out_and_a_new_key_goes_round(lan: Lan, trio: list[Host],
                                                         tmp_path: Path) -> None:
    a, b, c = (lan.start(h, tmp_path / h.name).wait_healthy() for h in trio)
    for node in (b, c):
        assert node.exo("join", invite(a), "--yes").returncode == 0
    wait_linked_names = {"n1", "n2", "n3"}
    wait_until("three see three",
               lambda: all(n.names() == wait_linked_names for n in (a, b, c)))
    assert a.exo("remove", "n3", "--yes").returncode == 0
    wait_until("n3 is out", lambda: a.names() == b.names() == {"n1", "n2"} and c.names() == {"n3"})
    wait_until("n3 hears why", lambda: "n3 (" in c.log_text() and "was removed" in c.log_text())
    done = a.exo("rekey")
    assert done.returncode == 0 and b"n2" in done.stdout
    wait_until("b has the new key", lambda: "new key (generation 2)" in b.log_text())
    assert a.names() == b.names() == {"n1", "n2"}
    wait_until("c is a stranger now",
               lambda: (a.heard("n3") or {}).get("status") == "other_key")
    assert c.exo("join", invite(a), "--yes").returncode == 0
    wait_until("n3 is back", lambda: all(n.names() == wait_linked_names for n in (a, b, c)))
    assert b.exo("leave").returncode == 0
    wait_until("n2 left", lambda: a.names() == {"n1", "n3"} and b.names() == {"n2"})


def test_strangers_get_one_line_and_doctor_says_why(lan: Lan, trio: list[Host],
                                                    tmp_path: Path) -> None:
    subprocess.run(["ip", "-n", trio[0].name, "link", "add", "docker0", "type", "bridge"],
                   check=True)
    subprocess.run(["ip", "-n", trio[0].name, "addr", "add", "172.17.0.1/16", "dev", "docker0"],
                   check=True)
    a = lan.start(trio[0], tmp_path / "a", "--peer", "10.77.0.99:52416",
                  env=SAME_KEY).wait_healthy()
    lan.start(trio[1], tmp_path / "b", env={"EXO_CLUSTER_KEY": "quite another key"}).wait_healthy()
    lan.start(trio[2], tmp_path / "c", "--namespace", "lab", env=SAME_KEY).wait_healthy()
    wait_until("both are heard", lambda: a.heard("n2") and a.heard("n3"))
    assert a.heard("n2")["status"] == "other_key"
    assert a.heard("n3")["status"] == "other_namespace"
    assert a.names() == {"n1"}
    time.sleep(1)  # more beacons, and no more lines
    assert a.log_text().count("heard n2 (") == 1 and a.log_text().count("heard n3 (") == 1
    wait_until("the dead peer was dialled", lambda: any(
        d["failure"] for d in a.state["discovery"]["dialled"]))
    done = a.exo("doctor")
    text = done.stdout.decode()
    assert done.returncode == 0, done.stderr
    for part in ("lan0", "docker0", "containers of this machine", "another cluster",
                 "another namespace", "10.77.0.99:52416: no link"):
        assert part in text, text


def test_doctor_listens_itself_where_no_node_runs(lan: Lan, tmp_path: Path) -> None:
    a, b = lan.switch(2)
    lan.start(a, tmp_path / "a", env=SAME_KEY).wait_healthy()
    done = b.run("env", f"EXO_CLUSTER_KEY={KEY}", os.environ.get("EXO", "build/exo"), "doctor",
                 "--data-dir", str(tmp_path / "b"))
    text = done.stdout.decode()
    assert done.returncode == 0 and "no node runs" in text and "n1 (" in text, text + str(done)


def test_a_copied_data_directory_is_said_on_both(lan: Lan, tmp_path: Path) -> None:
    a, b = lan.switch(2)
    first = lan.start(a, tmp_path / "a", env=SAME_KEY).wait_healthy()
    (tmp_path / "b").mkdir()
    shutil.copy2(tmp_path / "a" / "node.key", tmp_path / "b" / "node.key")
    second = lan.start(b, tmp_path / "b", env=SAME_KEY).wait_healthy()
    for node in (first, second):
        wait_until("the copy is noticed", lambda node=node: "two devices run with the identity"
                   in node.log_text())
    assert first.names() == {"n1"} and second.names() == {"n2"}
    assert b"copy" in first.exo("doctor").stdout


def test_one_data_directory_runs_once(lan: Lan, tmp_path: Path) -> None:
    (a,) = lan.switch(1)
    node = lan.start(a, tmp_path / "a", env=SAME_KEY).wait_healthy()
    done = node.exo("node", "--port", "0", "--api-port", "0")
    assert done.returncode == 1 and b"another exo node uses" in done.stderr


def test_garbage_and_replays_change_nothing(lan: Lan, trio: list[Host], tmp_path: Path) -> None:
    a, b = (lan.start(h, tmp_path / h.name, env=SAME_KEY).wait_healthy() for h in trio[:2])
    wait_until("both see both", lambda: a.names() == b.names() == {"n1", "n2"})
    with trio[2].inside():
        ear = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        ear.bind(("", BEACON_PORT))
        ear.settimeout(30)
        mouth = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    beacon = ear.recv(2048)
    assert len(beacon) == BEACON_BYTES
    forged = bytearray(beacon)
    forged[64:66] = (9).to_bytes(2, "little")  # another port: the MAC no longer fits
    foreign_id = bytearray(beacon)
    foreign_id[24] ^= 0xFF
    worst = [b"", b"x", beacon[:-1], beacon + b"x", os.urandom(BEACON_BYTES), b"EXOB" * 300,
             bytes(forged), bytes(foreign_id), beacon]
    for target in (a, b):
        for datagram in worst * 20:
            mouth.sendto(datagram, (target.host.addr, BEACON_PORT))
            mouth.sendto(datagram, (target.host.addr, LINK_PORT))  # where trains arrive
        stranger = b"EXOT" + bytes(1196)  # of a train that nobody agreed on
        mouth.sendto(stranger, (target.host.addr, LINK_PORT))
        with trio[2].inside(), socket.create_connection((target.host.addr, LINK_PORT), 30) as s:
            s.sendall(os.urandom(4096))
            while s.recv(4096):  # it says why, and closes
                pass
    wait_until("garbage is counted", lambda: a.state["discovery"]["beacons"]["garbage"] >= 50)
    assert a.names() == b.names() == {"n1", "n2"}
    statuses = {h["status"] for h in a.state["discovery"]["heard"] if not h["proven"]}
    assert statuses <= {"forged"}
    assert " left: " not in a.log_text() + b.log_text()


def start_avahi(host: Host, root: Path, lan: Lan) -> dict[str, str]:
    """A bus and an Avahi of this host's own; the environment that leads to them."""
    root.mkdir()
    bus = root / "bus"
    (root / "bus.conf").write_text(
        f"<busconfig><type>system</type><listen>unix:path={bus}</listen><auth>EXTERNAL</auth>"
        '<policy context="default"><allow user="*"/><allow own="*"/><allow send_destination="*"/>'
        '<allow send_type="method_call"/><allow receive_sender="*"/></policy></busconfig>')
    (root / "avahi.conf").write_text(f"[server]\nhost-name=host{host.number}\nuse-ipv4=yes\n"
                                     "use-ipv6=yes\nenable-dbus=yes\n[rlimits]\n")
    env = {"DBUS_SYSTEM_BUS_ADDRESS": f"unix:path={bus}"}
    inside = ["ip", "netns", "exec", host.name]
    lan.others.append(subprocess.Popen([*inside, "dbus-daemon", f"--config-file={root}/bus.conf",
                                        "--nofork", "--nopidfile"]))
    wait_until("the bus is there", bus.exists)
    lan.others.append(subprocess.Popen(  # its own /run: one daemon has one pid file
        [*inside, "unshare", "-m", "sh", "-c",
         "mkdir -p /run/avahi-daemon && mount -t tmpfs none /run/avahi-daemon && exec avahi-daemon "
         f"--no-chroot --no-drop-root --no-rlimits -f {root}/avahi.conf"],
        env={**os.environ, **env}, stderr=subprocess.DEVNULL))
    return env


def test_dns_sd_finds_nodes_where_the_beacon_cannot(lan: Lan, tmp_path: Path) -> None:
    for program in ("avahi-daemon", "dbus-daemon"):
        if shutil.which(program) is None:
            pytest.skip(f"no {program} here: DNS-SD is not tested with a daemon")
    hosts = lan.switch(2)
    held = []
    nodes = []
    for host in hosts:
        with host.inside():  # the beacon's port is another program's
            for family in (socket.AF_INET, socket.AF_INET6):
                s = socket.socket(family, socket.SOCK_DGRAM)
                if family == socket.AF_INET6:
                    s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                s.bind(("", BEACON_PORT))
                held.append(s)
        env = start_avahi(host, tmp_path / f"avahi{host.number}", lan)
        nodes.append(lan.start(host, tmp_path / host.name, env={**SAME_KEY, **env}))
    for node in nodes:
        node.wait_healthy()
    if "built without DNS-SD" in str(nodes[0].state["discovery"]["dns_sd_off"]):
        pytest.skip("this exo was built without DNS-SD")
    a, b = nodes
    wait_until("both see both", lambda: a.names() == b.names() == {"n1", "n2"})
    assert "52417" in a.state["discovery"]["off"]

    def found_by_dns_sd(node: LanNode) -> bool:
        heard = node.state["discovery"]["heard"]
        return any("dns-sd" in x["sources"] for h in heard for x in h["addresses"])

    wait_until("each found the other", lambda: found_by_dns_sd(a) and found_by_dns_sd(b))


def test_a_network_that_carries_one_way_is_named(lan: Lan, tmp_path: Path) -> None:
    a, b = lan.switch(2)
    for host in (a, b):
        host.run("sysctl", "-w", "net.ipv6.conf.all.disable_ipv6=1")
    first = lan.start(a, tmp_path / "a", env=SAME_KEY).wait_healthy()
    # b's beacons are broadcasts and go out; whatever it sends to a alone does not.
    subprocess.run(["ip", "-n", b.name, "route", "add", "blackhole", f"{a.addr}/32"], check=True)
    lan.start(b, tmp_path / "b", env=SAME_KEY).wait_healthy()
    wait_until("a knows why", lambda: "cannot connect" in str((first.heard("n2") or {}).get(
        "reason")) or "no answer" in str((first.heard("n2") or {}).get("reason")))
    assert first.names() == {"n1"}
    assert b"firewall" in first.exo("doctor").stdout
