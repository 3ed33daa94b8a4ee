#!/usr/bin/env bash
# The examples of the client crate, against a real server: those in its documents, and the one in a file.
set -euo pipefail
source "$(dirname "$0")/lib.sh"

cd "$root"
serve --demo
export CABLE_ENDPOINTS=http://$address
# The same build as that of the tests, so that no dependency is built again with other features.
cargo build --quiet --workspace --all-targets
code=0
timeout 600 cargo test --workspace --doc >"$scratch/out" 2>&1 || code=$?
cat "$scratch/out"
[ "$code" -eq 0 ] || die "an example in the documents failed"
run_shown "$target/debug/examples/five_minutes"
[ "$code" -eq 0 ] || die "the example failed"
