#!/usr/bin/env python3
"""Names C functions longer than a limit: usage: function_length.py LIMIT FILES...

A function begins at a line that starts in column 0 and ends with "{", and ends at a "}" in
column 0, as clang-format lays it out.  A function whose comment says "straight-line" is allowed
150 lines (a forward pass).  Tables of data ("= {") are no functions.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path



def long_functions(path: Path, limit: int) -> list[str]:
    found: list[str] = []
    start: int | None = None
    head = ""
    lines = path.read_text().splitlines()
    for i, line in enumerate(lines):
        if start is None:
            if line.endswith("{") and not line.startswith((" ", "}", "#", "typedef", "struct",
                                                            "enum", "union", "static const")) and \
                    not line.endswith("= {"):
                start, head = i, line
            elif line.startswith(" ") and line.endswith(") {") and i > 0 and \
                    re.match(r"^[A-Za-z_].*[,(]$", lines[i - 1]):
                start, head = i - 1, lines[i - 1]
        elif line.startswith("}"):
            length = i - start + 1
            comment = "\n".join(lines[max(0, start - 6) : start])
            allowed = 150 if "straight-line" in comment.lower() else limit
            if length > allowed:
                found.append(f"{path}:{start + 1}: {length} lines: {head}")
            start = None
    return found


def main() -> int:
    limit = int(sys.argv[1])
    found = [m for name in sys.argv[2:] for m in long_functions(Path(name), limit)]
    print("\n".join(found), end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
