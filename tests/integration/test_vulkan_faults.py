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
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Callable

import pytest
from conftest import EXO, KEY, ROOT, Process, free_port, run, wait_until

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
    "compute_gflops", "read_gbps", "on_cpu", "trials"}


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


def prompts(device: Any) -> list[Any]:
    """What was measured of kernels for prompts."""
    return [t for t in device["trials"] if t["pipeline"].startswith("prompt_")]


def ask(env: dict[str, str], *options: str) -> subprocess.CompletedProcess[bytes]:
    return run("run", *PROMPT, *options, "--device", "vulkan:0", env=env, timeout=SELFTEST_S)


def answer(env: dict[str, str]) -> Any:
    done = ask(env)
    assert done.returncode == 0, done.stderr
    assert done.stderr == b""
    return json.loads(done.stdout)


def on_the_cpu(env: dict[str, str], *words: str, options: tuple[str, ...] = ()) -> Any:
    """One line says why, and the answer is the CPU's."""
    done = ask(env, *options)
    said = done.stderr.decode()
    assert done.returncode == 0, (done.returncode, said)
    assert len(said.strip().splitlines()) == 1, said
    got = json.loads(done.stdout)
    assert got["device"] == "cpu:0"
    for word in words:
        assert word in said and word in got["device_reason"], (said, got)
    alone = json.loads(run("run", *PROMPT, *options, env=env).stdout)
    assert got["ids"] == alone["ids"]
    return got


def known(good: Path, home: Path, faults: str = "") -> dict[str, str]:
    """A data directory of its own with the good device's verdict."""
    home.mkdir(exist_ok=True)
    (home / "vulkan").symlink_to(good / "vulkan")
    return environment(home, faults)


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
    assert results(device) == {"passed"}
    # no hardware for integer dot products: prompts take f32, and there is nothing to compare
    assert not device["capabilities"]["integer_dot_product_accelerated"]
    assert trial(device, "dot_q8_0", "texel")["result"] == "passed"
    assert not prompts(device)
    assert device["vendor"] == "Mesa" and device["type"] == "cpu" and len(device["uuid"]) == 32
    assert device["compute_units"] is None or device["compute_units"] > 0
    assert device["copy_gbps"] > 0 and device["read_gbps"] > 0 and device["compute_gflops"] > 0
    assert device["memory_available_bytes"] <= device["memory_total_bytes"]
    assert device["capabilities"]["subgroup"]["size"] in (4, 8, 16)
    assert device["limits"]["max_storage_range_bytes"] >= 1 << 27
    assert not list((good / "vulkan").glob("*.marker"))
    assert len(answer(env)["ids"]) == 8


def test_quantised_keys_and_values_are_the_cpus(good: Path) -> None:
    kv = ("--kv", "q8_0")
    got = on_the_cpu(environment(good), "vulkan:0", "q8_0", options=kv)
    alone = json.loads(run("run", *PROMPT, *kv, env=environment(good)).stdout)
    assert got["logits_sha256"] == alone["logits_sha256"]  # from the first position on


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


def test_the_device_and_not_a_timing_decides_what_computes_prompts(
        good: Path, tmp_path: Path) -> None:
    """Two nodes with the same device and driver have one numeric profile."""
    plain = answer(environment(good))["logits_sha256"]
    # a verdict without any timing: dot kernels are right, and the device accelerates them
    dot = answer(known(good, tmp_path / "known", "accelerated"))["logits_sha256"]
    assert dot != plain
    # timed here, on an emulation that is slow; a type whose kernel is wrong is not
    home = tmp_path / "timed"
    env = environment(home, "accelerated,wrong:dot_q4_0*")
    device = vulkan(env)
    assert device["capabilities"]["integer_dot_product_accelerated"]
    assert {t["pipeline"][7:] for t in prompts(device)} == {"q8_0", "q4_k", "q6_k"}
    for t in prompts(device):
        assert t["result"] == "passed" and "GFLOP/s" in t["reason"], t
    text = run("devices", env=env).stdout.decode()
    for t in prompts(device):
        assert f"{t['pipeline']}, variant dot, passed: {t['reason']}" in text
    assert answer(env)["logits_sha256"] == dot
    assert answer(environment(home))["logits_sha256"] == plain


def test_kernels_for_prompts_can_be_done_without(good: Path, tmp_path: Path) -> None:
    spoilt = "wrong:dot_q4_0*,no-pipeline:dot_q8_0*,wrong:dot_q4_k*,wrong:dot_q6_k*"
    env = environment(tmp_path, f"accelerated,{spoilt}")
    device = vulkan(env)
    assert device["usable"]
    for kernel, says in (("dot_q4_0", "not"), ("dot_q8_0", "VK_ERROR_UNKNOWN")):
        verdict = trial(device, kernel, "shared")
        assert verdict["result"] == "failed" and says in verdict["reason"], verdict
    assert not prompts(device)
    assert answer(env)["logits_sha256"] == answer(environment(good))["logits_sha256"]


def test_operations_without_a_good_kernel_are_computed_by_the_cpu(tmp_path: Path) -> None:
    env = environment(tmp_path, "wrong:embed_f16*,no-pipeline:attention*,wrong:rms*")
    device = vulkan(env)
    assert device["usable"], device
    assert trial(device, "embed_f16", "shared")["result"] == "failed"
    by_kernel = {o["kernel"]: o for o in device["on_cpu"]}
    assert {"embed_f16", "attention"} <= by_kernel.keys()
    assert "rms" not in by_kernel  # only faster with it
    assert by_kernel["embed_f16"]["computes"] == "embeddings of f16"
    assert "VK_ERROR_UNKNOWN" in by_kernel["attention"]["reason"]
    text = run("devices", env=environment(tmp_path)).stdout.decode()
    assert "computes embeddings of f16 on the CPU" in text
    got = answer(env)
    assert got["device"] == "vulkan:0" and got["device_reason"] is None
    assert got["ids"] == json.loads(run("run", *PROMPT, env=env).stdout)["ids"]


@pytest.mark.parametrize("faults, says", [
    ("wrong:elementwise*", "elementwise"),  # stands between all other kernels
    ("wrong:matmul_q8_0*", "100 %"),        # all of this model's products
])
def test_a_device_that_is_of_no_use_is_left_out(tmp_path: Path, faults: str, says: str) -> None:
    env = environment(tmp_path, faults)
    device = vulkan(env)
    assert device["usable"] == ("elementwise" not in faults)
    on_the_cpu(env, says)


def test_a_driver_that_crashes_on_everything(tmp_path: Path) -> None:
    env = environment(tmp_path, "crash:*")
    device = vulkan(env)
    assert not device["usable"] and "crashed" in device["reason"]
    assert "crashed" in results(device)
    on_the_cpu(env, "crashed")


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
    on_the_cpu(env, "lost")


def test_memory_that_was_short_once_is_no_verdict(tmp_path: Path) -> None:
    device = vulkan(environment(tmp_path, "fail:AllocateMemory:1+"))
    assert not device["usable"] and "OUT_OF_DEVICE_MEMORY" in device["reason"], device
    on_the_cpu(environment(tmp_path, "fail:AllocateMemory:1+"), "OUT_OF_DEVICE_MEMORY")
    device = vulkan(environment(tmp_path))
    assert device["usable"] and not device["verdict_cached"], device
    assert "failed" not in results(device)


def test_an_address_space_too_small_for_drivers(good: Path, tmp_path: Path) -> None:
    """Drivers crash without it: the CPU computes, and nothing is remembered of the device."""
    for kib in (400000, 700000):
        limited = subprocess.run(["bash", "-c", f'ulimit -v {kib}; exec "$0" "$@"', EXO, "run",
                                  *SHORT, "--device", "vulkan:0"], env=environment(good),
                                 capture_output=True, timeout=100, check=False)
        assert limited.returncode == 0, limited.stderr
        assert b"ulimit -v" in limited.stderr
        assert json.loads(limited.stdout)["device"] == "cpu:0"
    assert vulkan(environment(good))["usable"]


# ---- failures of a device that has proved itself ----

SHORT = ["-m", "tiny", "--raw", "-p", "Once upon a time", "-n", "6", "--temp", "0", "--ctx", "64",
         "--chunk", "4", "--json"]
CALLS = [  # those of FAILING_FUNCTIONS in faulty_layer.c that exo calls for an answer, and others
    "CreateInstance", "CreateDevice", "AllocateMemory", "MapMemory", "CreateBuffer",
    "BindBufferMemory", "CreateBufferView", "CreateSemaphore", "CreateCommandPool",
    "AllocateCommandBuffers", "ResetCommandBuffer", "BeginCommandBuffer", "EndCommandBuffer",
    "CreatePipelineCache", "CreatePipelineLayout", "CreateDescriptorSetLayout",
    "CreateDescriptorPool", "AllocateDescriptorSets", "CreateShaderModule",
    "CreateComputePipelines", "QueueSubmit", "WaitSemaphores"]


@pytest.fixture(scope="session")
def short_ids(good: Path) -> Any:
    cpu = json.loads(run("run", *SHORT).stdout)["ids"]
    gpu = json.loads(run("run", *SHORT, "--device", "vulkan:0", env=environment(good),
                         timeout=SELFTEST_S).stdout)
    assert gpu["device"] == "vulkan:0" and gpu["ids"] == cpu
    return cpu


def short(env: dict[str, str], timeout: float = 100) -> tuple[Any, list[str], bool]:
    """The result, what exo said, and whether a fault has struck."""
    done = run("run", *SHORT, "--device", "vulkan:0", env=env, timeout=timeout)
    lines = done.stderr.decode().splitlines()
    assert done.returncode == 0, (env["EXO_FAULTY"], done.returncode, lines)
    assert not [line for line in lines if "objects are left" in line], (env["EXO_FAULTY"], lines)
    said = [line for line in lines if "faulty layer" not in line]
    return json.loads(done.stdout), said, len(said) < len(lines)


@pytest.mark.parametrize("call", CALLS)
def test_every_call_may_fail(good: Path, short_ids: Any, tmp_path: Path, call: str) -> None:
    """Its 1st, 2nd, ... call: the right answer, from the device or from the CPU with a reason."""
    for i, number in enumerate((1, 2, 4, 20)):
        env = known(good, tmp_path / str(i), f"report,fail:{call}:{number}")
        got, said, struck = short(env)
        if not struck:
            assert number > 1, f"{call} is never called"
            break
        assert got["ids"] == short_ids
        assert len(said) == (got["device"] == "cpu:0"), said
        assert (got["device_reason"] is None) == (got["device"] == "vulkan:0")


@pytest.mark.parametrize("faults, says", [
    ("fail:AllocateMemory:1+", "MEMORY"), ("fail:CreateComputePipelines:3:UNKNOWN", "kernel"),
    ("fail:QueueSubmit:4:DEVICE_LOST", "is lost"), ("fail:WaitSemaphores:3:DEVICE_LOST", "is lost"),
    ("fail:WaitSemaphores:4+:TIMEOUT", "did not finish"),  # and is never freed: it may still run
    ("fail:QueueSubmit:4:DEVICE_LOST,fail:DeviceWaitIdle:1:DEVICE_LOST", "is lost"),
])
def test_ways_to_fail(good: Path, short_ids: Any, tmp_path: Path, faults: str, says: str) -> None:
    got, said, _ = short(known(good, tmp_path, faults))
    assert got["ids"] == short_ids and got["device"] == "cpu:0"
    assert says in got["device_reason"] and any(says in line for line in said), said


def test_a_lost_device_that_hangs_when_it_is_closed(good: Path, short_ids: Any,
                                                    tmp_path: Path) -> None:
    begin = time.monotonic()
    got, said, _ = short(known(good, tmp_path, "lost:4,hang:DestroyDevice:1"))
    assert got["ids"] == short_ids and got["device"] == "cpu:0"
    assert any("hangs" in line for line in said), said
    assert time.monotonic() - begin < 60


@pytest.mark.parametrize("submit", [1, 7])
def test_a_device_lost_in_an_answer(good: Path, tmp_path: Path, submit: int) -> None:
    got = on_the_cpu(known(good, tmp_path, f"lost:{submit}"), "lost")
    (change,) = got["profile_changes"]
    assert (change["from"], change["to"]) == ("vulkan:0", "cpu:0")
    assert 0 <= change["at_token"] < 8 and "lost" in change["reason"]


def test_bench_says_which_device_it_measured(good: Path, tmp_path: Path) -> None:
    arguments = ["bench", "-m", "tiny", "--pp", "8", "--tg", "8", "--json", "--device", "vulkan:0"]
    done = run(*arguments, env=environment(good), timeout=SELFTEST_S)
    assert json.loads(done.stdout)["device"] == "vulkan:0"
    done = run(*arguments, env=known(good, tmp_path, "lost:9"), timeout=100)
    result = json.loads(done.stdout)
    assert result["device"] == "cpu:0" and "lost" in result["device_reason"]
    assert result["tg_tps"] > 0


# Several answers at once.  f16 weights: the CPU multiplies them by f32 inputs, as the device does,
# so that no two tokens are nearly equally likely for one of them only.
ANSWER = 24


def complete(node: Process, model: str, who: int) -> Any:
    prompt = [(who * 37 + i * 11) % 500 + 3 for i in range(20 + 9 * who)]
    return node.post("/v1/completions", {
        "model": Path(model).stem, "prompt": prompt, "temperature": 0, "max_tokens": ANSWER,
        "ignore_eos": True}, 120).json


def texts(replies: list[Any]) -> list[str]:
    assert all(r["usage"]["completion_tokens"] == ANSWER for r in replies)
    return [r["choices"][0]["text"] for r in replies]


def changes(replies: list[Any]) -> list[Any]:
    return [c for r in replies for c in r.get("exo_profile_changes", [])]


def test_several_answers_of_serve_outlive_the_device(good: Path, tmp_path: Path,
                                                     models: Callable[..., str],
                                                     start: Callable[..., Process]) -> None:
    model = models("test-256", "f16")
    cpu = start("serve", "-m", model).wait_healthy()
    want = texts([complete(cpu, model, i) for i in range(4)])
    gpu = start("serve", "-m", model, "--device", "vulkan:0",
                env=known(good, tmp_path / "home", "lost:20")).wait_healthy()
    with ThreadPoolExecutor(4) as pool:
        replies = list(pool.map(lambda i: complete(gpu, model, i), range(4)))
    assert texts(replies) == want
    assert changes(replies)
    assert all(c["device_id"] == "cpu:0" and "lost" in c["reason"] for c in changes(replies))
    (instance,) = gpu.get("/state")["instances"].values()
    (shard,) = instance["shards"]
    assert shard["device_id"] == "cpu:0" and "lost" in shard["device_reason"]
    again = complete(gpu, model, 2)
    assert texts([again]) == want[2:3] and not changes([again])
    assert "goes on with the answers" in gpu.log.read_text()


@pytest.mark.parametrize("lost_stage", [0, 1])
def test_a_stage_of_a_pipeline_outlives_its_device(good: Path, tmp_path: Path, lost_stage: int,
                                                   models: Callable[..., str],
                                                   start: Callable[..., Process]) -> None:
    model = models("test-256", "f16")
    cpu = start("serve", "-m", model).wait_healthy()
    want = texts([complete(cpu, model, i) for i in range(3)])
    nodes: list[Process] = []
    ports = [free_port(), free_port()]
    for i in range(2):
        extra = ["--port", str(ports[i])]
        extra += ["--peer", f"127.0.0.1:{ports[0]}"] if i == 1 else []
        env = {"EXO_CLUSTER_KEY": KEY}
        if i == lost_stage:
            env |= known(good, tmp_path / "home", "lost:20")
            extra += ["--device", "vulkan:0"]
        nodes.append(start("node", "-m", model, *extra, env=env).wait_healthy())
    wait_until("they know one another", lambda: sum(
        "models" in n for n in nodes[0].get("/state")["nodes"].values()) == 2)
    placed = nodes[0].post("/place_instance", {
        "model_id": Path(model).stem, "min_nodes": 2, "sharding": "Pipeline"}, SELFTEST_S)
    assert placed.status == 200, placed.body

    def shard() -> Any:
        (instance,) = nodes[0].get("/state")["instances"].values()
        return instance["shards"][lost_stage]

    assert shard()["device_id"] == "vulkan:0" and shard()["device_reason"] is None
    with ThreadPoolExecutor(3) as pool:
        replies = list(pool.map(lambda i: complete(nodes[0], model, i), range(3)))
    assert texts(replies) == want
    assert changes(replies) and all(c["stage"] == lost_stage for c in changes(replies))
    wait_until("/state shows it", lambda: shard()["device_id"] == "cpu:0"
               and "lost" in shard()["device_reason"])


def test_a_node_without_the_device_it_was_given(tmp_path: Path,
                                                start: Callable[..., Process]) -> None:
    node = start("serve", "-m", "tiny", "--device", "vulkan:0",
                 env={"EXO_VULKAN_LOADER": "/nonexistent/libvulkan.so"}).wait_healthy()
    reply = node.post("/v1/completions", {"model": "tiny", "prompt": "Once", "max_tokens": 4})
    assert reply.json["choices"][0]["text"]
    (shown,) = node.get("/state")["nodes"].values()
    assert shown["devices"][0]["device_id"] == "cpu:0"
    assert "Vulkan loader" in shown["devices"][0]["device_reason"]
    assert "cpu:0 computes instead" in node.log.read_text()


def test_no_loader(tmp_path: Path) -> None:
    env = environment(tmp_path) | {"EXO_VULKAN_LOADER": "/nonexistent/libvulkan.so"}
    (entry,) = devices(env)
    assert entry["device_id"] == "vulkan" and not entry["usable"]
    assert "EXO_VULKAN_LOADER" in entry["reason"]
    on_the_cpu(env, "EXO_VULKAN_LOADER")


def test_no_driver(tmp_path: Path) -> None:
    env = environment(tmp_path)
    env |= {"VK_ICD_FILENAMES": "/nonexistent/d.json", "VK_DRIVER_FILES": "/nonexistent/d.json"}
    (entry,) = devices(env)
    assert not entry["usable"] and "Vulkan" in entry["reason"]
    on_the_cpu(env, "Vulkan")


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
    on_the_cpu(env, "crashed")


def test_a_data_directory_that_cannot_be_written(tmp_path: Path) -> None:
    env = environment(tmp_path) | {"EXO_HOME": "/proc/nowhere"}
    (entry,) = devices(env)
    assert not entry["usable"] and "/proc/nowhere" in entry["reason"]
