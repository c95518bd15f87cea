"""What exo convert writes loads in llama.cpp and means the same there.

Random-weight models, written as folders of transformers by the tests' own writer and converted by
exo: llama.cpp's most probable tokens on the result against exo's.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from compare import LOOK_AT, OPTIONS, PROMPT, ROOT, Job, Unavailable, ask_llama, compare, install, synth

sys.path.insert(0, str(ROOT / "tests" / "integration"))
from conftest import run  # noqa: E402
from hf_folder import write_folder  # noqa: E402

try:
    install()
except Unavailable as reason:
    pytest.skip(str(reason), allow_module_level=True)

GELU = 0.004  # llama.cpp looks it up in a table of f16
OTHERS = {"test-mixtral": 2e-4, "test-qwen2moe": 2e-4, "test-qwen3moe": 2e-4, "test-gemma": GELU,
          "test-gemma2": GELU, "test-gemma3": GELU, "test-phi": 2e-4, "test-granite": 2e-4,
          "test-granitemoe": 2e-4, "test-glm4": 2e-4, "test-deepseek2-lite": 2e-4,
          "test-olmo2": 2e-4, "test-starcoder2": GELU, "test-command-r": 2e-4,
          "test-smollm3": 2e-4, "test-ernie4_5": 2e-4, "test-seed_oss": 2e-4, "test-exaone": 2e-4,
          "test-olmoe": 2e-4, "test-internlm2": 2e-4, "test-granitemoeshared": 2e-4,
          "test-gpt-oss": 2e-4}
TOLERANCE = {"f32": 2e-4, "bf16": 0.15, "q8_0": 0.3, "q4_K_M": 0.3}
OTHER_KINDS = ("f16", "q4_0", "q4_1", "q5_0", "q5_1", "q2_K", "q3_K_S", "q3_K_M", "q3_K_L", "q4_K_S",
               "q5_K_S", "q5_K_M", "q6_K", "iq4_nl", "iq4_xs")


@pytest.mark.parametrize("kind", list(TOLERANCE))
@pytest.mark.parametrize("shape", ["test-256", "test-qwen2", "test-qwen3"])
def test_converted_folders(shape: str, kind: str, tmp_path: Path) -> None:
    folder = write_folder(synth(shape, "f32", tmp_path / "source.gguf"), tmp_path / "folder")
    out = tmp_path / "converted.gguf"
    done = run("convert", str(folder), "-o", str(out), "--type", kind, timeout=120)
    assert done.returncode == 0, done.stderr
    job = Job(out, PROMPT, LOOK_AT)
    deviation = compare(job, ask_llama([job])[0], tmp_path / "data")
    assert deviation.largest <= TOLERANCE[kind]


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Job, Any]]:
    """By name: what exo made of it, and what llama.cpp says to that; asked once for all."""
    root = tmp_path_factory.mktemp("converted")
    jobs = {}

    def convert(name: str, source: Path, at: list[int], *options: str) -> None:
        out = root / f"{name}.gguf"
        done = run("convert", str(source), "-o", str(out), *options, timeout=120)
        assert done.returncode == 0, done.stderr
        jobs[name] = Job(out, PROMPT, at)

    f32 = synth("test-256", "f32", root / "f32.gguf")
    for kind in OTHER_KINDS:
        convert(kind, f32, [2, 40], "--type", kind)
    for shape in OTHERS:
        source = synth(shape, "f32", root / f"{shape}-source.gguf")
        convert(shape, write_folder(source, root / f"{shape}-folder"), [2, 40])
    return dict(zip(jobs, zip(jobs.values(), ask_llama(list(jobs.values())), strict=True), strict=True))


@pytest.mark.parametrize("kind", OTHER_KINDS)
def test_every_other_type(converted: dict[str, tuple[Job, Any]], kind: str, tmp_path: Path) -> None:
    job, theirs = converted[kind]
    assert compare(job, theirs, tmp_path / "data", top=8).largest <= 0.3


@pytest.mark.parametrize("shape", OTHERS)
def test_other_converted_folders(converted: dict[str, tuple[Job, Any]], shape: str,
                                 tmp_path: Path) -> None:
    job, theirs = converted[shape]
    deviation = compare(job, theirs, tmp_path / "data", *OPTIONS.get(shape, ()), top=8)
    assert deviation.largest <= OTHERS[shape]
