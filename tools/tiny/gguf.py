"""GGUF version 3: writing and reading of the few value and tensor types exo-tiny needs.

Q8_0 stores rows in blocks of 32 weights: one float16 scale d, then 32 signed bytes q; weight = d * q.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Value = str | bool | int | float | list[str] | list[int]

MAGIC = b"GGUF"
VERSION = 3
ALIGNMENT = 32
BLOCK = 32
T_UINT32, T_INT32, T_FLOAT32, T_BOOL, T_STRING, T_ARRAY = 4, 5, 6, 7, 8, 9
F32, Q8_0 = 0, 8


def pack_string(text: str) -> bytes:
    data = text.encode("utf-8")
    return struct.pack("<Q", len(data)) + data


def pack_value(value: Value) -> bytes:
    """Type and value; whole numbers are uint32 alone and int32 in arrays."""
    if isinstance(value, str):
        return struct.pack("<I", T_STRING) + pack_string(value)
    if isinstance(value, bool):
        return struct.pack("<I?", T_BOOL, value)
    if isinstance(value, int):
        return struct.pack("<II", T_UINT32, value)
    if isinstance(value, float):
        return struct.pack("<If", T_FLOAT32, value)
    kind = T_STRING if isinstance(value[0], str) else T_INT32
    items = (pack_string(v) if isinstance(v, str) else struct.pack("<i", v) for v in value)
    return struct.pack("<IIQ", T_ARRAY, kind, len(value)) + b"".join(items)


def quantize_q8_0(rows: Floats) -> bytes:
    blocks = rows.reshape(-1, BLOCK)
    scale = np.abs(blocks).max(axis=1, keepdims=True) / 127.0
    inverse = np.divide(1.0, scale, out=np.zeros_like(scale), where=scale > 0)
    out = np.empty(len(blocks), dtype=[("d", "<f2"), ("q", "i1", BLOCK)])
    out["d"] = scale[:, 0]
    out["q"] = np.rint(blocks * inverse)
    return out.tobytes()


def dequantize_q8_0(data: bytes) -> Floats:
    blocks = np.frombuffer(data, dtype=[("d", "<f2"), ("q", "i1", BLOCK)])
    return (blocks["d"].astype(np.float32)[:, None] * blocks["q"].astype(np.float32)).reshape(-1)


def padding(size: int) -> int:
    return -size % ALIGNMENT


def write(path: Path, metadata: dict[str, Value], tensors: dict[str, Floats]) -> None:
    """Vectors are stored as F32, matrices as Q8_0."""
    head = MAGIC + struct.pack("<IQQ", VERSION, len(tensors), len(metadata))
    for key, value in metadata.items():
        head += pack_string(key) + pack_value(value)
    body = b""
    for name, tensor in tensors.items():
        matrix = tensor.ndim == 2
        sizes = tensor.shape[::-1]
        head += pack_string(name) + struct.pack(f"<I{len(sizes)}Q", len(sizes), *sizes)
        head += struct.pack("<IQ", Q8_0 if matrix else F32, len(body))
        data = quantize_q8_0(tensor) if matrix else tensor.astype("<f4").tobytes()
        body += data + bytes(padding(len(data)))
    path.write_bytes(head + bytes(padding(len(head))) + body)


def unpack(file: BinaryIO, layout: str) -> int | float | bool:
    (value,) = struct.unpack("<" + layout, file.read(struct.calcsize("<" + layout)))
    return value


def read_string(file: BinaryIO) -> str:
    return file.read(int(unpack(file, "Q"))).decode("utf-8")


def read_value(file: BinaryIO, kind: int) -> Value:
    if kind == T_STRING:
        return read_string(file)
    if kind == T_ARRAY:
        item, count = int(unpack(file, "I")), int(unpack(file, "Q"))
        return [read_value(file, item) for _ in range(count)]  # type: ignore[return-value]
    return unpack(file, {T_UINT32: "I", T_INT32: "i", T_FLOAT32: "f", T_BOOL: "?"}[kind])


def read(path: Path) -> tuple[dict[str, Value], dict[str, Floats]]:
    """Metadata, and all tensors as float32 with rows first."""
    with path.open("rb") as file:
        if file.read(4) != MAGIC or unpack(file, "I") != VERSION:
            raise ValueError(f"{path}: not a GGUF file of version {VERSION}")
        n_tensors, n_values = int(unpack(file, "Q")), int(unpack(file, "Q"))
        metadata: dict[str, Value] = {}
        for _ in range(n_values):
            key = read_string(file)
            metadata[key] = read_value(file, int(unpack(file, "I")))
        infos: list[tuple[str, tuple[int, ...], int, int]] = []
        for _ in range(n_tensors):
            name = read_string(file)
            sizes = tuple(int(unpack(file, "Q")) for _ in range(int(unpack(file, "I"))))
            infos.append((name, sizes[::-1], int(unpack(file, "I")), int(unpack(file, "Q"))))
        start = file.tell() + padding(file.tell())
        tensors: dict[str, Floats] = {}
        for name, shape, kind, offset in infos:
            file.seek(start + offset)
            count = int(np.prod(shape))
            if kind == Q8_0:
                flat = dequantize_q8_0(file.read(count // BLOCK * (2 + BLOCK)))
            else:
                flat = np.frombuffer(file.read(count * 4), dtype="<f4").astype(np.float32)
            tensors[name] = flat.reshape(shape)
        return metadata, tensors
