"""What several tests need: asynchronous tests, articles, followers that check the feed, and a faulty proxy."""

import asyncio
import functools
import json
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any, ParamSpec

from cable_client import (
    Cable,
    Changes,
    Checkpoint,
    Event,
    Feed,
    FeedFilter,
    Reset,
    Snapshot,
    SnapshotEnd,
    change_name,
    record_name,
    v1,
)
from cable_client.testing import Server

P = ParamSpec("P")
# No test waits for longer than this. It is no measure of speed: the machine can be busy.
PATIENCE = 60.0


def freeze(server: Server) -> None:
    """Stops the process of a server, and waits until it has stopped: on a busy machine it can still serve meanwhile."""
    assert server.process is not None
    server.process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, server.process.pid, os.WSTOPPED)


def asynchronous(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Runs an asynchronous test in an event loop of its own, with a limit."""

    @functools.wraps(test)
    def run(*args: P.args, **options: P.kwargs) -> None:
        asyncio.run(asyncio.wait_for(test(*args, **options), PATIENCE * 2))

    return run


def article(name: str, headline: str = "Storm", tag: str = "a", **fields: Any) -> v1.Article:
    return v1.Article(name=f"articles/{name}", headline=headline, tags=[f"tags/{tag}"], **fields)


def tagged(*tags: str) -> FeedFilter:
    return FeedFilter(any_tags=[f"tags/{tag}" for tag in tags])


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Waits until a condition holds."""
    while not await condition():
        await asyncio.sleep(0.02)


class Follower:
    """A map that applies events, and checks the promises of the contract."""

    def __init__(self) -> None:
        self.etags: dict[str, str] = {}
        self.revisions: list[int] = []
        self.resets: list[str] = []
        self._incoming: dict[str, str] | None = None
        self._last: v1.Position | None = None

    def apply(self, event: Event) -> None:
        match event:
            case Reset(reason):
                self.resets.append(reason)
                self._incoming, self._last = {}, None
            case Snapshot(records):
                incoming = self._incoming if self._incoming is not None else {}
                for record in records:
                    assert record_name(record) not in incoming, "a snapshot has each name once"
                    incoming[record_name(record)] = record.article.etag
                self._incoming = incoming
            case SnapshotEnd(position, count, damage):
                assert count == len(self._incoming or {})
                assert damage is None
                self.etags, self._incoming, self._last = self._incoming or {}, None, position
            case Changes(position, changes):
                assert self._incoming is None, "no changes within a snapshot"
                for change in changes:
                    assert not self.revisions or change.revision > self.revisions[-1], "revisions rise"
                    assert self._last is None or change.revision > self._last.revision
                    self.revisions.append(change.revision)
                    if change.HasField("upsert"):
                        self.etags[change_name(change)] = change.upsert.article.etag
                    else:
                        self.etags.pop(change_name(change), None)
                assert position.revision >= changes[-1].revision
                self._last = position
            case Checkpoint(position):
                assert self._last is None or position.revision >= self._last.revision
                self._last = position

    async def follow(self, feed: Feed, name: str) -> None:
        """Applies events until a name has been delivered by a change."""
        await self.until(feed, lambda event: isinstance(event, Changes) and name in map(change_name, event.changes))

    async def caught_up(self, feed: Feed) -> None:
        """Applies events until a checkpoint."""
        await self.until(feed, lambda event: isinstance(event, Checkpoint) and not event.behind)

    async def until(self, feed: Feed, condition: Callable[[Event], bool]) -> None:
        while True:
            event = await asyncio.wait_for(anext(feed), PATIENCE)
            self.apply(event)
            if condition(event):
                return


async def snapshot(cable: Cable, feed_filter: FeedFilter | None = None) -> dict[str, str]:
    """Returns a fresh snapshot of the articles that match."""
    follower = Follower()
    async with cable.feed(feed_filter or FeedFilter(kinds=[v1.ENTITY_KIND_ARTICLE]), snapshot=True) as feed:
        await follower.caught_up(feed)
    return follower.etags


class Proxy:
    """A proxy for TCP that cuts connections after a number of bytes from the server."""

    def __init__(self) -> None:
        self.address = ""
        self.connections = 0
        #: The bytes after which each connection is cut. `None`: never.
        self.cut_after: int | None = None


@asynccontextmanager
async def proxy(upstream: str) -> AsyncIterator[Proxy]:
    host, _, port = upstream.rpartition(":")
    state = Proxy()
    tasks: set[asyncio.Task[None]] = set()

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, is_response: bool) -> None:
        passed = 0
        with suppress(OSError):
            while data := await reader.read(4096):
                passed += len(data)
                if is_response and state.cut_after is not None and passed > state.cut_after:
                    break
                writer.write(data)
                await writer.drain()
        writer.transport.abort()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        state.connections += 1
        try:
            server_reader, server_writer = await asyncio.open_connection(host, int(port))
        except OSError:
            writer.transport.abort()
            return
        both = [copy(reader, server_writer, False), copy(server_reader, writer, True)]
        for task in map(asyncio.create_task, both):
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        await asyncio.wait(tasks.copy(), return_when=asyncio.FIRST_COMPLETED)

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    state.address = f"127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    try:
        yield state
    finally:
        listener.close()
        for task in tasks:
            task.cancel()


def consumers(server: Server) -> dict[str, int]:
    """Returns the revisions of the consumers that `cable consumer ls` shows, by name."""
    command = [server.program, "consumer", "ls", "--endpoint", server.endpoint, "-o", "jsonl"]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    found = [json.loads(line) for line in lines]
    return {consumer["consumer"]: int(consumer["position"].get("revision", 0)) for consumer in found}
