"""An event loop in a thread, on which the synchronous clients of a process run the asynchronous ones."""

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import Any, TypeVar

B = TypeVar("B", bound="Blocking")
T = TypeVar("T")

_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None


def run(call: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine on the loop of this process and waits for it. An interrupt of the caller cancels it."""
    global _loop
    with _lock:
        if _loop is None:
            _loop = asyncio.new_event_loop()
            threading.Thread(target=_loop.run_forever, name="cable-client", daemon=True).start()
    future = asyncio.run_coroutine_threadsafe(call, _loop)
    try:
        return future.result()
    finally:
        future.cancel()


async def on_loop(call: Coroutine[Any, Any, T]) -> T:
    """Does the same for a coroutine that a thread runs itself. It does not suspend."""
    return run(call)


def iterate(items: AsyncIterator[T]) -> Iterator[T]:
    """Iterates over the items of an asynchronous iterator."""
    try:
        while (item := run(_advance(items))) is not None:
            yield item
    finally:
        run(items.aclose())  # type: ignore[attr-defined]


async def _advance(items: AsyncIterator[T]) -> T | None:
    """Returns the next item, or `None` at the end."""
    return await anext(items, None)


class Blocking:
    """An object whose methods run those of an asynchronous one. Close it, or use it in `with`."""

    def __init__(self, wrapped: Any) -> None:
        self._wrapped = wrapped

    def __enter__(self: B) -> B:
        run(self._wrapped.__aenter__())
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __getattr__(self, name: str) -> Any:
        """Returns an attribute that does not wait, such as `position` and `lag`."""
        return getattr(self._wrapped, name)

    def close(self) -> None:
        """Ends the object, and releases what it holds."""
        run(self._wrapped.aclose())
