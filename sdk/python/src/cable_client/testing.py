"""A server for tests: the program `cable`, on a port of its own, with a store of its own."""

import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from queue import Empty, SimpleQueue
from time import monotonic

# A debug build on a busy machine needs some seconds.
START_TIMEOUT = 60.0
STOP_TIMEOUT = 10.0


class StartError(Exception):
    """A server that did not start, with the end of its log."""


class Server:
    """A running server with an empty store. It is the program in CABLE_PROGRAM or, if unset, `cable` in PATH.

    `settings` are those of `cable config print`, such as `{"feed.max_open": "10"}`. `with` stops it at the end, and
    removes the store.
    """

    def __init__(self, settings: Mapping[str, str] | None = None, *, program: str | None = None) -> None:
        found = program or os.environ.get("CABLE_PROGRAM") or shutil.which("cable")
        if not found:
            raise StartError("cable: set CABLE_PROGRAM to the program, or install it in PATH")
        self._program = str(Path(found).resolve())
        self._directory = tempfile.TemporaryDirectory(prefix="cable-")
        self.store = Path(self._directory.name) / "store"
        # With this file, the server looks for no other.
        (self.store.parent / "cable.toml").touch()
        own = {f"CABLE__{key.replace('.', '__').upper()}": value for key, value in (settings or {}).items()}
        others = {name: value for name, value in os.environ.items() if not name.startswith("CABLE__")}
        self._environment = {**others, **own, "CABLE__LOG__FORMAT": "json", "CABLE__LOG__LEVEL": "info"}
        self._process: subprocess.Popen[str] | None = None
        #: The address, such as `127.0.0.1:40123`, which stays the same when the server is started again.
        self.address = "127.0.0.1:0"
        self.start()

    @property
    def endpoint(self) -> str:
        """The endpoint, such as `http://127.0.0.1:40123`."""
        scheme = "https" if self._environment.get("CABLE__TLS__CERTIFICATE") else "http"
        return f"{scheme}://{self.address}"

    def start(self) -> None:
        """Starts the server, if it does not run, and waits until it serves."""
        if self._process is not None:
            return
        arguments = ["serve", "--listen", self.address, "--ops-listen", "off", "--data", str(self.store)]
        process = self._process = subprocess.Popen(
            [self._program, *arguments],
            cwd=self.store.parent,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        lines: SimpleQueue[str | None] = SimpleQueue()
        # The thread reads the whole log, so that the server never waits for it.
        threading.Thread(target=_read, args=(process, lines), daemon=True).start()
        end, seen = monotonic() + START_TIMEOUT, [""]
        try:
            while (line := lines.get(timeout=max(end - monotonic(), 0.001))) is not None:
                seen = [*seen[-20:], line]
                if '"message":"serving"' in line:
                    self.address = json.loads(line)["address"]
                    return
        except Empty:
            seen.append(f"not serving within {START_TIMEOUT:g} s")
        self.stop(signal.SIGKILL)
        raise StartError(f"cannot start {self._program}: {''.join(seen)}")

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Stops the server: by SIGTERM and, if it does not end within 10 s, by SIGKILL. The store remains."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(how)
            try:
                process.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def kill(self) -> None:
        """Stops the server by SIGKILL, as a crash does."""
        self.stop(signal.SIGKILL)

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal: SIGSTOP leaves the connections open and silent until SIGCONT."""
        if self._process is not None:
            self._process.send_signal(number)

    def run(self, *arguments: str) -> str:
        """Runs another command of the program on the store, such as `token new`, and returns its output."""
        command = [self._program, *arguments, "--data", str(self.store)]
        return subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE, timeout=START_TIMEOUT).stdout

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        self.signal(signal.SIGCONT)
        self.stop()
        self._directory.cleanup()


def _read(process: "subprocess.Popen[str]", lines: "SimpleQueue[str | None]") -> None:
    assert process.stderr is not None
    is_serving = False
    with process.stderr as log:
        for line in log:
            if not is_serving:
                lines.put(line)
                is_serving = '"message":"serving"' in line
    lines.put(None)
