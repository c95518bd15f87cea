"""Tensors that folders keep in another form than GGUF files: the way back of exo's hf_stack.c."""

from __future__ import annotations

from array import array

Tensor = tuple[str, list[int], bytes]  # dtype, shape, data


def rows_of(raw: bytes, n: int) -> list[bytes]:
    each = len(raw) // n
    return [raw[i * each:(i + 1) * each] for i in range(n)]


def by_turns(a: bytes, b: bytes, n_rows: int) -> bytes:
    """A row of a, a row of b, and so on."""
    return b"".join(x for pair in zip(rows_of(a, n_rows), rows_of(b, n_rows), strict=True) for x in pair)


def apart(raw: bytes) -> tuple[bytes, bytes]:
    """MXFP4 blocks of 17 bytes as quants, neighbours in one byte, and scales."""
    blocks, scales = bytearray(), bytearray()
    for at in range(0, len(raw), 17):
        quants = raw[at + 1:at + 17]
        values = [q & 15 for q in quants] + [q >> 4 for q in quants]
        scales.append(raw[at])
        blocks += bytes(values[2 * k] | values[2 * k + 1] << 4 for k in range(16))
    return bytes(blocks), bytes(scales)


def turned(raw: bytes, kind: str, n_matrices: int, n_rows: int) -> bytes:
    """Matrices, rows as columns."""
    out = b""
    for matrix in rows_of(raw, n_matrices):
        numbers = array("I" if kind == "F32" else "H", matrix)
        cols = len(numbers) // n_rows
        out += b"".join(numbers[c::cols].tobytes() for c in range(cols))
    return out


def experts(name: str, kind: str, shape: list[int], raw: bytes) -> dict[str, Tensor]:
    """A stack (experts, rows, columns) of gpt-oss, shape as in GGUF reversed."""
    n, n_rows, n_cols = shape
    if kind != "MXFP4":
        return {name: (kind, [n, n_cols, n_rows], turned(raw, kind, n, n_rows))}
    blocks, scales = apart(raw)
    return {f"{name}_blocks": ("U8", [n, n_rows, n_cols // 32, 16], blocks),
            f"{name}_scales": ("U8", [n, n_rows, n_cols // 32], scales)}


def grouped(q: bytes, k: bytes, v: bytes, kv_heads: int) -> bytes:
    """Each head of keys with its queries before it and its value behind it."""
    parts = zip(rows_of(q, kv_heads), rows_of(k, kv_heads), rows_of(v, kv_heads), strict=True)
    return b"".join(x for group in parts for x in group)
