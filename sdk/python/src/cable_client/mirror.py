"""Mirrors: local copies of what a filter matches, which a feed keeps up to date."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from typing import NamedTuple

from cable_client import v1
from cable_client.errors import CableError
from cable_client.feed import Changes, Checkpoint, Event, Feed, Reset, Snapshot, SnapshotEnd, change_name

Entity = v1.Article | v1.Author | v1.Section | v1.Tag | v1.Collection
MAX_DAMAGED_NAMES = 100


class Content(NamedTuple):
    """The content of a mirror at one position."""

    position: v1.Position | None
    entities: dict[str, Entity]
    #: Names whose newest version the server cannot read: the mirror lacks them or has older versions.
    damaged: tuple[str, ...]


class Mirror(Mapping[str, Entity]):
    """A mapping from names to entities: an `articles/...` to its Article, and so on.

    Reads do not wait and may be made by any thread; each commit is visible as a whole. The content is empty until
    `ready`; while no node can be reached, it is the last known one. The entities are shared: do not change them.
    """

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._lock = threading.Lock()
        self._entities: dict[str, Entity] = {}
        self._tags: dict[str, dict[str, v1.Article]] = {}
        self._damaged: dict[str, None] = {}
        self._position: v1.Position | None = None
        self._incoming: dict[str, Entity] = {}
        self._version = 0
        self._is_ready = False
        self._current_at: float | None = None
        self._error: CableError | None = None
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def __getitem__(self, name: str) -> Entity:
        with self._lock:
            return self._entities[name]

    def __iter__(self) -> Iterator[str]:
        with self._lock:
            return iter(list(self._entities))

    def __len__(self) -> int:
        with self._lock:
            return len(self._entities)

    def by_tag(self, tag: str) -> list[v1.Article]:
        """Returns the articles with a tag, `tags/{id}` or its id: the last change first."""
        with self._lock:
            articles = list(self._tags.get(tag if "/" in tag else f"tags/{tag}", {}).values())
        return sorted(articles, key=lambda article: article.revision, reverse=True)

    def content(self) -> Content:
        """Returns a copy of the mapping, with its position."""
        with self._lock:
            return Content(self._position, dict(self._entities), tuple(self._damaged))

    @property
    def position(self) -> v1.Position | None:
        """The position of the content. `None` before the first snapshot is complete."""
        return self._position

    @property
    def is_caught_up(self) -> bool:
        """Whether the content is that of a node at its last checkpoint."""
        return self._feed.is_caught_up

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
            while self._version == seen:
                await self._wait()
            seen = self._version
            if self._position is not None:
                yield self._position

    async def _wait(self) -> None:
        """Waits for the next event of the feed."""
        if self._error is not None:
            raise self._error
        if self._task is None or self._task.done():
            raise RuntimeError("the mirror is not open: use `async with`")
        await self._changed.wait()

    async def __aenter__(self) -> "Mirror":
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Ends the mirror. Its content stays readable."""
        await self._feed.aclose()
        if self._task is not None:
            await asyncio.wait({self._task})

    async def _run(self) -> None:
        try:
            async for event in self._feed:
                self._apply(event)
                self._notify()
        except CableError as error:
            self._error = error
        finally:
            self._notify()

    def _notify(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _apply(self, event: Event) -> None:
        match event:
            case Reset():
                self._incoming = {}
            case Snapshot(records=records):
                self._incoming.update((entity.name, entity) for entity in map(_entity, records) if entity)
            case SnapshotEnd(position=position, damage=damage):
                with self._lock:
                    self._entities, self._incoming, self._tags = self._incoming, {}, {}
                    self._index(self._entities.values())
                    self._damaged = dict.fromkeys(damage.names if damage else ())
                    self._position = position
                self._version += 1
            case Changes(position=position, changes=changes):
                with self._lock:
                    for change in changes:
                        self._apply_change(change)
                    self._position = position
                self._version += 1
                if self._feed.is_caught_up:
                    self._current_at = time.monotonic()
            case Checkpoint(position=position, behind=behind):
                self._position = position
                if not behind:
                    self._is_ready, self._current_at = True, time.monotonic()

    def _apply_change(self, change: v1.FeedChange) -> None:
        name = change_name(change)
        if change.WhichOneof("change") == "unreadable":
            if len(self._damaged) < MAX_DAMAGED_NAMES:
                self._damaged[name] = None
            return
        self._damaged.pop(name, None)
        previous = self._entities.pop(name, None)
        if isinstance(previous, v1.Article):
            for tag in previous.tags:
                tagged = self._tags.get(tag, {})
                tagged.pop(name, None)
                if not tagged:
                    self._tags.pop(tag, None)
        entity = _entity(change.upsert)
        if entity is not None:
            self._entities[name] = entity
            self._index([entity])

    def _index(self, entities: Iterable[Entity]) -> None:
        for entity in entities:
            if isinstance(entity, v1.Article):
                for tag in entity.tags:
                    self._tags.setdefault(tag, {})[entity.name] = entity


def _entity(record: v1.Record) -> Entity | None:
    """Returns the entity of a record, or `None` if it has none of a kind that this release knows."""
    kind = record.WhichOneof("record")
    if kind is None or kind in ("tombstone", "pending_article"):
        return None
    entity: Entity = getattr(record, kind)
    return entity
