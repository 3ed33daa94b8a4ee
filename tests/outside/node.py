"""A node with TLS, a client CA and credentials, made by the commands of docs/security.md."""

import os
import pathlib
import re
import signal
import socket
import subprocess
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
# The commands of docs/security.md that create the authority and the certificates, in their order.
CERTIFICATES = re.compile(r'mkdir tls|openssl (req|x509) |echo ".*" > tls/\w+\.ext$')
SETTINGS = """
[tls]
certificate = "tls/node.pem"
key = "tls/node.key"
client_ca = "tls/ca.pem"
client_auth = "optional"
"""
START_SECONDS = 60
# The node drains for at most 25 s by default.
STOP_SECONDS = 30


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def certificate_commands():
    text = (ROOT / "docs/security.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [line for line in lines if CERTIFICATES.match(line)]


class Node:
    """A running node. Its directory contains `tls`, the data, the tokens and the log."""

    def __init__(self, cable, home, settings="", tls=True):
        self.cable, self.home, self.tls = cable, home, tls
        self.port, self.operations = free_port(), free_port()
        home.mkdir(parents=True)
        (home / "cable.toml").write_text(settings + (SETTINGS if tls else ""), encoding="utf-8")
        if tls:
            commands = "\n".join(certificate_commands())
            subprocess.run(["bash", "-euc", commands], cwd=home, check=True, capture_output=True)
            self.token("website", "--role", "reader")
            self.token("cms", "--role", "publisher", "--expires", "90d")
            self.token("desk", "--role", "publisher", "--certificate", "CN:desk")
        self.process = None
        self.start()

    def token(self, name, *arguments):
        """Creates a credential. A token is written to NAME.token; one for a certificate has none."""
        command = [self.cable, "token", "new", name, *arguments, "--data", "data"]
        made = subprocess.run(command, cwd=self.home, check=True, capture_output=True, text=True)
        (self.home / f"{name}.token").write_text(made.stdout, encoding="utf-8")

    def start(self):
        command = [self.cable, "serve", "--config", "cable.toml", "--data", "data"]
        command += ["--listen", f"127.0.0.1:{self.port}", "--ops-listen", f"127.0.0.1:{self.operations}"]
        # The tools load the machine; none of these checks is about a node that refuses calls for that.
        patient = {**os.environ, "CABLE__OVERLOAD__MAX_DELAY": "60s"}
        with open(self.home / "log", "ab") as log:
            self.process = subprocess.Popen(command, cwd=self.home, env=patient, stdout=log, stderr=log)
        end = time.monotonic() + START_SECONDS
        while not self.is_ready():
            if self.process.poll() is not None or time.monotonic() > end:
                raise AssertionError(f"the node does not start:\n{self.log()}")
            time.sleep(0.05)

    def is_ready(self):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.operations}/readyz", timeout=5):
                return True
        except OSError:
            return False

    def stop(self):
        """Sends SIGTERM and waits for the end. Returns the seconds that it took."""
        start = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(STOP_SECONDS)
        assert status == 0, f"the node ended with {status}:\n{self.log()}"
        return time.monotonic() - start

    def log(self):
        return (self.home / "log").read_text(encoding="utf-8", errors="replace")[-4000:]

    @property
    def address(self):
        return f"localhost:{self.port}"

    def path(self, name):
        """Returns the path of a file of the node, such as `tls/ca.pem`."""
        return str(self.home / name)

    def token_of(self, name):
        return (self.home / f"{name}.token").read_text(encoding="utf-8").strip()

    def command(self, *arguments, token="cms", input=""):
        """Runs a command of the program as a client, and returns its output."""
        environment = {"CABLE_ENDPOINTS": f"http://{self.address}", "CABLE_CLIENT_CONFIG": self.path("contexts.toml")}
        if self.tls:
            environment |= {
                "CABLE_ENDPOINTS": f"https://{self.address}",
                "CABLE_CA": self.path("tls/ca.pem"),
                "CABLE_TOKEN_FILE": self.path(f"{token}.token"),
            }
        command = [self.cable, *arguments]
        done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True,
                              input=input, timeout=60)
        assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done.stdout

    def metric(self, name):
        """Returns the sum of the series of a metric."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.operations}/metrics", timeout=10) as response:
            lines = response.read().decode().splitlines()
        found = [line for line in lines if re.match(rf"{name}[ {{]", line)]
        assert found, f"the node has no metric {name}"
        return sum(float(line.rsplit(" ", 1)[1]) for line in found)

    def wait_for_metric(self, name, is_reached, seconds):
        """Waits until a metric has a value. Returns the seconds that it took."""
        start = time.monotonic()
        while not is_reached(value := self.metric(name)):
            elapsed = time.monotonic() - start
            assert elapsed < seconds, f"{name} is still {value:g} after {elapsed:.1f} s"
            time.sleep(0.01)
        return time.monotonic() - start
