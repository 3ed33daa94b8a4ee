# Sourced by the scripts in this directory: paths, a server for each script, and checks of output.

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
        echo "--- log of the server:" >&2
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

# serve [--demo | --data DIR]: starts a server on a free port and sets `$address`.
serve() {
    [ -x "$cable" ] || die "$cable is missing: run cargo build --bin cable"
    TMPDIR=$scratch "$cable" serve "$@" --listen 127.0.0.1:0 --ops-listen off >"$scratch/server" 2>&1 &
    server=$!
    for _ in $(seq 300); do
        address=$(grep -oE '127\.0\.0\.1:[0-9]+' "$scratch/server" | head -n 1 || true)
        [ -z "$address" ] || return 0
        kill -0 "$server" 2>/dev/null || die "the server ended"
        sleep 0.1
    done
    die "the server logged no address within 30 s"
}

# run_shown COMMAND...: runs a command and prints its output, also to $scratch/out. Sets `$code` to its exit status.
run_shown() {
    echo
    echo "\$ $(basename "$1")$(quoted "${@:2}")"
    code=0
    timeout 120 "$@" >"$scratch/out" 2>&1 || code=$?
    cat "$scratch/out"
}

# Prints arguments, quoted for a shell.
quoted() {
    local argument
    for argument; do
        [[ $argument =~ ^[A-Za-z0-9_./:=-]+$ ]] && printf ' %s' "$argument" || printf " '%s'" "$argument"
    done
}

# expect PATTERN...: the last command succeeded, and its output matches each pattern.
expect() {
    [ "$code" -eq 0 ] || die "exit status $code"
    expect_output "$@"
}

# expect_output PATTERN...: the last output matches each pattern.
expect_output() {
    for pattern in "$@"; do
        grep -qE -e "$pattern" "$scratch/out" || die "no match of '$pattern' in the output above"
    done
}

# expect_lines COUNT PATTERN: this number of lines of the last output match.
expect_lines() {
    found=$(grep -cE -e "$2" "$scratch/out" || true)
    [ "$found" -eq "$1" ] || die "$found lines match '$2' in the output above, expected $1"
}

# go_tool NAME MODULE@VERSION: builds a program once and sets `$tool` to its path.
go_tool() {
    local bin=$tools/$1-${2##*@}
    tool=$bin/$1
    [ -x "$tool" ] || GOBIN=$bin go install "$2" || die "cannot install $2"
}

# venv: creates a Python environment for the clients here and sets `$python` to its interpreter.
venv() {
    local home=$target/clients/venv requirements=$root/tests/clients/python/requirements.txt
    python=$home/bin/python
    cmp -s "$requirements" "$home/installed.txt" && return 0
    python3 -m venv "$home" || die "cannot create a Python environment (is python3-venv installed?)"
    "$python" -m pip install --quiet --disable-pip-version-check -r "$requirements" || die "cannot install $requirements"
    cp "$requirements" "$home/installed.txt"
}

# generate: generates Python code from proto/ in $PYTHONPATH.
generate() {
    export PYTHONPATH=$target/clients/gen
    mkdir -p "$PYTHONPATH"
    "$python" -m grpc_tools.protoc -I "$root/proto" --python_out="$PYTHONPATH" --grpc_python_out="$PYTHONPATH" \
        "$root"/proto/cable/v1/*.proto
}
