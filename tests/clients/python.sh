#!/usr/bin/env bash
# A Python client, with code that grpcio-tools makes of the schema.
set -euo pipefail
source "$(dirname "$0")/lib.sh"

venv
generate
serve --demo
shown "$python" "$root/tests/clients/python/newsroom.py" "$address"
has '^read back: '
