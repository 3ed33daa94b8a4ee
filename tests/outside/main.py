"""Runs the tools and clients of tests/outside/run against nodes with TLS.

    main.py CABLE SCRATCH TOOLS [PART...]

TOOLS is a file of JSON: the paths of the tools by name, and null for one that is not available, whose part is skipped.
"""

import json
import pathlib
import sys
import time

import calls
import conformance
import faults
import languages
from node import ROOT, Node


class Outside:
    """The tools, and the nodes, which start when a part first needs them."""

    def __init__(self, cable, scratch, tools):
        self.cable, self.scratch, self.tools, self.nodes = cable, scratch, tools, {}

    def node(self, name="tls", **options):
        if name not in self.nodes:
            self.nodes[name] = Node(self.cable, self.scratch / name, **options)
        return self.nodes[name]

    def stop(self):
        for node in self.nodes.values():
            node.stop()

    def h2spec(self, tool):
        conformance.run(tool, self.node("plaintext", tls=False), self.scratch)
        conformance.run(tool, self.node(), self.scratch)

    def probe(self, tool):
        calls.probe(tool, self.node())

    def grpcurl(self, tool):
        calls.grpcurl(tool, self.node())

    def ghz(self, tool):
        self.put_tides()
        calls.ghz(tool, self.node())

    def toxiproxy(self, tool):
        quick = self.node("quick-pings", settings=faults.QUICK_PINGS)
        faults.run(tool, self.node(), quick, self.scratch)

    def python(self, tool):
        self.language("grpcio", [sys.executable, tool])

    def javascript(self, tool):
        self.language("grpc-js", ["node", tool])

    def go(self, tool):
        self.language("grpc-go", [tool])

    def language(self, name, command):
        self.put_tides()
        languages.run(name, command, self.node(), ROOT / "proto")

    def put_tides(self):
        """Publishes the article that all clients read."""
        self.node().command("article", "put", "-", input='{"name": "articles/tides", "headline": "Tides on Sunday"}')


PARTS = ["h2spec", "probe", "grpcurl", "ghz", "toxiproxy", "python", "javascript", "go"]


def main(cable, scratch, tools, *parts):
    with open(tools, encoding="utf-8") as file:
        paths = json.load(file)
    assert paths.keys() == set(PARTS), f"{tools} does not name each part"
    outside, start = Outside(cable, pathlib.Path(scratch), paths), time.monotonic()
    try:
        for part in parts or PARTS:
            if paths[part] is None:
                print(f"=== SKIPPED: {part}: the tool is not available", flush=True)
                continue
            print(f"=== {part}", flush=True)
            begun = time.monotonic()
            getattr(outside, part)(paths[part])
            print(f"({time.monotonic() - begun:.0f} s)", flush=True)
    finally:
        outside.stop()
    skipped = [part for part in parts or PARTS if paths[part] is None]
    passed = len(parts or PARTS) - len(skipped)
    print(f"=== {passed} passed, {len(skipped)} skipped, {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main(*sys.argv[1:])
