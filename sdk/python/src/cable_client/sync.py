"""The synchronous client: the same calls, feeds and mirrors, each of which blocks."""

import asyncio
from collections.abc import Iterator, Mapping
from concurrent.futures import CancelledError
from typing import Any, cast

from cable_client import client
from cable_client._blocking import on_loop
from cable_client.feed import Event
from cable_client.mirror import Entity
from cable_client.v1.sync_calls import SyncCalls, SyncFeed, SyncMirror


class Cable(SyncCalls):
    """A client of one Cable: see `cable_client.Cable`, whose arguments it takes. Close it, or use it in `with`."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(client.Cable(*args, **settings))


class Feed(SyncFeed):
    """An iterator over events: see `cable_client.Feed`. One thread at a time may iterate; any may close it.

    That thread reads the stream itself: to hand over each message would cost more than to receive it.
    """

    def __iter__(self) -> "Feed":
        return self

    def __next__(self) -> Event:
        try:
            self._wrapped._deliver(on_loop).send(None)
            raise RuntimeError("a blocking feed is suspended")
        except StopIteration as delivered:
            self._wrapped._is_next_requested = False
            return cast(Event, delivered.value)
        except (asyncio.CancelledError, CancelledError):
            raise StopIteration from None


class Mirror(SyncMirror, Mapping[str, Entity]):
    """A mapping from names to entities: see `cable_client.Mirror`. `with` opens it."""

    def __getitem__(self, name: str) -> Entity:
        return cast(Entity, self._wrapped[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._wrapped)

    def __len__(self) -> int:
        return len(self._wrapped)
