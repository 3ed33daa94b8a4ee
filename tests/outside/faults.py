"""Toxiproxy between clients and a node with TLS: feeds resume without a gap, and errors have the right status."""

import contextlib
import json
import pathlib
import signal
import subprocess
import sys
import threading
import time
import urllib.request

import grpc
from cable.v1 import article_pb2, body_pb2, content_pb2, content_pb2_grpc, feed_pb2_grpc, publishing_pb2
from cable.v1 import publishing_pb2_grpc, span_pb2
from node import START_SECONDS, free_port

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "clients/python"))
from follower import RETRYABLE, Follower  # noqa: E402

TAG = "tags/harbour"
# A body of 100 KB, for links with little bandwidth.
LARGE = "articles/large"
CHANGES = 20
FAULT_SECONDS = 2
CATCH_UP_SECONDS = 20
# The faults of a feed: the name, the effect on its stream, the type of the toxic and its attributes.
DELAYS, BREAKS, HANGS = "delays", "breaks", "hangs"
FAULTS = [
    ("latency", DELAYS, "latency", {"latency": 200, "jitter": 100}),
    ("bandwidth of 10 KB/s", DELAYS, "bandwidth", {"rate": 10}),
    ("slices of 40 bytes", DELAYS, "slicer", {"average_size": 40, "size_variation": 20, "delay": 500}),
    ("reset after 300 ms", BREAKS, "reset_peer", {"timeout": 300}),
    ("close after 4 KB", BREAKS, "limit_data", {"bytes": 4000}),
    ("a restart, seen 500 ms late", BREAKS, "slow_close", {"delay": 500}),
    ("silence of 300 ms, then close", BREAKS, "timeout", {"timeout": 300}),
    ("silence", HANGS, "timeout", {"timeout": 0}),
]
CODES = grpc.StatusCode
# A unary call with a deadline of 1 s: the request, the fault and the expected code.
UNARY = [
    ("articles/small", "latency", {"latency": 200}, CODES.OK),
    ("articles/small", "bandwidth", {"rate": 10}, CODES.OK),
    (LARGE, "bandwidth", {"rate": 10}, CODES.DEADLINE_EXCEEDED),
    ("articles/small", "slicer", {"average_size": 40, "size_variation": 20, "delay": 500}, CODES.OK),
    ("articles/small", "reset_peer", {"timeout": 0}, CODES.UNAVAILABLE),
    (LARGE, "limit_data", {"bytes": 20_000}, CODES.UNAVAILABLE),
    ("articles/small", "timeout", {"timeout": 200}, CODES.UNAVAILABLE),
    ("articles/small", "timeout", {"timeout": 0}, CODES.DEADLINE_EXCEEDED),
]
# The settings of the node whose followers vanish, their number, and the limit on the time until all are released.
# The default interval is 30 s and the default timeout 10 s.
QUICK_PINGS = '[connections]\nping_interval = "1s"\nping_timeout = "1s"\n'
VANISHED, VANISHED_SECONDS = 20, 5


class Toxiproxy:
    """The server of Toxiproxy. Each fault has a proxy of its own: Toxiproxy 2.5.0 may hang when a toxic is removed."""

    def __init__(self, program, log):
        self.api = free_port()
        with open(log, "wb") as output:
            command = [program, "-host", "127.0.0.1", "-port", str(self.api)]
            self.process = subprocess.Popen(command, stdout=output, stderr=output)
        end = time.monotonic() + START_SECONDS
        while not self.is_ready():
            assert time.monotonic() < end and self.process.poll() is None, "toxiproxy does not start"
            time.sleep(0.05)

    def call(self, method, path, body=None):
        request = urllib.request.Request(f"http://127.0.0.1:{self.api}{path}", method=method,
                                         data=None if body is None else json.dumps(body).encode())
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.read()

    def is_ready(self):
        try:
            return bool(self.call("GET", "/version"))
        except OSError:
            return False

    def proxy(self, node):
        """Returns the port of a new proxy for a node."""
        port = free_port()
        proxy = {"name": str(port), "listen": f"127.0.0.1:{port}", "upstream": f"127.0.0.1:{node.port}"}
        self.call("POST", "/proxies", proxy)
        return port

    def add(self, port, kind, attributes):
        """Applies a toxic to what the node sends, also over open connections."""
        toxic = {"type": kind, "stream": "downstream", "toxicity": 1, "attributes": attributes}
        self.call("POST", f"/proxies/{port}/toxics", toxic)

    def freeze(self):
        """Stops the process: nothing passes either way, and no connection is closed."""
        self.process.send_signal(signal.SIGSTOP)

    def stop(self):
        self.process.kill()
        self.process.wait(10)


def channel(node, port, token="website"):
    with open(node.path("tls/ca.pem"), "rb") as file:
        tls = grpc.ssl_channel_credentials(file.read())
    credentials = grpc.composite_channel_credentials(tls, grpc.access_token_call_credentials(node.token_of(token)))
    options = [
        ("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0),
        ("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 500),
    ]
    return grpc.secure_channel(f"localhost:{port}", credentials, options)


class Writer:
    """Publishes articles directly to the node, and records their revisions."""

    def __init__(self, node):
        self.channel, self.revisions = channel(node, node.port, token="cms"), []
        self.publishing = publishing_pb2_grpc.PublishingServiceStub(self.channel)

    def put(self, name, headline, **fields):
        article = article_pb2.Article(name=name, headline=headline, **fields)
        response = self.publishing.PutArticle(publishing_pb2.PutArticleRequest(article=article), timeout=20)
        return response.position.revision

    def publish(self, fault):
        """Publishes CHANGES articles over FAULT_SECONDS."""
        for _ in range(CHANGES):
            self.publish_one(fault)
            time.sleep(FAULT_SECONDS / CHANGES)

    def publish_one(self, fault):
        number = len(self.revisions)
        headline = f"{fault} {number} " + "x" * 400
        self.revisions.append(self.put(f"articles/harbour-{number % CHANGES}", headline, tags=[TAG]))


class Reader(Follower):
    """A follower that records the revisions of all changes, in a thread of its own."""

    def __init__(self, open_channel):
        super().__init__(TAG)
        self.feeds, self.revisions = feed_pb2_grpc.FeedServiceStub(open_channel), []
        self.call, self.streams, self.failure, self.ends = None, 0, None, False
        # Held while a stream opens, so that `move` and `end` cancel the current one.
        self.lock = threading.Lock()
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def apply(self, changes):
        self.revisions += [change.revision for change in changes]

    def read(self):
        while not self.ends:
            try:
                self.follow(self, sys.maxsize)
            except grpc.RpcError as error:
                if error.code() not in RETRYABLE:
                    self.failure = error
                    return
                time.sleep(0.1)

    def Watch(self, request):
        """Opens a stream of the feed, as `Follower` does by the stub."""
        with self.lock:
            self.streams += 1
            self.call = self.feeds.Watch(request)
            if self.ends:
                self.call.cancel()
            return self.call

    def move(self, open_channel):
        """Resumes over another channel."""
        with self.lock:
            self.feeds = feed_pb2_grpc.FeedServiceStub(open_channel)
            self.call.cancel()

    def wait_for(self, revisions, text):
        wait_until(lambda: len(self.revisions) >= len(revisions) or self.failure, CATCH_UP_SECONDS,
                   lambda: f"{text}: {len(self.revisions)} of {len(revisions)} changes")
        assert self.failure is None, f"{text}: {self.failure}"
        assert self.revisions == revisions, f"{text}: the feed differs from what was published"

    def end(self):
        with self.lock:
            self.ends = True
            self.call.cancel()
        self.thread.join(10)
        assert not self.thread.is_alive() and self.failure is None, f"{self.failure}"


def wait_until(is_reached, seconds, text):
    end = time.monotonic() + seconds
    while not is_reached():
        assert time.monotonic() < end, text()
        time.sleep(0.02)


def feeds(toxiproxy, node, writer):
    """A fault begins while a feed is open. Once it is over, the follower has each change once and in order."""
    direct = channel(node, node.port)
    reader = Reader(direct)
    wait_until(lambda: reader.request.HasField("after"), CATCH_UP_SECONDS, lambda: "the feed has no position")
    for name, effect, kind, attributes in FAULTS:
        port = toxiproxy.proxy(node)
        with channel(node, port) as proxied:
            reader.move(proxied)
            node.wait_for_metric("cable_feeds", lambda value: value == 1, CATCH_UP_SECONDS)
            writer.publish_one(name)
            reader.wait_for(writer.revisions, name)
            before = reader.streams
            toxiproxy.add(port, kind, attributes)
            writer.publish(name)
            if kind == "slow_close":
                node.stop()
                node.start()
            if effect == BREAKS:
                wait_until(lambda: reader.streams > before, CATCH_UP_SECONDS, lambda: f"{name}: the feed did not break")
            resumed = reader.streams - before
            assert effect == BREAKS or resumed == 0, f"{name}: {resumed} resumed streams"
            if effect != DELAYS:
                reader.move(direct)
            reader.wait_for(writer.revisions, name)
            reader.move(direct)
        print(f"feed, {name}: {CHANGES} changes once and in order, {resumed} resumed streams")
    reader.end()


def unary(toxiproxy, node):
    for name, kind, attributes, expected in UNARY:
        port = toxiproxy.proxy(node)
        toxiproxy.add(port, kind, attributes)
        with channel(node, port) as proxied:
            start = time.monotonic()
            found = code(content_pb2_grpc.ContentServiceStub(proxied), content_pb2.GetArticleRequest(name=name))
            elapsed = time.monotonic() - start
        assert found == expected, f"{name}, {kind} {attributes}: {found}, expected {expected}"
        assert elapsed < 1.5, f"{name}, {kind} {attributes}: {elapsed:.1f} s"
    print(f"unary calls: {len(UNARY)} faults, each with the expected status within its deadline")


def code(content, request):
    try:
        content.GetArticle(request, timeout=1)
        return CODES.OK
    except grpc.RpcError as error:
        return error.code()


def vanished(toxiproxy, node):
    """The node closes the connections of followers that are silent from one moment to the next, without FIN."""
    before = {name: node.metric(name) for name in ("cable_connections", "cable_feeds", "process_open_fds")}
    # The store opens files for its readers when it first needs them. A leak would be of one file per follower.
    before["process_open_fds"] += VANISHED // 2
    port = toxiproxy.proxy(node)
    with contextlib.ExitStack() as open_channels:
        readers = [Reader(open_channels.enter_context(channel(node, port))) for _ in range(VANISHED)]
        node.wait_for_metric("cable_feeds", lambda value: value == VANISHED, 10)
        assert node.metric("process_open_fds") > before["process_open_fds"]
        toxiproxy.freeze()
        start = time.monotonic()
        for name, value in before.items():
            node.wait_for_metric(name, lambda found, value=value: found <= value, VANISHED_SECONDS)
        seconds = time.monotonic() - start
        for reader in readers:
            reader.end()
    print(f"{VANISHED} followers that vanished: connections, feeds and descriptors released after {seconds:.1f} s "
          f"(ping after 1 s, 1 s for the response)")


def run(program, node, quick, scratch):
    """Takes two nodes: one with the default settings, and one with QUICK_PINGS."""
    writer = Writer(node)
    writer.put("articles/small", "Small")
    paragraph = body_pb2.Paragraph(spans=[span_pb2.Span(text="x" * 100_000)])
    writer.put(LARGE, "Large", body=body_pb2.Body(blocks=[body_pb2.Block(paragraph=paragraph)]))
    toxiproxy = Toxiproxy(program, scratch / "toxiproxy.log")
    try:
        unary(toxiproxy, node)
        feeds(toxiproxy, node, writer)
        vanished(toxiproxy, quick)
    finally:
        toxiproxy.stop()
