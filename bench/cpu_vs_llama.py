#!/usr/bin/env python3
"""The CPU backend beside llama.cpp: usage: bench/cpu_vs_llama.py [--types q4_0,...] [--note TEXT]

Both read the same file, exo's KV cache being f16 as llama.cpp's is.  Per type: prompt of --pp tokens
with two threads, decoding with one and with two; exo, llama.cpp, exo, llama.cpp ..., --rounds times.
Each round's ratio is taken for itself, and the median counts: a machine that changes its speed in
between then changes both.  Beside them stands what the machine can do, measured in the same run
(bench/peaks.c): decoding as a share of read bandwidth, a prompt as a share of int8 (or f32) peak.
Figures go to bench/results/cpu_vs_llama.csv.  llama.cpp is npm's node-llama-cpp (bench/llama_cpu.py).
"""

from __future__ import annotations

import argparse
import csv
import datetime
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from harness import bench, machine, synth
from vulkan import llama_modules

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results" / "cpu_vs_llama.csv"
FIELDS = ["date", "commit", "machine", "shape", "type", "figure", "threads", "batch", "exo_tps",
          "llama_tps", "ratio", "required", "exo_share", "llama_share", "peak", "peak_unit", "rounds",
          "note"]
REQUIRED = {"q4_0": (2.0, 1.4, 1.03), "q4_K_M": (2.2, 1.3, 1.03), "q8_0": (3.0, 1.4, 1.1),
            "f16": (1.15, 1.15, 1.0)}  # prompt, decode with 1 thread, with 2
HEAD_PARAMETERS = 128256 * 2048  # llama-3.2-1b: in a prompt only the last row meets the head
PARAMETERS = 1235814400
TIMEOUT_S = 600


def libraries() -> Path:
    modules = llama_modules()
    if modules is None:
        sys.exit("node-llama-cpp is not to be had here")
    return modules / "node_modules" / "@node-llama-cpp" / "linux-x64" / "bins" / "linux-x64"


def llama(libs: Path, model: str, *numbers: int) -> dict[str, float]:
    done = subprocess.run([sys.executable, str(ROOT / "bench" / "llama_cpu.py"), str(libs), model,
                           *map(str, numbers)], capture_output=True, timeout=TIMEOUT_S, check=False)
    if done.returncode != 0:
        raise RuntimeError(done.stderr.decode(errors="replace").strip()[-300:])
    result: dict[str, float] = json.loads(done.stdout)
    return result


def exo_run(exo: str, model: str, pp: int, tg: int, threads: int, batch: int = 1) -> dict[str, float]:
    result: dict[str, float] = bench(exo, "-m", model, "--pp", str(pp), "--tg", str(tg), "--kv-f16",
                                     "--threads", str(threads), "--batch", str(batch))
    return result


class Table:
    """Prints and keeps the rows."""

    def __init__(self, options: argparse.Namespace, peaks: dict[str, list[float]]):
        commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, text=True,
                                capture_output=True, check=False).stdout.strip() or "unknown"
        self.base = {"date": datetime.date.today().isoformat(), "commit": commit,
                     "machine": machine(), "shape": options.shape, "rounds": options.rounds,
                     "note": options.note}
        self.peaks = peaks
        self.rows: list[dict[str, Any]] = []
        print(f"{machine()}, commit {commit}, {json.dumps(peaks)}")
        print(f"{'type':8}{'figure':22}{'exo':>9}{'llama.cpp':>11}{'ratio':>8}{'required':>10}"
              f"{'of peak':>9}{'llama':>7}  peak")

    def add(self, kind: str, figure: str, threads: int, pairs: list[tuple[float, float]],
            per_token: float, peak: str, required: float | None, batch: int = 1) -> None:
        """per_token: what one token costs in units of the peak."""
        exo, other = (statistics.median(p[i] for p in pairs) for i in (0, 1))
        ratio = statistics.median(p[0] / p[1] for p in pairs)
        top = self.peaks[peak][threads - 1]
        shares = [x * per_token / top if top else 0 for x in (exo, other)]
        self.rows.append({**self.base, "type": kind, "figure": figure, "threads": threads,
                          "batch": batch, "exo_tps": f"{exo:.4g}", "llama_tps": f"{other:.4g}",
                          "ratio": f"{ratio:.3f}", "required": "" if required is None else required,
                          "exo_share": f"{shares[0]:.3f}", "llama_share": f"{shares[1]:.3f}",
                          "peak": f"{top:.4g}", "peak_unit": peak})
        print(f"{kind:8}{figure:22}{exo:9.2f}{other:11.2f}{ratio:8.2f}"
              f"{'' if required is None else required:>10}{shares[0]:9.2f}{shares[1]:7.2f}"
              f"  {top:.4g} {peak}", flush=True)

    def write(self) -> None:
        new = not RESULTS.exists()
        with RESULTS.open("a", newline="") as f:
            writer = csv.DictWriter(f, FIELDS)
            if new:
                writer.writeheader()
            writer.writerows(self.rows)


def measure_type(table: Table, o: argparse.Namespace, libs: Path, models: Path, kind: str) -> None:
    model = synth(o.exo, models, o.shape, kind)
    runs: dict[int, list[tuple[dict[str, float], dict[str, float]]]] = {1: [], 2: []}
    for _ in range(o.rounds):
        for threads in (1, 2):
            pp = o.pp if threads == 2 else 32
            runs[threads].append((exo_run(o.exo, model, pp, o.tg, threads),
                                  llama(libs, model, pp, o.tg, threads)))
    weights = runs[1][0][0]["weights_bytes"]
    prompt = 2e-9 * (PARAMETERS - HEAD_PARAMETERS)
    peak = "f32_gflops" if kind in ("f16", "bf16", "f32") else "int8_gops"
    required = REQUIRED.get(kind, (None, None, None))
    pairs = {(t, f): [(a[f], b[f]) for a, b in runs[t]] for t in runs for f in ("pp_tps", "tg_tps")}
    table.add(kind, f"prompt {o.pp}, 2 threads", 2, pairs[2, "pp_tps"], prompt, peak, required[0])
    for threads in (1, 2):
        table.add(kind, f"decode, {threads} thread(s)", threads, pairs[threads, "tg_tps"],
                  weights * 1e-9, "read_gbps", required[threads])


def measure_batch(table: Table, o: argparse.Namespace, libs: Path, models: Path, kind: str) -> None:
    model = synth(o.exo, models, o.shape, kind)
    for batch in (1, 4, 8, 16):
        runs = [(exo_run(o.exo, model, 16, o.tg, 2, batch), llama(libs, model, 16, o.tg, 2, batch))
                for _ in range(o.rounds)]
        table.add(kind, f"decode, {batch} at once", 2, [(a["tg_tps"], b["tg_tps"]) for a, b in runs],
                  2e-9 * PARAMETERS, "int8_gops", None, batch)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--exo", default=str(ROOT / "build" / "exo"))
    parser.add_argument("--peaks", default=str(ROOT / "build" / "bench_peaks"))
    parser.add_argument("--libraries", type=Path, help="llama.cpp's shared libraries")
    parser.add_argument("--models", type=Path, help="keep the synthetic models here")
    parser.add_argument("--shape", default="llama-3.2-1b", choices=["llama-3.2-1b"])
    parser.add_argument("--types", default="q4_0,q4_K_M,q8_0,f16")
    parser.add_argument("--batch", action="store_true", help="batched decoding instead")
    parser.add_argument("--pp", type=int, default=512)
    parser.add_argument("--tg", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--note", default="", help="written beside the figures")
    o = parser.parse_args()
    libs = o.libraries or libraries()
    peaks = json.loads(subprocess.run([o.peaks, "300"], capture_output=True, check=True).stdout)
    table = Table(o, peaks)
    with tempfile.TemporaryDirectory(prefix="exo-bench-") as scratch:
        for kind in o.types.split(","):
            measure = measure_batch if o.batch else measure_type
            measure(table, o, libs, o.models or Path(scratch), kind)
    table.write()


if __name__ == "__main__":
    main()
