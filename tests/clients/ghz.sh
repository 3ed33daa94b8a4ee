#!/usr/bin/env bash
# Runs each configuration of bench/ghz/ against the demo: all calls must return OK. The figures are those of a debug build.
set -euo pipefail
source "$(dirname "$0")/lib.sh"

go_tool ghz github.com/bojand/ghz/cmd/ghz@v0.121.0
serve --demo

for config in "$root"/bench/ghz/*.json; do
    echo
    echo "\$ ghz --config ${config#"$root"/}"
    timeout 120 "$tool" --config "$config" --format json --output "$scratch/run.json" "$address" ||
        die "ghz failed with exit status $?"
    python3 "$root/tests/clients/ghz_check.py" "$config" "$scratch/run.json"
done
