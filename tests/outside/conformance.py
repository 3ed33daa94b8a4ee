"""h2spec, over TLS and plaintext. The tests that fail must be exactly those in h2spec.txt, which gives the reasons.

h2spec writes the frames of a test one by one, and a node may respond as soon as it has seen enough: a GET is refused,
and a call without a token denied, before the rest of the request has arrived. Frames for a stream that is over are
ignored, as HTTP/2 prescribes, so a test of what such a frame causes passes or fails by chance. A relay therefore
collects the frames of a test before it forwards them.
"""

import pathlib
import re
import socket
import subprocess
import threading
import time
import xml.etree.ElementTree as xml

EXPLAINED = pathlib.Path(__file__).with_name("h2spec.txt")
# h2spec writes all frames of a test within this time.
COLLECT_SECONDS = 0.02
PATH = "/cable.v1.ContentService/GetArticle"


class Relay:
    """Forwards connections to a port. What a client sends within COLLECT_SECONDS is forwarded in one write."""

    def __init__(self, port):
        self.target = port
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port = self.server.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            client, _ = self.server.accept()
            node = socket.create_connection(("127.0.0.1", self.target))
            threading.Thread(target=forward, args=(client, node, COLLECT_SECONDS), daemon=True).start()
            threading.Thread(target=forward, args=(node, client, 0), daemon=True).start()


def forward(source, sink, pause):
    try:
        while chunk := source.recv(1 << 16):
            if pause:
                time.sleep(pause)
                chunk += received(source)
            sink.sendall(chunk)
    except OSError:
        pass  # either side has closed; so does the other
    for end in (source, sink):
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # it is closed already


def received(source):
    """Returns what has arrived, without waiting for more."""
    chunks = []
    try:
        while chunk := source.recv(1 << 16, socket.MSG_DONTWAIT):
            chunks.append(chunk)
    except BlockingIOError:
        pass
    return b"".join(chunks)


def explained():
    """Returns the listed failures as (transport, section, test), each with its reason."""
    listed = {}
    for line in EXPLAINED.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            transport, section, test, reason = (part.strip() for part in line.split("|"))
            assert reason, f"{EXPLAINED.name}: no reason for {test}"
            listed[transport, section, test] = reason
    return listed


def run(h2spec, node, scratch):
    transport = "tls" if node.tls else "plaintext"
    report = scratch / f"h2spec-{transport}.xml"
    command = [h2spec, "--strict", "--host", "localhost", "--port", str(Relay(node.port).port), "--path", PATH]
    command += ["--timeout", "3", "--junit-report", str(report)]
    command += ["--tls", "--insecure"] if node.tls else []
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    suites = list(xml.parse(report).getroot())
    total = sum(int(suite.get("tests")) for suite in suites)
    failed = {(transport, suite.get("package"), case.get("classname"))
              for suite in suites for case in suite
              if case.find("failure") is not None or case.find("error") is not None}
    skipped = sum(int(suite.get("skipped")) for suite in suites)
    finished = re.search(r"(\d+) tests, (\d+) passed, (\d+) skipped, (\d+) failed", done.stdout)
    assert finished, f"h2spec did not finish:\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
    assert (total, len(failed)) == (int(finished[1]), int(finished[4])), "h2spec's report and summary differ"
    assert total >= 140 and skipped == 0, f"{total} tests, {skipped} skipped"
    listed = {key: reason for key, reason in explained().items() if key[0] == transport}
    assert failed <= listed.keys(), f"not in {EXPLAINED.name}: {sorted(failed - listed.keys())}\n{done.stdout}"
    assert failed >= listed.keys(), f"passes, but is in {EXPLAINED.name}: {sorted(listed.keys() - failed)}"
    print(f"h2spec over {transport}: {total} tests, {len(failed)} failed")
    for key in sorted(failed):
        print(f"  {key[1]}: {key[2]}: {listed[key]}")
