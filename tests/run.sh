#!/usr/bin/env bash
# tests/run.sh - what ./dev test does.  Every step counts; the last line is "N passed, N failed".
#
#   --quick       unit, fuzz corpus and integration tests of one build
#   --label L     the tests of the test build with CTest label L (unit, vulkan, sim, fuzz, integration, oracle, neon)
#   --coverage    line coverage of src/ by all tests; fails under 80 %
set -uo pipefail
cd "$(dirname "$0")/.." || exit

jobs=$(nproc)
passed=0
failed=0
skipped=0
broken=()

# Counts one step that has no runner of its own: step NAME command...
step() {
    local name=$1 log
    shift
    log=$(mktemp)
    printf '== %s\n' "$name"
    if "$@" >"$log" 2>&1; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        broken+=("$name")
        tail -n 60 "$log"
    fi
    rm -f "$log"
}

# shellcheck disable=SC2317 # called through step
preset() {
    cmake --preset "$1" && cmake --build "$2" -j "$jobs"
}

# Builds the programs that CTest will run and none that it won't: programs_of PRESET DIR options of CTest.
# shellcheck disable=SC2317 # called through step
programs_of() {
    local name=$1 dir=$2 targets
    shift 2
    cmake --preset "$name" || return
    mapfile -t targets < <(ctest --test-dir "$dir" -N "$@" | awk -v dir="$PWD/$dir/" '
        NR == FNR { if (/ Test +#[0-9]+:/) chosen[$NF] = 1; next }
        !/^add_test\(/ { next }
        { split($0, part, "\""); name = $1; gsub(/^add_test\(|[][=]/, "", name) }
        name in chosen && index(part[2], dir) == 1 { print substr(part[2], length(dir) + 1) }
        ' - "$dir/CTestTestfile.cmake" | sort -u)
    [ ${#targets[@]} -gt 0 ] && cmake --build "$dir" -j "$jobs" --target "${targets[@]}"
}

# What the tests of CTest's last run in a build left out, and for the lack of what: CTest itself
# shows no output of a test that it counts as skipped.
what_was_lacking() {
    awk '/^[0-9]+\/[0-9]+ Testing: / { name = $3 }
        /(^|[^a-z])skipped: |^SKIPPED \[/ { print "   " name ": " $0 }' \
        "$1/Testing/Temporary/LastTest.log" | sort -u
}

# Runs CTest in a build and adds its counts: run_ctest NAME DIR options...
# One test more than there are cores, since many of them wait for something.
run_ctest() {
    local name=$1 dir=$2 log total lost left_out
    shift 2
    log=$(mktemp)
    printf '== tests: %s\n' "$name"
    ctest --test-dir "$dir" --output-on-failure --no-tests=error -j $((jobs + 1)) "$@" 2>&1 | tee "$log" |
        grep -vE '^ *(Start|Test project|Internal ctest)' || true
    total=$(grep -oE 'tests failed out of [0-9]+' "$log" | grep -oE '[0-9]+$')
    lost=$(grep -oE '[0-9]+ tests failed out of' "$log" | grep -oE '^[0-9]+')
    left_out=$(grep -cF '***Skipped' "$log")
    if [ -z "$total" ]; then
        failed=$((failed + 1))
        broken+=("$name")
    else
        passed=$((passed + total - lost - left_out))
        skipped=$((skipped + left_out))
        failed=$((failed + lost))
        [ "$lost" = 0 ] || broken+=("$name")
        what_was_lacking "$dir"
    fi
    rm -f "$log"
}

finish() {
    local b
    for b in "${broken[@]}"; do printf 'failed: %s\n' "$b"; done
    [ "$skipped" = 0 ] || printf '%d skipped: each says above what it lacks\n' "$skipped"
    printf '%d passed, %d failed\n' "$passed" "$failed"
    [ "$failed" = 0 ]
    exit
}

coverage() {
    step "build with coverage" preset coverage build/coverage
    find build/coverage -name '*.gcda' -delete
    EXO=$PWD/build/coverage/exo run_ctest "all, instrumented" build/coverage
    step "line coverage of src/ is 80 % or more" python3 tests/coverage.py build/coverage 80
    cat build/coverage/coverage.txt
    finish
}

label=
quick=false
while [ $# -gt 0 ]; do
    case $1 in
    --quick) quick=true ;;
    --coverage) coverage ;;
    --label)
        label=$2
        shift
        ;;
    *)
        echo "tests/run.sh: unknown option $1" >&2
        exit 2
        ;;
    esac
    shift
done

step "release build (gcc)" preset release build
step "test build (gcc)" preset test build/test
if [ -n "$label" ]; then
    run_ctest "label $label" build/test -L "$label"
    finish
fi
run_ctest "all" build/test
$quick && finish

sanitized=(-L 'unit|fuzz' -E '^spirv$|_(kernels|plan|plan_head)_test_swiftshader$')
step "build with address and undefined-behaviour sanitizers" programs_of asan build/asan "${sanitized[@]}"
echo "   left out: SwiftShader's kernels and plans (lavapipe's run, and the host's code is the same); spirv"
run_ctest "unit and fuzz corpus, sanitized" build/asan "${sanitized[@]}"
threads=(-R '^(base|net|node)_|^compute_(pool|experts|device)_|^engine_(seat|session|scheduler)_test|^api_http')
step "build with thread sanitizer" programs_of tsan build/tsan "${threads[@]}"
run_ctest "threads, sanitized" build/tsan "${threads[@]}"
step "build with clang, warnings as errors" preset clang build/clang
step "phone profile: every optional part off" preset phone build/phone
finish
