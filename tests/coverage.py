#!/usr/bin/env python3
"""Line coverage of src/ from gcov's JSON: usage: coverage.py BUILD_DIR MINIMUM_PERCENT.

Writes BUILD_DIR/coverage.txt (a line per file, worst first, and the total); fails below the
minimum.  A line counts as covered when any test executed it.
"""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path


def gcov_lines(build: Path, source: Path) -> dict[str, dict[int, bool]]:
    lines: dict[str, dict[int, bool]] = defaultdict(dict)
    data = [str(p.resolve()) for p in build.rglob("*.gcda")]
    with tempfile.TemporaryDirectory() as out:
        for i in range(0, len(data), 50):
            subprocess.run(["gcov", "--json-format", "--preserve-paths", *data[i : i + 50]],
                           cwd=out, check=True, capture_output=True)
        for report in Path(out).glob("*.gcov.json.gz"):
            for entry in json.loads(gzip.decompress(report.read_bytes()))["files"]:
                path = (build / entry["file"]).resolve()
                if not path.is_relative_to(source) or path.name.endswith("_test.c"):
                    continue
                name = str(path.relative_to(source))
                for line in entry["lines"]:
                    number = line["line_number"]
                    lines[name][number] = lines[name].get(number, False) or line["count"] > 0
    return lines


def main() -> int:
    build, minimum = Path(sys.argv[1]).resolve(), float(sys.argv[2])
    lines = gcov_lines(build, Path("src").resolve())
    rows = sorted((100 * sum(v.values()) / len(v), sum(v.values()), len(v), k)
                  for k, v in lines.items() if v)
    covered, total = sum(r[1] for r in rows), sum(r[2] for r in rows)
    percent = 100 * covered / max(total, 1)
    text = "".join(f"{r[0]:6.1f} %  {r[1]:5} of {r[2]:5}  {r[3]}\n" for r in rows)
    text += f"{percent:6.1f} %  {covered:5} of {total:5}  src/\n"
    (build / "coverage.txt").write_text(text)
    print(text)
    return 0 if percent >= minimum else 1


if __name__ == "__main__":
    sys.exit(main())
