"""The calls of tests/outside/languages.py by grpcio: `client.py calls`, `cancel` or `drain SECONDS`.

The node, the CA, the client certificate and the token come from the environment. Results are lines of JSON; codes are
the numbers of gRPC.
"""

import json
import os
import sys
import threading
import time

import grpc
from cable.v1 import article_pb2, content_pb2, content_pb2_grpc, feed_pb2, feed_pb2_grpc, meta_pb2
from cable.v1 import publishing_pb2, publishing_pb2_grpc
from google.protobuf.duration_pb2 import Duration

ADDRESS = os.environ["CABLE_ADDRESS"]
DEADLINE_SECONDS = 0.2
DEADLINES = 10
WORKERS = 10
PUT = publishing_pb2.PutArticleRequest(article=article_pb2.Article(name="articles/by-python", headline="By Python"))
GET = content_pb2.GetArticleRequest(name="articles/tides")
# A read that waits for a revision that does not come.
FUTURE = meta_pb2.Freshness(at_least_revision=1_000_000_000, max_wait=Duration(seconds=10))
TOKEN = [("authorization", f"Bearer {os.environ['CABLE_TOKEN']}")]


def read(variable):
    with open(os.environ[variable], "rb") as file:
        return file.read()


def channel(ca=True, certificate=False):
    credentials = grpc.ssl_channel_credentials(
        read("CABLE_CA") if ca else None,
        *((read("CABLE_CLIENT_KEY"), read("CABLE_CLIENT_CERT")) if certificate else ()))
    # A channel of its own, and not the connection of another one with the same arguments.
    options = [
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 500),
    ]
    return grpc.secure_channel(ADDRESS, credentials, options)


def code(call):
    try:
        call()
        return 0
    except grpc.RpcError as error:
        return error.code().value[0]


def get(open_channel, **options):
    return content_pb2_grpc.ContentServiceStub(open_channel).GetArticle(GET, timeout=5, **options)


def put(open_channel, **options):
    return publishing_pb2_grpc.PublishingServiceStub(open_channel).PutArticle(PUT, timeout=5, **options)


def waiting_calls(open_channel):
    """Returns a unary call, a stream and a feed, none of which ends by itself."""
    content = content_pb2_grpc.ContentServiceStub(open_channel)
    feeds = feed_pb2_grpc.FeedServiceStub(open_channel)
    unary = content_pb2.GetArticleRequest(name=GET.name, freshness=FUTURE)
    stream = content_pb2.StreamArticlesRequest(freshness=FUTURE)
    return {
        "unary": lambda **options: content.GetArticle.future(unary, metadata=TOKEN, **options).result(),
        "stream": lambda **options: list(content.StreamArticles(stream, metadata=TOKEN, **options)),
        "feed": lambda **options: list(feeds.Watch(feed_pb2.WatchRequest(), metadata=TOKEN, **options)),
    }


def late_ms(call):
    start = time.monotonic()
    result = code(lambda: call(timeout=DEADLINE_SECONDS))
    assert result == grpc.StatusCode.DEADLINE_EXCEEDED.value[0], f"code {result}"
    return (time.monotonic() - start - DEADLINE_SECONDS) * 1000


def calls():
    with channel() as tls, channel(certificate=True) as mutual, channel(ca=False) as untrusted:
        codes = {
            "get_with_token": code(lambda: get(tls, metadata=TOKEN)),
            "put_with_token": code(lambda: put(tls, metadata=TOKEN)),
            "get_without_token": code(lambda: get(tls)),
            "put_with_certificate": code(lambda: put(mutual)),
            "get_from_untrusted": code(lambda: get(untrusted)),
        }
        late = {name: [late_ms(call) for _ in range(DEADLINES)] for name, call in waiting_calls(tls).items()}
    print(json.dumps({"codes": codes, "late_ms": late}))


def cancel():
    with channel() as tls:
        content = content_pb2_grpc.ContentServiceStub(tls)
        open_calls = [
            content.GetArticle.future(content_pb2.GetArticleRequest(name=GET.name, freshness=FUTURE), metadata=TOKEN),
            content.StreamArticles(content_pb2.StreamArticlesRequest(freshness=FUTURE), metadata=TOKEN),
            feed_pb2_grpc.FeedServiceStub(tls).Watch(feed_pb2.WatchRequest(), metadata=TOKEN),
        ]
        print(json.dumps({"open": len(open_calls)}), flush=True)
        sys.stdin.readline()
        for call in open_calls:
            call.cancel()
        print(json.dumps({"codes": [call.code().value[0] for call in open_calls[1:]]}), flush=True)
        # Stay connected: the end of the connection would end the calls too.
        sys.stdin.readline()


def drain(seconds):
    codes, lock = {}, threading.Lock()
    end = time.monotonic() + seconds

    def work(open_channel):
        while time.monotonic() < end:
            result = code(lambda: content_pb2_grpc.ContentServiceStub(open_channel).GetArticle(
                GET, timeout=30, metadata=TOKEN, wait_for_ready=True))
            with lock:
                codes[result] = codes.get(result, 0) + 1
            time.sleep(0.01)

    with channel() as tls:
        get(tls, metadata=TOKEN)
        print(json.dumps({"ready": True}), flush=True)
        workers = [threading.Thread(target=work, args=(tls,)) for _ in range(WORKERS)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    print(json.dumps({"codes": codes}))


if __name__ == "__main__":
    {"calls": calls, "cancel": cancel, "drain": drain}[sys.argv[1]](*map(float, sys.argv[2:]))
