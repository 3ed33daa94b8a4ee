"""Mirrors: local copies of what a filter matches, which a feed keeps up to date."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping

from cable_client import v1
from cable_client._method import Closing
from cable_client.errors import ConfigError
from cable_client.feed import Changes, Checkpoint, Event, Feed, Reset, Snapshot, SnapshotEnd, change_name

Entity = v1.Article | v1.Author | v1.Section | v1.Tag | v1.Collection


class Mirror(Closing, Mapping[str, Entity]):
    """A mapping from names to entities: an `articles/...` to its Article, and so on.

    Any thread may read it; each commit is visible as a whole. The content is empty until `ready`; while no node can
    be reached, it is the last known one. The entities are shared: do not change them.
    """

    def __init__(self, feed: Feed) -> None:
        self._feed, self._lock, self._changed = feed, threading.Lock(), asyncio.Event()
        # The node must not start the feed of a consumer: a stored position without its content would leave a gap.
        feed._request.ClearField("consumer")
        self._entities: dict[str, Entity] = {}
        self._incoming: dict[str, Entity] = {}
        self._tags: dict[str, dict[str, v1.Article]] = {}
        self._version, self._is_ready = 0, False
        self._current_at: float | None = None
        self._error: Exception = ConfigError("the mirror is closed")
        self._task: asyncio.Task[None] | None = None
        #: The position of the content. `None` before the first snapshot is complete.
        self.position: v1.Position | None = None
        #: Names whose newest version the server cannot read: the mirror lacks them or has older versions.
        self.damaged: set[str] = set()

    def __getitem__(self, name: str) -> Entity:
        with self._lock:
            return self._entities[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.content()[1])

    def __len__(self) -> int:
        with self._lock:
            return len(self._entities)

    def content(self) -> tuple[v1.Position | None, dict[str, Entity]]:
        """Returns the position and a copy of the mapping at that position."""
        with self._lock:
            return self.position, dict(self._entities)

    def by_tag(self, tag: str) -> list[v1.Article]:
        """Returns the articles with a tag, `tags/{id}` or its id: the last change first."""
        with self._lock:
            tagged = self._tags.get(tag if "/" in tag else f"tags/{tag}", {})
            return sorted(tagged.values(), key=lambda article: -article.revision)

    @property
    def lag(self) -> float | None:
        """The seconds since the content was known to be current. `None` before it first was.

        It stays below the checkpoint interval while the connection is sound.
        """
        return None if self._current_at is None else time.monotonic() - self._current_at

    async def ready(self) -> None:
        """Waits until the first snapshot is complete and the changes made meanwhile have been applied."""
        while not self._is_ready:
            await self._wait()

    def changes(self) -> AsyncIterator[v1.Position]:
        """Returns an iterator over the positions of new content, from now on. Several changes can count as one."""
        return self._changes(self._version)

    async def _changes(self, seen: int) -> AsyncIterator[v1.Position]:
        while True:
            while self._version == seen or self.position is None:
                await self._wait()
            seen = self._version
            yield self.position

    async def _wait(self) -> None:
        """Waits for the next event of the feed."""
        if self._task is None:
            raise RuntimeError("the mirror is not open: use `async with`")
        if self._task.done():
            raise self._error
        await self._changed.wait()

    async def __aenter__(self) -> "Mirror":
        self._task = asyncio.create_task(self._run())
        return self

    async def aclose(self) -> None:
        """Ends the mirror. Its content stays readable."""
        await self._feed.aclose()
        if self._task is not None:
            await asyncio.wait({self._task})

    async def _run(self) -> None:
        try:
            async for event in self._feed:
                with self._lock:
                    self._apply(event)
                self._notify()
        except Exception as error:
            self._error = error
        finally:
            asyncio.get_running_loop().call_soon(self._notify)

    def _notify(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _apply(self, event: Event) -> None:
        match event:
            case Reset():
                self._incoming = {}
            case Snapshot(records=records):
                self._incoming |= {entity.name: entity for entity in map(_entity, records) if entity is not None}
            case SnapshotEnd(damage=damage):
                self._entities, self._incoming, self._tags = self._incoming, {}, {}
                for entity in self._entities.values():
                    self._index(entity)
                self.damaged = set(damage.names if damage else ())
                self._version += 1
            case Changes(changes=changes):
                for change in changes:
                    self._apply_change(change, change_name(change))
                self._version += 1
        if isinstance(event, SnapshotEnd | Changes | Checkpoint):
            self.position = event.position
            if self._feed.is_caught_up:
                self._is_ready, self._current_at = True, time.monotonic()

    def _apply_change(self, change: v1.FeedChange, name: str) -> None:
        if change.HasField("unreadable"):
            self.damaged = self.damaged | {name}
            return
        self.damaged = self.damaged - {name}
        previous, entity = self._entities.pop(name, None), _entity(change.upsert)
        for tag in previous.tags if isinstance(previous, v1.Article) else ():
            self._tags[tag].pop(name)
            if not self._tags[tag]:
                del self._tags[tag]
        if entity is not None:
            self._entities[name] = entity
            self._index(entity)

    def _index(self, entity: Entity) -> None:
        if isinstance(entity, v1.Article):
            for tag in entity.tags:
                self._tags.setdefault(tag, {})[entity.name] = entity


def _entity(record: v1.Record) -> Entity | None:
    """Returns the entity of a record, or `None` if it has none of a kind that this release knows."""
    kind = record.WhichOneof("record")
    return None if kind in (None, "tombstone", "pending_article") else getattr(record, str(kind))
