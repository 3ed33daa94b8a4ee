#!/usr/bin/env python3
"""Runs the commands of README.md and of some documents as a reader types them, in a fresh clone of this repository.

    tests/docs/run.py [DOCUMENT...]

Each `console` and `sh` block is run command by command, in order, on a terminal. Output that a document shows must be
that of the command, except for numbers, times and ids; `...` represents omitted output. A comment `(exit code N)`
states the exit code. A block after a line `*Not run in CI: REASON.*` is counted and skipped; any other block that is not
a command fails the run. Servers and commands that watch run in the background until their section ends.

The documents use the default ports, 7190 and 7191, which must be free. A checkout that is a fresh clone itself, with
nothing changed and nothing built, is used directly, so that everything is built once; files that the commands create
there are removed.
"""

import argparse
import fcntl
import os
import pathlib
import pty
import re
import select
import shlex
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
DOCUMENTS = ["README.md", "docs/clients.md", "docs/security.md"]
COMMANDS = ("console", "sh")
NOT_RUN = re.compile(r"\*Not run in CI: (.+)\.\*")
SERVER = re.compile(r"\bserve\b")
# What a demo, and any other node, print once they serve.
SERVES = re.compile(r"is served at|\bserving\b")
WATCHES = re.compile(r"cable feed watch(?! .*--until-caught-up)|cable mirror (?!.*--once)|FeedService/Watch|/Watch\.py|--example purge")

# Limit on a command, on two cores: a release build takes ten minutes, all tests twenty.
LIMIT_SECONDS = 2400
# Limit on the expected output of a watching command, which takes far less.
WATCH_SECONDS = 60
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
    def watches(self):
        return bool(WATCHES.search(self.text))

    @property
    def serves(self):
        return bool(SERVER.search(self.text)) and not self.watches


class Block:
    def __init__(self, language, line, lines, section, not_run):
        self.language, self.line, self.lines = language, line, lines
        self.section, self.not_run = section, not_run


def blocks(text):
    """The fenced blocks of a Markdown text, each with its section and the reason why it is not run, if there is one."""
    found, section, fence, above = [], "", None, ""
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("```") and fence is None:
            reason = NOT_RUN.fullmatch(above)
            fence = Block(line[3:].strip(), number, [], section, reason and reason[1])
        elif line.startswith("```"):
            found.append(fence)
            fence, above = None, ""
        elif fence is not None:
            fence.lines.append(line)
        else:
            section = line.lstrip("# ") if line.startswith("#") else section
            above = line.strip() or above
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
    try:
        shlex.split(text, comments=True)
    except ValueError:
        return False
    return not text.endswith("\\")


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
        """The exit code."""
        end = time.monotonic() + seconds
        self.until(lambda _: self.process.poll() is not None, seconds)
        try:
            # The terminal may be closed before the process has ended.
            code = self.process.wait(max(1, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.end()
            raise Failure(f"{self.command.text}: still running after {seconds} s") from None
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


class Reader:
    """A reader of one document."""

    def __init__(self, document, clone, environment):
        self.document, self.clone = document, clone
        self.state = environment
        self.servers, self.watchers, self.times, self.skipped = [], [], [], []

    def read(self):
        section = None
        try:
            for block in blocks((self.clone / self.document).read_text(encoding="utf-8")):
                if block.section != section:
                    self.end_watchers()
                    section = block.section
                self.run_block(block)
            self.end_watchers()
        finally:
            for running in self.watchers + self.servers:
                running.end()

    def run_block(self, block):
        if block.not_run:
            print(f"not run: {self.document}:{block.line}: {block.not_run}", flush=True)
            self.skipped.append(block)
        elif block.language == "python":
            watches = any(".Watch(" in line for line in block.lines)
            script = self.clone / ("target/python/Watch.py" if watches else "target/python/block.py")
            script.write_text("\n".join(block.lines), encoding="utf-8")
            self.run(Command(f"PYTHONPATH=target/python python {script}", block.line))
        elif block.language in COMMANDS:
            try:
                found = commands(block)
            except Failure as failure:
                raise Failure(f"{self.document}: {failure}") from None
            for command in found:
                self.run(command)
        else:
            raise Failure(f"{self.document}:{block.line}: cannot run a block of language `{block.language}`")

    def run(self, command):
        print(f"{self.document}:{command.line}: $ {command.text}", flush=True)
        terminal = Terminal(command, self.state, self.clone)
        if command.serves:
            self.servers.append(terminal)
            if not terminal.until(SERVES.search, LIMIT_SECONDS):
                raise self.failure(terminal, "the server did not report that it serves")
        elif command.watches:
            self.watchers.append(terminal)
            # Gives the command time to start watching before the next one runs.
            terminal.until(lambda output: False, 2)
        else:
            self.ended(terminal, terminal.wait(LIMIT_SECONDS))
        elapsed = time.monotonic() - terminal.started
        self.times.append((elapsed, command.text.splitlines()[0]))

    def ended(self, terminal, code):
        wanted = terminal.command.exit_code
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
            ended_early = terminal.process.poll()
            terminal.end()
            line = mismatch(shown, terminal.output, may_continue=True)
            if line is not None:
                raise self.failure(terminal, f"the output differs from the document: {line}")
            if ended_early is not None:
                raise self.failure(terminal, f"ended early with exit code {ended_early}")

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


def is_fresh(clone):
    """Whether a checkout is a clean clone without a build."""
    status = subprocess.run(["git", "status", "--porcelain"], cwd=clone, capture_output=True, check=True)
    built = any((clone / "target" / profile).exists() for profile in ("debug", "release"))
    return not status.stdout and not built


def prepare(scratch):
    """A fresh clone, and the environment of a reader who has followed the instructions so far."""
    clone = ROOT
    if not is_fresh(ROOT):
        clone = scratch / "cable"
        subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", str(ROOT), str(clone)], check=True)
    for name in [name for name in os.environ if name.startswith("CABLE_") or name == "CARGO_TARGET_DIR"]:
        del os.environ[name]
    # `cable` is ./target/release/cable, and `go install` puts its programs where the shell finds them.
    os.environ["GOBIN"] = str(scratch / "go")
    os.environ["PATH"] = f"{clone}/target/release:{scratch}/go:{os.environ['PATH']}"
    state = scratch / "environment"
    state.write_text(f'export PWD={shlex.quote(str(clone))}\n', encoding="utf-8")
    return clone, state


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("documents", nargs="*", default=DOCUMENTS)
    arguments = parser.parse_args()
    used_ports = [port for port in (7190, 7191) if not is_free(port)]
    if used_ports:
        sys.exit(f"FAILED: ports in use: {used_ports}; the documents use the default ports")
    with tempfile.TemporaryDirectory(prefix="cable-docs-", ignore_cleanup_errors=True) as scratch:
        clone, state = prepare(pathlib.Path(scratch))
        readers = [Reader(document, clone, state) for document in arguments.documents]
        try:
            for reader in readers:
                reader.read()
        except Failure as failure:
            sys.exit(f"FAILED: {failure}")
        finally:
            if clone == ROOT:
                subprocess.run(["git", "clean", "-dfq"], cwd=ROOT, check=True)
    for reader in readers:
        for elapsed, text in sorted(reader.times, reverse=True)[:5]:
            print(f"{elapsed:6.0f} s  {reader.document}: {text}")
    run, skipped = sum(len(reader.times) for reader in readers), sum(len(reader.skipped) for reader in readers)
    print(f"{run} commands of {len(readers)} documents match the documents; {skipped} blocks are not run in CI")


if __name__ == "__main__":
    main()
