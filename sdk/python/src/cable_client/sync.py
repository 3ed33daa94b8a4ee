"""The synchronous client: the same calls, feeds and mirrors, each of which blocks."""

from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any, cast

from cable_client import client, feed, mirror, v1
from cable_client._blocking import Blocking, advance, blocking, iterating, run
from cable_client.feed import Event
from cable_client.mirror import Entity
from cable_client.v1.sync_calls import SyncCalls


class Cable(SyncCalls):
    """A client of one Cable: see `cable_client.Cable`, whose arguments it takes. Close it, or use it in `with`."""

    _wrapped: client.Cable

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(client.Cable(*args, **settings))

    call = blocking(client.Cable.call)
    pages = iterating(client.Cable.pages)
    stream = iterating(client.Cable.stream)
    stream_articles = iterating(client.Cable.stream_articles)

    def feed(self, filter: v1.FeedFilter | None = None, **options: Any) -> "Feed":  # noqa: A002
        """Follows the changes to what a filter matches: see `cable_client.Cable.feed`."""
        return Feed(self._wrapped.feed(filter, **options))

    def mirror(self, filter: v1.FeedFilter | None = None, **options: Any) -> "Mirror":  # noqa: A002
        """Returns a copy of what a filter matches: see `cable_client.Cable.mirror`."""
        return Mirror(self._wrapped.mirror(filter, **options))


class Feed(Blocking[feed.Feed]):
    """An iterator over events: see `cable_client.Feed`. One thread at a time may use it."""

    save = blocking(feed.Feed.save)

    def __iter__(self) -> "Feed":
        return self

    def __next__(self) -> Event:
        for event in run(advance(cast("AsyncIterator[Event]", self._wrapped))):
            return event
        raise StopIteration


class Mirror(Blocking[mirror.Mirror], Mapping[str, Entity]):
    """A mapping from names to entities: see `cable_client.Mirror`. `with` opens it."""

    ready = blocking(mirror.Mirror.ready)
    changes = iterating(mirror.Mirror.changes)

    def __getitem__(self, name: str) -> Entity:
        return cast(Entity, self._wrapped[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._wrapped)

    def __len__(self) -> int:
        return len(self._wrapped)
