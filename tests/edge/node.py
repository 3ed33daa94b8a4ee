"""A node in a directory of its own, and a client of HTTP/1.1. Standard library only."""

import http.client
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = os.environ["CABLE_PROGRAM"]
HOST = "127.0.0.1"
# A debug build on a busy machine.
START_SECONDS = 60
# The node drains for at most 25 s by default.
STOP_SECONDS = 40
REQUEST_SECONDS = 30


def free_port():
    with socket.create_server((HOST, 0)) as server:
        return server.getsockname()[1]


class Response:
    """A response: its headers by name in lower case, and the times at which its request was sent and it was there."""

    def __init__(self, status, headers, body, sent, received):
        self.status, self.headers, self.body = status, headers, body
        self.sent, self.received = sent, received

    def header(self, name):
        return self.headers.get(name, "")

    @property
    def max_age(self):
        found = re.search(r"max-age=(\d+)", self.header("cache-control"))
        return int(found[1]) if found else None

    @property
    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return f"{self.status} {self.headers} {self.body[:300]}"


def request(port, method, target, headers=None, timeout=REQUEST_SECONDS):
    """Sends one request on a connection of its own."""
    connection = http.client.HTTPConnection(HOST, port, timeout=timeout)
    sent = time.time()
    try:
        connection.request(method, target, headers=headers or {})
        answer = connection.getresponse()
        body = answer.read()
    finally:
        connection.close()
    fields = {}
    for name, value in answer.getheaders():
        name = name.lower()
        fields[name] = f"{fields[name]}, {value}" if name in fields else value
    return Response(answer.status, fields, body, sent, time.time())


def get(port, target, headers=None):
    return request(port, "GET", target, headers)


def wait_until(is_reached, what, seconds=START_SECONDS):
    """Waits for a condition. Returns what it returned."""
    end = time.monotonic() + seconds
    while not (found := is_reached()):
        assert time.monotonic() < end, f"not reached within {seconds} s: {what}"
        time.sleep(0.02)
    return found


def listens(port):
    try:
        socket.create_connection((HOST, port), 1).close()
        return True
    except OSError:
        return False


class Process:
    """A program that runs until it is stopped. Its output is in a file."""

    # All that were started.
    running = []

    def __init__(self, name, command, home, environment=None):
        self.name, self.log_file = name, home / f"{name}.log"
        with open(self.log_file, "ab") as log:
            self.process = subprocess.Popen([str(part) for part in command], cwd=home, stdout=log, stderr=log,
                                            env=os.environ | (environment or {}))
        Process.running.append(self)

    def wait_until_listening(self, port):
        def is_up():
            assert self.process.poll() is None, f"{self.name} ended:\n{self.log()}"
            return listens(port)
        wait_until(is_up, f"{self.name} listens:\n{self.log()}")

    def log(self):
        return self.log_file.read_text(encoding="utf-8", errors="replace")[-4000:]

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


class Node(Process):
    """A running node. `settings` are environment variables without their prefix, such as `WEB__HORIZON`."""

    def __init__(self, home, settings=None, name="node"):
        self.port, self.operations, self.home = free_port(), free_port(), home
        # The file of the token that commands send, if any.
        self.token_file = None
        home.mkdir(parents=True, exist_ok=True)
        environment = {f"CABLE__{key}": value for key, value in (settings or {}).items()}
        # The checks load the machine; a node that refuses calls for that is not what they are about.
        environment.setdefault("CABLE__OVERLOAD__MAX_DELAY", "60s")
        environment.setdefault("CABLE__STORE__RESERVE_BYTES", "0")
        super().__init__(name, [PROGRAM, "serve", "--data", "data", "--listen", f"{HOST}:{self.port}",
                                "--ops-listen", f"{HOST}:{self.operations}"], home, environment)
        self.wait_until_listening(self.port)
        wait_until(self.is_ready, "the node is ready")

    def is_ready(self):
        try:
            return get(self.operations, "/readyz").status == 200
        except OSError:
            return False

    def command(self, *arguments):
        """Runs a command of the program as a client. Returns its output."""
        environment = {"CABLE_ENDPOINTS": f"http://{HOST}:{self.port}",
                       "CABLE_CLIENT_CONFIG": str(self.home / "contexts.toml")}
        if self.token_file:
            environment["CABLE_TOKEN_FILE"] = str(self.token_file)
        done = subprocess.run([PROGRAM, *map(str, arguments)], cwd=self.home, env=os.environ | environment,
                              capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done.stdout

    def put(self, *documents):
        """Puts documents of one kind, which their names state."""
        file = self.home / "put.json"
        file.write_text("\n".join(json.dumps(document) for document in documents), encoding="utf-8")
        kind = documents[0]["name"].partition("/")[0].removesuffix("s")
        self.command(kind, "put", file)

    def metric(self, name):
        """Returns the sum of the series of a metric."""
        lines = get(self.operations, "/metrics").body.decode().splitlines()
        found = [line for line in lines if re.match(rf"{name}[ {{]", line)]
        assert found, f"the node has no metric {name}"
        return sum(float(line.rsplit(" ", 1)[1]) for line in found)

    def memory(self):
        """Returns the resident memory in bytes."""
        lines = pathlib.Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))

    def processor_seconds(self):
        text = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text(encoding="ascii")
        fields = text.rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
