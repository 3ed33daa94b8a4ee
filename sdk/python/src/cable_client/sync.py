"""The synchronous client: the same calls, feeds and mirrors, each of which blocks."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from cable_client import client, feed, mirror, v1
from cable_client._blocking import Blocking, advance, blocking, iterating, run
from cable_client.feed import Event
from cable_client.mirror import Entity
from cable_client.v1.sync_calls import SyncCalls

T = TypeVar("T")


async def _in_loop(function: Callable[..., T], *args: Any, **options: Any) -> T:
    return function(*args, **options)


class Cable(SyncCalls):
    """A client of one Cable: see `cable_client.Cable`, whose arguments it takes. Close it, or use it in `with`."""

    _wrapped: client.Cable

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(run(_in_loop(client.Cable, *args, **settings)))

    def __enter__(self) -> "Cable":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    call = blocking(client.Cable.call)
    pages = iterating(client.Cable.pages)
    stream = iterating(client.Cable.stream)
    stream_articles = iterating(client.Cable.stream_articles)
    close = blocking(client.Cable.aclose)

    def feed(self, filter: v1.FeedFilter | None = None, **options: Any) -> "Feed":  # noqa: A002
        """Follows the changes to what a filter matches: see `cable_client.Cable.feed`."""
        return Feed(run(_in_loop(self._wrapped.feed, filter, **options)))

    def mirror(self, filter: v1.FeedFilter | None = None, **options: Any) -> "Mirror":  # noqa: A002
        """Returns a copy of what a filter matches: see `cable_client.Cable.mirror`."""
        return Mirror(run(_in_loop(self._wrapped.mirror, filter, **options)))


class Feed(Blocking[feed.Feed]):
    """An iterator over events: see `cable_client.Feed`. One thread at a time may use it."""

    def __iter__(self) -> "Feed":
        return self

    def __next__(self) -> Event:
        for event in run(advance(self._wrapped)):
            return event
        raise StopIteration

    def __enter__(self) -> "Feed":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def position(self) -> v1.Position | None:
        """The position of the last event."""
        return self._wrapped.position

    @property
    def is_caught_up(self) -> bool:
        """Whether the feed has delivered everything that the node had at its last checkpoint."""
        return self._wrapped.is_caught_up

    save = blocking(feed.Feed.save)
    close = blocking(feed.Feed.aclose)


class Mirror(Blocking[mirror.Mirror], Mapping[str, Entity]):
    """A mapping from names to entities: see `cable_client.Mirror`. `with` opens it."""

    def __enter__(self) -> "Mirror":
        run(self._wrapped.__aenter__())
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __getitem__(self, name: str) -> Entity:
        return self._wrapped[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._wrapped)

    def __len__(self) -> int:
        return len(self._wrapped)

    def __getattr__(self, name: str) -> Any:
        """Returns an attribute that does not wait, such as `by_tag`, `content`, `position` and `lag`."""
        return getattr(self._wrapped, name)

    ready = blocking(mirror.Mirror.ready)
    changes = iterating(mirror.Mirror.changes)
    close = blocking(mirror.Mirror.aclose)
