"""nginx and Varnish in front of nodes, each with the configuration that docs/http.md publishes."""

import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor

from node import HOST, PROGRAM, ROOT, Node, Process, free_port, get, request, wait_until

# The step of the horizon in the checks that wait for it.
STEP = 5
# A cache may count whole seconds.
SECOND = 1.0
# How long the checks wait for a purge or a scheduled change; the report has the times that it took.
PATIENCE = 20
PUBLISHED = {"listen 80;": "listen {listen};", "127.0.0.1:7190": "{origin}", "/var/cache/nginx/cable": "{home}/cache",
             '.port = "7190"': '.port = "{port}"'}


def published(language):
    """Returns the configuration in docs/http.md in a language."""
    text = (ROOT / "docs/http.md").read_text(encoding="utf-8")
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    assert len(blocks) == 1, f"docs/http.md has {len(blocks)} blocks of {language}"
    return blocks[0]


def adapt(text, **values):
    """Replaces the addresses and directories of a published configuration by those of the check."""
    for found, replacement in PUBLISHED.items():
        text = text.replace(found, replacement.format(**values))
    assert "7190" not in text and "/var/" not in text and "listen 80" not in text, text
    return text


def end(connection):
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass


class Tap:
    """A relay between a cache and a node, which records the heads of requests and responses."""

    def __init__(self, origin):
        self.origin, self.requests, self.statuses, self.is_open, self.connections = origin, [], [], True, []
        self.server = socket.create_server((HOST, 0))
        self.port = self.server.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            client, _ = self.server.accept()
            if not self.is_open:
                client.close()
                continue
            node = socket.create_connection((HOST, self.origin))
            self.connections += [client, node]
            # A cache sends one request at a time on a connection: a piece that starts with a head is one.
            for source, target, record in [(client, node, self.record_request), (node, client, self.record_response)]:
                threading.Thread(target=self.relay, args=(source, target, record), daemon=True).start()

    @staticmethod
    def relay(source, target, record):
        try:
            while piece := source.recv(1 << 16):
                record(piece)
                target.sendall(piece)
        except OSError:
            pass
        end(source)
        end(target)

    def record_request(self, piece):
        if re.match(rb"[A-Z]+ /\S* HTTP/1\.1\r\n", piece):
            self.requests.append(piece.decode("latin-1"))

    def record_response(self, piece):
        if found := re.match(rb"HTTP/1\.1 (\d+)", piece):
            self.statuses.append(int(found[1]))

    def close(self):
        """Ends all connections, and refuses others until it is opened again."""
        self.is_open = False
        for connection in self.connections:
            end(connection)
        self.connections.clear()

    def clear(self):
        self.requests.clear()
        self.statuses.clear()


class Nginx(Process):
    def __init__(self, home, origin):
        self.port = free_port()
        home.mkdir(mode=0o755)
        server = adapt(published("nginx"), listen=f"{HOST}:{self.port}", origin=f"{HOST}:{origin}", home=home, port=0)
        kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        temporary = "\n".join(f"{kind}_temp_path {home}/{kind};" for kind in kinds)
        user = "user root;" if os.getuid() == 0 else ""
        (home / "nginx.conf").write_text(
            f"{user} daemon off; worker_processes 1; pid {home}/pid; error_log {home}/error;\n"
            f"events {{ worker_connections 512; }}\nhttp {{ access_log off; {temporary}\n{server}\n}}\n",
            encoding="utf-8")
        super().__init__("nginx", ["nginx", "-e", home / "error", "-c", home / "nginx.conf"], home)
        self.wait_until_listening(self.port)

    @staticmethod
    def is_hit(response):
        """Whether the cache sent the response without asking the node."""
        return response.header("x-cache") == "HIT"

    @staticmethod
    def is_revalidated(response):
        return response.header("x-cache") == "REVALIDATED"


class Varnish(Process):
    def __init__(self, home, origin):
        self.port = free_port()
        home.mkdir(mode=0o755)
        (home / "default.vcl").write_text(adapt(published("vcl"), listen="", origin="", home="", port=origin),
                                          encoding="utf-8")
        super().__init__("varnish", ["varnishd", "-F", "-j", "none", "-a", f"{HOST}:{self.port}", "-n", home / "work",
                                     "-f", home / "default.vcl", "-s", "malloc,64m"], home)
        self.wait_until_listening(self.port)

    @staticmethod
    def is_hit(response):
        return " " in response.header("x-varnish")

    @staticmethod
    def is_revalidated(response):
        return not Varnish.is_hit(response)


class Site:
    """A node and both caches, each behind a tap."""

    def __init__(self, home, settings):
        self.home = home
        self.node = Node(home / "node", settings)
        self.taps = {name: Tap(self.node.port) for name in ("nginx", "varnish")}
        self.caches = {"nginx": Nginx(home / "nginx", self.taps["nginx"].port),
                       "varnish": Varnish(home / "varnish", self.taps["varnish"].port)}

    def each(self):
        return [(name, self.caches[name], self.taps[name]) for name in self.caches]

    def with_each(self, check):
        """Runs a check of a cache with both at the same time."""
        with ThreadPoolExecutor(len(self.caches)) as pool:
            for run in [pool.submit(check, *cache) for cache in self.each()]:
                run.result()

    def stop(self):
        for process in [*self.caches.values(), self.node]:
            process.stop()


# Known instants.

def next_step(step=STEP):
    """Returns the next whole multiple of the horizon's step."""
    return (time.time() // step + 1) * step


def sleep_until(instant):
    time.sleep(max(0.0, instant - time.time()))


def within_step(check, step=STEP):
    """Runs a check from the start of a step of the horizon. Repeats it if the machine was too slow to end in that
    step, whose end changes what caches do. The check names its own targets each time."""
    for attempt in range(8):
        end = next_step(step) + step if step == STEP else next_step(step)
        if step == STEP:
            sleep_until(end - step + 0.05)
        try:
            found = check(attempt)
        except AssertionError:
            if time.time() < end - SECOND:
                raise
            continue
        if time.time() < end - SECOND:
            return found
    raise AssertionError("the machine is too slow: no check ended within a step of the horizon")


def rfc3339(instant):
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(instant))
    return f"{whole}.{round(instant % 1 * 1000):03}Z"


def http_date(text):
    return time.mktime(time.strptime(text, "%a, %d %b %Y %H:%M:%S GMT")) - time.timezone


def fresh_until(response):
    """Returns the time until which the client of a cache may reuse a response (RFC 9111, 4.2)."""
    age = max(0.0, response.received - http_date(response.header("date")), float(response.header("age") or 0))
    return response.received + (response.max_age or 0) - age


def poll(port, target, until):
    """Repeats a GET until a time. Returns the responses."""
    found = []
    while time.time() < until:
        found.append(get(port, target))
        time.sleep(0.03)
    return found


def poll_each(site, targets, until):
    """Polls targets through both caches at the same time."""
    keys = [(name, target) for name in site.caches for target in targets]
    with ThreadPoolExecutor(len(keys)) as pool:
        runs = {key: pool.submit(poll, site.caches[key[0]].port, key[1], until) for key in keys}
        return {key: run.result() for key, run in runs.items()}


# The checks. Each returns what it found, for the report.

def stores_and_revalidates(site):
    site.node.put(*({"name": f"articles/stored-{number}", "headline": "Stored"} for number in range(8)))

    def run(name, cache, tap):
        def store(attempt):
            target = f"/v1/articles/stored-{attempt}"
            tap.clear()
            first, second = get(cache.port, target), get(cache.port, target)
            assert first.status == 200 and not cache.is_hit(first), first
            assert second.status == 200 and cache.is_hit(second), second
            assert first.body == second.body == get(site.node.port, target).body
            head = request(cache.port, "HEAD", target)
            assert head.status == 200 and cache.is_hit(head) and not head.body, head
            current = get(cache.port, target, {"If-None-Match": first.header("etag")})
            assert current.status == 304 and not current.body, current
            assert len(tap.requests) == 1, (name, tap.requests)
            assert "authorization" in first.header("vary").lower(), first
            return target, first.body

        target, body = within_step(store)

        # Expired at the horizon, and confirmed by the node without its body.
        def confirm(_):
            tap.clear()
            again = get(cache.port, target)
            assert again.status == 200 and again.body == body and cache.is_revalidated(again), again
            assert tap.statuses == [304] and "if-none-match" in tap.requests[0].lower(), (tap.requests, tap.statuses)
            hit = get(cache.port, target)
            assert cache.is_hit(hit), hit
            for response in (again, hit):
                assert fresh_until(response) <= next_step() + SECOND, f"{name}: reusable for too long: {response}"

        within_step(confirm)

    site.with_each(run)
    return "MISS, HIT, 304 to the client from the cache, 304 from the node after the horizon"


def redirects_and_absences(site):
    names = ["articles/left", "articles/removed"]
    site.node.put(*({"name": name, "headline": "Gone", "path": f"/{name}"} for name in names))
    site.node.command("article", "rm", "left", "--moved-to", "stored-0")
    site.node.command("article", "rm", "removed", "--reason", "withdrawn")

    def run(name, cache, tap):
        def check(attempt):
            query = f"?at_least_revision={attempt}"
            for target, status in [("left", 308), ("removed", 410), ("none", 404)]:
                tap.clear()
                first, second = (get(cache.port, f"/v1/articles/{target}{query}") for _ in range(2))
                direct = get(site.node.port, f"/v1/articles/{target}{query}")
                assert first.status == second.status == direct.status == status, (name, first)
                assert cache.is_hit(second) and len(tap.requests) == 1, (name, target, second)
                assert second.body == direct.body and second.header("location") == direct.header("location"), second
            assert direct.max_age is not None, direct
        within_step(check)

    site.with_each(run)
    return "308, 410 and 404 are stored with Location and reason"


def clients_behind_a_cache_do_not_start_max_age_again(site):
    site.node.put({"name": "articles/late", "headline": "Late"})

    def run(name, cache, _):
        def check(_):
            start = time.time() // STEP * STEP
            first = get(cache.port, "/v1/articles/late")
            sleep_until(start + STEP - 1.6)
            late = get(cache.port, "/v1/articles/late")
            assert cache.is_hit(late), late
            assert late.max_age == first.max_age > 0
            assert fresh_until(late) <= start + STEP + 0.2, f"{name}: {fresh_until(late) - start}: {late}"
        within_whole_step(check)

    site.with_each(run)
    return "Age, or Date of the node: no client reuses a HIT beyond the horizon"


def within_whole_step(check):
    """Runs a check that needs nearly a whole step, or more. Repeats it if it failed after the end of its step, which a
    machine that is too slow does."""
    for attempt in range(4):
        sleep_until(next_step() + 0.05)
        start = time.time() // STEP * STEP
        try:
            return check(attempt)
        except AssertionError as error:
            if time.time() < start + STEP - 0.5 or attempt == 3:
                raise error
    return None


def expiry(site):
    """Articles that expire between two multiples of the horizon, at a whole second and between two."""
    start = next_step() + STEP
    expires = {"articles/expires-at": start + 3, "articles/expires-between": start + 3.5}
    for article, instant in expires.items():
        site.node.put({"name": article, "headline": "Expires", "expireTime": rfc3339(instant)})
    targets = [f"/v1/{article}" for article in expires]
    # The first responses are stored at a time at which max-age ends before the last second.
    sleep_until(start + 0.7)
    report = []
    for (name, target), responses in poll_each(site, targets, start + 3.5 + 4).items():
        instant = expires[target.removeprefix("/v1/")]
        assert responses[0].status == 200 and responses[-1].status == 410, (name, target, responses[-1])
        last = max(response.sent for response in responses if response.status == 200) - instant
        assert last <= SECOND, f"{name} served {target} {last:.2f} s after its time"
        hits = sum(site.caches[name].is_hit(response) for response in responses)
        assert hits > len(responses) / 3, f"{name}: {hits} of {len(responses)} from the cache"
        for response in responses:
            if response.status == 200:
                assert fresh_until(response) <= instant + SECOND, f"{name}: {fresh_until(response) - instant}: {response}"
        report.append(f"{name} {last:+.2f} s")
    return "last response before 410, relative to expire_time: " + ", ".join(report)


def scheduled(site):
    """Articles that appear at a multiple of the horizon and between two: never early, and not late."""
    start = next_step() + STEP
    times = {"articles/at": start + STEP, "articles/between": start + 2.5}
    for article, instant in times.items():
        site.node.put({"name": article, "headline": "Scheduled", "tags": ["tags/scheduled"], "path": f"/s/{article[9:]}",
                       "publishTime": rfc3339(instant)})
    targets = [f"/v1/{article}" for article in times] + [f"/v1/paths/s/{article[9:]}" for article in times]
    lists = "/v1/articles?tag=scheduled"
    report = []
    # The node publishes some milliseconds after the time. No cache may keep a response from in between.
    for (name, target), responses in poll_each(site, [*targets, lists], start + STEP + 2.5).items():
        if target == lists:
            for article, instant in times.items():
                shown = [response for response in responses if article.encode() in response.body]
                assert all(response.received >= instant for response in shown), (name, article)
                assert min(response.sent for response in shown) <= start + STEP + SECOND, (name, article)
            continue
        article = "articles/" + target.rsplit("/", 1)[1]
        assert responses[0].status == 404 and responses[-1].status == 200, (name, target, responses[-1])
        shown = min(response.received for response in responses if response.status == 200)
        assert shown >= times[article], f"{name} showed {target} {times[article] - shown:.3f} s early"
        late = min(response.sent for response in responses if response.status == 200) - start - STEP
        assert late <= SECOND, f"{name} showed {target} {late:.2f} s after the horizon"
        report.append(f"{name} {shown - times[article]:+.2f} s")
    return "first response relative to publish_time: " + ", ".join(report)


PENDING = {"headline": "Secret", "tags": ["tags/news"], "section": "sections/world", "path": "/secret"}
COMPARED = ["/v1/articles", "/v1/articles?tag=news", "/v1/articles?section=world&view=full", "/v1/articles?page_size=1",
            "/v1/articles/secret", "/v1/articles/secret?view=x", "/v1/articles/plain", "/v1/articles/plain?include=tags",
            "/v1/paths/secret", "/v1/paths/none", "/v1/tags", "/v1/tags/news", "/v1/sections/world", "/v1/authors/none",
            "/v1/collections/front", "/v1/nothing", "/", "/none"]


def nothing_pending_can_be_inferred(home):
    """Two nodes with the same content, one of which has a pending version: at the same moment of the clock, they respond
    alike, header by header. And what the node with the pending version sends is what it sent before, etags included."""
    settings = {"WEB__HORIZON": f"{STEP}s"}
    first = Node(home / "a", settings)
    first.put({"name": "articles/plain", "headline": "Plain", "tags": ["tags/news"], "section": "sections/world"})
    first.put({"name": "tags/news", "displayName": "News"})
    first.put({"name": "sections/world", "displayName": "World"})
    first.put({"name": "collections/front", "title": "Front", "articles": ["articles/plain", "articles/secret"]})
    first.stop()
    # A copied store has a log id of its own.
    shutil.copytree(home / "a" / "data", home / "b" / "data")
    nodes = [Node(home / "a", settings), Node(home / "b", settings)]
    before = {target: lasting(get(nodes[0].port, target)) for target in COMPARED}
    due = next_step() + 2 * STEP + 2.5
    nodes[0].put({"name": "articles/secret", "publishTime": rfc3339(due), "expireTime": rfc3339(due + 1), **PENDING})
    compared = 0
    while time.time() < due - 1.5:
        for target in COMPARED:
            for method in ("GET", "HEAD"):
                compared += 1
                compare(nodes, method, target)
            after = lasting(get(nodes[0].port, target))
            assert time.time() > due or after == before[target], f"{target}: {before[target]}\n{after}"
        compare_feeds(nodes)
        compared += 1
    assert compared > len(COMPARED) * 2, "the machine is too slow"
    wait_until(lambda: get(nodes[0].port, "/v1/articles/secret").status in (200, 410), "the article appears")
    for node in nodes:
        node.stop()
    return f"{compared} pairs of responses with and without a pending version are equal"


def lasting(response):
    """Returns what of a response depends on neither the clock nor the number of writes."""
    changing = ("date", "cache-control", "cable-revision")
    return response.status, {name: value for name, value in response.headers.items() if name not in changing}, response.body


def masked(text):
    """Replaces the id of the log and what is made with it: etags and page tokens."""
    return re.sub(rb"\b([0-9a-f]{8}(?=[-\"])|[0-9a-f]{32}\b)|(?<=PageToken\":\")[\w-]+", b"X", text)


def compare(nodes, method, target):
    """Requires that nodes respond alike. A pair whose clocks differ by a second is repeated."""
    for _ in range(10):
        pair = [request(node.port, method, target) for node in nodes]
        for response in pair:
            response.headers["cable-revision"] = "cable-revision" in response.headers
            response.headers["etag"] = masked(response.header("etag").encode())
        alike = [(response.status, response.headers, masked(response.body)) for response in pair]
        if alike[0] == alike[1]:
            return
        moments = {(response.headers["date"], int(response.sent), int(response.received)) for response in pair}
        assert len(moments) > 1, f"{method} {target}: {alike[0]}\n{alike[1]}"
    raise AssertionError(f"{method} {target} differs: {alike[0]}\n{alike[1]}")


def compare_feeds(nodes):
    found = []
    for node in nodes:
        with Follower(node.port, "/v1/feed?snapshot=true&interval=1") as follower:
            text = follower.read_until(b"event: snapshot_end")
            head, _, events = text.partition(b"\r\n\r\n")
            head = re.sub(rb"date: [^\r]*", b"", head, flags=re.IGNORECASE)
            # An id is a position, which any write moves.
            events = re.sub(rb"\nid: ?\S+", b"", events.partition(b"event: snapshot_end")[0])
            found.append((head, masked(events)))
    assert found[0] == found[1], found


class Follower:
    """A client of a feed over HTTP/1.1."""

    def __init__(self, port, target):
        self.received = b""
        self.socket = socket.create_connection((HOST, port), PATIENCE)
        self.socket.sendall(f"GET {target} HTTP/1.1\r\nHost: {HOST}:{port}\r\n\r\n".encode())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def read_until(self, text):
        self.socket.settimeout(PATIENCE)
        while text not in self.received:
            piece = self.socket.recv(1 << 16)
            assert piece, f"the feed ended: {self.received}"
            self.received += piece
        return self.received


def feeds_pass_through(site):
    before = site.node.metric("cable_feeds")
    slowest = 0.0
    for name, cache, _ in site.each():
        followers = [Follower(cache.port, "/v1/feed?tag=live&interval=1") for _ in range(8)]
        start = time.monotonic()
        for follower in followers:
            follower.read_until(b"event: checkpoint")
        opened = time.monotonic() - start
        start = time.monotonic()
        site.node.put({"name": f"articles/live-{name}", "headline": "Live", "tags": ["tags/live"]})
        for follower in followers:
            follower.read_until(f"articles/live-{name}".encode())
        slowest = max(slowest, opened, time.monotonic() - start)
        for follower in followers:
            follower.socket.close()
    wait_until(lambda: site.node.metric("cable_feeds") == before, "the node closes the feeds of clients that are gone")
    return f"8 followers of one address through each cache: open, and have a change, after at most {slowest:.1f} s"


def tokens_are_private(home):
    site = Site(home, {"WEB__HORIZON": "1h", "WEB__MAX_AGE": "1h", "AUTH__ANONYMOUS": "reader"})
    tokens = {}
    for name, *options in [("cms", "--role", "publisher"), ("all", "--role", "reader"),
                           ("partner", "--role", "reader", "--tag", "shared")]:
        made = subprocess.run([PROGRAM, "token", "new", name, *options, "--data", "data"], cwd=site.node.home,
                              check=True, capture_output=True, text=True)
        tokens[name] = made.stdout.strip()
    def is_accepted():
        return get(site.node.port, "/v1/articles", {"Authorization": f"Bearer {tokens['partner']}"}).status == 200
    wait_until(is_accepted, "the node reads the credentials")
    token_file = site.node.home / "cms.token"
    token_file.write_text(tokens["cms"], encoding="utf-8")
    site.node.token_file = token_file
    site.node.put({"name": "articles/own", "headline": "Own"},
                  {"name": "articles/shared", "headline": "Shared", "tags": ["tags/shared"]})
    targets = ["/v1/articles", "/v1/articles/own", "/v1/articles/shared", "/v1/articles/none", "/v1/tags"]
    callers = [None, "partner", "all", None, "partner"]

    def ask(port, target, caller):
        return get(port, target, {"Authorization": f"Bearer {tokens[caller]}"} if caller else None)

    def check(_):
        for name, cache, tap in site.each():
            for target in targets:
                for caller in callers:
                    direct, sent = ask(site.node.port, target, caller), len(tap.requests)
                    response = ask(cache.port, target, caller)
                    assert (response.status, response.body) == (direct.status, direct.body), (name, caller, response)
                    if caller:
                        assert direct.header("cache-control").startswith("private"), direct
                        assert not cache.is_hit(response) and len(tap.requests) == sent + 1, (name, caller, response)
                assert cache.is_hit(ask(cache.port, target, None)), (name, target)
            wrong = get(cache.port, "/v1/articles", {"Authorization": "Bearer nonsense"})
            assert wrong.status in (401, 429) and wrong.header("cache-control") == "no-store", wrong
            assert ask(cache.port, "/v1/articles", None).status == 200
    within_step(check, 3600)
    site.stop()
    return "responses to tokens are private: never stored, never sent to another caller"


def outages(site):
    """A cache serves nothing that has expired, even when the node is away."""
    site.node.put({"name": "articles/away", "headline": "Away"})

    def run(name, cache, tap):
        def check(_):
            start = time.time() // STEP * STEP
            tap.is_open = True
            wait_until(lambda: get(cache.port, "/v1/articles/away").status == 200, "the cache reaches the node")
            tap.close()
            assert cache.is_hit(get(cache.port, "/v1/articles/away")), "the cache needs no node for what is fresh"
            assert time.time() < start + STEP - SECOND, "too slow"
            sleep_until(start + STEP + SECOND)
            late = get(cache.port, "/v1/articles/away")
            assert late.status in (502, 503, 504), f"{name}: {late}"
            tap.is_open = True
            wait_until(lambda: get(cache.port, "/v1/articles/away").status == 200, "the cache reaches the node again")
        within_whole_step(check)

    site.with_each(run)
    return "nothing stale when the node is away"


# Purges.

def targets_of_purges():
    ids = ["storm", "calm", "moved", "gone", "later"]
    targets = [f"/v1/articles/{id}" for id in ids]
    targets += [f"/v1/articles/{id}?include=authors,sections,tags" for id in ids[:2]]
    targets += ["/v1/articles", "/v1/articles?page_size=1", "/v1/articles?view=reference"]
    targets += [f"/v1/articles?{name}={id}" for name, ids in [
        ("tag", ["weather", "coast", "politics"]), ("any_tag", ["coast,politics"]),
        ("section", ["news", "sport"]), ("author", ["ann", "bob"])] for id in ids]
    targets += ["/v1/articles?tag=weather&section=news&author=ann&include=authors,tags"]
    targets += [f"/v1/paths/{path}" for path in ["news/storm", "news/storm-2", "alias", "%C3%A9t%C3%A9", "news/calm"]]
    for kind, ids in [("authors", ["ann", "bob"]), ("sections", ["news", "sport"]), ("tags", ["weather", "coast"]),
                      ("collections", ["front", "back"])]:
        targets += [f"/v1/{kind}", *(f"/v1/{kind}/{id}" for id in ids)]
    return [*targets, "/v1/collections/front?view=full&include=authors"]


STORM = {"name": "articles/storm", "headline": "Storm", "tags": ["tags/weather"], "section": "sections/news",
         "byline": {"credits": [{"author": "authors/ann"}]}, "path": "/news/storm", "aliasPaths": ["/alias"]}
CALM = {"name": "articles/calm", "headline": "Calm", "tags": ["tags/coast"], "section": "sections/sport",
        "path": "/news/calm"}


def changes_to_purge(node):
    """Returns changes of every kind of entity, each with a target that it changes."""
    retagged = {**STORM, "tags": ["tags/coast"]}
    removed = node.command
    return [
        ("a headline", lambda: node.put({**STORM, "headline": "Storm over Norwick"}), "/v1/articles/storm"),
        ("tags", lambda: node.put(retagged), "/v1/articles?tag=weather"),
        ("a section", lambda: node.put({**retagged, "section": "sections/sport"}), "/v1/articles?section=sport"),
        ("an author", lambda: node.put({**retagged, "byline": {"credits": [{"author": "authors/bob"}]}}),
         "/v1/articles?author=ann"),
        ("a path", lambda: node.put({**retagged, "path": "/news/storm-2"}), "/v1/paths/news/storm-2"),
        ("a path in other letters", lambda: node.put({**retagged, "path": "/\u00e9t\u00e9"}), "/v1/paths/%C3%A9t%C3%A9"),
        ("another article", lambda: node.put({"name": "articles/later", "headline": "Later", "tags": ["tags/politics"]}),
         "/v1/articles?any_tag=coast,politics"),
        ("an author's name", lambda: node.put({"name": "authors/bob", "displayName": "Robert"}), "/v1/authors/bob"),
        ("a section's name", lambda: node.put({"name": "sections/news", "displayName": "The news"}), "/v1/sections"),
        ("a tag's name", lambda: node.put({"name": "tags/coast", "displayName": "The coast"}), "/v1/tags/coast"),
        ("a new tag", lambda: node.put({"name": "tags/new", "displayName": "New"}), "/v1/tags"),
        ("a collection", lambda: node.put({"name": "collections/front", "title": "Front", "articles": ["articles/calm"]}),
         "/v1/collections/front"),
        ("a withdrawal", lambda: removed("article", "rm", "calm", "--reason", "withdrawn"), "/v1/articles/calm"),
        ("a return", lambda: node.put(CALM), "/v1/paths/news/calm"),
        ("a move", lambda: removed("article", "rm", "moved", "--moved-to", "storm"), "/v1/articles/moved"),
        ("a kill", lambda: removed("article", "rm", "gone", "--reason", "killed"), "/v1/articles/gone"),
        ("a removed author", lambda: removed("author", "rm", "ann"), "/v1/authors/ann"),
        ("a removed collection", lambda: removed("collection", "rm", "back"), "/v1/collections/back"),
    ]


def purges(home):
    """The example `purge` between a node and Varnish, with a horizon so far away that nothing expires by itself."""
    site = Site(home, {"WEB__HORIZON": "1h", "WEB__MAX_AGE": "1h"})
    node, cache = site.node, site.caches["varnish"]
    node.put(STORM, CALM, {"name": "articles/moved", "headline": "Moved"},
             {"name": "articles/gone", "headline": "Gone", "tags": ["tags/weather"], "path": "/gone"})
    node.put({"name": "articles/quiet", "headline": "Quiet", "language": "en"})
    node.put(*({"name": f"authors/{id}", "displayName": id} for id in ("ann", "bob")))
    node.put(*({"name": f"sections/{id}", "displayName": id} for id in ("news", "sport")))
    node.put(*({"name": f"tags/{id}", "displayName": id} for id in ("weather", "coast")))
    node.put({"name": "collections/front", "title": "Front", "articles": ["articles/storm", "articles/gone"]},
             {"name": "collections/back", "title": "Back", "articles": ["articles/moved"]})
    position = site.home / "purge.position"
    purge = Process("purge", [os.environ["CABLE_PURGE"], "--position-file", position, f"http://{HOST}:{cache.port}"],
                    site.home, {"CABLE_ENDPOINTS": f"http://{HOST}:{node.port}"})
    wait_until(position.exists, "the example has a position")
    targets, quiet = targets_of_purges(), "/v1/articles/quiet"
    slowest = [0.0]

    def is_current(target):
        direct, cached = get(node.port, target), get(cache.port, target)
        return (direct.status, direct.body, direct.header("location")) == (
            cached.status, cached.body, cached.header("location"))

    def check(attempt):
        assert attempt == 0, "an hour ended during the check: run it again"
        get(cache.port, quiet)
        for what, change, changed in changes_to_purge(node):
            for target in targets:
                get(cache.port, target)
                assert cache.is_hit(get(cache.port, target)), (what, target)
            before = get(cache.port, changed).body
            change()
            start = time.monotonic()
            wait_until(lambda changed=changed, before=before: get(cache.port, changed).body != before,
                       f"{what}: {changed} is purged", PATIENCE)
            for target in targets:
                wait_until(lambda target=target: is_current(target), f"{what}: {target} is current", PATIENCE)
            slowest[0] = max(slowest[0], time.monotonic() - start)
            assert cache.is_hit(get(cache.port, quiet)), f"{what}: an article that it does not concern was purged"
        moved = get(cache.port, "/v1/articles/moved?view=basic")
        moved = get(cache.port, "/v1/articles/moved?view=basic")
        assert moved.status == 308 and moved.header("location") == "/v1/articles/storm?view=basic", moved
        gone = get(cache.port, "/v1/articles/gone")
        assert gone.status == 410 and cache.is_hit(moved) and cache.is_hit(gone), (moved, gone)
        purge_by_hand(site, quiet)
    within_step(check, 3600)
    purge.stop()
    long_keys(site)
    count = len(changes_to_purge(node))
    site.stop()
    return f"{count} changes, {len(targets)} resources: all current after at most {slowest[0]:.2f} s"


def purge_by_hand(site, target):
    """The commands of docs/http.md: by key, by path, of everything; and not by a stranger."""
    cache = site.caches["varnish"]
    for headers, path in [({"Surrogate-Key": "article:quiet articles"}, "/"), ({}, target), ({"Surrogate-Key": "all"}, "/")]:
        assert cache.is_hit(get(cache.port, target)), headers
        purged = request(cache.port, "PURGE", path, headers)
        assert purged.status == 200, purged
        assert not cache.is_hit(get(cache.port, target)), headers
        get(cache.port, target)
    other = get(cache.port, target, {"Host": "news.example"})
    assert other.status == 200 and cache.is_hit(other), other


def long_keys(site):
    """Responses with as many keys as there are pass through both caches."""
    ids = [f"{'x' * 90}{number:03}" for number in range(70)]
    site.node.put(*({"name": f"articles/{id}", "headline": "Long", "tags": ["tags/long"]} for id in ids))
    target = "/v1/articles?tag=long&page_size=70&view=reference"
    direct = get(site.node.port, target)
    assert len(direct.header("surrogate-key")) > 6_000, len(direct.header("surrogate-key"))
    filtered = "/v1/articles?any_tag=" + ",".join(ids[:64])
    for name, cache, _ in site.each():
        for wanted in (target, filtered):
            response = get(cache.port, wanted)
            assert response.status == 200, (name, response)
            assert cache.is_hit(get(cache.port, wanted)), (name, wanted[:40])


# Those that share a node, one after the other, and those that have nodes of their own, beside them.
SHARED = [stores_and_revalidates, redirects_and_absences, clients_behind_a_cache_do_not_start_max_age_again, expiry, scheduled,
          feeds_pass_through, outages]
OWN = [nothing_pending_can_be_inferred, tokens_are_private, purges]


def run_check(check, argument):
    start = time.monotonic()
    try:
        outcome, is_good = check(argument), True
    except Exception:
        outcome, is_good = traceback.format_exc()[-6000:], False
    name = check.__name__.replace("_", " ")
    print(f"{'ok' if is_good else 'FAILED'}  {name}: {outcome} [{time.monotonic() - start:.0f} s]", flush=True)
    return is_good


def run_shared(home, checks):
    if not checks:
        return True
    site = Site(home / "shared", {"WEB__HORIZON": f"{STEP}s"})
    return all([run_check(check, site) for check in checks])


def run_own(home, checks):
    return all([run_check(check, home / check.__name__) for check in checks])


def main():
    home = pathlib.Path(tempfile.mkdtemp(prefix="cable-edge-"))
    # The caches can run as other users.
    home.chmod(0o755)
    wanted = sys.argv[1:] or [check.__name__ for check in SHARED + OWN]
    unknown = set(wanted) - {check.__name__ for check in SHARED + OWN}
    if unknown:
        sys.exit(f"unknown check: {', '.join(sorted(unknown))}; there are "
                 f"{', '.join(check.__name__ for check in SHARED + OWN)}")
    try:
        with ThreadPoolExecutor(2) as pool:
            runs = [pool.submit(run, home, [check for check in checks if check.__name__ in wanted])
                    for run, checks in [(run_shared, SHARED), (run_own, OWN)]]
            is_good = all([run.result() for run in runs])
    finally:
        for process in Process.running:
            process.stop()
        shutil.rmtree(home, ignore_errors=True)
    sys.exit(0 if is_good else 1)


if __name__ == "__main__":
    main()
