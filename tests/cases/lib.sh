# Sourced by the scripts beside it: BIN and PORT, fresh stores in a temporary directory, one verdict a line.
set -u
BIN=$(command -v "${1:?usage: $0 BIN PORT}") || { echo "no such binary: $1" >&2; exit 125; }
BIN=$(realpath "$BIN")
PORT=${2:?usage: $0 BIN PORT}
command -v python3 >/dev/null || { echo "python3 is needed" >&2; exit 125; }
cd "$(dirname "${BASH_SOURCE[0]}")" || exit 125
TMP=$(mktemp -d)
NODE=
FAILED=0
DATA=$TMP/none
export CABLE_ENDPOINTS=http://127.0.0.1:$PORT NO_COLOR=1
trap 'stop KILL; rm -rf "$TMP"' EXIT
trap 'exit 125' INT TERM

# serve DIR: a node on that store; returns when it answers. Its log is $TMP/log, its process $NODE.
serve() {
    DATA=$1
    "$BIN" serve --data "$DATA" --listen "127.0.0.1:$PORT" --ops-listen off >"$TMP/log" 2>&1 &
    NODE=$!
    for _ in $(seq 100); do
        "$BIN" status >/dev/null 2>&1 && return
        kill -0 "$NODE" 2>/dev/null || break
        sleep 0.05
    done
    echo "the node on $DATA does not answer:" >&2
    tail -3 "$TMP/log" >&2
    return 1
}

# stop [SIGNAL]: ends the node and waits for it.
stop() {
    [ -n "$NODE" ] || return 0
    kill -"${1:-TERM}" "$NODE" 2>/dev/null
    wait "$NODE" 2>/dev/null
    NODE=
}

# fresh: an empty store.
fresh() {
    stop KILL
    serve "$(mktemp -d "$TMP/store-XXXX")/s"
}

put() { printf '%s' "$1" | "$BIN" article put - "${@:2}"; }
wxr() { "$BIN" import wxr "$@" 2>&1; }
by_path() { "$BIN" article get --path "$1" -o id 2>&1 | head -1; }
ids() { "$BIN" article ls -o id | sort | paste -sd' '; }
headlines() { "$BIN" article ls -o jsonl | pick '", ".join(d["headline"] for d in lines)'; }
web() { python3 -B grpcweb.py "$PORT" "$@"; }
# terminal COMMAND: what it writes to a terminal.
terminal() { script -qec "$1" /dev/null </dev/null | tr -d '\r'; }

# pick EXPRESSION: of JSON on standard input; `d` is the first value, `lines` are all. Empty where there is none.
pick() {
    python3 -c '
import json, sys
lines, text, at = [], sys.stdin.read(), 0
try:
    while text[at:].strip():
        at += len(text[at:]) - len(text[at:].lstrip())
        value, at = json.JSONDecoder().raw_decode(text, at)
        lines.append(value)
    d = lines[0] if lines else {}
    print(eval(sys.argv[1]))
except (KeyError, ValueError, IndexError, TypeError) as error:
    print("")
' "$1"
}

# verdict ID SAW RIGHT COMMAND...: PASS if the command succeeds.
verdict() {
    local id=$1 saw right=$3 word=PASS
    saw=$(printf '%s' "${2//$TMP/...}" | tr '\n' ' ' | cat -v | cut -c1-150)
    shift 3
    "$@" >/dev/null 2>&1 || { word=FAIL; FAILED=$((FAILED + 1)); }
    printf '%-5s %s  saw: %s | right: %s\n' "$id" "$word" "${saw:-nothing}" "$right"
}
skipped() { printf '%-5s SKIP  %s\n' "$1" "$2"; }
has() { [[ $1 == *"$2"* ]]; }
lacks() { [[ $1 != *"$2"* ]]; }
finish() { stop KILL; echo "$FAILED failed, ${SECONDS} s"; exit "$FAILED"; }
