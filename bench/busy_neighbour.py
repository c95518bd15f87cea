#!/usr/bin/env python3
"""Decoding while another process computes all the time: tokens/s per window of 100 ms.

usage: bench/busy_neighbour.py [--exo build/exo] [--model FILE] [--rounds N] [--neighbours N]
                               [--nice N] [--session]

The neighbour begins in the middle of a run and ends before it does; runs with one thread and with
two take turns.  Printed: the rate before, beside and after the neighbour, and how long after its
beginning (and end) the rate of a sliding window is back at 95 % of what one thread has beside it
(of what two threads had before it).
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import harness  # noqa: E402

BEFORE_S, BESIDE_S, AFTER_S = 2.0, 4.0, 5.0
WINDOW_S = 0.2  # of the sliding rate
SETTLED_S = 1.0  # left out of the rates beside and after


def now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def run(exo: str, model: str, threads: int, tokens: int, o: argparse.Namespace) -> dict[str, Any]:
    """Ends of tokens, and when the neighbours began and ended."""
    bench = subprocess.Popen(
        [exo, "bench", "-m", model, "--pp", "0", "--tg", str(tokens), "--threads", str(threads),
         "--json", "--times"], stdout=subprocess.PIPE, text=True)
    time.sleep(BEFORE_S)
    busy = ["nice", "-n", str(o.nice), sys.executable, "-c", "while True: pass"]
    neighbours = [subprocess.Popen(busy, start_new_session=o.session) for _ in range(o.neighbours)]
    begin = now()
    time.sleep(BESIDE_S)
    for n in neighbours:
        n.kill()
    end = now()
    for n in neighbours:
        n.wait()
    result = json.loads(bench.communicate()[0])
    return {"tokens": result["token_times_s"], "begin": begin, "end": end}


def rate(tokens: list[float], begin: float, end: float) -> float:
    return sum(begin < t <= end for t in tokens) / (end - begin)


def reached(tokens: list[float], begin: float, end: float, target: float) -> float | None:
    """Seconds from begin to the end of the first window from which on a window's rate is target."""
    inside = [t for t in tokens if begin < t <= end]
    for first, t in enumerate(inside):
        later = [x for x in inside[first:] if x <= t + WINDOW_S]
        if len(later) > 1 and (len(later) - 1) / (later[-1] - later[0]) >= target:
            return t - begin
    return None


def windows(r: dict[str, Any]) -> str:
    first, last = r["tokens"][0], r["tokens"][-1]
    cells = []
    at = first
    while at + 0.1 <= last:
        mark = "|" if at <= r["begin"] < at + 0.1 or at <= r["end"] < at + 0.1 else " "
        cells.append(f"{mark}{sum(at < t <= at + 0.1 for t in r['tokens'])}")
        at += 0.1
    return "".join(cells)


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--exo", default="build/exo")
    p.add_argument("--model", help="default: llama-3.2-1b, q4_0, made by exo synth")
    p.add_argument("--rounds", type=int, default=2)
    p.add_argument("--neighbours", type=int, default=1, help="busy processes at once (default 1)")
    p.add_argument("--nice", type=int, default=0, help="their niceness (default 0)")
    p.add_argument("--session", action="store_true", help="each in a session of its own: where "
                   "Linux groups by sessions (autogroup), niceness counts within one only")
    o = p.parse_args()
    with tempfile.TemporaryDirectory() as root:
        model = o.model or harness.synth(o.exo, Path(root), "llama-3.2-1b", "q4_0")
        speed = harness.bench(o.exo, "-m", model, "--pp", "0", "--tg", "32", "--threads", "2")
        tokens = int(speed["tg_tps"] * (BEFORE_S + BESIDE_S + AFTER_S))
        print(harness.machine())
        for i in range(o.rounds):
            one, two = (run(o.exo, model, n, tokens, o) for n in (1, 2))
            beside = rate(one["tokens"], one["begin"] + SETTLED_S, one["end"])
            before = rate(two["tokens"], two["tokens"][0], two["begin"])
            after_end = min(two["tokens"][-1], two["end"] + AFTER_S)
            down = reached(two["tokens"], two["begin"], two["end"], 0.95 * beside)
            back = reached(two["tokens"], two["end"], after_end, 0.95 * before)
            settled = rate(two["tokens"], two["begin"] + SETTLED_S, two["end"])
            half = rate(two["tokens"], two["begin"] + 0.5, two["end"])
            print(f"round {i + 1}: 1 thread beside the neighbour {beside:.1f} tokens/s; 2 threads: "
                  f"before {before:.1f}, beside from 0.5 s on {half:.1f} ({half / beside:.2f}), "
                  f"from 1 s on {settled:.1f} ({settled / beside:.2f})")
            print(f"  at 95 % of 1 thread after {down if down is None else round(down, 2)} s; back "
                  f"at 95 % of before after {back if back is None else round(back, 2)} s")
            gaps = [b - a for a, b in zip(two["tokens"], two["tokens"][1:])
                    if two["begin"] < a < two["end"]]
            print(f"  longest token beside {1000 * max(gaps):.0f} ms, median "
                  f"{1000 * statistics.median(gaps):.0f} ms")
            print("  tokens per 100 ms, 2 threads (|: the neighbour begins, ends):"
                  f"\n  {windows(two)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
