"""ggml's and llama.cpp's shared libraries, out of the package that the oracle installs.

Raises Unavailable where there are none.  Linux names.
"""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path

from compare import BINARIES, Unavailable, install

# Types of tensors by their number in a file; names as in ggml's functions.
NUMBERS = {"q4_0": 2, "q4_1": 3, "q5_0": 6, "q5_1": 7, "q8_0": 8, "q2_K": 10, "q3_K": 11,
           "q4_K": 12, "q5_K": 13, "q6_K": 14, "iq2_xxs": 16, "iq2_xs": 17, "iq3_xxs": 18,
           "iq1_s": 19, "iq4_nl": 20, "iq3_s": 21, "iq2_s": 22, "iq4_xs": 23, "iq1_m": 29,
           "mxfp4": 39}
# What whole files are called, by llama_ftype.
FILE_TYPES = {"f16": 1, "q4_0": 2, "q4_1": 3, "q8_0": 7, "q5_0": 8, "q5_1": 9, "q2_K": 10,
              "q3_K_S": 11, "q3_K_M": 12, "q3_K_L": 13, "q4_K_S": 14, "q4_K_M": 15, "q5_K_S": 16,
              "q5_K_M": 17, "q6_K": 18, "iq4_nl": 25, "iq4_xs": 30, "bf16": 32, "mxfp4_moe": 38}


@cache
def library(stem: str) -> ctypes.CDLL:
    folder = install() / "node_modules" / "@node-llama-cpp"
    found = sorted(folder.glob(f"*/bins/*/{stem}.so")) + sorted(folder.glob(f"*/bins/*/{stem}.v*.so"))
    if not found:
        raise Unavailable(f"no {stem} among {BINARIES.values()}")
    return ctypes.CDLL(str(found[0]), mode=ctypes.RTLD_GLOBAL)


@cache
def ggml() -> ctypes.CDLL:
    lib = library("libggml-base")
    lib.ggml_quantize_chunk.restype = ctypes.c_size_t
    lib.ggml_row_size.restype = ctypes.c_size_t
    lib.ggml_blck_size.restype = ctypes.c_int64
    return lib


def decoded(kind: str, data: bytes, n: int) -> bytes:
    """n elements as f32, little-endian."""
    out = (ctypes.c_float * n)()
    getattr(ggml(), f"dequantize_row_{kind}")(data, out, ctypes.c_int64(n))
    return bytes(out)


class Parameters(ctypes.Structure):
    """llama_model_quantize_params, as far as it is filled in here."""

    _fields_ = [("n_threads", ctypes.c_int), ("file_type", ctypes.c_int),
                ("rest", ctypes.c_uint64 * 32)]


def quantise(source: Path, target: Path, file_type: int) -> None:
    """What llama-quantize does."""
    ggml()
    library("libggml")
    llama = library("libllama")
    llama.llama_model_quantize_default_params.restype = Parameters
    parameters = llama.llama_model_quantize_default_params()
    parameters.n_threads, parameters.file_type = 1, file_type
    llama.llama_backend_init()
    silent = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(lambda *_: None)
    llama.llama_log_set(silent, None)
    failed = llama.llama_model_quantize(str(source).encode(), str(target).encode(),
                                        ctypes.byref(parameters))
    llama.llama_log_set(None, None)
    if failed:
        raise RuntimeError(f"llama_model_quantize({source}, {file_type}) gave {failed}")
