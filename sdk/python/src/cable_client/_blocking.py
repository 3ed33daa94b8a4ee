"""The state of the process: an event loop in a thread, on which synchronous clients run asynchronous ones."""

import asyncio
import contextlib
import os
import sys
import threading
import weakref
from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import Any, TypeVar

B = TypeVar("B", bound="Blocking")
T = TypeVar("T")

_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None
#: The connections of all clients, and whether there were any when the process was forked. gRPC serves none then.
channels: weakref.WeakSet[Any] = weakref.WeakSet()
is_grpc_lost = False


def run(call: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine on the loop of this process and waits for it. An interrupt of the caller cancels it."""
    global _loop
    if sys.is_finalizing() or (_loop is not None and asyncio._get_running_loop() is _loop):
        call.close()
        raise RuntimeError("a call that blocks is made by the thread that would serve it, or as the interpreter ends")
    with _lock:
        if _loop is None:
            _loop = asyncio.new_event_loop()
            threading.Thread(target=_serve, args=(_loop,), name="cable-client", daemon=True).start()
    future = asyncio.run_coroutine_threadsafe(call, _loop)
    try:
        return future.result()
    finally:
        future.cancel()


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    """Runs a loop. A function of the caller that raises SystemExit must not end it: the caller receives that."""
    while True:
        with contextlib.suppress(BaseException):
            loop.run_forever()


def _forget() -> None:
    """Forgets the loop in a forked process, which does not have its thread."""
    global _lock, _loop, is_grpc_lost
    _lock, _loop, is_grpc_lost = threading.Lock(), None, len(channels) > 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


async def on_loop(call: Coroutine[Any, Any, T]) -> T:
    """Does the same for a coroutine that a thread runs itself. It does not suspend."""
    return run(call)


def iterate(items: AsyncIterator[T]) -> Iterator[T]:
    """Iterates over the items of an asynchronous generator.

    An iterator that is given up leaves it to the loop, which closes it as asyncio closes each one. Nothing waits for
    that: the thread that collects the garbage may be the one of the loop, or the interpreter may end.
    """
    return iter(lambda: run(_advance(items)), None)


async def _advance(items: AsyncIterator[T]) -> T | None:
    """Returns the next item, or `None` at the end."""
    return await anext(items, None)


class Blocking:
    """An object whose methods run those of an asynchronous one. Close it, or use it in `with`."""

    def __init__(self, wrapped: Any) -> None:
        self._wrapped, self._process = wrapped, os.getpid()

    def __enter__(self: B) -> B:
        run(self._wrapped.__aenter__())
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the object, and releases what it holds. A forked process leaves that to its parent."""
        if self._process == os.getpid():
            run(self._wrapped.aclose())
