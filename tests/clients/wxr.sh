#!/usr/bin/env bash
# Imports WordPress's own test data twice into an empty store and holds the outcome against the file.
set -euo pipefail
source "$(dirname "$0")/lib.sh"

file=${CABLE_WXR:-$root/../shared/data/wordpress-theme-unit-test.xml}
if [ ! -e "$file" ]; then
    [ "${CI:-}" != true ] || die "$file is not there (CABLE_WXR names another place)"
    echo "SKIPPED: $file is not there (CABLE_WXR names another place)" >&2
    exit 0
fi

venv
generate
serve --data "$scratch/data"
for run in 1 2; do
    shown "$cable" import wxr "$file" --endpoint "http://$address"
    has '^all [0-9]+ items ' '^articles '
    cp "$scratch/out" "$scratch/report$run"
    "$cable" status --endpoint "http://$address" -o json >"$scratch/status$run"
done
shown "$python" "$root/tests/clients/wxr/check.py" "$file" "$address" \
    "$scratch/report1" "$scratch/status1" "$scratch/report2" "$scratch/status2"
has ' other items cannot be read$'
