"""Drivers that miscompile, refuse, crash or lose the device: the verdict shows, the CPU takes over.

tests/vulkan/faulty_layer.c makes lavapipe behave so.  EXO_VULKAN_TEST_DIR is a build with tests
(default build/test: the layer and a driver that dies while it is loaded), EXO_VULKAN_ICD_DIR the
folder that tests/vulkan/icd.sh has filled (default build/vulkan).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from conftest import EXO, ROOT, run, wait_until

BUILD = Path(os.environ.get("EXO_VULKAN_TEST_DIR", ROOT / "build" / "test"))
DRIVERS = Path(os.environ.get("EXO_VULKAN_ICD_DIR", ROOT / "build" / "vulkan"))
SELFTEST_S = 900  # lavapipe compiles every kernel; minutes on a busy machine
PROMPT = ["-m", "tiny", "--raw", "-p", "Once upon a time", "-n", "8", "--temp", "0", "--json",
          "--logits-hash"]
MEMBERS = {  # of every device; those behind "reason" of Vulkan devices only
    "device_id", "name", "vendor", "driver_version", "compute_units", "memory_total_bytes",
    "memory_available_bytes", "clock_rate_mhz", "temperature_celsius", "power_watts", "usable",
    "reason", "uuid", "driver_uuid", "driver", "vendor_id", "type", "portability", "api_version",
    "unified_memory", "memory_heaps", "capabilities", "limits", "verdict_cached", "copy_gbps",
    "compute_gflops", "read_gbps", "trials"}


def environment(home: Path, faults: str = "", driver: Path | None = None) -> dict[str, str]:
    driver = driver or DRIVERS / "lavapipe.json"
    if not driver.exists():
        pytest.skip(f"no {driver.stem}: tests/vulkan/icd.sh could not get it")
    env = {"EXO_HOME": str(home), "VK_ICD_FILENAMES": str(driver), "VK_DRIVER_FILES": str(driver)}
    if faults:
        layer = BUILD / "vulkan_layer"
        if not (layer / "faulty.json").exists():
            pytest.skip(f"no {layer}: build the preset test")
        env |= {"EXO_FAULTY": faults, "VK_LAYER_PATH": str(layer),
                "VK_INSTANCE_LAYERS": "VK_LAYER_EXO_faulty"}
    return env


def devices(env: dict[str, str], *options: str) -> list[Any]:
    done = run("devices", "--json", *options, env=env, timeout=SELFTEST_S)
    assert done.returncode == 0, done.stderr
    listing = json.loads(done.stdout)
    assert listing[0]["device_id"] == "cpu:0" and listing[0]["usable"]
    return list(listing[1:])


def vulkan(env: dict[str, str], *options: str) -> Any:
    (device,) = devices(env, *options)
    assert device["device_id"] == "vulkan:0"
    return device


def trial(device: Any, pipeline: str, variant: str) -> Any:
    (found,) = [t for t in device["trials"]
                if t["pipeline"] == pipeline and t["variant"] == variant]
    return found


def module(pipeline: str, variant: str) -> str:
    """The file that a kernel's variant is committed as."""
    return pipeline if variant == "shared" else f"{pipeline}_{variant}"


def results(device: Any) -> set[str]:
    return {t["result"] for t in device["trials"]}


def ask(env: dict[str, str]) -> subprocess.CompletedProcess[bytes]:
    return run("run", *PROMPT, "--device", "vulkan:0", env=env, timeout=SELFTEST_S)


def answer(env: dict[str, str]) -> Any:
    done = ask(env)
    assert done.returncode == 0, done.stderr
    assert done.stderr == b""
    return json.loads(done.stdout)


def refused_or_on_the_cpu(env: dict[str, str], *words: str) -> None:
    """One line says why; the answer is the CPU's, or there is none.  Never a signal."""
    done = ask(env)
    said = done.stderr.decode()
    assert done.returncode in (0, 1), (done.returncode, said)
    for word in words:
        assert word in said, said
    if done.returncode == 0:
        on_cpu = run("run", *PROMPT, env=env)
        assert json.loads(done.stdout)["ids"] == json.loads(on_cpu.stdout)["ids"]
    else:
        assert len(said.strip().splitlines()) == 1, said


@pytest.fixture(scope="session")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory that knows lavapipe as a good device."""
    home = tmp_path_factory.mktemp("good")
    device = vulkan(environment(home))
    assert device["usable"], device
    assert not device["verdict_cached"]
    return home


def test_a_good_device_and_its_cached_verdict(good: Path) -> None:
    env = environment(good)
    device = vulkan(env)
    assert MEMBERS <= device.keys()
    assert device["usable"] and device["reason"] is None and device["verdict_cached"]
    assert results(device) <= {"passed", "slower"}
    # which kernels compute prompts is measured once and part of the verdict
    prompts = [t for t in device["trials"] if t["pipeline"].startswith("prompt_")]
    assert {t["pipeline"][7:] for t in prompts} == {"q4_0", "q8_0", "q4_k", "q6_k"}
    assert all("GFLOP/s" in t["reason"] for t in prompts)
    assert prompts == [t for t in vulkan(env)["trials"] if t["pipeline"].startswith("prompt_")]
    assert device["vendor"] == "Mesa" and device["type"] == "cpu" and len(device["uuid"]) == 32
    assert device["compute_units"] is None or device["compute_units"] > 0
    assert device["copy_gbps"] > 0 and device["read_gbps"] > 0 and device["compute_gflops"] > 0
    assert device["memory_available_bytes"] <= device["memory_total_bytes"]
    assert device["capabilities"]["subgroup"]["size"] in (4, 8, 16)
    assert device["limits"]["max_storage_range_bytes"] >= 1 << 27
    assert not list((good / "vulkan").glob("*.marker"))
    assert len(answer(env)["ids"]) == 8


def test_each_fault_has_its_verdict_and_plainer_variants_give_the_same_bits(
        good: Path, tmp_path: Path) -> None:
    faults = {  # kernel: (fault, result, what the reason says)
        "matmul_q4_0": ("wrong", "failed", "not"),
        "matmul_q8_0": ("no-pipeline", "failed", "VK_ERROR_UNKNOWN"),
        "rms": ("crash", "crashed", "signal 11"),
        "rope_kv": ("abort", "crashed", "signal 6"),
        "attention": ("crash-run", "crashed", "signal 11"),
    }
    best = {t["pipeline"]: t["variant"] for t in vulkan(environment(good))["trials"]}
    spoilt = ",".join(f"{fault}:{module(kernel, best[kernel])}"
                      for kernel, (fault, _, _) in faults.items())
    env = environment(tmp_path, spoilt)
    device = vulkan(env)
    for kernel, (_, result, says) in faults.items():
        verdict = trial(device, kernel, best[kernel])
        assert verdict["result"] == result, (kernel, verdict)
        assert says in verdict["reason"], (kernel, verdict)
        assert "passed" in {t["result"] for t in device["trials"] if t["pipeline"] == kernel}
    assert device["usable"]
    assert answer(env)["logits_sha256"] == answer(environment(good))["logits_sha256"]
    # the text for people names them, too, and the verdict is remembered with good drivers
    text = run("devices", env=environment(tmp_path)).stdout.decode()
    assert f"matmul_q4_0, variant {best['matmul_q4_0']}, failed" in text
    assert "known from an earlier start" in text
    # tried again: what failed is good now; what crashed is not touched
    device = vulkan(environment(tmp_path), "--retry")
    assert not device["verdict_cached"]
    for kernel, (_, result, _) in faults.items():
        expected = "crashed" if result == "crashed" else "passed"
        assert trial(device, kernel, best[kernel])["result"] == expected


def test_kernels_for_prompts_can_be_done_without(tmp_path: Path) -> None:
    spoilt = "wrong:dot_q4_0*,no-pipeline:dot_q8_0*,wrong:dot_q4_k*,wrong:dot_q6_k*"
    env = environment(tmp_path, spoilt)
    device = vulkan(env)
    assert device["usable"]
    for kernel, says in (("dot_q4_0", "not"), ("dot_q8_0", "VK_ERROR_UNKNOWN")):
        verdict = trial(device, kernel, "shared")
        assert verdict["result"] == "failed" and says in verdict["reason"], verdict
    assert not [t for t in device["trials"] if t["pipeline"].startswith("prompt_")]
    assert len(answer(env)["ids"]) == 8


def test_a_kernel_without_a_good_variant_leaves_the_device_out(tmp_path: Path) -> None:
    env = environment(tmp_path, "wrong:embed_f16*")
    device = vulkan(env)
    assert not device["usable"] and "embed_f16" in device["reason"]
    assert trial(device, "embed_f16", "shared")["result"] == "failed"
    refused_or_on_the_cpu(env, "embed_f16")


def test_a_driver_that_crashes_on_everything(tmp_path: Path) -> None:
    env = environment(tmp_path, "crash:*")
    device = vulkan(env)
    assert not device["usable"] and "crashed" in device["reason"]
    assert "crashed" in results(device)
    refused_or_on_the_cpu(env, "crashed")


def test_a_marker_stops_the_variant_that_was_being_tried(tmp_path: Path) -> None:
    """As if the machine had died in a trial: no process is left that could tell."""
    env = environment(tmp_path)
    parent = subprocess.Popen([EXO, "devices"], env={**os.environ, **env},
                              stdout=subprocess.DEVNULL, start_new_session=True)

    def kernel_under_trial() -> list[str]:
        for marker in (tmp_path / "vulkan").glob("*.marker"):
            try:
                lines = marker.read_text().split()
            except FileNotFoundError:
                continue
            if lines and lines[0].startswith("matmul"):
                return lines
        return []

    try:
        wait_until("a product is tried", kernel_under_trial, SELFTEST_S)
        os.killpg(parent.pid, signal.SIGSTOP)  # the marker stands still
        pipeline, variant = kernel_under_trial() or ["", ""]
    finally:
        os.killpg(parent.pid, signal.SIGKILL)
        parent.wait(20)
    if not pipeline:
        pytest.skip("stopped between two trials")
    # were it tried again it would die of a signal, and the reason would say so
    device = vulkan(environment(tmp_path, f"crash:{module(pipeline, variant)}"))
    verdict = trial(device, pipeline, variant)
    assert verdict["result"] == "crashed" and "signal" not in verdict["reason"], verdict
    assert not list((tmp_path / "vulkan").glob("*.marker"))


def test_an_interrupted_trial_is_no_crash(tmp_path: Path) -> None:
    env = environment(tmp_path)
    parent = subprocess.Popen([EXO, "devices", "--json"], env={**os.environ, **env},
                              stdout=subprocess.PIPE, start_new_session=True)
    wait_until("a trial", lambda: list((tmp_path / "vulkan").glob("*.marker")), SELFTEST_S)
    os.killpg(parent.pid, signal.SIGINT)
    parent.communicate(timeout=60)
    # nobody is left who writes; the child may outlive its parent by a moment
    wait_until("the marker goes", lambda: not list((tmp_path / "vulkan").glob("*.marker")), 60)
    assert "crashed" not in results(vulkan(env))


def test_a_device_lost_in_its_selftest(tmp_path: Path) -> None:
    env = environment(tmp_path, "lost:5")
    device = vulkan(env)
    assert not device["usable"] and "lost" in device["reason"].lower()
    refused_or_on_the_cpu(env, "lost")


@pytest.mark.parametrize("submit", [1, 7])
def test_a_device_lost_in_an_answer(good: Path, tmp_path: Path, submit: int) -> None:
    (tmp_path / "vulkan").symlink_to(good / "vulkan")
    refused_or_on_the_cpu(environment(tmp_path, f"lost:{submit}"), "lost")


def test_no_loader(tmp_path: Path) -> None:
    env = environment(tmp_path) | {"EXO_VULKAN_LOADER": "/nonexistent/libvulkan.so"}
    (entry,) = devices(env)
    assert entry["device_id"] == "vulkan" and not entry["usable"]
    assert "apt install" in entry["reason"]
    refused_or_on_the_cpu(env, "apt install")


def test_no_driver(tmp_path: Path) -> None:
    env = environment(tmp_path)
    env |= {"VK_ICD_FILENAMES": "/nonexistent/d.json", "VK_DRIVER_FILES": "/nonexistent/d.json"}
    (entry,) = devices(env)
    assert not entry["usable"] and "Vulkan" in entry["reason"]
    refused_or_on_the_cpu(env, "Vulkan")


def test_a_driver_that_dies_while_it_is_loaded(tmp_path: Path) -> None:
    library = next(iter(BUILD.glob("libexo_crash_icd.*")), None)
    if library is None:
        pytest.skip(f"no libexo_crash_icd in {BUILD}: build the preset test")
    description = tmp_path / "crash.json"
    description.write_text(json.dumps({
        "file_format_version": "1.0.0",
        "ICD": {"library_path": str(library), "api_version": "1.3.0"}}))
    env = environment(tmp_path / "home", driver=description)
    for _ in range(2):  # found out, then remembered
        (entry,) = devices(env)
        assert not entry["usable"] and "crashed (signal" in entry["reason"]
    refused_or_on_the_cpu(env, "crashed")


def test_a_data_directory_that_cannot_be_written(tmp_path: Path) -> None:
    env = environment(tmp_path) | {"EXO_HOME": "/proc/nowhere"}
    (entry,) = devices(env)
    assert not entry["usable"] and "/proc/nowhere" in entry["reason"]
