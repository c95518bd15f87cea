"""The Vulkan backend on software devices: starts, decode speed, llama.cpp's beside it.

exo's decode speed stands beside that of llama.cpp's Vulkan backend on the same lavapipe, one after
the other in the same run (npm package node-llama-cpp; left out where it cannot be had).  SwiftShader
is recorded alone: llama.cpp needs 16-bit storage, which it lacks.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from harness import synth

ROOT = Path(__file__).resolve().parent.parent
NPM_VERSION = "3.22.1"  # of node-llama-cpp, as in tests/oracle
SHAPES = (("stories-15m", "q8_0", 64, 20), ("llama-3.2-1b", "q4_0", 12, 4),
          ("llama-3.2-1b", "q8_0", 12, 4))  # shape, type, tokens of exo, of llama.cpp
TIMEOUT_S = 900


def llama_modules() -> Path | None:
    """The folder with llama.cpp built for Vulkan, fetched when first needed."""
    folder = ROOT / "build" / "bench-llama"
    wanted = ["node-llama-cpp", "@node-llama-cpp/linux-x64-vulkan"]
    if all((folder / "node_modules" / name).is_dir() for name in wanted):
        return folder
    if shutil.which("npm") is None:
        return None
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        ["npm", "install", "--prefix", str(folder), "--ignore-scripts", "--no-audit", "--no-fund",
         *(f"{name}@{NPM_VERSION}" for name in wanted)],
        capture_output=True, timeout=TIMEOUT_S, check=False)
    return folder if done.returncode == 0 else None


def drivers() -> dict[str, Path]:
    """Descriptions of the software drivers that are to be had here."""
    folder = ROOT / "build" / "vulkan"
    subprocess.run([ROOT / "tests" / "vulkan" / "icd.sh", folder], check=False)
    names = ("lavapipe", "swiftshader")
    return {name: folder / f"{name}.json" for name in names if (folder / f"{name}.json").exists()}


def run(program: list[str], driver: Path, home: Path, **more: str) -> Any:
    env = {**os.environ, "VK_ICD_FILENAMES": str(driver), "VK_DRIVER_FILES": str(driver),
           "EXO_HOME": str(home), **more}
    done = subprocess.run(program, env=env, capture_output=True, timeout=TIMEOUT_S, check=False)
    if done.returncode != 0:
        raise RuntimeError(done.stderr.decode(errors="replace").strip()[-300:])
    return json.loads(done.stdout)


def exo_decode(exo: str, model: str, tokens: int, driver: Path, home: Path) -> Any:
    return run([exo, "bench", "-m", model, "--device", "vulkan:0", "--pp", "4", "--tg", str(tokens),
                "--json"], driver, home)


def llama_decode(model: str, tokens: int, driver: Path, home: Path) -> float | None:
    modules = llama_modules()
    if modules is None:
        print("llama.cpp's Vulkan build is not to be had here: nothing stands beside exo")
        return None
    script = str(ROOT / "bench" / "llama_vulkan.mjs")
    result = run(["node", script, str(modules), model, str(tokens)], driver, home,
                 GGML_VK_VISIBLE_DEVICES="0")
    return float(result["tokens_per_second"])


def measure_beside_llama(exo: str, models: Path, root: Path, rows: Any, quick: bool) -> None:
    """Decoding on lavapipe: exo, llama.cpp, exo again; the better of exo's two counts, as the better
    of llama.cpp's two (with and without flash attention) does."""
    driver = drivers().get("lavapipe")
    home = Path(tempfile.mkdtemp(dir=root))
    listing = run([exo, "devices", "--json"], driver, home) if driver is not None else []
    if driver is None or not any(d["device_id"] == "vulkan:0" and d["usable"] for d in listing):
        print("lavapipe: not usable by this build")
        return
    for shape, kind, tokens, llama_tokens in SHAPES[:1] if quick else SHAPES:
        model = synth(exo, models, shape, kind)
        runs = [exo_decode(exo, model, tokens, driver, home)]
        other = llama_decode(model, llama_tokens, driver, home)
        runs.append(exo_decode(exo, model, tokens, driver, home))
        best = max(runs, key=lambda r: float(r["tg_tps"]))
        rows.add(f"lavapipe, {shape} {kind}: decode", best["tg_tps"], "tokens/s",
                 "llama.cpp's Vulkan backend" if other else "", other)
        rows.add(f"lavapipe, {shape} {kind}: decode reads weights", best["read_gbps"], "GB/s",
                 "the CPU's read bandwidth", best["peak_read_gbps"])


def measure_driver(exo: str, models: Path, root: Path, rows: Any, name: str, driver: Path) -> None:
    home = Path(tempfile.mkdtemp(dir=root))
    cache = {"MESA_SHADER_CACHE_DIR": str(home / "mesa")}  # Mesa keeps compiled kernels by itself
    listing, times = [], []
    for _ in range(2):
        begin = time.monotonic()
        listing = run([exo, "devices", "--json"], driver, home, **cache)
        times.append(time.monotonic() - begin)
    found = [d for d in listing if d["device_id"] == "vulkan:0" and d["usable"]]
    if not found:
        print(f"{name}: not usable by this build")
        return
    device = found[0]
    rows.add(f"{name}: exo devices, first start with self-test", times[0], "s")
    rows.add(f"{name}: exo devices, second start", times[1], "s", "first start", times[0])
    for member, what, unit in (("copy_gbps", "copies", "GB/s"), ("read_gbps", "kernel reads", "GB/s"),
                               ("compute_gflops", "multiply-adds", "GFLOP/s")):
        rows.add(f"{name}: {what}", device[member], unit)
    model = synth(exo, models, "stories-15m", "q8_0")
    command = [exo, "bench", "-m", model, "--device", "vulkan:0", "--pp", "4", "--tg", "8", "--json"]
    loads = [run(command, driver, home, **cache) for _ in range(2)]
    rows.add(f"{name}, stories-15m q8_0: load and plan, second time", loads[1]["load_s"], "s",
             "first time", loads[0]["load_s"])
    rows.add(f"{name}, stories-15m q8_0: decode", loads[1]["tg_tps"], "tokens/s")


def measure_drivers(exo: str, models: Path, root: Path, rows: Any) -> None:
    """First and second start of each software driver, what it does in a second, its decode speed."""
    for name, driver in drivers().items():
        measure_driver(exo, models, root, rows, name, driver)
