#!/usr/bin/env python3
"""Runs the commands of the documents as a reader types them, in a fresh clone of this repository.

    tests/docs/run.py [DOCUMENT...]       the documents of DOCUMENTS in checks.py, unless some are named
    tests/docs/run.py --here DOCUMENT...  in this checkout as it is, built or not; it must have no changes
    tests/docs/run.py --program target/debug/cable --clone DIR DOCUMENT...
                                          to try a document: in a clone that stays, with a program that is built

Each `console` and `sh` block is run command by command, in order, on a terminal. Output that a document shows must be
that of the command, except for numbers, times and ids; `...` represents omitted output. A comment `(exit code N)`
states the exit code. A block after a line `*Not run in CI: REASON.*` is only parsed. Blocks in other languages are
checked: checks.py. A block that can be neither run nor checked fails the run.

The paragraph above a block directs the reader:

- "in a second terminal" changes to another terminal, which starts in the clone; "in the second terminal" returns to it.
  With "in the same directory" it starts where the last command was. "Another" and "new" ones have no name.
- "Save this as `NAME`" writes the block to a file.
- "Interrupt the follower" and "Interrupt the server" end what runs in the background.

Servers and commands that watch run in the background; what watches, until its section ends. The documents use the
default ports, 7190 and 7191, which must be free. A checkout that is a fresh clone itself, with nothing changed and
nothing built, is used directly, so that everything is built once; files that the commands create there are removed.
"""

import argparse
import dataclasses
import fcntl
import os
import pathlib
import pty
import re
import select
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import time

import checks

ROOT = pathlib.Path(__file__).resolve().parents[2]
COMMANDS = ("console", "sh")
NOT_RUN = re.compile(r"\*Not run in CI: (.+)\.\*")
SERVER = re.compile(r"\bserve\b")
# What a demo, and any other node, print once they serve.
SERVES = re.compile(r"is served at|\bserving\b")
WATCHES = re.compile(
    r"cable feed watch(?! .*--until-caught-up)|cable mirror (?!.*--once)|FeedService/Watch|--example purge"
    r"|\bfollow(?:er)?\.(?:mjs|py)\b|\bgo run\b|follower\.Main\b|-m http\.server\b|^cargo run$",
    re.MULTILINE,
)

# What the paragraph above a block directs.
TERMINAL = re.compile(r"\b(first|second|third|fourth|another|new) terminal\b")
SAVE = re.compile(r"\b[Ss]ave (?:this|it|this program) as\s+`([^`]+)`")
INTERRUPT = re.compile(r"\bInterrupt (?:the|both) (follower|server|page|newsroom)s?\b")
HERE_DOCUMENT = re.compile(r"(?<!<)<<-?\s*(['\"]?)(\w+)\1")

# What cargo and the checks that run at the same time make in target/.
NOT_OF_DOCUMENTS = re.compile(
    r"debug|release|tmp|doc|package|dist|.*-musl|CACHEDIR.TAG|artifacts|ci|tools|clients|outside|sdk-go|syndication-\d+"
)

# Limit on a command that builds, on two cores: a release build takes ten minutes, all tests twenty.
BUILD_SECONDS = 2400
# Limit on every other command. The longest installs packages.
LIMIT_SECONDS = 300
# Limit on the expected output of a watching command, which takes far less.
WATCH_SECONDS = 60
# Time that a reader looks at a command that watches before it is interrupted.
READING_SECONDS = 2
# Limit on the first line of a command that watches, which may have to be compiled first.
FIRST_SECONDS = 180
# Limit on the shutdown of an interrupted background command.
END_SECONDS = 25


class Failure(Exception):
    """A document differs from the behaviour of the commands."""


class Command:
    """A command with the output that the document shows below it."""

    def __init__(self, text, line):
        self.text, self.line, self.shown = text, line, []

    @property
    def exit_code(self):
        match = re.search(r"\(exit code (\d+)\)", self.text)
        return int(match[1]) if match else 0

    @property
    def limit(self):
        """The longest time that it may take, in seconds."""
        return BUILD_SECONDS if re.search(r"\bcargo\b|deploy/build", self.text) else LIMIT_SECONDS

    @property
    def watches(self):
        return bool(WATCHES.search(self.text))

    @property
    def serves(self):
        return bool(SERVER.search(self.text)) and not self.watches


class Block:
    def __init__(self, language, line, lines, section, not_run, intro=""):
        self.language, self.line, self.lines = language, line, lines
        self.section, self.not_run, self.intro = section, not_run, intro

    @property
    def text(self):
        return "\n".join(self.lines) + "\n"


def blocks(text):
    """The fenced blocks of a Markdown text, each with its section, the paragraph above it, and the reason why it is not
    run, if there is one."""
    found, section, fence = [], "", None
    paragraph, intro, reason = [], "", None
    for number, line in enumerate(text.splitlines(), 1):
        is_fence, is_heading = line.startswith("```"), line.startswith("#")
        if fence is not None and not is_fence:
            fence.lines.append(line)
            continue
        if fence is not None:
            found.append(fence)
            fence, intro, reason = None, "", None
            continue
        if line.strip() and not is_fence and not is_heading:
            paragraph.append(line.strip())
            continue
        above, paragraph = " ".join(paragraph), []
        excuse = NOT_RUN.fullmatch(above)
        if excuse:
            reason = excuse[1]
        elif above:
            intro, reason = above, None
        if is_fence:
            fence = Block(line[3:].strip(), number, [], section, reason, intro)
        elif is_heading:
            section, intro, reason = line.lstrip("# "), "", None
    if fence is not None:
        raise Failure(f"line {fence.line}: the block has no end")
    return found


def commands(block):
    """The commands of a block. In `console` each has a prompt, and its output follows; in `sh` there is no output."""
    found = []
    for number, line in enumerate(block.lines, block.line + 1):
        text_of_command = line[2:] if line.startswith("$ ") else line if block.language == "sh" and line.strip() else None
        if found and not is_complete(found[-1].text):
            found[-1].text += "\n" + line
        elif text_of_command is not None:
            found.append(Command(text_of_command, number))
        elif found:
            found[-1].shown.append(line)
        elif line.strip():
            raise Failure(f"line {number}: output without a command")
    if not found:
        raise Failure(f"line {block.line}: a block without a command")
    return found


def is_complete(text):
    """Whether the command is complete, without another line."""
    here = HERE_DOCUMENT.search(text)
    if here:
        return here[2] in text.splitlines()[1:]
    try:
        shlex.split(text, comments=True)
    except ValueError:
        return False
    return not text.endswith(("\\", "|"))


VARIES = re.compile(
    r"\b[0-9a-f]{8}(?:-[0-9a-f]+)*\b|\b[0-9a-f]{32}\b"  # log ids, etags, UUIDs
    r"|\d[\d:T.,-]*\d(?:Z|\b)"  # times, sizes
    r"|[A-Za-z0-9+/_]{40,}=*"  # digests and tokens
    r"|\d+"
)
UNITS = ("ns", "us", "µs", "ms", "s")


def pattern(line):
    """A line of a transcript as a pattern: parts that vary between runs match any value."""
    parts = []
    for piece in re.split(r"(\s+)", line.strip()):
        if not piece.strip():
            parts.append(r"\s+" if piece else "")
            continue
        for cut in re.split(r"(\.\.\.)", piece):
            parts.append(".*" if cut == "..." else as_shown(cut))
    return re.compile("".join(parts))


def as_shown(text):
    if text in UNITS:
        return f"(?:{'|'.join(UNITS)})"
    found, at = "", 0
    for varies in VARIES.finditer(text):
        found += re.escape(text[at : varies.start()]) + r"[\w:.,+/=-]+"
        at = varies.end()
    return found + re.escape(text[at:])


def mismatch(shown, printed, may_continue=False):
    """The first line of a transcript that is missing in the output; None if all match."""
    shown = [line for line in shown if line.strip()]
    printed = [line.strip() for line in printed.splitlines() if line.strip()]
    # Indices of the output lines that may match next: more than one after a cut.
    indices, cut = {0}, False
    for line in shown:
        if line.strip() == "...":
            cut = True
            continue
        wanted = pattern(line)
        here = range(min(indices), len(printed)) if cut else sorted(indices)
        indices = {i + 1 for i in here if i < len(printed) and wanted.fullmatch(printed[i])}
        if not indices:
            return line
        cut = False
    if shown and not cut and not may_continue and len(printed) not in indices:
        return f"(unexpected further output: {printed[max(indices)]})"
    return None


class Terminal:
    """A command on a terminal of its own, with the environment that the commands before it set."""

    def __init__(self, command, state, directory):
        script = f'set -a; . {state}; cd "$PWD"\n{command.text}\ncode=$?; [ -n "$OF_WATCH" ] || export -p >{state}; exit $code'
        self.command, self.output, self.started = command, "", time.monotonic()
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 50, 200, 0, 0))
        os.set_blocking(ours, False)
        background = {"OF_WATCH": "1"} if command.watches or command.serves else {}
        self.process = subprocess.Popen(
            ["bash", "-c", script],
            cwd=directory,
            env=os.environ | {"TERM": "dumb", "COLUMNS": "200"} | background,
            stdin=subprocess.DEVNULL,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        self.ours = ours

    def read(self, seconds):
        """Reads output for up to this time. Returns whether the command may print more."""
        ready, _, _ = select.select([self.ours], [], [], seconds)
        try:
            piece = os.read(self.ours, 1 << 16) if ready else b""
        except OSError:
            return False
        self.output += piece.decode(errors="replace").replace("\r\n", "\n")
        return True

    def until(self, seen, seconds):
        """Reads until `seen` accepts the output. Returns whether it did in time."""
        end = time.monotonic() + seconds
        while not seen(self.output):
            if time.monotonic() > end or not self.read(0.1):
                return seen(self.output)
        return True

    def wait(self, seconds):
        """The exit code; None if it still ran after this time."""
        end = time.monotonic() + seconds
        self.until(lambda _: self.process.poll() is not None, seconds)
        try:
            # The terminal may be closed before the process has ended.
            code = self.process.wait(max(1, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.end()
            return None
        while select.select([self.ours], [], [], 0)[0] and self.read(0):
            pass
        return code

    def end(self):
        """Interrupts it, as ^C does, and waits. The signal is sent to the whole process group."""
        for sent in (signal.SIGINT, signal.SIGKILL):
            try:
                os.killpg(self.process.pid, sent)
                self.until(lambda _: self.process.poll() is not None, END_SECONDS)
            except ProcessLookupError:
                break
            if self.process.poll() is not None:
                break
        return self.process.wait()


@dataclasses.dataclass
class Row:
    """One line of the report."""

    document: str
    commands: int = 0
    checked: int = 0
    skipped: int = 0
    seconds: float = 0.0


class Reader:
    """A reader of one document."""

    def __init__(self, document, clone, scratch):
        self.document, self.clone, self.scratch = document, clone, scratch
        self.row = Row(document)
        self.terminals, self.opened = {}, 0
        self.state = self.open_terminal("first")
        self.servers, self.watchers, self.times = [], [], []

    def open_terminal(self, name, directory=None):
        """The file with the environment of a new terminal."""
        self.opened += 1
        state = self.scratch / f"terminal-{self.document.replace('/', '-')}-{self.opened}"
        state.write_text(f"export PWD={shlex.quote(str(directory or self.clone))}\n", encoding="utf-8")
        self.terminals[name] = state
        return state

    def directory(self):
        """Where the current terminal is."""
        shown = subprocess.run(["bash", "-c", f'. {self.state}; printf %s "$PWD"'], capture_output=True, text=True, check=True)
        return pathlib.Path(shown.stdout)

    def read(self):
        section, started = None, time.monotonic()
        before = self.built()
        try:
            for block in blocks((self.clone / self.document).read_text(encoding="utf-8")):
                if block.section != section:
                    self.end_watchers()
                    section = block.section
                self.follow(block.intro)
                self.run_block(block)
            self.end_watchers()
        finally:
            self.end_all()
            # The next run of this document in the same checkout starts as this one did.
            for path in self.built() - before:
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
            self.row.seconds = time.monotonic() - started

    def built(self):
        """The files and directories in target/ that neither cargo nor another check makes."""
        return {path for path in (self.clone / "target").glob("*") if not NOT_OF_DOCUMENTS.fullmatch(path.name)}

    def follow(self, intro):
        """Does what the paragraph above a block directs, except for what needs the block."""
        interrupted = INTERRUPT.search(intro)
        if interrupted:
            self.end_watchers()
            if interrupted[1] in ("server", "newsroom"):
                self.end_all()
        terminals = TERMINAL.findall(intro)
        if not terminals:
            return
        name = terminals[-1]
        same = "same directory" in intro
        if name in ("another", "new") or name not in self.terminals:
            self.state = self.open_terminal(name, self.directory() if same else None)
        else:
            self.state = self.terminals[name]

    def run_block(self, block):
        at = f"{self.document}:{block.line}"
        if block.not_run:
            print(f"not run: {at}: {block.not_run}", flush=True)
            self.row.skipped += 1
        if block.language in COMMANDS:
            try:
                found = commands(block)
            except Failure as failure:
                raise Failure(f"{self.document}: {failure}") from None
            for command in found:
                if block.not_run:
                    self.parse(command)
                else:
                    self.row.commands += 1
                    self.run(command)
            return
        save = SAVE.search(block.intro)
        try:
            checks.check(block, self.document, self.clone)
        except checks.Invalid as error:
            raise Failure(f"{at}: {error}") from None
        if save:
            (self.directory() / save[1]).parent.mkdir(parents=True, exist_ok=True)
            (self.directory() / save[1]).write_text(block.text, encoding="utf-8")
            print(f"{at}: saved as {save[1]}", flush=True)
        if not block.not_run:
            self.row.checked += 1

    def parse(self, command):
        """Parses a command that is not run, so that it can be typed at least."""
        parsed = subprocess.run(["bash", "-n"], input=command.text, capture_output=True, text=True)
        if parsed.returncode:
            raise Failure(f"{self.document}:{command.line}: {parsed.stderr.strip()}")

    def run(self, command):
        print(f"{self.document}:{command.line}: $ {command.text}", flush=True)
        terminal = Terminal(command, self.state, self.clone)
        if command.serves:
            self.servers.append(terminal)
            if not terminal.until(SERVES.search, command.limit):
                raise self.failure(terminal, "the server did not report that it serves")
        elif command.watches:
            self.watchers.append(terminal)
            # Gives the command time to start watching before the next one runs.
            shown = [line for line in command.shown if line.strip()][:1]
            if shown:
                terminal.until(lambda output: mismatch(shown, output, may_continue=True) is None, FIRST_SECONDS)
            else:
                terminal.until(lambda output: False, 2)
        else:
            try:
                self.ended(terminal, terminal.wait(command.limit))
            finally:
                if terminal.process.poll() is None:  # This program is to end.
                    terminal.end()
        elapsed = time.monotonic() - terminal.started
        self.times.append((elapsed, command.text.splitlines()[0]))

    def ended(self, terminal, code):
        wanted = terminal.command.exit_code
        if code is None:
            raise self.failure(terminal, f"still running after {terminal.command.limit} s")
        if code != wanted:
            raise self.failure(terminal, f"exit code {code}, expected {wanted}")
        line = mismatch(terminal.command.shown, terminal.output)
        if line is not None:
            raise self.failure(terminal, f"the output differs from the document: {line}")

    def end_watchers(self):
        """Interrupts each watching command once it has printed the output of the document."""
        while self.watchers:
            terminal = self.watchers.pop(0)
            shown = terminal.command.shown
            terminal.until(lambda output: mismatch(shown, output, may_continue=True) is None, WATCH_SECONDS)
            # No reader interrupts at once: a follower saves its position a moment after it has printed.
            terminal.until(lambda output: False, READING_SECONDS)
            ended_early = terminal.process.poll()
            terminal.end()
            line = mismatch(shown, terminal.output, may_continue=True)
            if line is not None:
                raise self.failure(terminal, f"the output differs from the document: {line}")
            if ended_early is not None:
                raise self.failure(terminal, f"ended early with exit code {ended_early}")

    def end_all(self):
        for running in self.watchers + self.servers:
            running.end()
        self.watchers, self.servers = [], []

    def failure(self, terminal, reason):
        output = "\n".join("    " + line for line in terminal.output.splitlines()[-60:])
        return Failure(f"{self.document}:{terminal.command.line}: {reason}\n  output:\n{output}")


def is_free(port):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def has_changes(clone):
    return bool(subprocess.run(["git", "status", "--porcelain"], cwd=clone, capture_output=True, check=True).stdout)


def is_fresh(clone):
    """Whether a checkout is a clean clone without a build."""
    built = any((clone / "target" / profile).exists() for profile in ("debug", "release"))
    return not has_changes(clone) and not built


def choose_clone(arguments, scratch):
    """The checkout in which the reader works."""
    if arguments.here:
        if has_changes(ROOT):
            sys.exit("FAILED: --here needs a checkout without changes: files that the commands create are removed")
        return ROOT
    if arguments.clone:
        clone = arguments.clone.resolve()
        if clone.exists():
            for command in (["fetch", "--quiet", str(ROOT), "HEAD"], ["reset", "--quiet", "--hard", "FETCH_HEAD"], ["clean", "-dfq"]):
                subprocess.run(["git", *command], cwd=clone, check=True)
            return clone
    elif is_fresh(ROOT):
        return ROOT
    else:
        clone = scratch / "cable"
    subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", str(ROOT), str(clone)], check=True)
    return clone


# In place of cargo, with --program: what builds or runs the program itself uses the one that is built.
CARGO = """#!/bin/sh
case "$*" in
"build" | "build --release" | "test --workspace") exit 0 ;;
"run --release -- "*) shift 3; exec {program} "$@" ;;
"run -- "*) shift 2; exec {program} "$@" ;;
esac
exec {cargo} "$@"
"""


def prepare(arguments, scratch):
    """The clone, and the environment of a reader who has followed the instructions of README.md."""
    clone = choose_clone(arguments, scratch)
    for name in [name for name in os.environ if name.startswith("CABLE_") or name == "CARGO_TARGET_DIR"]:
        del os.environ[name]
    # `cable` is ./target/release/cable, and `go install` puts its programs where the shell finds them.
    os.environ["GOBIN"] = str(scratch / "go")
    os.environ["TMPDIR"] = str(scratch)
    path = [str(clone / "target/release"), str(scratch / "go"), os.environ["PATH"]]
    if arguments.program:
        program, cargo = arguments.program.resolve(), shutil.which("cargo")
        for directory in (scratch / "bin", clone / "target/release"):
            directory.mkdir(parents=True, exist_ok=True)
        wrapper = scratch / "bin/cargo"
        wrapper.write_text(CARGO.format(program=shlex.quote(str(program)), cargo=shlex.quote(cargo)), encoding="utf-8")
        wrapper.chmod(0o755)
        (clone / "target/release/cable").unlink(missing_ok=True)
        (clone / "target/release/cable").symlink_to(program)
        path.insert(0, str(scratch / "bin"))
    os.environ["PATH"] = ":".join(path)
    return clone


def main():
    # What was started is ended then, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("documents", nargs="*", default=checks.DOCUMENTS)
    parser.add_argument("--here", action="store_true", help="in this checkout")
    parser.add_argument("--clone", type=pathlib.Path, help="in this clone, which is made or brought up to date, and stays")
    parser.add_argument("--program", type=pathlib.Path, help="instead of a release build")
    arguments = parser.parse_args()
    used_ports = [port for port in (7190, 7191) if not is_free(port)]
    if used_ports:
        sys.exit(f"FAILED: ports in use: {used_ports}; the documents use the default ports")
    with tempfile.TemporaryDirectory(prefix="cable-docs-", ignore_cleanup_errors=True) as scratch:
        scratch = pathlib.Path(scratch)
        clone = prepare(arguments, scratch)
        readers = [Reader(document, clone, scratch) for document in arguments.documents]
        try:
            for reader in readers:
                reader.read()
        except Failure as failure:
            sys.exit(f"FAILED: {failure}")
        finally:
            if clone == ROOT:
                subprocess.run(["git", "clean", "-dfq"], cwd=ROOT, check=True)
    report(readers)


def report(readers):
    for reader in readers:
        for elapsed, text in sorted(reader.times, reverse=True)[:3]:
            if elapsed >= 5:
                print(f"{elapsed:6.0f} s  {reader.document}: {text}")
    print(f"{'document':32} {'commands':>8} {'checked':>8} {'not run':>8} {'minutes':>8}")
    rows = [reader.row for reader in readers]
    for row in rows:
        print(f"{row.document:32} {row.commands:8} {row.checked:8} {row.skipped:8} {row.seconds / 60:8.1f}")
    total = [sum(getattr(row, of) for row in rows) for of in ("commands", "checked", "skipped", "seconds")]
    print(f"{'all':32} {total[0]:8} {total[1]:8} {total[2]:8} {total[3] / 60:8.1f}")


if __name__ == "__main__":
    main()
