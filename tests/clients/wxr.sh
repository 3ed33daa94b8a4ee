#!/usr/bin/env bash
# Imports WordPress's own test data twice into an empty store and checks the result against the file.
set -euo pipefail
source "$(dirname "$0")/lib.sh"

file=${CABLE_WXR:-$root/../shared/data/wordpress-theme-unit-test.xml}
if [ ! -e "$file" ]; then
    [ "${CI:-}" != true ] || die "$file is missing (set CABLE_WXR to another path)"
    echo "SKIPPED: $file is missing (set CABLE_WXR to another path)" >&2
    exit 0
fi

venv
generate
serve --data "$scratch/data"
for run in 1 2; do
    run_shown "$cable" import wxr "$file" --endpoint "http://$address"
    expect '^all [0-9]+ items ' '^articles '
    cp "$scratch/out" "$scratch/report$run"
    "$cable" status --endpoint "http://$address" -o json >"$scratch/status$run"
done
run_shown "$python" "$root/tests/clients/wxr/check.py" "$file" "$address" \
    "$scratch/report1" "$scratch/status1" "$scratch/report2" "$scratch/status2"
expect ' other items cannot be read$'
