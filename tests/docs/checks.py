"""The documents whose commands CI runs, and checks of the blocks in them that are not commands."""

import ast
import json
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import textwrap
import tomllib

# In this order, in one checkout: README.md builds the program, and docs/typescript.md the package that later ones use.
DOCUMENTS = [
    "README.md",
    "CONTRIBUTING.md",
    "docs/typescript.md",
    "docs/go.md",
    "docs/python.md",
    "docs/java.md",
    "docs/clients.md",
    "docs/http.md",
    "docs/front-end.md",
    "docs/publishing.md",
    "docs/feeds.md",
    "docs/data-model.md",
    "docs/importing.md",
    "docs/wordpress.md",
    "docs/restoring.md",
    "docs/security.md",
    "docs/observability.md",
    "docs/operations.md",
    "crates/cable-client/README.md",
    "sdk/go/README.md",
    "sdk/python/README.md",
    "sdk/typescript/README.md",
    "sdk/conformance/README.md",
    "web/README.md",
]

# Documents without a block that a reader types. A page that gets one moves to DOCUMENTS.
WITHOUT_COMMANDS = [
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "crates/cable-proto/README.md",
    "docs/README.md",
    "docs/connections.md",
    "docs/kills.md",
    "docs/performance.md",
    "docs/reliability.md",
    "docs/runbook.md",
    "docs/schema-coverage.md",
    "docs/upgrading.md",
]

# Markdown that is no document of a reader: generated, or content for tests.
NO_DOCUMENTS = re.compile(r"docs/reference/|bench/results/|fuzz/corpus/|crates/cable-import/tests/|demo/")

# Documents whose blocks of Rust are the documentation of a crate: `cargo test` compiles and runs them.
RUSTDOC = {"crates/cable-client/README.md": "crates/cable-client/src/lib.rs"}

# Programs that a reader types in a shell.
TYPED = re.compile(
    r"\s*(?:\$ |sudo |(?:cable|cargo|curl|docker|ghz|go|grpcurl|helm|install|java|journalctl|kubectl|mvn|node|npm|npx|openssl"
    r"|pip3?|python3?|rsync|systemctl)\s+[-\w./])"
)


class Invalid(Exception):
    """A block is not valid in its language."""


def check(block, document, clone):
    """Checks a block that is not a command."""
    language = block.language.split(",")[0]
    if document in RUSTDOC and language in ("", "rust", "no_run"):
        if 'include_str!("../README.md")' not in (clone / RUSTDOC[document]).read_text(encoding="utf-8"):
            raise Invalid(f"{RUSTDOC[document]} does not include {document}: no test compiles its blocks")
        return
    if language not in CHECKS and not block.not_run:
        raise Invalid(f"a block of the language `{block.language}` can be neither run nor checked")
    if language in CHECKS:
        CHECKS[language](block.text, clone)


def check_text(text, _clone):
    typed = [line for line in text.splitlines() if TYPED.match(line)]
    if typed:
        raise Invalid(f"a command in a block that is not `sh` or `console`: {typed[0].strip()}")


def check_json(text, _clone):
    """One or more JSON values, one after the other."""
    decoder, rest = json.JSONDecoder(), text.strip()
    while rest:
        try:
            _, end = decoder.raw_decode(rest)
        except json.JSONDecodeError as error:
            raise Invalid(f"not JSON: {error}") from None
        rest = rest[end:].lstrip()


def check_toml(text, clone):
    """A file of settings must be accepted by the program; a file of another kind has no table."""
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise Invalid(f"not TOML: {error}") from None
    if not re.search(r"^\[", text, re.MULTILINE):
        return
    with tempfile.TemporaryDirectory() as directory:
        file = pathlib.Path(directory, "cable.toml")
        file.write_text(text, encoding="utf-8")
        ended = run(["cable", "config", "check", "--config", file], clone)
    # Of a feature that the build that CI has does not contain, the setting is known. The files that settings name are not
    # here: without them, the code is 1.
    if ended.returncode not in (0, 1) and "was built with the feature" not in ended.stderr:
        raise Invalid(f"`cable config check` refuses it: {ended.stderr.strip()}")


def check_yaml(text, _clone):
    """Only the form of a block: a command reads the file."""
    for line in text.splitlines():
        if "\t" in line or not re.match(r"\s*(?:#.*|(?:- )?[\w.-]+:(?: .*)?|- .*)?$", line):
            raise Invalid(f"not YAML of the simple kind: {line}")


def check_python(text, _clone):
    """A module, or statements of an asynchronous function."""
    try:
        ast.parse("async def block():\n" + textwrap.indent(text, "    "))
    except SyntaxError as error:
        raise Invalid(f"not Python: {error}") from None


def check_go(text, clone):
    """A file, declarations or statements."""
    ended = run(["gofmt", "-d"], clone, text)
    if ended.returncode:
        raise Invalid(f"not Go: {ended.stderr.strip()}")
    if ended.stdout:
        raise Invalid(f"gofmt would change it:\n{ended.stdout}")


SCRIPT = """
const [directory, name] = process.argv.slice(1);
const ts = require(directory + "/node_modules/typescript");
const text = require("fs").readFileSync(0, "utf8");
const compilerOptions = { allowJs: true, module: ts.ModuleKind.ESNext, target: ts.ScriptTarget.ESNext };
const { diagnostics } = ts.transpileModule(text, { fileName: name, reportDiagnostics: true, compilerOptions });
for (const { messageText } of diagnostics) console.error(ts.flattenDiagnosticMessageText(messageText, " "));
process.exitCode = diagnostics.length;
"""


def check_typescript(text, clone, name="block.ts"):
    package = clone / "sdk/typescript"
    if not (package / "node_modules/typescript").exists():
        installed = run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], package)
        if installed.returncode:
            raise Invalid(f"npm ci failed in {package}: {installed.stderr.strip()}")
    ended = run(["node", "-e", SCRIPT, "--", str(package), name], clone, text)
    if ended.returncode:
        raise Invalid(f"not a script: {ended.stderr.strip()}")


def check_javascript(text, clone):
    check_typescript(text, clone, "block.js")


def check_nginx(text, clone):
    """A part of the block `http`. Its directories and its port are replaced, so that the check needs no rights."""
    with tempfile.TemporaryDirectory() as directory:
        text = text.replace("/var/cache/nginx", directory).replace("listen 80;", f"listen unix:{directory}/socket;")
        file = pathlib.Path(directory, "nginx.conf")
        file.write_text(f"pid {directory}/pid;\nevents {{}}\nhttp {{\naccess_log off;\n{text}}}\n", encoding="utf-8")
        ended = run(["nginx", "-t", "-q", "-e", "stderr", "-p", directory, "-c", file], clone)
    if ended.returncode:
        raise Invalid(f"nginx refuses it: {ended.stderr.strip()}")


def check_vcl(text, clone):
    """Varnish compiles it to C, as a user without rights."""
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        os.chmod(directory, 0o755)
        file = pathlib.Path(directory, "cable.vcl")
        file.write_text(text, encoding="utf-8")
        ended = run(["varnishd", "-C", "-f", file], clone)
    if ended.returncode:
        raise Invalid(f"Varnish refuses it: {ended.stderr.strip()[-2000:]}")


def run(command, directory, text=None):
    """Runs a checker. One that is missing is an error: the block would be unchecked."""
    path = None
    if command[0] in ("nginx", "varnishd"):
        path = shutil.which(command[0], path="/usr/sbin:/sbin")
    if not (path or shutil.which(command[0])):
        raise Invalid(f"`{command[0]}` is missing, which checks this block")
    # Varnish works without rights, and cannot enter a directory that is private to this user.
    environment = os.environ | {"TMPDIR": "/tmp"}
    command = [path or command[0], *map(str, command[1:])]
    return subprocess.run(command, cwd=directory, input=text, capture_output=True, text=True, timeout=600, env=environment)


CHECKS = {
    "": check_text,
    "text": check_text,
    "json": check_json,
    "toml": check_toml,
    "yaml": check_yaml,
    "python": check_python,
    "go": check_go,
    "ts": check_typescript,
    "js": check_javascript,
    "nginx": check_nginx,
    "vcl": check_vcl,
}
