"""What a scripted node sends: tokens and faults on a log in which nothing changes, and whole commits."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from grpc import aio
from support import PATIENCE, asynchronous

from cable_client import Cable, CableError, Changes, Feed, Position, TooLargeError, sync, v1
from cable_client._error_details_pb2 import ErrorInfo, RetryInfo, Status
from cable_client.v1.methods import GET_STATUS, WATCH

Script = list[v1.WatchResponse | grpc.StatusCode]


def changes(*seconds: int) -> v1.WatchResponse:
    """Returns one message with a change at each time: the changes of a commit have one time."""
    message = v1.WatchResponse(position=Position(log_id="0123abcd", revision=100))
    for number, time in enumerate(seconds):
        change = message.changes.changes.add(revision=number + 10, left=f"articles/n{number}")
        change.time.seconds = time
    return message


IDLE = v1.WatchResponse(position=Position(log_id="0123abcd", revision=1), checkpoint=v1.FeedCheckpoint())


@asynccontextmanager
async def node(path: str, kind: str, serve: Callable[..., Any]) -> AsyncIterator[str]:
    """Starts a server with one method. Returns its endpoint."""
    service, method = path.strip("/").split("/")
    parse = (WATCH if kind == "unary_stream" else GET_STATUS).request.FromString
    handler = getattr(grpc, f"{kind}_rpc_method_handler")(serve, parse, lambda message: message.SerializeToString())
    server = aio.server()
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, {method: handler})])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        await server.stop(0)


@asynccontextmanager
async def scripted(*scripts: Script) -> AsyncIterator[str]:
    """Starts a node that sends a script in each stream: messages, and a status at its end."""

    async def watch(_: v1.WatchRequest, context: Any) -> AsyncIterator[v1.WatchResponse]:
        for item in next(streams):
            if isinstance(item, grpc.StatusCode):
                await context.abort(item, "refused")
            else:
                yield item
        await asyncio.sleep(PATIENCE)

    streams = iter(scripts)
    async with node(WATCH.path, "unary_stream", watch) as endpoint:
        yield endpoint


async def next_changes(feed: Feed) -> Changes:
    while not isinstance(event := await asyncio.wait_for(anext(feed), PATIENCE), Changes):
        pass
    return event


def tokens() -> Callable[[], str]:
    numbers = iter(range(100))
    return lambda: f"token{next(numbers)}"


REFUSED: Script = [IDLE, grpc.StatusCode.UNAUTHENTICATED]


@asynchronous
async def test_a_feed_of_an_idle_log_survives_each_rotation_of_its_token() -> None:
    async with scripted(REFUSED, REFUSED, REFUSED, [changes(1)]) as endpoint:
        async with Cable(endpoint, token=tokens()) as cable, cable.feed() as feed:
            assert len((await next_changes(feed)).changes) == 1


@asynchronous
async def test_a_blocking_feed_of_an_idle_log_survives_each_rotation_of_its_token() -> None:
    def follow(endpoint: str) -> int:
        with sync.Cable(endpoint, token=tokens()) as cable, cable.feed() as feed:
            return next(len(event.changes) for event in feed if isinstance(event, Changes))

    async with scripted(REFUSED, REFUSED, REFUSED, [changes(1)]) as endpoint:
        assert await asyncio.to_thread(follow, endpoint) == 1


@asynchronous
async def test_a_checkpoint_of_an_idle_log_restarts_the_count_of_faults() -> None:
    faulty: Script = [IDLE, grpc.StatusCode.INTERNAL]
    async with scripted(*[faulty] * 6, [changes(1)]) as endpoint:
        async with Cable(endpoint) as cable, cable.feed() as feed:
            assert len((await next_changes(feed)).changes) == 1


@asynchronous
async def test_the_limit_of_a_commit_applies_to_each_commit_in_a_message() -> None:
    message = changes(1, 1, 2, 2)
    limit = sum(change.ByteSize() for change in message.changes.changes[:2])
    async with scripted([message], [message]) as endpoint, Cable(endpoint) as cable:
        async with cable.feed(max_commit_bytes=limit) as feed:
            assert len((await next_changes(feed)).changes) == 4
        async with cable.feed(max_commit_bytes=limit - 1) as feed:
            with pytest.raises(TooLargeError, match="max_commit_bytes"):
                await next_changes(feed)


@asynchronous
async def test_a_call_that_may_succeed_later_is_retryable_but_not_repeated() -> None:
    async def refuse(_: v1.GetStatusRequest, context: Any) -> v1.GetStatusResponse:
        calls.append(1)
        details = Status(code=grpc.StatusCode.RESOURCE_EXHAUSTED.value[0])
        info = ErrorInfo(domain="cable.v1", reason="RATE_LIMITED")
        for detail in (info, RetryInfo()):
            url = f"type.googleapis.com/google.rpc.{detail.DESCRIPTOR.name}"
            details.details.add(type_url=url, value=detail.SerializeToString())
        context.set_trailing_metadata([("grpc-status-details-bin", details.SerializeToString())])
        await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "refused")
        raise AssertionError

    calls: list[int] = []
    async with node(GET_STATUS.path, "unary_unary", refuse) as endpoint, Cable(endpoint) as cable:
        with pytest.raises(CableError) as limited:
            await cable.get_status()
    assert (limited.value.reason, limited.value.retryable, len(calls)) == ("RATE_LIMITED", True, 1)


@asynchronous
async def test_a_write_without_a_token_was_not_sent() -> None:
    async def hang() -> str:
        await asyncio.sleep(PATIENCE)
        return ""

    async with Cable("http://127.0.0.1:1", token=hang, timeout=0.3) as cable:
        with pytest.raises(CableError, match="no token") as unsent:
            await cable.put_article(v1.Article(name="articles/a", headline="A"))
    assert unsent.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert unsent.value.retryable
    assert not unsent.value.may_have_applied
