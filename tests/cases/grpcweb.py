"""Raw calls of Cable by gRPC-Web over HTTP/1.1: lets a script choose the exact bytes of a request. Standard library only.

Usage: grpcweb.py PORT CASE [ARGUMENT...]; the cases are the functions at the end. Prints one line.
"""
import http.client
import sys
import urllib.parse

PORT = int(sys.argv[1])


def varint(n):
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    return bytes(out + bytes([n]))


def field(number, value):
    """A field of a message: bytes and text are length-delimited, numbers varints."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


def entry(number, key, value):
    """An entry of a map<string, string>."""
    return field(number, field(1, key) + field(2, value))


def post(method, message, timeout=60):
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=timeout)
    body = b"\0" + len(message).to_bytes(4, "big") + message
    headers = {"content-type": "application/grpc-web+proto", "x-grpc-web": "1"}
    connection.request("POST", f"/{method}" if method[:4] == "grpc" else f"/cable.v1.{method}", body, headers)
    return connection.getresponse()


def frames(answer):
    """(flag, length, payload) of each frame; a payload above 1 MiB is read, but not kept."""
    while len(head := answer.read(5)) == 5:
        length, rest, kept = int.from_bytes(head[1:], "big"), 0, b""
        while rest < length:
            part = answer.read(min(1 << 20, length - rest))
            if not part:
                return
            kept, rest = kept + part if length <= 1 << 20 else b"", rest + len(part)
        yield head[0], length, kept


def call(method, message):
    """(grpc-status, text) of a unary call."""
    answer = post(method, message)
    found = {k.lower(): v for k, v in answer.getheaders()}
    for flag, _, payload in frames(answer):
        if flag & 128:
            found.update(line.split(":", 1) for line in payload.decode().split("\r\n") if ":" in line)
    return int(found.get("grpc-status", "-1")), urllib.parse.unquote(found.get("grpc-message", "").strip())


def spoken(outcomes):
    return ", ".join("OK" if status == 0 else f"{status} {text}" for status, text in outcomes)


def annotations():
    """PutArticle twice with one request_id: the same article, its map in another order."""
    base = field(1, "articles/map") + field(11, "H")
    a, b = entry(33, "desk", "sea"), entry(33, "shift", "late")
    requests = [field(1, base + pair) + field(3, "same-article") for pair in (a + b, a + b, b + a)]
    print(spoken(call("PublishingService/PutArticle", request) for request in requests))


def correct(id, text):
    """A correction as a patch: one notice."""
    article = field(1, f"articles/{id}") + field(28, field(1, 1) + field(2, text))
    print(spoken([call("PublishingService/PatchArticle", field(1, article))]))


def health(service):
    """What the health check says of a service."""
    print(spoken([call("grpc.health.v1.Health/Check", field(1, service))]))


def patch_all(prefix, count, kicker):
    """One commit that patches the kicker of `count` articles."""
    def change(i):
        article = field(1, f"articles/{prefix}-{i}") + field(13, kicker)
        return field(1, field(6, field(1, article)))
    print(spoken([call("PublishingService/Commit", b"".join(change(i) for i in range(int(count))))]))


def largest(revision):
    """The largest message of a FULL feed after `revision`, up to its first checkpoint or for 10 s."""
    start = field(2, 3) + field(4, field(2, int(revision))) + field(8, field(1, 1))
    most = seen = 0
    try:
        for flag, length, _ in frames(post("FeedService/Watch", start, timeout=3)):
            if flag & 128:
                break
            most, seen = max(most, length), seen + 1
            if seen > 1 and length < 200:
                break
    except (TimeoutError, OSError):
        pass
    print(most)


def preflight():
    """The response to the preflight of another origin."""
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=5)
    asked = {"origin": "https://app.example", "access-control-request-method": "POST",
             "access-control-request-headers": "content-type,x-grpc-web"}
    connection.request("OPTIONS", "/cable.v1.ContentService/GetArticle", headers=asked)
    answer = connection.getresponse()
    print(answer.status, answer.getheader("access-control-allow-origin") or "no access-control-allow-origin")


if __name__ == "__main__":
    {f.__name__: f for f in (annotations, correct, health, patch_all, largest, preflight)}[sys.argv[2]](*sys.argv[3:])
