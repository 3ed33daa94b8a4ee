"""The token of a client: its source, and the copy that calls send."""

import asyncio
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
        self._source, self._lock = source, asyncio.Lock()
        self._header, self._number, self._read_at = "", 0, time.monotonic()
        if isinstance(source, str):
            self._store(_header(source, "token"))
        elif isinstance(source, os.PathLike):
            self._store(_read_file(source))

    async def current(self) -> tuple[str, int]:
        """Returns the value of `authorization` and the number of the token. A copy that is too old is replaced."""
        is_old = not isinstance(self._source, str) and time.monotonic() - self._read_at >= MAX_AGE
        if not self._number or (is_old and not self._lock.locked()):
            async with self._lock:
                if is_old or not self._number:
                    await self._read()
        return self._header, self._number

    async def replace(self, refused: int) -> bool:
        """Reads the source again because a server refused a token. Returns whether there is another one now."""
        async with self._lock:
            if self._number == refused and not isinstance(self._source, str):
                await self._read()
            return self._number != refused

    async def _read(self) -> None:
        """Reads the source. After a failure, the last token counts as read and is sent again."""
        self._read_at = time.monotonic()
        try:
            self._store(await asyncio.wait_for(self._read_source(), MAX_READ_TIME))
        except Exception as error:
            if not self._number:
                problem = "its source takes too long" if isinstance(error, asyncio.TimeoutError) else str(error)
                raise ConfigError(f"cannot get a token: {problem}") from error

    async def _read_source(self) -> str:
        source = self._source
        if isinstance(source, os.PathLike):
            return await asyncio.to_thread(_read_file, source)
        assert callable(source)
        token = source() if inspect.iscoroutinefunction(source) else await asyncio.to_thread(source)
        return _header(token if isinstance(token, str) else await token, "token of the function")

    def _store(self, header: str) -> None:
        if header != self._header:
            self._header, self._number = header, self._number + 1


def _read_file(path: os.PathLike[str]) -> str:
    try:
        with Path(path).open("rb") as file:
            return _header(file.read(MAX_BYTES + 2).decode("ascii", "replace"), f"token file {path}")
    except OSError as error:
        raise ConfigError(f"token file {path}: {error.strerror}") from error


def _header(token: str, origin: str) -> str:
    token = token.strip()
    if not token or len(token) > MAX_BYTES or not all("!" <= char <= "~" for char in token):
        raise ConfigError(f"{origin}: must be 1 to {MAX_BYTES} visible ASCII characters")
    return f"Bearer {token}"
