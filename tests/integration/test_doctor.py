"""exo doctor against real causes: a clock that is wrong, a firewall that drops what comes in, and
one that lets beacons through but no links.  Real nodes in network namespaces."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import KEY, wait_until
from lan import Host, Lan, LanNode, lan  # noqa: F401 (a fixture)

SAME_KEY = {"EXO_CLUSTER_KEY": KEY}

CLOCK = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/time.h>
#include <time.h>
int clock_gettime(clockid_t id, struct timespec *t) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, "clock_gettime");
    int r = real(id, t);
    if (id == CLOCK_REALTIME) t->tv_sec += 7200;
    return r;
}
"""


def doctor(node: LanNode) -> str:
    done = node.exo("doctor")
    assert done.returncode == 0, done.stderr
    return done.stdout.decode()


def test_a_wrong_clock_is_named_and_harms_nothing(lan: Lan, tmp_path: Path) -> None:  # noqa: F811
    if shutil.which("cc") is None:
        pytest.skip("no cc here: a wrong clock is not tested")
    source, shim = tmp_path / "clock.c", tmp_path / "clock.so"
    source.write_text(CLOCK)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(shim), str(source), "-ldl"], check=True)
    a, b = lan.switch(2)
    first = lan.start(a, tmp_path / "a", env=SAME_KEY).wait_healthy()
    second = lan.start(b, tmp_path / "b", env={**SAME_KEY, "LD_PRELOAD": str(shim)})
    second.wait_healthy()
    wait_until("one cluster", lambda: first.names() == second.names() == {"n1", "n2"})
    wait_until("the clock is known", lambda: (first.heard("n2") or {}).get("clock_is_off"))
    text = doctor(first)
    assert "n2 (" in text and "its clock is 7" in text and "ahead of this one's" in text, text
    wait_until("one log", lambda: first.state["master"] is not None
               and first.state["master"] == second.state["master"]
               and len(first.state["members"]) == 2)
    placed = second.post("/place_instance", {"model_id": "tiny"})
    assert placed.status == 200, placed.body


def firewall(host: Host, rule: str) -> None:
    if shutil.which("nft") is None:
        pytest.skip("no nft here (Debian: nftables): firewalls are not tested")
    for command in ("add table inet t",
                    "add chain inet t in { type filter hook input priority 0 ; policy accept ; }",
                    f"add rule inet t in {rule}"):
        done = host.run("nft", command)
        if done.returncode != 0:
            pytest.skip(f"this kernel has no nftables: {done.stderr.decode().strip()[:100]}")


def test_a_firewall_that_drops_beacons_is_named_here(lan: Lan, tmp_path: Path) -> None:  # noqa: F811
    a, b = lan.switch(2)
    firewall(a, "udp dport 52417 drop")
    first = lan.start(a, tmp_path / "a", env=SAME_KEY).wait_healthy()
    lan.start(b, tmp_path / "b", env=SAME_KEY).wait_healthy()
    wait_until("doctor is sure", lambda: "a firewall of this machine drops UDP port 52417"
               in doctor(first), 30)


def test_a_firewall_that_drops_links_is_named_there(lan: Lan, tmp_path: Path) -> None:  # noqa: F811
    a, b = lan.switch(2)
    firewall(a, "tcp dport 52416 drop")
    firewall(b, "tcp dport 52416 drop")
    first = lan.start(a, tmp_path / "a", env=SAME_KEY).wait_healthy()
    lan.start(b, tmp_path / "b", env=SAME_KEY).wait_healthy()
    wait_until("doctor knows why", lambda: "its port for links does not answer" in doctor(first), 40)
    assert "a firewall on it" in doctor(first) and first.names() == {"n1"}


def test_a_copied_disk_harms_no_cluster(lan: Lan, tmp_path: Path) -> None:  # noqa: F811
    a, b, c = lan.switch(3)
    first = lan.start(a, tmp_path / "a", env=SAME_KEY).wait_healthy()
    second = lan.start(b, tmp_path / "b", env=SAME_KEY).wait_healthy()
    wait_until("one log", lambda: first.state["master"] is not None
               and first.state["master"] == second.state["master"]
               and len(first.state["members"]) == 2)
    shutil.copytree(tmp_path / "b", tmp_path / "c")  # its key, its name in the log, its votes
    copy = lan.start(c, tmp_path / "c", env=SAME_KEY, name="n3").wait_healthy()
    wait_until("the copy is told", lambda: "identity" in copy.log_text(), 20)
    wait_until("doctor names it", lambda: "a data directory was copied" in doctor(first)
               or "copy" in doctor(second), 20)
    placed = first.post("/place_instance", {"model_id": "tiny", "min_nodes": 2})
    assert placed.status == 200, placed.body
    wait_until("both know the instance", lambda: all(
        placed.json["instance_id"] in n.state["instances"] for n in (first, second)))
    assert len(first.state["nodes"]) == 2 and not first.state["provisional"]
