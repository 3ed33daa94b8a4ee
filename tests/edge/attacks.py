"""Attacks on a node over HTTP/1.1 and HTTP/2. Each must end in a clear error or in a right response, within the bound of
memory, while another client is served. Prints a table.

  attacks.py [--followers N] [--reconnects N] [--peers N] [--requests N] [--only NAME]...
"""

import argparse
import contextlib
import http.client
import pathlib
import re
import resource
import select
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

from node import HOST, Node, Process, get, request, wait_until

MIB = 1 << 20
CACHE_BYTES = 64 * MIB
# The bound of the design: what a node needs beside its cache.
BESIDE_CACHE = 256 * MIB
# What a node may retain after an attack, beside what its cache holds.
RETAINED = 128 * MIB
# How long a node may take to drop the peers of an attack and to release their memory.
PATIENCE = 60
SETTINGS = {
    "CACHE__MAX_BYTES": str(CACHE_BYTES), "WEB__ORIGINS": "https://desk.example",
    "CONNECTIONS__PROGRESS_TIMEOUT": "2s", "CONNECTIONS__PREFACE_TIMEOUT": "2s", "CONNECTIONS__MAX_PER_PEER": "512",
    "CONNECTIONS__PING_INTERVAL": "2s", "CONNECTIONS__PING_TIMEOUT": "2s",
}
# Connections of one loopback address, below the node's limit for one peer.
PER_ADDRESS = 400
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADERS, RST_STREAM, SETTINGS_FRAME, WINDOW_UPDATE = 1, 3, 4, 8
END_STREAM, END_HEADERS, CANCEL = 1, 4, 8


# Another client, in a process of its own.

def probe(port, out):
    """Reads an article by GET and by GetArticle over gRPC-Web, and writes how long each call took in milliseconds."""
    connection = http.client.HTTPConnection(HOST, port, timeout=60)
    name = b"articles/plain"
    message = bytes([10, len(name)]) + name
    body = b"\0" + struct.pack(">I", len(message)) + message
    fields = {"content-type": "application/grpc-web+proto", "x-grpc-web": "1"}
    calls = [("GET", "/v1/articles/plain", None, {}), ("POST", "/cable.v1.ContentService/GetArticle", body, fields)]
    with open(out, "w", encoding="ascii", buffering=1) as lines:
        while True:
            for method, target, content, headers in calls:
                start = time.perf_counter()
                connection.request(method, target, content, headers)
                answer = connection.getresponse()
                text = answer.read()
                is_good = answer.status == 200 and b"Plain" in text
                lines.write(f"{(time.perf_counter() - start) * 1000:.2f} {'ok' if is_good else answer.status}\n")
                time.sleep(0.01)


class Probe:
    def __init__(self, node, home):
        self.out = home / "probe"
        self.process = Process("probe-client", [sys.executable, "-B", __file__, "--probe", node.port, self.out], home)
        wait_until(lambda: self.out.exists() and self.out.stat().st_size > 100, "the probe reads")

    def mark(self):
        return len(self.out.read_text(encoding="ascii").splitlines())

    def since(self, mark):
        """Returns the 99th percentile and the number of calls since a mark. Each must have been answered."""
        assert self.process.process.poll() is None, f"another client was not served:\n{self.process.log()}"
        lines = self.out.read_text(encoding="ascii").splitlines()[mark:-1]
        bad = [line for line in lines if not line.endswith("ok")]
        assert not bad, f"another client was refused: {bad[:3]}"
        times = sorted(float(line.split()[0]) for line in lines)
        return (times[int(len(times) * 0.99)] if times else 0.0), len(times)


class Memory:
    """The largest resident memory of the node since the start."""

    def __init__(self, node):
        self.node, self.peak, self.ends = node, 0, False
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self):
        while not self.ends:
            with contextlib.suppress(OSError, StopIteration):
                self.peak = max(self.peak, self.node.memory())
            time.sleep(0.02)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ends = True
        self.thread.join()


# Raw connections.

class Peers:
    """Connections from as many loopback addresses as they need."""

    def __init__(self, port, count, first=b""):
        self.port, self.all = port, []
        for number in range(count):
            source = (f"127.0.6.{1 + number // PER_ADDRESS}", 0)
            peer = socket.create_connection((HOST, port), 20, source_address=source)
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            self.all.append(peer)
            self.send(peer, first)

    @staticmethod
    def send(peer, data):
        """Sends to a peer that may be gone. Returns whether it took the data."""
        try:
            peer.sendall(data)
            return True
        except OSError:
            return False

    def send_each(self, data):
        return sum(self.send(peer, data) for peer in self.all)

    def ended(self, seconds):
        """Returns how many of the connections the node ends in time."""
        end, left = time.monotonic() + seconds, set(self.all)
        while left and time.monotonic() < end:
            poller = select.poll()
            by_number = {peer.fileno(): peer for peer in left}
            for number in by_number:
                poller.register(number, select.POLLIN)
            left -= {by_number[number] for number, _ in poller.poll(200) if self.is_end(by_number[number])}
        return len(self.all) - len(left)

    @staticmethod
    def is_end(peer):
        try:
            return not peer.recv(1 << 16)
        except OSError:
            return True

    def close(self):
        for peer in self.all:
            peer.close()


def exchange(port, data, seconds=3.0):
    """Sends bytes on a connection of its own. Returns all that the node sends, until it ends the connection or says
    nothing for a while, and whether it ended the connection."""
    with socket.create_connection((HOST, port), 20) as peer:
        Peers.send(peer, data)
        peer.settimeout(seconds)
        received = b""
        try:
            while piece := peer.recv(1 << 16):
                received += piece
        except TimeoutError:
            return received, False
        except OSError:
            pass
        return received, True


def statuses(text):
    return [int(status) for status in re.findall(rb"(?:^|\n|\}|\))HTTP/1\.1 (\d{3})", text)]


def head(target, *fields, method="GET"):
    return "\r\n".join([f"{method} {target} HTTP/1.1", f"Host: {HOST}", *fields, "", ""]).encode("latin-1")


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def literal(name, value):
    """A header without compression (RFC 7541, 6.2.2)."""
    def text(value):
        length = bytes([len(value)]) if len(value) < 127 else bytes([127]) + varint(len(value) - 127)
        return length + value.encode()
    return b"\0" + text(name) + text(value)


def varint(number):
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes(out + bytes([number]))


def get_frame(stream, target):
    fields = {":method": "GET", ":scheme": "http", ":path": target, ":authority": HOST}
    return frame(HEADERS, END_STREAM | END_HEADERS, stream, b"".join(literal(*field) for field in fields.items()))


def hello(window):
    return PREFACE + frame(SETTINGS_FRAME, 0, 0, struct.pack(">HI", 4, window))


def http2(port, *arguments):
    """Returns the status codes of requests over HTTP/2 that nghttp makes."""
    done = subprocess.run(["nghttp", "-v", "--no-dep", *arguments], capture_output=True, text=True, timeout=60, check=False)
    return [int(status) for status in re.findall(r":status: (\d+)", done.stdout)]


def expect(found, allowed, what):
    assert found and set(found) <= set(allowed), f"{what}: {sorted(set(found))}, not {sorted(allowed)}"


# The attacks. Each returns its outcome.

def slow_readers_of_a_large_document(node, options):
    peers = Peers(node.port, options.peers, head("/v1/articles/large"))
    streams = b"".join(get_frame(1 + 2 * number, "/v1/articles/large") for number in range(100))
    fours = Peers(node.port, 4, hello(0) + streams)
    wait_until(lambda: node.metric("cable_connections") >= options.peers, "the connections are open", PATIENCE)
    # The peers do not see the end, because they do not read what came before it.
    wait_until(lambda: node.metric("cable_connections") < 20, "the node drops readers that do not read", PATIENCE)
    peers.close()
    fours.close()
    return f"{options.peers} over HTTP/1.1 and 400 streams over HTTP/2 that read nothing: ended after progress_timeout"


def slow_readers_of_the_feed(node, options):
    peers = Peers(node.port, options.peers, head("/v1/feed?view=full"))
    wait_until(lambda: node.metric("cable_feeds") >= options.peers, "the feeds are open", PATIENCE)
    rounds = 0
    while node.metric("cable_feeds") > 0 and rounds < 40:
        rounds += 1
        node.put({"name": f"articles/loud-{rounds % 2}", "headline": f"Loud {rounds}",
                  "body": {"blocks": [{"paragraph": {"spans": [{"text": "x" * 200_000}]}}]}})
    wait_until(lambda: node.metric("cable_feeds") == 0, "the node drops followers that do not read", PATIENCE)
    peers.close()
    return f"{options.peers} followers that read nothing, beside {rounds} large changes: ended after progress_timeout"


def slow_headers(node, options):
    peers = Peers(node.port, options.peers, b"GET /v1/articles HTTP/1.1\r\n")
    ended, end = 0, time.monotonic() + PATIENCE
    while ended < options.peers and time.monotonic() < end:
        peers.send_each(b"a")
        ended = peers.ended(0.3)
    peers.close()
    assert ended == options.peers, f"{ended} of {options.peers} ended"
    return f"{ended} that send a byte at a time: ended after preface_timeout"


def half_requests(node, options):
    starts = [b"", b"G", b"GET /v1/articles HTTP/1.1\r\nHost: ", PREFACE[:10],
              b"POST /v1/articles HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n"]
    peers = [Peers(node.port, options.peers // len(starts), start) for start in starts]
    ended = sum(group.ended(PATIENCE) for group in peers)
    count = sum(len(group.all) for group in peers)
    for group in peers:
        group.close()
    assert ended == count, f"{ended} of {count} ended"
    return f"{ended} halves of requests: ended after preface_timeout"


def long_queries(node, _):
    many = "&".join(f"p{number}=1" for number in range(2_000))
    found = []
    for query, allowed in [
        ("tag=" + "x" * 15_000, {400}), ("tag=" + "x" * 60_000, {414, 431}), ("tag=" + "x" * 1_000_000, {414, 431}),
        (many, {400, 414, 431}), ("&".join(["tag=a"] * 2_000), {400}), ("&" * 15_000, {200}), ("=" * 15_000, {400}),
        ("tag=" + ",".join(["a"] * 5_000), {400}), ("tag=" + "," * 15_000, {400}), ("%" * 15_000, {400}),
        ("include=" + ",".join(["authors"] * 1_500), {200, 400}), ("page_token=" + "A" * 15_000, {400}),
        ("page_size=" + "9" * 15_000, {400}),
    ]:
        text, _ = exchange(node.port, head(f"/v1/articles?{query}", "Connection: close"))
        expect(statuses(text)[:1], allowed, query[:40])
        found.append(statuses(text)[0])
        if len(query) < 16_000:
            expect(http2(node.port, f"http://{HOST}:{node.port}/v1/articles?{query}"), allowed, f"HTTP/2 {query[:40]}")
    return f"{len(found)} queries of up to 1 MB: {', '.join(map(str, sorted(set(found))))}"


def paths_that_climb(node, _):
    paths = ["/v1/../etc/passwd", "/../../etc/passwd", "/v1/articles/../../etc/passwd", "/v1/articles/..%2f..%2fetc%2fpasswd",
             "/%2e%2e/%2e%2e/etc/passwd", "/v1/paths/../../etc/passwd", "/v1/paths/%2e%2e/x", "/v1/articles/%00",
             "/v1/articles/plain%00.json", "/v1/articles/%C0%AFplain", "/v1/articles/%", "/v1/articles/%zz",
             "/v1/articles/plain%2f", "/v1//articles/plain", "//v1/articles/plain", "/V1/articles/plain",
             "/v1/articles/plain/", "/v1/articles/./plain", "/v1/articles/PLAIN", "/v1/articles/plain;a=b", "/v1/articles/*",
             "/v1/articles/plain%20", "/v1/articles/%70lain%2500", "/room.js/../v1/x", "/.git/config", "/data/cable.db",
             "/v1/articles/x%0d%0aSet-Cookie:%20a=b", "/v1/paths/x%0d%0aSet-Cookie:%20a=b"]
    for path in paths:
        text, _ = exchange(node.port, head(path, "Connection: close"))
        expect(statuses(text)[:1], {400, 404}, path)
        top = text.partition(b"\r\n\r\n")[0].lower()
        assert b"set-cookie" not in re.sub(rb"surrogate-key:[^\r]*", b"", top) and b"root:" not in text, (path, text)
        assert b"\nset-cookie" not in top, text
        expect(http2(node.port, f"http://{HOST}:{node.port}{path}"), {400, 404}, f"HTTP/2 {path}")
    text, _ = exchange(node.port, head("/v1/articles/%70lain", "Connection: close"))
    expect(statuses(text), {200}, "a letter that is percent-encoded")
    moved, _ = exchange(node.port, head("/v1/articles/moved?view=basic&x=%0d%0aSet-Cookie:a", "Connection: close"))
    assert b"\r\nset-cookie" not in moved.lower(), moved
    return f"{len(paths)} paths, over both versions: 400 or 404"


def large_headers(node, _):
    found = []
    for fields in [[f"X-A: {'a' * 100_000}"], [f"X-{number}: a" for number in range(2_000)], [f"Cookie: {'a' * 20_000}"],
                   [f"{'N' * 30_000}: a"], [f"Authorization: Bearer {'a' * 40_000}"]]:
        text, _ = exchange(node.port, head("/v1/articles", *fields))
        expect(statuses(text)[:1], {400, 431}, fields[0][:20])
        found.append(statuses(text)[0])
    # Without an end.
    peers = Peers(node.port, 20, b"GET /v1/articles HTTP/1.1\r\n")
    line = f"X-Endless: {'a' * 1000}\r\n".encode()
    for _ in range(100):
        peers.send_each(line)
    ended = peers.ended(PATIENCE)
    peers.close()
    assert ended == 20, ended
    many = [f"-Hx-{number}: {'a' * 100}" for number in range(300)]
    over_2 = http2(node.port, *many, f"http://{HOST}:{node.port}/v1/articles")
    assert set(over_2) <= {431}, over_2
    return f"{', '.join(map(str, sorted(set(found))))}; endless ones end the connection; HTTP/2: {over_2 or 'refused'}"


def followers_that_never_read(node, options):
    opened, first = 0, head("/v1/feed?tag=a&snapshot=true")
    while opened < options.reconnects:
        peers = Peers(node.port, options.followers, first)
        opened += options.followers
        if opened == options.followers:
            wait_until(lambda: node.metric("cable_feeds") >= options.followers, "the feeds are open", PATIENCE)
            node.put({"name": "articles/to-followers", "headline": "To followers", "tags": ["tags/a"]})
        peers.close()
    wait_until(lambda: node.metric("cable_feeds") == 0, "the node drops feeds whose clients are gone", PATIENCE)
    return f"{options.followers} at once, {opened} opened: all released"


def conditions(node, _):
    article = get(node.port, "/v1/articles/plain")
    etag = article.header("etag")
    many = ", ".join(f'"{number:x}"' for number in range(1_700))
    for value, allowed in [(f"{many}, {etag}", {200, 304}), ("*", {200, 304}), (many, {200}), ('"' * 10_000, {200}),
                           ("," * 15_000, {200}), (f"W/{etag}", {200, 304}), (etag[:-1], {200})]:
        text, _ = exchange(node.port, head("/v1/articles/plain", f"If-None-Match: {value}", "Connection: close"))
        expect(statuses(text)[:1], allowed, value[:20])
    thousands = ", ".join(f'"{number:x}"' for number in range(10_000))
    text, _ = exchange(node.port, head("/v1/articles/plain", f"If-None-Match: {thousands}"))
    expect(statuses(text)[:1], {431}, "10,000 etags")
    for count, allowed in [(40, {200}), (80, {200, 431})]:
        lines = [f'If-None-Match: "{number}"' for number in range(count)]
        text, _ = exchange(node.port, head("/v1/articles/plain", *lines, "Connection: close"))
        expect(statuses(text)[:1], allowed, f"{count} headers")
    for field, status in [
        ("If-Match: \"x\"", 412),
        ("If-Modified-Since: Fri, 31 Dec 9999 23:59:59 GMT", 200),
        ("If-Unmodified-Since: x", 200),
    ]:
        expect([get(node.port, "/v1/articles/plain", dict([field.split(": ", 1)])).status], {status}, field)
    return "1,700 etags are compared, 10,000 are 431; conditions without a meaning here are ignored"


def ranges(node, _):
    for value in ["bytes=0-0", "bytes=-1", "bytes=9-1", "bytes=" + ",".join(["0-"] * 3_000), "bytes=0-18446744073709551615",
                  "lines=1"]:
        response = get(node.port, "/v1/articles/plain", {"Range": value, "If-Range": '"x"'})
        assert response.status == 200 and b"Plain" in response.body, response
        assert int(response.header("content-length")) == len(response.body), response
    return "whole responses, 200"


def floods(node, options):
    counts = {}
    for method, target, allowed in [("HEAD", "/v1/articles/large", 200), ("OPTIONS", "/v1/articles", 405),
                                    ("GET", "/v1/articles/plain", 200), ("GET", "/v1/articles/none", 404)]:
        pipelined = head(target, method=method) * 50
        with socket.create_connection((HOST, node.port), 30) as peer:
            text, wanted = b"", options.requests // 4
            for _ in range(wanted // 50):
                peer.sendall(pipelined)
                want = text.count(b"HTTP/1.1 ") + 50
                while text.count(b"HTTP/1.1 ") < want:
                    piece = peer.recv(1 << 16)
                    assert piece, f"{method} {target}: the node ended the connection"
                    text += piece
            found = set(re.findall(rb"HTTP/1\.1 (\d+)", text))
            assert found == {str(allowed).encode()}, (method, target, found)
        counts[method] = text.count(b"HTTP/1.1 ")
    for arguments in [["-H", ":method: HEAD", "/v1/articles/large"], ["-H", ":method: OPTIONS", "/v1/articles"],
                      ["/v1/articles/none"]]:
        done = subprocess.run(["h2load", "-n", str(options.requests), "-c", "8", "-m", "50", *arguments[:-1],
                               f"http://{HOST}:{node.port}{arguments[-1]}"], capture_output=True, text=True, timeout=120,
                              check=True)
        assert f"{options.requests} done" in done.stdout and " 0 errored" in done.stdout, done.stdout
        assert "0 5xx" in done.stdout, done.stdout
    return f"{options.requests} requests of 4 kinds pipelined, and as many of each of 3 kinds over HTTP/2: all served"


def rapid_resets(node, options):
    peers = Peers(node.port, 4, hello(65_535))
    sent = 0
    for stream in range(1, options.requests * 2, 2):
        reset = frame(RST_STREAM, 0, stream, struct.pack(">I", CANCEL))
        if not peers.send_each(get_frame(stream, "/v1/articles/large") + reset):
            break
        sent += 1
    ended = peers.ended(2)
    peers.close()
    return f"{sent} GETs that are cancelled at once, on each of 4 connections: {ended} of them ended by the node"


def methods(node, _):
    names = ["POST", "PUT", "DELETE", "PATCH", "TRACE", "BREW", "get", "PROPFIND", "A" * 200, "PURGE"]
    for name in names:
        for target in ["/v1/articles/plain", "/v1/feed", "/"]:
            text, _ = exchange(node.port, head(target, "Content-Length: 0", "Connection: close", method=name))
            expect(statuses(text)[:1], {400, 405, 415}, f"{name[:20]} {target}")
    for line in [b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com\r\n\r\n", b"GET http://example.com/ HTTP/1.1\r\nHost: a\r\n\r\n",
                 b"\x00\x01\x02\r\n\r\n", b"GET\r\n\r\n", b"GET /v1/articles HTTP/9.9\r\n\r\n",
                 b"GET /v1/articles HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil.example\r\n\r\n",
                 b"G@T /v1/articles HTTP/1.1\r\nHost: a\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 500,
                 b"A" * 70_000]:
        text, _ = exchange(node.port, line)
        assert set(statuses(text)) <= {400, 404, 405, 414, 421, 431, 505}, (line[:40], text[:200])
    return f"{len(names)} methods: 405 or 400; no tunnel, no proxy"


def smuggling(node, _):
    """A request hidden in another one. A proxy in front that read the first one otherwise would take the response to the
    hidden one for that of somebody else."""
    hidden = b"GET /v1/articles/hidden HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    start = b"GET /v1/articles/plain HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    length = f"Content-Length: {len(hidden)}\r\n".encode()
    chunked = b"Transfer-Encoding: chunked\r\n"
    # Each is refused, or its body is read as what it is and the hidden request is not answered.
    shapes = {
        "a body of a GET": start + length + b"\r\n" + hidden,
        "Content-Length and Transfer-Encoding": start + length + chunked + b"\r\n0\r\n\r\n" + hidden,
        "Transfer-Encoding and Content-Length": start + chunked + length + b"\r\n0\r\n\r\n" + hidden,
        "two lengths": start + b"Content-Length: 0\r\n" + length + b"\r\n" + hidden,
        "a list of lengths": start + f"Content-Length: 0, {len(hidden)}\r\n\r\n".encode() + hidden,
        "a length with a sign": start + f"Content-Length: +{len(hidden)}\r\n\r\n".encode() + hidden,
        "a length in hexadecimal": start + b"Content-Length: 0x0\r\n\r\n" + hidden,
        "an unknown coding": start + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + hidden,
        "a coding after chunked": start + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + hidden,
        "a space before the colon": start + b"Content-Length : 0\r\n" + length + b"\r\n" + hidden,
        "a folded line": start + b"X: a\r\n Content-Length: 0\r\n" + length + b"\r\n" + hidden,
        "a folded coding": start + b"Transfer-Encoding:\r\n chunked\r\n" + length + b"\r\n0\r\n\r\n" + hidden,
        "a bare CR": start + b"X: a\rContent-Length: 0\r\n" + length + b"\r\n" + hidden,
        "a chunk size with a sign": start + chunked + b"\r\n+0\r\n\r\n" + hidden,
        "a chunk size that is too large": start + chunked + b"\r\n1" + b"0" * 20_000 + b"\r\n\r\n" + hidden,
        "an endless chunk extension": start + chunked + b"\r\n0;" + b"a" * 50_000 + b"\r\n\r\n" + hidden,
    }
    outcomes = {}
    for what, data in shapes.items():
        text, ended = exchange(node.port, data, 1.0)
        outcomes[what] = statuses(text)
        assert outcomes[what] or ended, f"{what}: neither a response nor an end"
        assert all(status < 500 for status in outcomes[what]), (what, outcomes[what])
        assert b"articles/hidden" not in text, f"{what}: the hidden request has a response: {outcomes[what]}"
    # The end of a line may be a bare LF (RFC 9112, 2.2): it must not change what the request is.
    text, _ = exchange(node.port, start.replace(b"\r\n", b"\n") + b"Connection: close\n\n", 1.0)
    expect(statuses(text)[:1], {200, 400}, "bare LF")
    refused = sum(found[:1] == [400] for found in outcomes.values())
    return f"{len(shapes)} shapes: {refused} are 400, no hidden request has a response"


def origins(node, options):
    for number in range(options.requests // 10):
        origin = f"https://evil-{number}.example"
        response = get(node.port, "/v1/articles/plain", {"Origin": origin})
        assert response.status == 403 and not response.header("access-control-allow-origin"), response
    for origin in ["null", "https://desk.example.evil.example", "https://desk.example:444", "http://desk.example", "x" * 15_000,
                   "https://desk.example, https://evil.example", "https://desk.example/"]:
        response = get(node.port, "/v1/articles/plain", {"Origin": origin})
        assert response.status == 403 and not response.header("access-control-allow-origin"), (origin, response)
    response = get(node.port, "/v1/articles/plain", {"Origin": "https://desk.example"})
    assert response.header("access-control-allow-origin") == "https://desk.example", response
    assert "origin" in response.header("vary").lower(), response
    return f"{options.requests // 10} foreign origins: 403, none is reflected"


def event_ids(node, _):
    for value, allowed in [("x" * 15_000, {400}), ("0" * 15_000, {200}), ("00000000:9223372036854775807", {400, 404, 409}),
                           ("00000000:99999999999999999999", {400}), ("-1", {400}), (":::::", {400}), ("\xff" * 100, {400}),
                           ("1:1:" + "A" * 14_000, {400}), ("x" * 100_000, {431})]:
        text, _ = exchange(node.port, head("/v1/feed", f"Last-Event-ID: {value}", "Connection: close"), 1.0)
        found = statuses(text)[:1]
        assert found and found[0] in allowed | {400, 409, 410}, (value[:30], found, text[:300])
    for query in ["after=" + "9" * 15_000, "interval=" + "9" * 15_000, "kind=" + ",".join(["article"] * 1_500),
                  "tag=" + ",".join(["a"] * 5_000)]:
        text, _ = exchange(node.port, head(f"/v1/feed?{query}", "Connection: close"), 1.0)
        expect(statuses(text)[:1], {400, 200} if query.startswith("kind") else {400}, query[:20])
    return "ids of up to 100 kB: 400 or 431, with the name of the header"


ATTACKS = [slow_readers_of_a_large_document, slow_readers_of_the_feed, slow_headers, half_requests, long_queries,
           paths_that_climb, large_headers, followers_that_never_read, conditions, ranges, floods, rapid_resets, methods,
           smuggling, origins, event_ids]


def fill(node):
    node.put({"name": "articles/plain", "headline": "Plain", "tags": ["tags/a"]}, {"name": "articles/moved", "headline": "Moved"})
    marks = {"text": "a", "marks": [0] * 700_000}
    node.put({"name": "articles/large", "headline": "Large", "body": {"blocks": [{"paragraph": {"spans": [marks]}}]}})
    node.command("article", "rm", "moved", "--moved-to", "plain")
    assert len(get(node.port, "/v1/articles/large").body) > 10 * MIB


def attack(node, probe, options, run):
    """Runs an attack, and checks what must hold after each. Returns its row."""
    rest, busy, mark, start = node.memory(), node.processor_seconds(), probe.mark(), time.monotonic()
    with Memory(node) as memory:
        outcome = run(node, options)
    seconds, busy = time.monotonic() - start, node.processor_seconds() - busy
    p99, calls = probe.since(mark)
    assert memory.peak <= CACHE_BYTES + BESIDE_CACHE, f"{run.__name__}: {memory.peak / MIB:.0f} MiB"
    assert node.is_ready() and request(node.port, "GET", "/v1/articles/plain").status == 200
    bound = max(rest, CACHE_BYTES) + RETAINED
    wait_until(lambda: node.memory() <= bound, f"{run.__name__}: memory is released", PATIENCE)
    return [run.__name__.replace("_", " "), outcome, f"{busy:.1f}", f"{seconds:.1f}", f"{memory.peak / MIB:.0f}",
            f"{node.memory() / MIB:.0f}", f"{p99:.1f} ({calls})"]


def parse():
    parser = argparse.ArgumentParser(prog="tests/edge/run attacks", description="Attacks on a node over HTTP.")
    parser.add_argument("--followers", type=int, default=2_000, help="feeds at once [default: 2000]")
    parser.add_argument("--reconnects", type=int, default=6_000, help="feeds opened in total [default: 6000]")
    parser.add_argument("--peers", type=int, default=200, help="slow connections [default: 200]")
    parser.add_argument("--requests", type=int, default=4_000, help="requests of each flood [default: 4000]")
    parser.add_argument("--only", action="append", metavar="NAME", help="an attack, by its function; may be repeated")
    parser.add_argument("--probe", nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args()


def main():
    options = parse()
    if options.probe:
        return probe(int(options.probe[0]), options.probe[1])
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    home = pathlib.Path(tempfile.mkdtemp(prefix="cable-attacks-"))
    try:
        node = Node(home, SETTINGS)
        fill(node)
        client = Probe(node, home)
        print("| Attack | Outcome | CPU of the node, s | Time, s | Peak memory, MiB | After, MiB | p99 of another client, ms (calls) |")
        print("| --- | --- | ---: | ---: | ---: | ---: | ---: |", flush=True)
        for run in ATTACKS:
            if not options.only or run.__name__ in options.only:
                print("| " + " | ".join(attack(node, client, options, run)) + " |", flush=True)
    finally:
        for process in Process.running:
            process.stop()
        shutil.rmtree(home, ignore_errors=True)
    return None


if __name__ == "__main__":
    main()
