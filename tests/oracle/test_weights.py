"""Weight blocks against ggml's own functions, out of the same package as the oracle's model runs:
decoded numbers are equal to the bit, quantising leaves no larger an error than llama.cpp's
quantisers do, and a mix of types chooses for each tensor what llama.cpp's chooses.

EXO_ORACLE_WEIGHTS names the filter that CMake builds from weights.c.
"""

from __future__ import annotations

import ctypes
import os
import random
import struct
import subprocess
import sys
from array import array
from pathlib import Path

import pytest

from compare import Unavailable, synth
from ggml_lib import FILE_TYPES, NUMBERS, decoded, ggml, quantise
from gguf_edit import Gguf

FILTER = os.environ.get("EXO_ORACLE_WEIGHTS", "")
if not FILTER:
    pytest.skip("EXO_ORACLE_WEIGHTS names no program", allow_module_level=True)
if sys.platform != "linux":
    pytest.skip("the libraries are looked up as on Linux", allow_module_level=True)
try:
    GGML = ggml()
except Unavailable as reason:
    pytest.skip(str(reason), allow_module_level=True)

QUANTISED = ("q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "q2_K", "q3_K", "q4_K", "q5_K", "q6_K",
             "iq4_nl", "iq4_xs", "mxfp4")
MIXES = ("q3_K_S", "q3_K_M", "q3_K_L", "q4_K_S", "q4_K_M", "q5_K_S", "q5_K_M")


def ours(mode: str, kind: str, data: bytes) -> bytes:
    done = subprocess.run([FILTER, mode, kind], input=data, capture_output=True, timeout=60,
                          check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("kind", NUMBERS)
def test_any_block_decodes_to_the_same_bits(kind: str) -> None:
    elems = GGML.ggml_blck_size(NUMBERS[kind])
    block = GGML.ggml_row_size(NUMBERS[kind], ctypes.c_int64(elems))
    data = random.Random(kind).randbytes(1000 * block)
    a = array("I", ours("decode", kind, data))
    b = array("I", decoded(kind, data, 1000 * elems))
    assert len(a) == len(b) == 1000 * elems

    def nan(bits: int) -> bool:
        return bits & 0x7FFFFFFF > 0x7F800000

    assert not [i for i, (x, y) in enumerate(zip(a, b)) if x != y and not (nan(x) and nan(y))]


def weights(shape: str) -> array:
    """Bell-shaped, with long tails, or with columns that are larger than others."""
    rng = random.Random(7)
    if shape == "normal":
        return array("f", (rng.gauss(0, 0.02) for _ in range(16384)))
    if shape == "tails":
        return array("f", (rng.gauss(0, 0.02) * rng.choice((1, 1, 1, 1, 5)) for _ in range(16384)))
    return array("f", (rng.gauss(0, 0.02 * (1 + 9 * (i % 256 < 16))) for i in range(16384)))


@pytest.mark.parametrize("shape", ["normal", "tails", "columns"])
@pytest.mark.parametrize("kind", QUANTISED)
def test_quantising_is_no_worse(kind: str, shape: str) -> None:
    x = weights(shape)
    n = len(x)
    source = (ctypes.c_float * n)(*x)
    packed = ctypes.create_string_buffer(GGML.ggml_row_size(NUMBERS[kind], ctypes.c_int64(n)))
    GGML.ggml_quantize_chunk(NUMBERS[kind], source, packed, ctypes.c_int64(0), ctypes.c_int64(1),
                             ctypes.c_int64(n), None)

    def error(data: bytes) -> float:
        return sum((a - b) ** 2 for a, b in
                   zip(x, array("f", decoded(kind, data, n))))

    mine = ours("encode", kind, x.tobytes())
    assert len(mine) == len(packed.raw)
    assert error(mine) <= error(packed.raw) * 1.001


@pytest.mark.parametrize("shape", ["test-256", "test-qwen2"])
@pytest.mark.parametrize("kind", MIXES)
def test_a_mix_chooses_the_same_types(kind: str, shape: str, tmp_path: Path) -> None:
    plain = synth(shape, "f32", tmp_path / "f32.gguf")
    quantise(plain, tmp_path / "theirs.gguf", FILE_TYPES[kind])
    theirs = Gguf(tmp_path / "theirs.gguf")
    mine = Gguf(synth(shape, kind, tmp_path / "ours.gguf"))
    assert {k: t.kind for k, t in mine.tensors.items()} == \
        {k: t.kind for k, t in theirs.tensors.items()}
    assert struct.unpack("<I", mine.values["general.file_type"][1]) == \
        struct.unpack("<I", theirs.values["general.file_type"][1])
