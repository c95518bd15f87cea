"""Memory of Vulkan devices through C, JNI and Python: allocation, copies, exhaustion, leaks.

Runs libexo and the JNI library of the build in EXO_BUILD_DIR (default build) on the software
devices that tests/vulkan/icd.sh leaves in EXO_VULKAN_ICD_DIR (default build/vulkan).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Iterator

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("EXO_BUILD_DIR", ROOT / "build"))
DRIVERS = Path(os.environ.get("EXO_VULKAN_ICD_DIR", ROOT / "build" / "vulkan"))
CYCLES = 10_000
FLAT_KIB = 4096  # 10,000 cycles that each lose 1 KiB would show 9,000 or more

sys.path.insert(0, str(ROOT / "bindings" / "python"))


def environment(home: Path, *drivers: str) -> dict[str, str]:
    files = [DRIVERS / f"{d}.json" for d in drivers]
    for file in files:
        if not file.exists():
            pytest.skip(f"no {file.stem}: tests/vulkan/icd.sh could not get it")
    paths = ":".join(map(str, files)) or "/nonexistent/driver.json"
    return {**os.environ, "EXO_HOME": str(home), "VK_ICD_FILENAMES": paths,
            "VK_DRIVER_FILES": paths, "EXO_LIBRARY": str(BUILD / "libexo.so")}


def run(command: list[str], env: dict[str, str], seconds: int = 300) -> str:
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=seconds,
                          check=False)
    assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "Validation" not in done.stderr, done.stderr
    return done.stdout


def require(path: Path) -> Path:
    if not path.exists():
        pytest.skip(f"{path.name} is not built")
    return path


# ---- C ----


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("c") / "memory"
    require(BUILD / "libexo.so")
    subprocess.run([os.environ.get("CC", "cc"), "-std=c11", "-Wall", "-Wextra", "-Werror", "-O1",
                    f"-I{ROOT / 'include'}", str(ROOT / "tests/vulkan/memory.c"), "-o", str(out),
                    f"-L{BUILD}", "-lexo", f"-Wl,-rpath,{BUILD}"], check=True, timeout=120)
    return out


@pytest.mark.parametrize("driver", ["lavapipe", "swiftshader"])
def test_c_copies_and_exhaustion(program: Path, tmp_path: Path, driver: str) -> None:
    env = environment(tmp_path, driver)
    assert json.loads(run([str(program), "copies"], env))["sizes"] == 5
    assert json.loads(run([str(program), "exhaust"], env))["pieces"] >= 5


def test_c_between_devices_under_validation(program: Path, tmp_path: Path) -> None:
    env = {**environment(tmp_path, "lavapipe", "swiftshader"), "EXO_VULKAN_VALIDATION": "1"}
    done = subprocess.run([str(program), "copies"], env=env, capture_output=True, text=True,
                          timeout=300, check=False)
    if "no Vulkan validation layer" in done.stderr:
        pytest.skip("no Vulkan validation layer")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert json.loads(done.stdout)["devices"] == 2


@pytest.mark.parametrize("driver", ["lavapipe", "swiftshader"])
def test_c_resident_memory_stays_flat(program: Path, tmp_path: Path, driver: str) -> None:
    result = json.loads(run([str(program), "cycles", str(CYCLES)], environment(tmp_path, driver)))
    assert result["allocations"] == 0
    assert result["late_kib"] - result["early_kib"] < FLAT_KIB, result


def test_a_leak_would_be_seen(program: Path, tmp_path: Path) -> None:
    result = json.loads(run([str(program), "cycles", "1000", "leak"],
                            environment(tmp_path, "lavapipe")))
    assert result["allocations"] == 1000
    assert result["late_kib"] - result["early_kib"] > FLAT_KIB, result


def test_c_without_loader_or_driver(program: Path, tmp_path: Path) -> None:
    env = environment(tmp_path)
    for more, says in (({"EXO_VULKAN_LOADER": "/nonexistent/libvulkan.so"}, "does not open"),
                       ({}, "no Vulkan driver")):
        done = subprocess.run([str(program), "copies"], env={**env, **more}, capture_output=True,
                              text=True, timeout=60, check=False)
        assert done.returncode == 1
        assert says in done.stderr


# ---- JNI ----


@pytest.fixture(scope="session")
def java(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    library = require(next(iter(BUILD.glob("libexo_jni.*")), BUILD / "libexo_jni.so"))
    if shutil.which("javac") is None or shutil.which("java") is None:
        pytest.skip("no JDK (package default-jdk-headless)")
    classes = tmp_path_factory.mktemp("classes")
    subprocess.run(["javac", "-Xlint:all", "-Werror", "-d", str(classes),
                    str(ROOT / "bindings/jni/com/exo/gpu/VulkanGpu.java"),
                    str(ROOT / "tests/vulkan/jni/Memory.java")], check=True, timeout=120)
    return ["java", "-Xcheck:jni", "-Xmx96m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
            f"-Djava.library.path={library.parent}", "-cp", str(classes), "Memory"]


def run_java(command: list[str], env: dict[str, str]) -> list[str]:
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=400,
                          check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    lines = done.stdout.splitlines()
    assert lines[-1] == "done"
    for text in (done.stdout, done.stderr):  # -Xcheck:jni complains in these words
        assert "WARNING" not in text and "FATAL" not in text, text
    return lines


@pytest.mark.parametrize("driver", ["lavapipe", "swiftshader"])
def test_jni(java: list[str], tmp_path: Path, driver: str) -> None:
    lines = run_java([*java, "all"], environment(tmp_path, driver))
    listing = json.loads(lines[0])
    device = listing["devices"][0]
    assert listing["count"] == len(listing["devices"]) == 1
    assert {"device_id", "name", "vendor", "memory_bytes", "compute_units",
            "bandwidth_gbps"} <= device.keys()
    assert device["bandwidth_gbps"] > 0


def test_jni_resident_memory_stays_flat(java: list[str], tmp_path: Path) -> None:
    lines = run_java([*java, "cycles", str(CYCLES)], environment(tmp_path, "lavapipe"))
    result = json.loads(lines[0])
    assert result["late_kib"] - result["early_kib"] < 2 * FLAT_KIB, result  # the heap breathes


def test_jni_without_vulkan(java: list[str], tmp_path: Path) -> None:
    env = environment(tmp_path)
    run_java([*java, "unsupported"], env)
    run_java([*java, "unsupported"], {**env, "EXO_VULKAN_LOADER": "/nonexistent/libvulkan.so"})


# ---- Python ----


@pytest.fixture(params=["lavapipe", "swiftshader"])
def backend(request: pytest.FixtureRequest, tmp_path: Path,
            monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    from exo.gpu.backends.vulkan_backend import VulkanGPUBackend

    require(BUILD / "libexo.so")
    env = environment(tmp_path, request.param)
    for name in ("EXO_HOME", "VK_ICD_FILENAMES", "VK_DRIVER_FILES", "EXO_LIBRARY"):
        monkeypatch.setenv(name, env[name])
    with VulkanGPUBackend() as b:
        yield b


def test_python_devices(backend: Any) -> None:
    from exo.gpu.backend import GPUInvalidArgumentError

    (device,) = backend.list_devices()
    assert device.device_id == "vulkan:0" and device.backend == "vulkan" and device.usable
    assert device.name and device.vendor and device.memory_bytes > 0 and device.bandwidth_gbps > 0
    assert device.compute_units is None  # neither software driver tells
    assert backend.get_device("vulkan:0") == device
    assert backend.get_device_temperature("vulkan:0") is None
    with pytest.raises(GPUInvalidArgumentError):
        backend.get_device("vulkan:1")
    assert backend.unavailable_reason == ""


def test_python_copies(backend: Any) -> None:
    for size in (1, 5, 4097, 3_000_001):
        data = (bytes(range(251)) * (size // 251 + 1))[:size]
        a, b = backend.allocate("vulkan:0", size), backend.allocate("vulkan:0", size + 3)
        backend.copy_to_device(a, data)
        backend.copy_device_to_device(b, a, dst_offset=3)
        assert backend.copy_from_device(b, offset=3) == data
        backend.copy_to_device(b, memoryview(data)[:1], offset=2)
        assert backend.copy_from_device(b, 1, 2) == data[:1]
        assert backend.get_device_memory_info("vulkan:0").allocated_bytes == 2 * size + 3
        backend.synchronize("vulkan:0")
        backend.deallocate(a)
        backend.deallocate(b)
    assert backend.get_device_memory_info("vulkan:0").allocations == 0


def test_python_refusals(backend: Any) -> None:
    from exo.gpu.backend import GPUInvalidArgumentError, GPUOutOfMemoryError, MemoryHandle

    a = backend.allocate("vulkan:0", 100)
    for bad in (-1, 1 << 64):
        with pytest.raises(GPUInvalidArgumentError):
            backend.allocate("vulkan:0", bad)
        with pytest.raises(GPUInvalidArgumentError):
            backend.copy_to_device(a, b"x", offset=bad)
    with pytest.raises(GPUInvalidArgumentError):
        backend.copy_to_device(a, bytes(101))
    with pytest.raises(GPUInvalidArgumentError):
        backend.copy_from_device(a, 1, 100)
    with pytest.raises(GPUInvalidArgumentError):
        backend.copy_from_device(MemoryHandle(a.handle_id, "vulkan:0", 10_000, 0), 10_000)
    with pytest.raises(GPUOutOfMemoryError, match="MiB"):
        backend.allocate("vulkan:0", 1 << 60)
    backend.deallocate(a)
    with pytest.raises(GPUInvalidArgumentError, match="freed"):
        backend.deallocate(a)
    with pytest.raises(GPUInvalidArgumentError):
        backend.copy_from_device(a)


def test_python_exhaustion(backend: Any) -> None:
    from exo.gpu.backend import GPUOutOfMemoryError

    piece = min(backend.get_device("vulkan:0").memory_bytes // 10, 512 << 20)
    handles = []
    with pytest.raises(GPUOutOfMemoryError):
        while len(handles) < 4096:
            handles.append(backend.allocate("vulkan:0", piece))
    assert len(handles) >= 5
    for handle in handles:
        backend.deallocate(handle)
    backend.deallocate(backend.allocate("vulkan:0", piece))


def resident_kib() -> int:
    text = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(text.split("VmRSS:")[1].split()[0])


def test_python_resident_memory_stays_flat(backend: Any) -> None:
    data, early = bytes(range(256)) * 64, 0
    for k in range(CYCLES):
        a = backend.allocate("vulkan:0", len(data))
        b = backend.allocate("vulkan:0", len(data))
        backend.copy_to_device(a, data)
        backend.copy_device_to_device(b, a)
        assert backend.copy_from_device(b) == data
        backend.deallocate(a)
        backend.deallocate(b)
        if k == CYCLES // 10:
            early = resident_kib()
    assert resident_kib() - early < FLAT_KIB


@pytest.mark.parametrize("broken, says", [
    ({"EXO_LIBRARY": "/nonexistent/libexo.so"}, "libexo cannot be used"),
    ({"EXO_VULKAN_LOADER": "/nonexistent/libvulkan.so"}, "no Vulkan loader"),
    ({"VK_ICD_FILENAMES": "/nonexistent/driver.json",
      "VK_DRIVER_FILES": "/nonexistent/driver.json"}, "no Vulkan driver"),
])
def test_python_unavailable(broken: dict[str, str], says: str, tmp_path: Path,
                            monkeypatch: pytest.MonkeyPatch) -> None:
    from exo.gpu.backend import GPUUnavailableError
    from exo.gpu.backends.vulkan_backend import VulkanGPUBackend

    for name, value in {**environment(tmp_path), **broken}.items():
        monkeypatch.setenv(name, value)
    if "EXO_LIBRARY" not in broken:
        require(BUILD / "libexo.so")
    backend = VulkanGPUBackend()
    assert backend.list_devices() == [] and backend.unavailable_reason
    with pytest.raises(GPUUnavailableError, match=says):
        backend.initialize()
    assert backend.list_devices() == []
    assert says in backend.unavailable_reason
    with pytest.raises(GPUUnavailableError, match=says):
        backend.allocate("vulkan:0", 10)
    backend.shutdown()
