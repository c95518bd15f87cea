#!/usr/bin/env bash
# tests/lint.sh - what ./dev lint does: formatting, sizes, static analysis.  No output is good news.
set -uo pipefail
cd "$(dirname "$0")/.." || exit
bad=0
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

complain() {
    printf '%s\n' "$*"
    bad=1
}

mapfile -t sources < <(git ls-files 'src/*.[ch]' 'include/*.h' 'tests/*.[ch]' 'bench/*.[ch]' 'bindings/*.[ch]')
mapfile -t others < <(git ls-files '*.comp' '*.glsl' '*.java' 'bindings/*.py' 'tests/*.py' 'tests/*.sh' dev)
clang-format --dry-run -Werror "${sources[@]}" || complain "run: clang-format -i on the files above"

for f in "${sources[@]}" "${others[@]}"; do
    lines=$(wc -l <"$f")
    [ "$lines" -le 800 ] || complain "$f: $lines lines; 800 at most"
done
mapfile -t tabs < <(grep -nP '\t' "${sources[@]}" "${others[@]}" | head)
[ ${#tabs[@]} -eq 0 ] || complain "tabs: ${tabs[*]}"
grep -nE '\b(TODO|FIXME|XXX|HACK)\b' "${sources[@]}" "${others[@]}" | grep -v '^tests/lint.sh:' && complain "unfinished work: write it down in docs/"
python3 tests/function_length.py 60 "${sources[@]}" || complain "functions of more than 60 lines"

mapfile -t scripts < <(git ls-files 'tests/*.sh')
shellcheck dev .ci/run "${scripts[@]}" || complain "shellcheck"

mapfile -t python < <(git ls-files 'bindings/*.py' 'tests/*.py' 'bench/*.py')
PYTHONPYCACHEPREFIX=$scratch python3 -W error -m py_compile "${python[@]}" || complain "python"
if command -v javac >/dev/null; then
    mapfile -t java < <(git ls-files '*.java')
    javac -Xlint:all -Werror -d "$scratch" "${java[@]}" || complain "java"
fi

tests/lint-workflows.sh || complain "workflows"

cmake --preset clang >/dev/null && cmake --build build/clang >/dev/null
# Whatever that build compiles: bindings/jni needs a JDK, tests/vulkan/memory.c is built by its test.
mapfile -t tidy < <(git ls-files 'src/*.c' 'bindings/*.c' 'tests/vulkan/*.c' |
    grep -vE '_(test|avx2|avxvnni|avx512|neon)\.c$|_darwin\.c$' |
    while read -r f; do grep -q "/$f\"" build/clang/compile_commands.json && echo "$f"; done)
printf '%s\n' "${tidy[@]}" | xargs -P "$(nproc)" -n 8 clang-tidy --quiet -p build/clang 2>/dev/null ||
    complain "clang-tidy"
exit "$bad"
