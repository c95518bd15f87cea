"""Vulkan nodes beside CPU nodes: the same ids, logits within the tolerance, exact within a device.

Real processes; each node sees one device by its own VK_ICD_FILENAMES.  EXO_VULKAN_TEST_DIR is a
build with tests (default build/test), EXO_VULKAN_ICD_DIR the folder that tests/vulkan/icd.sh has
filled (default build/vulkan).  Verdicts on the devices are kept there, too, in `home`.
"""

from __future__ import annotations

import array
import itertools
import json
import math
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Callable

import pytest
from conftest import EXO, ROOT, Cluster, Process, run, wait_until

BUILD = Path(os.environ.get("EXO_VULKAN_TEST_DIR", ROOT / "build" / "test"))
DRIVERS = Path(os.environ.get("EXO_VULKAN_ICD_DIR", ROOT / "build" / "vulkan"))
GPUS = ["lavapipe", "swiftshader"]
SECONDS = 600  # drivers compile kernels on the CPU, perhaps a busy one
POSITIONS = 48
# Relative error of all logits of a position, in the Euclidean norm; docs/vulkan.md says why.  A
# device that computes with f32 inputs is held to the first against f32 weights of the same values;
# against a CPU that rounds inputs to int8 there is slack for what the CPU loses by that.
EXACT = 1e-3
UNROUNDED = ["f32", "f16", "bf16"]
ROUNDED = ["q4_0", "q8_0", "q4_K", "q6_K", "q4_1", "q5_0", "q5_1", "q2_K", "q3_K", "q5_K", "iq4_nl",
           "iq4_xs", "mxfp4"]
TOLERANCE = {**dict.fromkeys(UNROUNDED, EXACT), **dict.fromkeys(ROUNDED, 6e-2)}


def environment(device: str) -> dict[str, str]:
    if device == "cpu":
        return {}
    driver = DRIVERS / f"{device}.json"
    if not driver.exists():
        pytest.skip(f"no {device}: tests/vulkan/icd.sh could not get it")
    return {"VK_ICD_FILENAMES": str(driver), "VK_DRIVER_FILES": str(driver),
            "EXO_HOME": str(DRIVERS / "home"), "EXO_VULKAN_PROBE": EXO}


def device_id(device: str) -> str:
    return "cpu:0" if device == "cpu" else "vulkan:0"


@pytest.fixture(scope="session")
def tried() -> Callable[[str], dict[str, str]]:
    """tried(device): the environment in which it is the only one, its verdict known."""
    known: dict[str, dict[str, str]] = {}

    def environment_of(device: str) -> dict[str, str]:
        if device not in known:
            env = environment(device)
            if device != "cpu":
                done = run("devices", "--json", env=env, timeout=SECONDS)
                listing = json.loads(done.stdout)
                assert len(listing) == 2 and listing[1]["usable"], listing
            known[device] = env
        return known[device]

    return environment_of


@pytest.fixture
def mixed(tmp_path: Path, tried: Callable[[str], dict[str, str]]) -> Any:
    """mixed(devices, model, options): a cluster with one node on each of these devices."""
    started: list[Cluster] = []

    def begin(devices: list[str], model: str, *options: str) -> Cluster:
        nodes = [(["--device", device_id(d)], tried(d)) for d in devices]
        started.append(Cluster(tmp_path / f"c{len(started)}", len(devices), model,
                               ["--threads", "1", *options], nodes))
        return started[-1]

    yield begin
    for c in started:
        c.stop()


def place(c: Cluster, cuts: list[int]) -> None:
    body = {"model_id": c.model_id, "sharding": "Pipeline", "min_nodes": len(c.nodes),
            "cuts": cuts}
    reply = c.nodes[0].post("/place_instance", body, SECONDS)
    assert reply.status == 200, reply.body


def placed_on(c: Cluster) -> list[str]:
    """Names of the nodes in the order of their layers."""
    state = c.nodes[0].get("/state")
    (instance,) = state["instances"].values()
    shards = sorted(instance["shards"], key=lambda s: s["start_layer"])
    for shard in shards:
        (device,) = state["nodes"][shard["node_id"]]["devices"]
        assert device["device_id"] == shard["device_id"]
    return [state["nodes"][s["node_id"]]["name"] for s in shards]


def complete(node: Process, model: str, **more: Any) -> Any:
    body = {"model": model, "prompt": "Once upon a time", "max_tokens": 120, "temperature": 0,
            "logprobs": 5, "exo_logits_hash": True, **more}
    reply = node.post("/v1/completions", body, SECONDS)
    assert reply.status == 200, reply.body
    return reply.json


# ---- the same answer ----

ORDERS = [list(p) for n in (2, 3) for p in itertools.permutations(["cpu", *GPUS], n)]


@pytest.fixture(scope="session")
def story(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The golden story's model, and what a server on the CPU answers: `exo run` has its ids."""
    folder = shared / "stories260K"
    model = str(folder / "stories260K-f32.gguf")
    golden = json.loads((folder / "golden-once-upon-a-time.json").read_text())
    on_cpu = json.loads(run("run", "-m", model, "--raw", "-p", golden["prompt"], "-n", "120",
                            "--temp", "0", "--json").stdout)
    assert on_cpu["ids"] == golden["ids"] and len(on_cpu["ids"]) == 120
    server = Process(["serve", "-m", model, "--threads", "1"], tmp_path_factory.mktemp("story"))
    try:
        answer = complete(server.wait_healthy(), Path(model).stem)["choices"][0]
    finally:
        server.stop()
    assert answer["text"] == golden["text"]
    return model, answer


@pytest.mark.parametrize("devices", ORDERS, ids="-".join)
def test_the_golden_story(story: Any, mixed: Any, devices: list[str]) -> None:
    """The API names tokens by their texts.  Equal texts at equal probabilities are equal ids: the
    golden's likeliest logit leads by 0.042 at least, so no other id of that text comes so close."""
    model, want = story
    c = mixed(devices, model)
    for cuts in ([1], [4]) if len(devices) == 2 else ([1, 3],):
        place(c, cuts)
        assert placed_on(c)[0] == "n0"
        answer = complete(c.nodes[0], c.model_id)["choices"][0]
        assert answer["text"] == want["text"]
        one, other = answer["logprobs"], want["logprobs"]
        assert one["tokens"] == other["tokens"] and len(one["tokens"]) == 120
        for got, expected in zip(one["token_logprobs"], other["token_logprobs"]):
            assert abs(got - expected) <= 1e-3


# ---- tolerance ----

def logits(model: str, device: str, env: dict[str, str], n_prompt: int = 0) -> array.array[float]:
    program = BUILD / "exo_vulkan_logits"
    if not program.exists():
        pytest.skip(f"no {program}: build the preset test")
    done = subprocess.run([program, model, device, str(POSITIONS), str(n_prompt)],
                          capture_output=True, env={**os.environ, **env}, timeout=SECONDS,
                          check=False)
    assert done.returncode == 0, done.stderr
    return array.array("f", done.stdout)


def relative_error(got: array.array[float], want: array.array[float]) -> float:
    """The worst of all positions."""
    assert len(got) == len(want) and len(want) % POSITIONS == 0
    width = len(want) // POSITIONS
    worst = 0.0
    for at in range(0, len(want), width):
        g, w = got[at:at + width], want[at:at + width]
        off = math.sqrt(sum((a - b) ** 2 for a, b in zip(g, w)) / sum(b * b for b in w))
        worst = max(worst, off)
    return worst


def compare(model: str, gpu: str, env: dict[str, str], kind: str, folder: Path) -> None:
    """Rows of answers against f32 weights of the same values and the CPU; rows of prompts, too."""
    plain = folder / "f32.gguf"
    done = run("convert", model, "-o", str(plain), "--type", "f32")
    assert done.returncode == 0, done.stderr
    answer = logits(model, "vulkan:0", env)
    prompt = logits(model, "vulkan:0", env, POSITIONS)
    on_cpu, of_plain = logits(model, "cpu:0", {}), logits(str(plain), "cpu:0", {})
    exact = relative_error(answer, of_plain)
    off = [relative_error(rows, on_cpu) for rows in (answer, prompt)]
    print(f"{gpu} {kind}: against f32 weights {exact:.2g}; against the CPU {off[0]:.2g}, prompts "
          f"{off[1]:.2g}; the CPU against f32 weights {relative_error(on_cpu, of_plain):.2g}")
    assert exact <= EXACT
    assert max(off) <= TOLERANCE[kind]


@pytest.mark.parametrize("kind", TOLERANCE)
@pytest.mark.parametrize("gpu", GPUS)
def test_logits_within_the_tolerance(models: Any, tried: Any, tmp_path: Path, gpu: str,
                                     kind: str) -> None:
    compare(models("test-256", kind), gpu, tried(gpu), kind, tmp_path)


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_0", "f16"])
@pytest.mark.parametrize("gpu", GPUS)
def test_logits_of_a_trained_model(shared: Path, tried: Any, tmp_path: Path, gpu: str,
                                   kind: str) -> None:
    model = str(shared / "stories260K" / f"stories260K-{kind}.gguf")
    compare(model, gpu, tried(gpu), kind.lower(), tmp_path)


@pytest.mark.parametrize("kind", ["q8_0", "q4_K", "q6_K", "q4_0", "f16"])
def test_a_mixed_pipeline_stays_within_the_tolerance(
        models: Any, mixed: Any, start: Any, kind: str) -> None:
    """Log-probabilities of the likeliest tokens: where the models differ the least they may."""
    model = models("test-256", kind)
    c = mixed(["cpu", "lavapipe", "swiftshader"], model)
    place(c, [1, 2])
    server = start("serve", "-m", model, "--threads", "1").wait_healthy()
    # the logits of such a model spread by about 1, so an error of 1 % is one of 0.01
    for text in ("a", "Once upon a time", "The quick brown fox jumps over the lazy dog. " * 4):
        one, other = (complete(n, c.model_id, prompt=text, max_tokens=1, temperature=1)
                      ["choices"][0]["logprobs"]["top_logprobs"][0] for n in (server, c.nodes[0]))
        both = one.keys() & other.keys()
        assert both
        for token in both:
            assert abs(one[token] - other[token]) <= 5 * TOLERANCE[kind], (token, one, other)


# ---- models with operations that the device has no kernels for ----

def ask(model: str, device: str, env: dict[str, str]) -> tuple[Any, str]:
    done = run("run", "-m", model, "--raw", "-p", "Once upon a time there was", "-n", "12",
               "--temp", "0", "--ignore-eos", "--json", "--device", device, env=env,
               timeout=SECONDS)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr.decode()


@pytest.mark.parametrize("shape", ["test-mixtral", "test-gemma3", "test-gpt-oss", "test-deepseek2"])
@pytest.mark.parametrize("gpu", GPUS)
def test_the_cpu_computes_what_has_no_kernel(models: Any, tried: Any, tmp_path: Path, gpu: str,
                                             shape: str) -> None:
    """Experts, windows, sinks, norms of their own: on the CPU, between the device's products."""
    model = models(shape, "f16")
    got, said = ask(model, "vulkan:0", tried(gpu))
    want, _ = ask(model, "cpu:0", {})
    assert (got["device"], got["device_reason"], said) == ("vulkan:0", None, "")
    assert got["ids"] == want["ids"]
    compare(model, gpu, tried(gpu), "f16", tmp_path)


@pytest.mark.parametrize("shape", ["test-mixtral", "test-gemma3"])
def test_a_model_whose_weights_have_no_kernel(models: Any, tried: Any, shape: str) -> None:
    model = models(shape, "iq3_s")
    got, said = ask(model, "vulkan:0", tried("lavapipe"))
    assert got["device"] == "cpu:0" and "products of iq3_s" in got["device_reason"]
    assert got["device_reason"] in said
    assert got["ids"] == ask(model, "cpu:0", {})[0]["ids"]


# ---- exactness within a device's profile ----

TEXT = "Once upon a time there was a cluster of phones, laptops and a server. " * 6


@pytest.mark.parametrize("gpu", GPUS)
def test_chunks_change_no_bit(models: Any, tried: Any, tmp_path: Path, gpu: str) -> None:
    text = tmp_path / "text"
    text.write_text(TEXT)
    hashes = {}
    for chunk in ("1", "7", "32", "100"):
        done = run("perplexity", "-m", models("test-256", "q4_K_M"), "--device", "vulkan:0",
                   "--chunk", chunk, "--json", str(text), env=tried(gpu), timeout=SECONDS)
        assert done.returncode == 0, done.stderr
        hashes[chunk] = json.loads(done.stdout)["logits_sha256"]
    assert len(set(hashes.values())) == 1, hashes


@pytest.mark.parametrize("gpu", GPUS)
def test_cuts_and_company_change_no_bit(
        models: Any, mixed: Any, start: Any, tried: Any, gpu: str) -> None:
    model = models("test-256", "q4_K_M")
    more = {"temperature": 1, "seed": 5, "max_tokens": 16, "logprobs": 0, "prompt": TEXT[:200]}
    server = start("serve", "-m", model, "--device", "vulkan:0", env=tried(gpu))
    wait_until("it serves", server.healthy, SECONDS)
    expected = complete(server, Path(model).stem, **more)["exo_logits_sha256"]
    server.stop()
    c = mixed([gpu, gpu], model, "--chunk", "48")
    for cuts in ([1], [2], [3]):
        place(c, cuts)
        assert complete(c.nodes[0], c.model_id, **more)["exo_logits_sha256"] == expected, cuts
    others = [{**more, "prompt": f"Something else, number {i}." * (i + 1)} for i in range(5)]
    with ThreadPoolExecutor(6) as pool:
        company = [pool.submit(complete, c.nodes[0], c.model_id, **o) for o in others]
        got = complete(c.nodes[0], c.model_id, **more)["exo_logits_sha256"]
        for f in company:
            f.result()
    assert got == expected


# ---- two devices of one name ----

def test_two_nodes_with_one_device_id_are_two_devices(mixed: Callable[..., Cluster]) -> None:
    """Each calls its own vulkan:0; whose it is stands before it wherever both are shown."""
    c = mixed(["lavapipe", "lavapipe"], "tiny")
    ids = [node.get("/node_id") for node in c.nodes]
    devices = {f"{i}/vulkan:0" for i in ids}
    for node in c.nodes:
        told = wait_until("both are known with their figures", lambda n=node: {
            i: d for i, d in n.get("/state/telemetry/devices").items()
            if d["metrics"] and d["capabilities"]}.keys() == devices and n.get(
                "/state/telemetry/devices"), 60)
        for i, d in told.items():
            assert d["capabilities"]["device_id"] == d["metrics"]["device_id"] == i
            assert d["capabilities"]["device_type"] == "vulkan_linux"
        assert {d["hostname"] for d in told.values()} == {"n0", "n1"}
        wait_until("the master counts two", lambda n=node: n.get(
            "/state/telemetry/cluster/device_count") == 2, 60)
        samples = [line for line in node.http("GET", "/metrics").body.decode().splitlines()
                   if line.startswith("exo_device_score{")]
        assert len(samples) == 2 and all('device="vulkan:0"' in line for line in samples), samples
        assert {i for i in ids for line in samples if f'node_id="{i}"' in line} == set(ids)
        shown = run("top", "--once", "--data-dir", str(node.data_dir)).stdout.decode().splitlines()
        assert [sum("vulkan:0" in line and name in line for line in shown)
                for name in ("n0", "n1")] == [1, 1], shown
    cut = 2
    place(c, [cut])
    (instance,) = c.nodes[1].get("/state")["instances"].values()
    shards = [(s["node_id"], s["device_id"], s["start_layer"]) for s in instance["shards"]]
    assert shards == [(ids[0], "vulkan:0", 0), (ids[1], "vulkan:0", cut)]
    for i in ids:  # a part of the state has the device's whole name
        assert c.nodes[0].get(f"/state/telemetry/devices/{i}/vulkan:0/hostname") in ("n0", "n1")
