"""A GGUF file taken apart, changed and put together again: for models that exo synth does not make.

Knows the layout of the file and nothing about models.  Tensors keep their place in the data; a new
one is added at the end, for readers want them there without gaps.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path

ALIGNMENT = 32
U32, F32, BOOL, STRING, ARRAY = 4, 6, 7, 8, 9  # types of metadata values
SIZES = {0: 1, 1: 1, 2: 2, 3: 2, U32: 4, 5: 4, F32: 4, BOOL: 1, 10: 8, 11: 8, 12: 8}
F32_TENSOR, F16_TENSOR, BF16_TENSOR, MXFP4_TENSOR = 0, 1, 30, 39
BLOCKS = {F32_TENSOR: (1, 4), F16_TENSOR: (1, 2), BF16_TENSOR: (1, 2), MXFP4_TENSOR: (32, 17)}  # elements, bytes


def padded(n: int) -> int:
    return (n + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT


def packed_str(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


@dataclass
class Tensor:
    dims: tuple[int, ...]  # dims[0] runs fastest
    kind: int
    offset: int  # from the start of the data


class Gguf:
    def __init__(self, path: Path):
        self._bytes = path.read_bytes()
        self._at = 0
        magic, self.version, n_tensors, n_values = self._take("<4sIQQ")
        assert magic == b"GGUF"
        self.values: dict[str, tuple[int, bytes]] = {}  # key: type, value as in the file
        for _ in range(n_values):
            key = self._take_str()
            (kind,) = self._take("<I")
            start = self._at
            self._skip_value(kind)
            self.values[key] = (kind, self._bytes[start:self._at])
        self.tensors: dict[str, Tensor] = {}
        for _ in range(n_tensors):
            name = self._take_str()
            (n_dims,) = self._take("<I")
            dims = self._take(f"<{n_dims}Q")
            self.tensors[name] = Tensor(dims, *self._take("<IQ"))
        self.data = bytearray(self._bytes[padded(self._at):])

    def _take(self, form: str) -> tuple:
        values = struct.unpack_from(form, self._bytes, self._at)
        self._at += struct.calcsize(form)
        return values

    def _take_str(self) -> str:
        (n,) = self._take("<Q")
        self._at += n
        return self._bytes[self._at - n:self._at].decode()

    def _skip_value(self, kind: int) -> None:
        if kind == STRING:
            self._take_str()
        elif kind == ARRAY:
            element, n = self._take("<IQ")
            if element == STRING:
                for _ in range(n):
                    self._take_str()
            else:
                self._at += n * SIZES[element]
        else:
            self._at += SIZES[kind]

    def set_f32(self, key: str, value: float) -> None:
        self.values[key] = (F32, struct.pack("<f", value))

    def set_u32(self, key: str, value: int) -> None:
        self.values[key] = (U32, struct.pack("<I", value))

    def set_str(self, key: str, value: str) -> None:
        self.values[key] = (STRING, packed_str(value))

    def raw(self, name: str) -> bytes:
        t = self.tensors[name]
        elements, size = BLOCKS[t.kind]
        return bytes(self.data[t.offset:t.offset + prod(t.dims) // elements * size])

    def overwrite(self, name: str, raw: bytes) -> None:
        assert len(raw) == len(self.raw(name))
        offset = self.tensors[name].offset
        self.data[offset:offset + len(raw)] = raw

    def add_tensor(self, name: str, dims: tuple[int, ...], kind: int, raw: bytes) -> None:
        self.data += bytes(padded(len(self.data)) - len(self.data))
        self.tensors[name] = Tensor(dims, kind, len(self.data))
        self.data += raw + bytes(padded(len(raw)) - len(raw))

    def remove(self, names: list[str]) -> None:
        """The others move up: readers want no gaps."""
        old = {name: (t, self.raw(name)) for name, t in self.tensors.items() if name not in names}
        self.tensors, self.data = {}, bytearray()
        for name, (t, raw) in old.items():
            self.add_tensor(name, t.dims, t.kind, raw)

    def set_vector(self, name: str, values: list[float]) -> None:
        """Overwrites an f32 vector, or adds one."""
        raw = struct.pack(f"<{len(values)}f", *values)
        if name in self.tensors:
            self.overwrite(name, raw)
        else:
            self.add_tensor(name, (len(values),), F32_TENSOR, raw)

    def write(self, path: Path) -> None:
        out = struct.pack("<4sIQQ", b"GGUF", self.version, len(self.tensors), len(self.values))
        for key, (kind, raw) in self.values.items():
            out += packed_str(key) + struct.pack("<I", kind) + raw
        for name, t in self.tensors.items():
            out += packed_str(name) + struct.pack(f"<I{len(t.dims)}Q", len(t.dims), *t.dims)
            out += struct.pack("<IQ", t.kind, t.offset)
        path.write_bytes(out + bytes(padded(len(out)) - len(out)) + self.data)
