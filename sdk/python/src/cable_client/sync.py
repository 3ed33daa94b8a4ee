"""The synchronous client: the same calls, feeds and mirrors, each of which blocks."""

import asyncio
from collections.abc import Iterator, Mapping
from concurrent.futures import CancelledError
from typing import cast

from cable_client._blocking import on_loop
from cable_client.feed import Event
from cable_client.mirror import Entity
from cable_client.v1.sync_calls import SyncCalls, SyncFeed, SyncMirror


class Cable(SyncCalls):
    """A client of one Cable: see `cable_client.Cable`. Close it, or use it in `with`."""


class Feed(SyncFeed, Iterator[Event]):
    """An iterator over events: see `cable_client.Feed`. One thread at a time may iterate; any may close it.

    That thread reads the stream itself: to hand over each message would cost more than to receive it.
    """

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
