"""The driver of the conformance suite: commands in JSON lines on standard input, events on standard output.

It adds nothing to the client: it passes commands to the public API, and reports what that delivers.
"""

import asyncio
import json
import sys
import threading
from collections.abc import AsyncIterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

from google.protobuf.json_format import MessageToDict, ParseDict, ParseError
from google.protobuf.message import Message

from cable_client import (
    Cable,
    CableError,
    Changes,
    Checkpoint,
    Event,
    Feed,
    FeedFilter,
    FilePosition,
    MemoryPosition,
    Mirror,
    Position,
    PositionStore,
    Reset,
    Snapshot,
    SnapshotEnd,
    change_name,
    v1,
)
from cable_client.v1 import methods

M = TypeVar("M", bound=Message)
Command = dict[str, Any]
CAPABILITIES = ["call", "pages", "stream", "follow", "mirror", "token", "token_file", "store_file", "endpoints"]
CALLS = {
    "get_article": methods.GET_ARTICLE,
    "list_articles": methods.LIST_ARTICLES,
    "put_article": methods.PUT_ARTICLE,
    "patch_article": methods.PATCH_ARTICLE,
    "remove_article": methods.REMOVE_ARTICLE,
    "put_tag": methods.PUT_TAG,
    "commit": methods.COMMIT,
    "get_status": methods.GET_STATUS,
}


def parse(value: Command | None, message: M) -> M:
    """Reads a message in canonical JSON. A field that does not exist is an error."""
    return ParseDict(value or {}, message)


def entity_item(entity: Any) -> Command:
    """Returns what the runner checks of an entity."""
    return {"name": entity.name, "etag": entity.etag, "revision": entity.revision}


def change_item(change: v1.FeedChange) -> Command:
    """Returns what the runner checks of a change."""
    item = {"revision": change.revision, "op": change.WhichOneof("change"), "name": change_name(change)}
    if change.HasField("upsert"):
        item["etag"] = record_entity(change.upsert).etag
    return item


def record_entity(record: v1.Record) -> Any:
    """Returns the entity in a record."""
    return getattr(record, record.WhichOneof("record") or "article")


def describe(event: Event) -> Command:
    """Returns the event of the protocol for an event of a feed."""
    match event:
        case Changes(position, changes):
            items = [change_item(change) for change in changes]
            return {"event": "changes", "position": MessageToDict(position), "changes": items}
        case Snapshot(records):
            return {"event": "snapshot", "records": [entity_item(record_entity(record)) for record in records]}
        case SnapshotEnd(position, count):
            return {"event": "snapshot_end", "position": MessageToDict(position), "count": count}
        case Checkpoint(position, behind):
            return {"event": "checkpoint", "position": MessageToDict(position), "behind": behind}
        case Reset(reason):
            return {"event": "reset", "reason": reason}


def describe_error(error: Exception) -> Command:
    """Returns an error as the protocol describes it."""
    if isinstance(error, CableError):
        return {
            "code": error.code.name,
            "reason": error.reason,
            "field": error.field,
            "retryable": error.retryable,
            "may_have_applied": error.may_have_applied,
            "message": str(error),
        }
    code = "INVALID_ARGUMENT" if isinstance(error, ParseError | ValueError | TypeError) else "UNKNOWN"
    fields = {"reason": None, "field": None, "retryable": False, "may_have_applied": False}
    return {"code": code, **fields, "message": f"{type(error).__name__}: {error}"}


class Driver:
    """The client of a driver, with its followers and mirrors."""

    def __init__(self) -> None:
        self.cable: Cable | None = None
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self.mirrors: dict[str, Mirror] = {}
        self.gates: dict[str, asyncio.Event] = {}

    def emit(self, command: Command, event: str, **fields: Any) -> None:
        """Writes an event."""
        print(json.dumps({"event": event, "id": command["id"], **fields}), flush=True)

    async def run(self, command: Command) -> None:
        """Runs a command. Its failure is an event."""
        try:
            await getattr(self, f"run_{command['command']}")(command)
        except Exception as error:
            self.emit(command, "error", **describe_error(error))

    async def run_hello(self, command: Command) -> None:
        """Reports the client."""
        self.emit(command, "hello", language="python", sdk=version("cable-client"), capabilities=CAPABILITIES)

    async def run_connect(self, command: Command) -> None:
        """Creates the client."""
        settings: Command = {}
        if "timeout_ms" in command:
            settings["timeout"] = command["timeout_ms"] / 1000
        if "token" in command:
            settings["token"] = command["token"]
        if "token_file" in command:
            settings["token"] = Path(command["token_file"])
        self.cable = Cable(command["endpoints"], **settings)
        self.emit(command, "connected")

    @property
    def client(self) -> Cable:
        """The client, after `connect`."""
        if self.cable is None:
            raise ValueError("not connected")
        return self.cable

    async def run_call(self, command: Command) -> None:
        """Makes a call."""
        method: Any = CALLS[command["method"]]
        request = parse(command.get("request"), method.request())
        timeout = command["timeout_ms"] / 1000 if "timeout_ms" in command else None
        response = await self.client.call(method, request, timeout=timeout)
        self.emit(command, "result", response=MessageToDict(response))

    async def run_pages(self, command: Command) -> None:
        """Lists page by page."""
        request = parse(command.get("request"), v1.ListArticlesRequest())
        pages, count = 0, 0
        async for page in self.client.pages(methods.LIST_ARTICLES, request):
            for article in page.articles:
                count += 1
                self.emit(command, "item", **entity_item(article))
            pages += 1
            if pages == command.get("max_pages"):
                break
        self.emit(command, "end", count=count)

    async def run_stream(self, command: Command) -> None:
        """Streams articles."""
        count = 0
        items: AsyncIterator[v1.Article] = self.client.stream_articles(
            parse(command.get("request"), v1.StreamArticlesRequest())
        )
        async for article in items:
            count += 1
            self.emit(command, "item", **entity_item(article))
        self.emit(command, "end", count=count)

    def options(self, command: Command) -> Command:
        """Returns the options that followers and mirrors have in common."""
        options: Command = {}
        if "view" in command:
            options["view"] = v1.ArticleView.Value(command["view"])
        if "body_format" in command:
            options["body_format"] = v1.BodyFormat.Value(command["body_format"])
        if "checkpoint_interval_ms" in command:
            options["checkpoint_interval"] = command["checkpoint_interval_ms"] / 1000
        if "filter" in command:
            options["filter"] = parse(command["filter"], FeedFilter())
        return options

    async def run_follow(self, command: Command) -> None:
        """Starts a follower."""
        options = self.options(command)
        if command.get("start") == "snapshot":
            options["snapshot"] = True
        elif isinstance(command.get("start"), dict):
            options["after"] = parse(command["start"]["after"], Position())
        store: str = command.get("store") or ""
        if store:
            kept: PositionStore = FilePosition(store.removeprefix("file:")) if store != "memory" else MemoryPosition()
            options["store"] = kept
        feed = self.client.feed(
            allow_reset=command.get("reset", False),
            include_backfill=command.get("include_backfill", False),
            on_retry=lambda error: self.emit(command, "retry", error=describe_error(error)),
            **options,
        )
        gate = self.gates[command["id"]] = asyncio.Event()
        gate.set()
        self.emit(command, "following")
        self.tasks[command["id"]] = asyncio.create_task(self.follow(command, feed, gate))

    async def follow(self, command: Command, feed: Feed, gate: asyncio.Event) -> None:
        """Reports what a feed delivers."""
        try:
            async with feed:
                async for event in feed:
                    self.emit(command, **describe(event))
                    await gate.wait()
        except CableError as error:
            self.emit(command, "error", **describe_error(error))

    async def run_pause(self, command: Command) -> None:
        """Lets the handler of a follower wait."""
        self.gates[command["id"]].clear()
        self.emit(command, "paused")

    async def run_resume(self, command: Command) -> None:
        """Lets the handler of a follower return."""
        self.gates[command["id"]].set()
        self.emit(command, "resumed")

    async def run_mirror(self, command: Command) -> None:
        """Starts a mirror."""
        mirror = self.mirrors[command["id"]] = self.client.mirror(**self.options(command))
        self.emit(command, "following")
        self.tasks[command["id"]] = asyncio.create_task(self.mirror(command, mirror))

    async def mirror(self, command: Command, mirror: Mirror) -> None:
        """Reports when a mirror is ready, and how it ends."""
        try:
            async with mirror:
                await mirror.ready()
                self.emit(command, "ready")
                async for _ in mirror.changes():
                    pass
        except CableError as error:
            self.emit(command, "error", **describe_error(error))

    async def run_state(self, command: Command) -> None:
        """Reports the content of a mirror."""
        position, entities = self.mirrors[command["of"]].content()
        items = [entity_item(entity) for entity in entities.values()]
        self.emit(command, "state", position=MessageToDict(position) if position else None, items=items)

    async def run_stop(self, command: Command) -> None:
        """Ends a follower or a mirror."""
        task = self.tasks.pop(command["of"])
        task.cancel()
        await asyncio.wait({task})
        self.emit(command, "stopped")


async def main() -> None:
    """Runs commands until the end of the input."""
    loop, lines = asyncio.get_running_loop(), asyncio.Queue[str | None]()

    def read() -> None:
        for line in sys.stdin:
            loop.call_soon_threadsafe(lines.put_nowait, line)
        loop.call_soon_threadsafe(lines.put_nowait, None)

    threading.Thread(target=read, daemon=True).start()
    driver, running = Driver(), set[asyncio.Task[None]]()
    while (line := await lines.get()) is not None:
        if line.strip():
            task = asyncio.create_task(driver.run(json.loads(line)))
            running.add(task)
            task.add_done_callback(running.discard)


if __name__ == "__main__":
    asyncio.run(main())
