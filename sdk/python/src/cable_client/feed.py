"""Feeds: streams of changes that survive lost connections, failed nodes and restarts of the client."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from itertools import groupby
from typing import Any, NamedTuple, cast

import grpc

from cable_client import v1
from cable_client._method import Closing
from cable_client._transport import Stream, Transport, pause
from cable_client.errors import CableError, MalformedError, PositionStoreError, TooLargeError
from cable_client.positions import Saver
from cable_client.v1.methods import WATCH

OnRetry = Callable[[CableError], object] | None

# The number of checkpoints in a row that a server may miss before the feed reconnects.
MISSED_CHECKPOINTS = 3
# The largest commit that a server can send: 500 changes of at most 2.5 MiB each.
MAX_COMMIT_BYTES = 500 * (5 << 19)
# A retry does not repair a damaged record: this number of faults of the server in a row ends a feed.
MAX_SERVER_FAULTS = 5

_PERMANENT = "INVALID_ARGUMENT OUT_OF_RANGE FAILED_PRECONDITION UNAUTHENTICATED PERMISSION_DENIED UNIMPLEMENTED"


class Changes(NamedTuple):
    """The changes of whole commits, in the order of their revisions. Apply them as one step."""

    position: v1.Position
    changes: Sequence[v1.FeedChange]


class Snapshot(NamedTuple):
    """A part of a snapshot: matching records, in no guaranteed order. A snapshot cannot be resumed."""

    records: Sequence[v1.Record]


class SnapshotEnd(NamedTuple):
    """The end of a snapshot: it is what matched at the position. `damage` states what the server could not read."""

    position: v1.Position
    size: int
    damage: v1.Damage | None


class Checkpoint(NamedTuple):
    """Everything up to the position was delivered. `behind`: the server is still reading earlier changes."""

    position: v1.Position
    behind: bool


class Reset(NamedTuple):
    """The feed restarts: discard what it delivered. A snapshot follows.

    The reason is COMPACTED or LOG_CHANGED (history that the server no longer has, or another history), or
    SNAPSHOT_BROKEN (the connection broke within a snapshot).
    """

    reason: str


Event = Changes | Snapshot | SnapshotEnd | Checkpoint | Reset


def change_name(change: v1.FeedChange) -> str:
    """Returns the name that changed, whatever the kind of change."""
    return record_name(change.upsert) or change.removed.name or change.left or change.unreadable


def record_name(record: v1.Record) -> str:
    """Returns the name of the entity in a record of a feed; empty for a kind that this release does not know."""
    kind = record.WhichOneof("record")
    return str(getattr(record, kind).name) if kind else ""


class Feed(Closing, AsyncIterator[Event]):
    """An asynchronous iterator over events, without gaps and without repeats, across connections.

    An event counts as applied when the next one is requested; its position is saved after that, never before. A feed
    ends with an error only if a retry cannot help: a request or token that the server refuses, a position that it
    cannot resume, a position that cannot be saved, or five faults of the server in a row.
    """

    def __init__(
        self, transport: Transport, request: v1.WatchRequest, saver: Saver | None, limit: int | None, on_retry: OnRetry
    ) -> None:
        self._transport, self._request, self._saver, self._on_retry = transport, request, saver, on_retry
        self._max_silence = request.checkpoint_interval.ToMilliseconds() / 1000 * MISSED_CHECKPOINTS
        # That of the encoded bytes of a commit.
        self._limit = MAX_COMMIT_BYTES if limit is None else limit
        self._stream: Stream[v1.WatchResponse] | None = None
        self._parts: list[v1.FeedChange] = []
        # Failures since the last progress, and how many of them are faults of the server. Progress is a new position
        # or, in an idle log, that nothing is left to deliver.
        self._failures = self._faults = self._parts_bytes = self._snapshot_records = 0
        self._is_token_replaced = self._is_started = self._is_ended = False
        # Whether the caller has requested the event after the last one, which is applied then.
        self._is_next_requested, self._pause = True, 0.0
        self._next: asyncio.Task[Any] | None = None
        #: The position of the last event, or that which the feed starts after. `None` within a snapshot.
        self.position: v1.Position | None = request.after if request.HasField("after") else None
        #: Whether the current stream has delivered everything that the node had at its last checkpoint.
        self.is_caught_up: bool = False

    async def __anext__(self) -> Event:
        """Returns the next event. A caller that is cancelled loses nothing: the next call returns the event."""
        self._next = self._next or asyncio.create_task(self._deliver())
        await asyncio.wait({self._next})
        task, self._next, self._is_next_requested = self._next, None, False
        if task.cancelled() and self._is_ended:
            raise StopAsyncIteration
        return cast(Event, task.result())

    async def save(self) -> None:
        """Marks the last event as applied too, and writes its position now. For example, before `break`."""
        self._request_next()
        if self._saver is not None:
            await self._saver.flush()

    async def aclose(self) -> None:
        """Ends the feed and writes the position of the events that were applied: all but the last one."""
        self._is_ended = True
        self._close_stream()
        if self._next is not None:
            self._next.cancel()
            await asyncio.wait({self._next})
        if self._saver is not None:
            await self._saver.flush()

    def _close_stream(self) -> None:
        stream, self._stream, self.is_caught_up = self._stream, None, False
        if stream is not None:
            stream.close()

    async def _deliver(self, on_loop: Any = None) -> Event:
        """Returns the next event. With `on_loop`, a thread reads the stream, and only the rest runs on the loop."""
        hop = on_loop or (lambda call: call)
        while not self._is_ended:
            if self._stream is None and self._snapshot_records:
                return self._reset("SNAPSHOT_BROKEN")
            try:
                self._request_next()
                stream = self._stream or await hop(self._connect(blocking=on_loop is not None))
                if (event := self._accept(await stream.read())) is not None:
                    return event
            except CableError as error:
                await hop(self._recover(error))
                # In the thread of the caller, which may call the client.
                if self._on_retry and not self._is_ended and isinstance(result := self._on_retry(error), Awaitable):
                    await result
        raise asyncio.CancelledError

    def _request_next(self) -> None:
        """Marks the last event as applied, unless it is marked already."""
        if self._saver is not None and self.position is not None and not self._is_next_requested:
            self._saver.mark(self.position)
        self._is_next_requested = True

    async def _connect(self, blocking: bool) -> Stream[v1.WatchResponse]:
        """Opens a stream that starts after the last event. At first, a saved position takes precedence."""
        if self._is_ended:
            raise asyncio.CancelledError
        # `aclose` cancels this task.
        self._next = asyncio.current_task()
        if self._saver is not None and not self._is_started and (saved := await self._saver.load()):
            self._advance(saved)
        self._is_started, self._parts, self._parts_bytes = True, [], 0
        await asyncio.sleep(self._pause)
        self._stream = await self._transport.open(WATCH, self._request, self._max_silence, None, 1, blocking)
        return self._stream

    def _accept(self, message: v1.WatchResponse | None) -> Event | None:
        """Returns the event of a message, or `None` if it has nothing to apply yet."""
        if message is None:
            raise CableError(grpc.StatusCode.UNAVAILABLE, "server ended the feed")
        self._is_token_replaced = False  # A node has accepted the token, even if nothing has changed since.
        kind, position = message.WhichOneof("event"), message.position
        if self._parts and kind not in ("changes", "reset"):
            raise MalformedError("message between two parts of a commit")
        if kind == "reset":
            return self._reset(v1.FeedResetReason.Name(message.reset.reason).removeprefix("FEED_RESET_REASON_"))
        if kind == "snapshot":
            self._snapshot_records += len(message.snapshot.records)
            return Snapshot(message.snapshot.records)
        changes = self._join(message.changes) if kind == "changes" else ()
        if kind is None or changes is None:  # An event of a later release, or a part of a commit.
            return None
        if not message.HasField("position"):
            raise MalformedError("feed message without position")
        # The revisions of an event rise, so that its first one decides.
        last, first = self.position, changes[0].revision if changes else 0
        if last is not None and last.log_id in ("", position.log_id) and first <= last.revision:
            # A stream that resumes delivers nothing twice, whatever the server repeats.
            changes = [change for change in changes if change.revision > last.revision]
        end = message.snapshot_end
        if kind == "snapshot_end" and end.count != self._snapshot_records:
            raise MalformedError(f"{self._snapshot_records} snapshot records instead of {end.count}")
        self._advance(position, kind == "checkpoint" and not message.checkpoint.behind)
        if kind == "changes":
            return Changes(position, changes) if changes else None
        if kind == "snapshot_end":
            self._snapshot_records = 0
            return SnapshotEnd(position, end.count, end.damage if end.HasField("damage") else None)
        self.is_caught_up = self.is_caught_up or not message.checkpoint.behind
        return Checkpoint(position, message.checkpoint.behind)

    def _join(self, part: v1.FeedChanges) -> Sequence[v1.FeedChange] | None:
        """Returns all changes of a commit, or `None` before its last part."""
        # Without a limit of the caller, a commit in one message is not measured. The changes of a commit have one time.
        if part.more_follows or self._parts or self._limit < MAX_COMMIT_BYTES:
            commits = groupby(part.changes, key=lambda change: change.time.ToNanoseconds())
            self._parts_bytes += max((sum(change.ByteSize() for change in commit) for _, commit in commits), default=0)
        if self._parts_bytes > self._limit:
            raise TooLargeError(f"commit above {self._limit} bytes: raise max_commit_bytes, or follow a smaller view")
        self._parts.extend(part.changes)
        if part.more_follows:
            return None
        changes, self._parts, self._parts_bytes = self._parts, [], 0
        return changes

    def _reset(self, reason: str) -> Reset:
        """Restarts the feed: what was received is void, and the next stream starts with a snapshot."""
        self._request.snapshot, self.position = True, None
        self._parts, self._parts_bytes, self._snapshot_records, self.is_caught_up = [], 0, 0, False
        return Reset(reason)

    def _advance(self, position: v1.Position, is_caught_up: bool = False) -> None:
        """Records the position that the next stream resumes after. Progress restarts the count of failures."""
        if is_caught_up or position != self.position:
            self._failures = self._faults = 0
        self.position = position
        self._request.after.CopyFrom(position)

    async def _recover(self, error: CableError) -> None:
        """Prepares a retry, or raises the error if a retry cannot help."""
        if self._is_ended:
            return
        may_retry = error.code.name not in _PERMANENT.split() and not isinstance(error, TooLargeError)
        # The token was valid when the stream was opened. It is replaced once, until a message comes.
        token = self._stream.token if self._stream is not None and not self._is_token_replaced else None
        if token is not None and await self._transport.replace_token(token, error):
            self._is_token_replaced = may_retry = True
        self._close_stream()
        self._faults += error.code.name in ("DATA_LOSS", "INTERNAL", "UNKNOWN")
        self._is_ended = not may_retry or self._faults >= MAX_SERVER_FAULTS or isinstance(error, PositionStoreError)
        if self._is_ended:
            raise error
        self._failures += 1
        self._pause = pause(self._failures, error, longest=5.0)
