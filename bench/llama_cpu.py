"""llama.cpp's own speed on the CPU, through the shared libraries of npm's node-llama-cpp.

Calls the C functions directly, so that no other thread takes a core: llama.cpp's thread 0 is the
caller.  Parameter structs are passed whole: they come from the library's own defaults, and only
fields at the front, which have long kept their places, are set and checked afterwards.

    python3 llama_cpu.py LIBRARIES MODEL PP TG THREADS [BATCH]

prints {"pp_tps", "tg_tps", "load_s", "rss_bytes"}.
"""

from __future__ import annotations

import ctypes
import json
import sys
import time
from pathlib import Path
from typing import Any

STRUCT_BYTES = 1024  # more than the library's structs have; the rest is padding behind them


class Params(ctypes.Structure):
    """llama_model_params or llama_context_params: n_ctx, n_batch, n_ubatch, n_seq_max come first."""

    _fields_ = [("words", ctypes.c_uint32 * (STRUCT_BYTES // 4))]


class Batch(ctypes.Structure):
    """llama_batch."""

    _fields_ = [("n_tokens", ctypes.c_int32), ("token", ctypes.c_void_p), ("embd", ctypes.c_void_p),
                ("pos", ctypes.c_void_p), ("n_seq_id", ctypes.c_void_p), ("seq_id", ctypes.c_void_p),
                ("logits", ctypes.c_void_p)]


class Llama:
    """A model with one context."""

    def __init__(self, libraries: Path, model: str, n_ctx: int, n_seqs: int):
        path = next(libraries.glob("libllama.*so"))
        lib = ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
        ggml = ctypes.CDLL(str(next(libraries.glob("libggml.*so"))), mode=ctypes.RTLD_GLOBAL)
        self.lib = lib
        self.log = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(
            lambda level, text, data: None)
        lib.llama_log_set(self.log, None)
        ggml.ggml_backend_load_all_from_path(str(libraries).encode())
        for name, result in (("llama_model_default_params", Params),
                             ("llama_context_default_params", Params),
                             ("llama_model_load_from_file", ctypes.c_void_p),
                             ("llama_init_from_model", ctypes.c_void_p),
                             ("llama_get_memory", ctypes.c_void_p),
                             ("llama_get_logits_ith", ctypes.POINTER(ctypes.c_float)),
                             ("llama_batch_init", Batch)):
            getattr(lib, name).restype = result
        for name, kinds in (("llama_model_load_from_file", [ctypes.c_char_p, Params]),
                            ("llama_init_from_model", [ctypes.c_void_p, Params]),
                            ("llama_get_memory", [ctypes.c_void_p]),
                            ("llama_memory_clear", [ctypes.c_void_p, ctypes.c_bool]),
                            ("llama_n_ctx", [ctypes.c_void_p]),
                            ("llama_n_seq_max", [ctypes.c_void_p]),
                            ("llama_set_n_threads", [ctypes.c_void_p, ctypes.c_int32, ctypes.c_int32]),
                            ("llama_get_logits_ith", [ctypes.c_void_p, ctypes.c_int32]),
                            ("llama_decode", [ctypes.c_void_p, Batch])):
            getattr(lib, name).argtypes = kinds
        lib.llama_backend_init()
        self.model = lib.llama_model_load_from_file(model.encode(), lib.llama_model_default_params())
        if not self.model:
            raise RuntimeError(f"llama.cpp does not load {model}")
        params = lib.llama_context_default_params()
        if tuple(params.words[:4]) != (512, 2048, 512, 1):
            raise RuntimeError("llama.cpp's context parameters are not laid out as this script knows")
        params.words[0], params.words[3] = n_ctx, n_seqs
        self.context = lib.llama_init_from_model(self.model, params)
        if not self.context or lib.llama_n_ctx(self.context) < n_ctx or \
                lib.llama_n_seq_max(self.context) != n_seqs:
            raise RuntimeError("llama.cpp made another context than it was asked for")
        self.batch = lib.llama_batch_init(512, 0, n_seqs)

    def threads(self, n: int) -> None:
        self.lib.llama_set_n_threads(self.context, n, n)

    def clear(self) -> None:
        self.lib.llama_memory_clear(self.lib.llama_get_memory(self.context), True)

    def step(self, rows: list[tuple[int, int, int, bool]]) -> None:
        """Rows of sequence, position, token, whether logits are wanted."""
        b = self.batch
        tokens, places = (ctypes.cast(p, ctypes.POINTER(ctypes.c_int32)) for p in (b.token, b.pos))
        counts = ctypes.cast(b.n_seq_id, ctypes.POINTER(ctypes.c_int32))
        seqs = ctypes.cast(b.seq_id, ctypes.POINTER(ctypes.POINTER(ctypes.c_int32)))
        logits = ctypes.cast(b.logits, ctypes.POINTER(ctypes.c_int8))
        for i, (seq, pos, token, wanted) in enumerate(rows):
            tokens[i], places[i], counts[i], seqs[i][0], logits[i] = token, pos, 1, seq, wanted
        b.n_tokens = len(rows)
        if self.lib.llama_decode(self.context, b) != 0:
            raise RuntimeError("llama_decode failed")
        self.lib.llama_get_logits_ith(self.context, -1)  # waits for the result


def token(seq: int, pos: int) -> int:
    """Any id does: speed does not depend on it."""
    return (seq * 7919 + pos * 10477 + 13) % 1000 + 3


def read_prompt(llama: Llama, seq: int, n: int) -> float:
    begin = time.perf_counter()
    for at in range(0, n, 512):
        end = min(n, at + 512)
        llama.step([(seq, p, token(seq, p), p + 1 == n) for p in range(at, end)])
    return time.perf_counter() - begin


def measure(llama: Llama, pp: int, tg: int, batch: int) -> dict[str, float]:
    llama.step([(0, 0, token(0, 0), True)])
    llama.clear()
    result = {"pp_tps": 0.0, "tg_tps": 0.0}
    if pp > 0:
        result["pp_tps"] = pp / read_prompt(llama, 0, pp)
        for seq in range(1, batch):
            read_prompt(llama, seq, pp)
    begin = time.perf_counter()
    for i in range(tg):
        llama.step([(seq, pp + i, token(seq, pp + i), True) for seq in range(batch)])
    if tg > 0:
        result["tg_tps"] = tg * batch / (time.perf_counter() - begin)
    return result


def rss() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) * 1024
    return 0


def main() -> None:
    libraries, model = Path(sys.argv[1]), sys.argv[2]
    pp, tg, threads = (int(x) for x in sys.argv[3:6])
    batch = int(sys.argv[6]) if len(sys.argv) > 6 else 1
    begin = time.perf_counter()
    llama = Llama(libraries, model, batch * (pp + tg + 2) + 256, batch)
    llama.threads(threads)
    result: dict[str, Any] = {"load_s": time.perf_counter() - begin}
    result.update(measure(llama, pp, tg, batch))
    result["rss_bytes"] = rss()
    print(json.dumps(result))


if __name__ == "__main__":
    main()
