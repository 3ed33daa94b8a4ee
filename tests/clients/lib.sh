# Sourced by the scripts beside it: where things are, a server of their own, and what they expect of an output.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
cable=${CABLE_BIN:-$target/debug/cable}
tools=$target/tools
scratch=$(mktemp -d)
server=

finish() {
    status=$?
    if [ -n "$server" ]; then
        kill "$server" 2>/dev/null || true
        wait "$server" 2>/dev/null || true
    fi
    if [ "$status" -ne 0 ] && [ -e "$scratch/server" ]; then
        echo "--- what the server said:" >&2
        tail -n 20 "$scratch/server" >&2
    fi
    rm -rf "$scratch"
    exit "$status"
}
trap finish EXIT

die() {
    echo "FAILED: $*" >&2
    exit 1
}

# serve [--demo | --data DIR]: starts a server on a free port; `$address` is where it is.
serve() {
    [ -x "$cable" ] || die "$cable is not there: cargo build --bin cable"
    TMPDIR=$scratch "$cable" serve "$@" --listen 127.0.0.1:0 --ops-listen off >"$scratch/server" 2>&1 &
    server=$!
    for _ in $(seq 300); do
        address=$(grep -oE '127\.0\.0\.1:[0-9]+' "$scratch/server" | head -n 1 || true)
        [ -z "$address" ] || return 0
        kill -0 "$server" 2>/dev/null || die "the server ended"
        sleep 0.1
    done
    die "the server says no address within 30 s"
}

# shown COMMAND...: runs it, prints what it says and keeps that in $scratch/out. Its exit status is in `$code`.
shown() {
    echo
    echo "\$ $(basename "$1")$(quoted "${@:2}")"
    code=0
    timeout 120 "$@" >"$scratch/out" 2>&1 || code=$?
    cat "$scratch/out"
}

# The arguments as one would type them.
quoted() {
    local argument
    for argument; do
        [[ $argument =~ ^[A-Za-z0-9_./:=-]+$ ]] && printf ' %s' "$argument" || printf " '%s'" "$argument"
    done
}

# has PATTERN...: each is somewhere in the last output, which came of a call that went well.
has() {
    [ "$code" -eq 0 ] || die "exit status $code"
    holds "$@"
}

holds() {
    for pattern in "$@"; do
        grep -qE -e "$pattern" "$scratch/out" || die "no '$pattern' in the output above"
    done
}

# times COUNT PATTERN: so many lines of the last output have it.
times() {
    found=$(grep -cE -e "$2" "$scratch/out" || true)
    [ "$found" -eq "$1" ] || die "$found lines with '$2' in the output above, expected $1"
}

# go_tool NAME MODULE@VERSION: builds it once; `$tool` is where it is.
go_tool() {
    local bin=$tools/$1-${2##*@}
    tool=$bin/$1
    [ -x "$tool" ] || GOBIN=$bin go install "$2" || die "cannot install $2"
}

# venv: a Python environment with what the clients here need; `$python` is its interpreter.
venv() {
    local home=$target/clients/venv wanted=$root/tests/clients/python/requirements.txt
    python=$home/bin/python
    cmp -s "$wanted" "$home/installed.txt" && return 0
    python3 -m venv "$home" || die "cannot make a Python environment (python3-venv?)"
    "$python" -m pip install --quiet --disable-pip-version-check -r "$wanted" || die "cannot install $wanted"
    cp "$wanted" "$home/installed.txt"
}

# generate: code from proto/ for Python, in $PYTHONPATH.
generate() {
    export PYTHONPATH=$target/clients/gen
    mkdir -p "$PYTHONPATH"
    "$python" -m grpc_tools.protoc -I "$root/proto" --python_out="$PYTHONPATH" --grpc_python_out="$PYTHONPATH" \
        "$root"/proto/cable/v1/*.proto
}
