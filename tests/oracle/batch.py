"""exo's tokenizer and renderer as a child process that answers one record after another.

The other end is batch.c, which has the layout of the records.  EXO_BATCH names the program
(default build/test/exo_batch).
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = os.environ.get("EXO_BATCH", str(ROOT / "build" / "test" / "exo_batch"))

BOS, SPECIAL = 1, 2  # flags of a text, as in tokenizer.h


class Child:
    def __init__(self, *arguments: str):
        self._process = subprocess.Popen([PROGRAM, *arguments], stdin=subprocess.PIPE,
                                         stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def __enter__(self) -> "Child":
        return self

    def __exit__(self, *_: Any) -> None:
        self._process.kill()
        self._process.communicate()

    def _send(self, record: bytes) -> None:
        try:
            self._process.stdin.write(record)
            self._process.stdin.flush()
        except BrokenPipeError:
            self._fail()

    def _read(self, n: int) -> bytes:
        data = self._process.stdout.read(n)
        if len(data) != n:
            self._fail()
        return data

    def _fail(self) -> None:
        _, stderr = self._process.communicate()
        raise RuntimeError(f"exo_batch ended with {self._process.returncode}: "
                           f"{stderr.decode(errors='replace')[-2000:]}")

    def _read_u32(self) -> int:
        return struct.unpack("<I", self._read(4))[0]

    def _read_text(self) -> str:
        return self._read(self._read_u32()).decode()


class Tokenizer(Child):
    def __init__(self, model: Path | str):
        super().__init__("tokenize", str(model))

    def ids(self, text: bytes, flags: int = 0) -> list[int]:
        self._send(struct.pack("<BI", flags, len(text)) + text)
        n = self._read_u32()
        if n == 0xFFFFFFFF:
            raise ValueError(self._read_text())
        return list(struct.unpack(f"<{n}i", self._read(4 * n)))


class JsonTokenizers(Child):
    """One tokenizer.json after another."""

    def __init__(self) -> None:
        super().__init__("json")

    def ids(self, tokenizer: str, n_rows: int, texts: list[str],
            flags: int) -> list[list[int] | str]:
        """Ids of each text, or the message where there are none; ValueError: no tokenizer."""
        source = tokenizer.encode()
        record = struct.pack("<I", len(source)) + source + struct.pack("<II", n_rows, len(texts))
        for text in texts:
            raw = text.encode()
            record += struct.pack("<BI", flags, len(raw)) + raw
        self._send(record)
        if self._read(1) != b"\0":
            raise ValueError(self._read_text())
        answers: list[list[int] | str] = []
        for _ in texts:
            n = self._read_u32()
            if n == 0xFFFFFFFF:
                answers.append(self._read_text())
            else:
                answers.append(list(struct.unpack(f"<{n}i", self._read(4 * n))))
        return answers


class Renderer(Child):
    def __init__(self) -> None:
        super().__init__("template")

    def render(self, template: str, variables: dict) -> tuple[str, str]:
        """("ok", text) or ("error", message)."""
        source, values = template.encode(), json.dumps(variables).encode()
        self._send(struct.pack("<I", len(source)) + source +
                   struct.pack("<I", len(values)) + values)
        kind = "error" if self._read(1) != b"\0" else "ok"
        return kind, self._read_text()
