#!/usr/bin/env bash
# tests/lint.sh - what ./dev lint does: formatting, sizes, static analysis.  No output is good news.
set -uo pipefail
cd "$(dirname "$0")/.." || exit
bad=0

complain() {
    printf '%s\n' "$*"
    bad=1
}

mapfile -t sources < <(git ls-files 'src/*.[ch]' 'include/*.h' 'tests/*.[ch]' 'bench/*.[ch]')
clang-format --dry-run -Werror "${sources[@]}" || complain "run: clang-format -i on the files above"

for f in "${sources[@]}"; do
    lines=$(wc -l <"$f")
    [ "$lines" -le 800 ] || complain "$f: $lines lines; 800 at most"
done
mapfile -t tabs < <(grep -nP '\t' "${sources[@]}" | head)
[ ${#tabs[@]} -eq 0 ] || complain "tabs: ${tabs[*]}"
grep -nE '\b(TODO|FIXME|XXX|HACK)\b' "${sources[@]}" && complain "unfinished work: write it down in docs/"
python3 tests/function_length.py 60 "${sources[@]}" || complain "functions of more than 60 lines"

shellcheck dev .ci/run tests/*.sh tests/neon/*.sh || complain "shellcheck"

tests/lint-workflows.sh || complain "workflows"

cmake --preset clang >/dev/null && cmake --build build/clang >/dev/null
mapfile -t tidy < <(git ls-files 'src/*.c' | grep -vE '_(test|avx2|avx512|neon)\.c$|_darwin\.c$')
printf '%s\n' "${tidy[@]}" | xargs -P "$(nproc)" -n 8 clang-tidy --quiet -p build/clang 2>/dev/null ||
    complain "clang-tidy"
exit "$bad"
