"""A server for tests: the program `cable`, on a port of its own, with a store of its own."""

import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
from collections import deque
from collections.abc import Mapping
from pathlib import Path

# A debug build on a busy machine needs some seconds.
START_TIMEOUT = 60.0
STOP_TIMEOUT = 10.0


class Server:
    """A running server with an empty store. It is the program in CABLE_PROGRAM or, if unset, `cable` in PATH.

    `settings` are those of `cable config print`, such as `{"feed.max_open": "10"}`. `with` stops it at the end, and
    removes the store.
    """

    def __init__(self, settings: Mapping[str, str] | None = None) -> None:
        program = os.environ.get("CABLE_PROGRAM") or shutil.which("cable")
        if not program:
            raise RuntimeError("cable not found: set CABLE_PROGRAM to the program, or install it in PATH")
        self.program, self._directory = os.path.abspath(program), tempfile.TemporaryDirectory(prefix="cable-")
        #: The directory of the store.
        self.store = Path(self._directory.name) / "store"
        # With this file, the server looks for no other.
        (self.store.parent / "cable.toml").touch()
        settings = {"log.format": "json", "log.level": "info", **(settings or {})}
        self._environment = {name: value for name, value in os.environ.items() if not name.startswith("CABLE__")}
        self._environment |= {f"CABLE__{key.replace('.', '__').upper()}": settings[key] for key in settings}
        #: The process: SIGSTOP leaves its connections open and silent. `None` while it is stopped.
        self.process: subprocess.Popen[str] | None = None
        #: The address, such as `127.0.0.1:40123`, which stays the same when the server is started again.
        self.address = "127.0.0.1:0"
        self.start()

    @property
    def endpoint(self) -> str:
        """The endpoint, such as `http://127.0.0.1:40123`."""
        return f"http{'s' if 'CABLE__TLS__KEY' in self._environment else ''}://{self.address}"

    def start(self) -> None:
        """Starts the server and waits until it serves."""
        command = f"{self.program} serve --listen {self.address} --ops-listen off --data {self.store}".split()
        pipe, seen = subprocess.PIPE, [""]
        process = subprocess.Popen(command, cwd=self._directory.name, env=self._environment, stderr=pipe, text=True)
        self.process, log = process, process.stderr or ()
        # The end of a server that hangs is the end of its log.
        timer = threading.Timer(START_TIMEOUT, process.kill)
        timer.start()
        found = None
        for line in log:
            seen = [*seen[-20:], line]
            if found := re.search(r'"message":"serving","address":"([^"]+)"', line):
                self.address = found[1]
                # The server must never wait for its log.
                threading.Thread(target=deque, args=(log, 0), daemon=True).start()
                break
        timer.cancel()
        if not found:
            self.stop(signal.SIGKILL)
            raise RuntimeError(f"cannot start {self.program}: {''.join(seen)}")

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Stops the server by a signal: SIGKILL is a crash. After 10 s it is killed. The store remains."""
        process, self.process = self.process, None
        if process is not None:
            process.send_signal(how)
            process.send_signal(signal.SIGCONT)
            timer = threading.Timer(STOP_TIMEOUT, process.kill)
            timer.start()
            process.wait()
            timer.cancel()

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._directory.cleanup()
