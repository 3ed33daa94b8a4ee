"""Positions of feeds, and the stores that retain them."""

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Protocol

from cable_client.errors import CableError, ConfigError, PositionStoreError
from cable_client.v1 import Position

# The shortest interval between two writes of a position.
WRITE_INTERVAL = 0.2


def format_position(position: Position) -> str:
    """Returns a position as text: `LOG:REVISION:CHAIN`, with the chain in hex."""
    return f"{position.log_id}:{position.revision}:{position.chain.hex()}"


def parse_position(text: str) -> Position:
    """Returns the position with this text."""
    try:
        log_id, revision, chain = text.split(":")
        return Position(log_id=log_id, revision=int(revision), chain=bytes.fromhex(chain))
    except ValueError as error:
        raise ConfigError("position: must be LOG:REVISION:CHAIN, with the chain in hex") from error


class PositionStore(Protocol):
    """A store of the position of one feed. Its methods may block: they are called in a thread.

    A follower that writes to a database should instead write the position in the transaction of its changes, and
    start `after` it.
    """

    def load(self) -> Position | None:
        """Returns the position that was saved last."""

    def save(self, position: Position) -> None:
        """Saves a position. Once the method returns, the position must survive a crash."""


class MemoryPosition:
    """A position that does not survive the process."""

    def __init__(self, position: Position | None = None) -> None:
        self._position = position

    def load(self) -> Position | None:
        """Returns the position that was saved last."""
        return self._position

    def save(self, position: Position) -> None:
        """Saves a position."""
        self._position = position


class FilePosition:
    """A file with one position. After a crash, it has the old position or the new one. It belongs to one feed."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)

    def load(self) -> Position | None:
        """Returns the position in the file, or `None` if there is no file."""
        if not self._path.exists():
            return None
        # To read a pipe could take forever.
        text = self._path.read_text("ascii") if self._path.is_file() else ""
        if not text.endswith("\n"):
            raise ValueError(f"{self._path}: not a complete position")
        return parse_position(text[:-1])

    def save(self, position: Position) -> None:
        """Writes a new file, syncs it and renames it. A symbolic link remains, and its target is replaced."""
        path = Path(os.path.realpath(self._path))
        temporary = path.with_name(path.name + ".new")
        with temporary.open("w", encoding="ascii") as file:
            file.write(format_position(position) + "\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        # The rename is on disk once the directory is synced.
        directory = os.open(path.parent, os.O_RDONLY)
        os.fsync(directory)
        os.close(directory)


class Saver:
    """A writer for the positions that were applied. It writes with a delay, and only the newest one."""

    def __init__(self, store: PositionStore | None, acknowledge: Callable[..., Awaitable[object]], name: str) -> None:
        self._store, self._acknowledge, self._consumer, self._writing = store, acknowledge, name, threading.Lock()
        self._newest = Position()
        self._written: Position | None = None
        self._task: Future[None] | None = None

    async def load(self) -> Position | None:
        """Returns the position that was saved last. Without a store, the node knows it, and starts the feed there."""
        self._loop = asyncio.get_running_loop()
        try:
            self._written = None if self._store is None else await asyncio.to_thread(self._store.load)
        except Exception as error:
            raise PositionStoreError(f"position could not be loaded: {error}") from error
        return self._written

    def mark(self, position: Position) -> None:
        """Marks everything up to a position as applied; it is written soon. Raises if the last write failed.

        Any thread may call it, after `load`.
        """
        if self._task is not None and self._task.done():
            task, self._task = self._task, None
            task.result()
        self._newest = position
        if position != self._written and self._writing.acquire(blocking=False):
            self._task = asyncio.run_coroutine_threadsafe(self._write(), self._loop)

    async def flush(self) -> None:
        """Waits until the newest position is written."""
        if self._task is not None:
            await asyncio.shield(asyncio.wrap_future(self._task))

    async def _write(self) -> None:
        while True:
            await asyncio.sleep(WRITE_INTERVAL)
            self._written = position = self._newest
            try:
                if self._store is None:
                    await self._acknowledge(self._consumer, position=position, timeout=5.0)
                else:
                    await asyncio.to_thread(self._store.save, position)
            except CableError as error:
                # A feed outlives a node that cannot be reached: the next event repeats the acknowledgement.
                if error.retryable or error.code.name in ("CANCELLED", "RESOURCE_EXHAUSTED"):
                    self._written = None
                elif error.reason not in ("LOG_CHANGED", "REVISION_COMPACTED"):  # Of these, the feed learns itself.
                    raise
            except Exception as error:
                raise PositionStoreError(f"position could not be saved: {error}") from error
            finally:
                self._writing.release()
            # A position that was marked since then is written here, or by the task that its mark has started.
            if self._newest == position or not self._writing.acquire(blocking=False):
                return
