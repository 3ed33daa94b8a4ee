"""The token of a client: its source, and the copy that calls send."""

import asyncio
import functools
import inspect
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from cable_client.errors import ConfigError

#: A token, the file of a token, or a function that returns one. Files and functions are read again.
TokenSource = str | os.PathLike[str] | Callable[[], str | Awaitable[str]]

# A rotation leaves both tokens valid for longer than this.
MAX_AGE = 10.0
# Calls that wait for a source must not hang with it.
MAX_READ_TIME = 5.0
MAX_BYTES = 4096


class Credentials:
    """The token in the form in which calls send it. Its number changes with it. It appears in no error."""

    def __init__(self, source: TokenSource) -> None:
        self._header, self._number, self._read_at, self._lock = "", 0, time.monotonic(), asyncio.Lock()
        self._source = source if callable(source) else None
        if isinstance(source, str):
            self._store(_header(source, "token"))
        elif isinstance(source, os.PathLike):
            self._source = functools.partial(_read_file, source)
            self._store(_header(_read_file(source), f"token file {source}"))

    async def current(self) -> tuple[str, int]:
        """Returns the value of `authorization` and the number of the token. A copy that is too old is replaced."""
        is_old = self._source is not None and time.monotonic() - self._read_at >= MAX_AGE
        if not self._number or (is_old and not self._lock.locked()):
            async with self._lock:
                await self._read()
        return self._header, self._number

    async def replace(self, refused: int) -> bool:
        """Reads the source again because a server refused a token. Returns whether there is another one now."""
        async with self._lock:
            if self._number == refused:
                await self._read()
            return self._number != refused

    async def _read(self) -> None:
        """Reads the source. After a failure, the last token counts as read and is sent again."""
        source, self._read_at = self._source, time.monotonic()
        if source is None:
            return
        try:
            is_async = inspect.iscoroutinefunction(source)
            result = source() if is_async else await asyncio.wait_for(asyncio.to_thread(source), MAX_READ_TIME)
            token = result if isinstance(result, str) else await asyncio.wait_for(result, MAX_READ_TIME)
            self._store(_header(token, "token of the source"))
        except Exception as error:
            if not self._number:
                raise ConfigError(f"cannot get a token: {str(error) or 'its source takes too long'}") from error

    def _store(self, header: str) -> None:
        if header != self._header:
            self._header, self._number = header, self._number + 1


def _read_file(path: os.PathLike[str]) -> str:
    try:
        with Path(path).open("rb") as file:
            return file.read(MAX_BYTES + 2).decode("ascii", "replace")
    except OSError as error:
        raise ConfigError(f"token file {path}: {error.strerror}") from error


def _header(token: str, origin: str) -> str:
    token = token.strip()
    if not token or len(token) > MAX_BYTES or not all("!" <= char <= "~" for char in token):
        raise ConfigError(f"{origin}: must be 1 to {MAX_BYTES} visible ASCII characters")
    return f"Bearer {token}"
