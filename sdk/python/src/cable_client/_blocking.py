"""An event loop in a thread, on which the synchronous clients of a process run the asynchronous ones."""

import asyncio
import functools
import os
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
A = TypeVar("A")

_lock = threading.Lock()
_loops: dict[int, asyncio.AbstractEventLoop] = {}


def run(call: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine on the loop of this process and waits for it. An interrupt of the caller cancels it."""
    with _lock:
        if os.getpid() not in _loops:
            loop = _loops[os.getpid()] = asyncio.new_event_loop()
            threading.Thread(target=loop.run_forever, name="cable-client", daemon=True).start()
    future = asyncio.run_coroutine_threadsafe(call, _loops[os.getpid()])
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


class Blocking(Generic[A]):
    """An object whose methods run those of an asynchronous one. Close it, or use it in `with`."""

    def __init__(self, wrapped: A) -> None:
        self._wrapped: Any = wrapped

    def __enter__(self: T) -> T:
        run(self._wrapped.__aenter__())  # type: ignore[attr-defined]
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __getattr__(self, name: str) -> Any:
        """Returns an attribute that does not wait, such as `position` and `lag`."""
        return getattr(self._wrapped, name)

    def close(self) -> None:
        """Ends the object, and releases what it holds."""
        run(self._wrapped.aclose())


def blocking(method: Callable[Concatenate[A, P], Coroutine[Any, Any, T]]) -> Callable[Concatenate[Any, P], T]:
    """Returns a method that waits for an asynchronous one."""

    @functools.wraps(method)
    def call(self: Blocking[A], /, *args: P.args, **options: P.kwargs) -> T:
        return run(method(self._wrapped, *args, **options))

    return call


def iterating(method: Callable[Concatenate[A, P], AsyncIterator[T]]) -> Callable[Concatenate[Any, P], Iterator[T]]:
    """Returns a method that iterates over the items of an asynchronous one."""

    @functools.wraps(method)
    def call(self: Blocking[A], /, *args: P.args, **options: P.kwargs) -> Iterator[T]:
        return iterate(method(self._wrapped, *args, **options))

    return call


def iterate(items: AsyncIterator[T]) -> Iterator[T]:
    """Iterates over the items of an asynchronous iterator."""
    try:
        while item := run(advance(items)):
            yield item[0]
    finally:
        run(items.aclose())  # type: ignore[attr-defined]


async def advance(items: AsyncIterator[T]) -> list[T]:
    """Returns the next item, or an empty list at the end."""
    try:
        return [await items.__anext__()]
    except StopAsyncIteration:
        return []
