"""The synchronous client: the same calls, feeds and mirrors, each of which blocks."""

from collections.abc import Iterator, Mapping
from concurrent.futures import CancelledError
from typing import Any, cast

from cable_client import client, v1
from cable_client._blocking import Blocking, iterate, on_loop, run
from cable_client._method import Method, Q, R
from cable_client.feed import Event
from cable_client.mirror import Entity
from cable_client.v1.sync_calls import SyncCalls


class Cable(SyncCalls):
    """A client of one Cable: see `cable_client.Cable`, whose arguments it takes. Close it, or use it in `with`."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(client.Cable(*args, **settings))

    def call(self, method: Method[Q, R], request: Q, *, timeout: float | None = None) -> R:
        """Makes a call of `v1.methods` with one response. A write without a request id gets one."""
        return cast(R, run(self._wrapped.call(method, request, timeout=timeout)))

    def pages(self, method: Method[Q, R], request: Q, *, timeout: float | None = None) -> Iterator[R]:
        """Makes a call that lists, page by page."""
        return iterate(self._wrapped.pages(method, request, timeout=timeout))

    def stream_articles(
        self, request: v1.StreamArticlesRequest | None = None, *, timeout: float | None = None
    ) -> Iterator[v1.Article]:
        """Iterates over the articles that match, which one call streams. It raises unless all of them arrive."""
        return iterate(self._wrapped.stream_articles(request, timeout=timeout))


class Feed(Blocking):
    """An iterator over events: see `cable_client.Feed`. One thread at a time may iterate; any may close it.

    That thread reads the stream itself: to hand over each message would cost more than to receive it.
    """

    def __iter__(self) -> "Feed":
        return self

    def __next__(self) -> Event:
        if self._wrapped._is_ended:
            raise StopIteration
        try:
            self._wrapped._deliver(on_loop).send(None)
            raise RuntimeError("a blocking feed is suspended")
        except StopIteration as delivered:
            self._wrapped._is_next_requested = False
            return cast(Event, delivered.value)
        except CancelledError:
            raise StopIteration from None

    def save(self) -> None:
        """Marks the last event as applied too, and writes its position now. For example, before `break`."""
        run(self._wrapped.save())


class Mirror(Blocking, Mapping[str, Entity]):
    """A mapping from names to entities: see `cable_client.Mirror`. `with` opens it."""

    def __getitem__(self, name: str) -> Entity:
        return cast(Entity, self._wrapped[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._wrapped)

    def __len__(self) -> int:
        return len(self._wrapped)

    def ready(self) -> None:
        """Waits until the first snapshot is complete and the changes made meanwhile have been applied."""
        run(self._wrapped.ready())

    def changes(self) -> Iterator[v1.Position]:
        """Returns an iterator over the positions of new content, from now on. Several changes can count as one."""
        return iterate(self._wrapped.changes())
