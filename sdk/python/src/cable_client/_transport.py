"""Nodes, tokens and attempts: a call picks a node, gets its token, and is attempted within the rest of its timeout."""

import asyncio
import copy
import inspect
import os
import random
import re
import time
import weakref
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

import grpc
from grpc import aio

from cable_client import _blocking
from cable_client._method import Method, Q, R, StreamMethod
from cable_client.errors import CableError, ConfigError, from_rpc

T = TypeVar("T")
_LATE, _LOST = grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE
_CLOSED = "the client is closed"

#: A token, the file of a token, or a function that returns one. Files and functions are read again.
TokenSource = str | os.PathLike[str] | Callable[[], str | Awaitable[str]]

# Of a token. A rotation leaves both tokens valid for longer than its age. Calls that wait for a source must not hang
# with it.
MAX_AGE, MAX_READ_TIME, MAX_BYTES = 10.0, 5.0, 4096

# The share of its timeout that one attempt of a call may take if another one can follow: a connection without a
# response must not take all of it.
ATTEMPT_SHARE = 0.4
# The time for which a node is avoided doubles with each failure in a row. A timeout, which costs a caller more than a
# refused connection, counts as several failures.
EJECTION, LONGEST_EJECTION, TIMEOUT_FAILURES = 0.125, 10.0, 6

_OPTIONS: list[tuple[str, int | str]] = [
    ("grpc.max_receive_message_length", 64 << 20),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # The time to establish a connection.
    ("grpc.min_reconnect_backoff_ms", 2000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # Retries are decided here, where it is known which of them are harmless.
    ("grpc.enable_retries", 0),
    # A connection that does not respond is replaced by a new one, not by one that another channel shares.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.primary_user_agent", "cable-client-python/0.1.0"),
]


class Node:
    """One endpoint: its connection and its health."""

    def __init__(
        self, endpoint: str, tls: grpc.ChannelCredentials | None, server_name: str | None, allow_plaintext_token: bool
    ) -> None:
        url = re.fullmatch(r"(https?)://(\[[\da-fA-F:]+\]|[\w.-]+)(?::([0-9]{1,5}))?/?", endpoint)
        if url is None or not 0 < int(url[3] or 80) < 65536:
            raise ConfigError("endpoint: must be a URL without path, such as http://127.0.0.1:7190")
        scheme, host = url[1], url[2]
        self._target = f"{host}:{url[3] or {'http': 80, 'https': 443}[scheme]}"
        self.name = f"{scheme}://{self._target}"
        is_local = re.fullmatch(r"localhost|127\.[\d.]+|\[::1\]", host) is not None
        self.can_send_token = allow_plaintext_token or scheme == "https" or is_local
        self._tls = [tls or grpc.ssl_channel_credentials()] if scheme == "https" else []
        self._options = [*_OPTIONS, *([("grpc.ssl_target_name_override", server_name)] if server_name else [])]
        self._channel: aio.Channel | None = None
        # Also those that were given up: each one ends with its last call, which holds it.
        self._channels: weakref.WeakSet[aio.Channel] = weakref.WeakSet()
        self._failures, self.ejected_until = 0, 0.0

    def channel(self) -> aio.Channel:
        """Returns the connection to the node. The first call establishes it."""
        if _blocking.is_grpc_lost:
            raise ConfigError("a client was open when the process was forked: close it first, or start processes anew")
        self._channel = self._channel or self.connect(aio)
        self._channels.add(self._channel)
        _blocking.channels.add(self._channel)
        return self._channel

    def connect(self, kind: Any) -> Any:
        """Returns a new connection of a module: `aio`, or `grpc` for threads that block."""
        create = kind.secure_channel if self._tls else kind.insecure_channel
        return create(self._target, *self._tls, options=self._options)

    def report(self, channel: aio.Channel, error: CableError | None) -> None:
        """Records the outcome of a call. A node that fails is avoided for a while.

        A connection that is silent, or that waits before it connects again, is replaced by a new one. The streams that
        it has continue: only they know whether they are silent.
        """
        is_silent = error is not None and (error.code is _LATE or "connection attempt timed out" in error.message)
        if error is None or not (is_silent or error._connection or error.reason in ("DRAINING", "NODE_FAILED")):
            self._failures, self.ejected_until = 0, 0.0
            return
        if self._channel is channel and (is_silent or error._connection == "unreached"):
            self._channel = None
        self._failures = max(self._failures + 1, TIMEOUT_FAILURES if is_silent else 0)
        self.ejected_until = time.monotonic() + jittered(min(EJECTION * 2 ** min(self._failures, 16), LONGEST_EJECTION))

    async def close(self) -> None:
        """Closes all connections, and cancels the calls on them."""
        self._channel = None
        await asyncio.gather(*(channel.close() for channel in list(self._channels)))


class Credentials:
    """The token in the form in which calls send it. Its number changes with it. It appears in no error."""

    def __init__(self, source: TokenSource) -> None:
        self._header, self._number, self._read_at, self._lock = "", 0, time.monotonic(), asyncio.Lock()
        self._source = source if callable(source) else None
        if isinstance(source, str):
            self._store(_header(source, "token"))
        elif isinstance(source, os.PathLike):
            self._source = lambda: _read_file(source)
            self._store(_header(_read_file(source), f"token file {source}"))

    async def current(self) -> tuple[list[tuple[str, str]], int]:
        """Returns the metadata with the token and the number of the token. A copy that is too old is replaced."""
        is_old = self._source is not None and time.monotonic() - self._read_at >= MAX_AGE
        if not self._number or (is_old and not self._lock.locked()):
            async with self._lock:
                await self._read()
        return [("authorization", self._header)], self._number

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


class Stream(Generic[R]):
    """The messages of a stream. Its watchdog belongs to this stream alone."""

    def __init__(self, call: Any, node: Node, channel: Any, token: int, max_silence: float) -> None:
        # `token` is the number of the token that the stream sent.
        self._call, self._node, self._channel, self._max_silence, self.token = call, node, channel, max_silence, token
        # The error of a stream that its watchdog or its client has ended.
        self._cause: CableError | None = None
        # The time since which the reader waits for a message.
        self._waits_since: float | None = None
        _watch(weakref.ref(self))

    def close(self, cause: CableError | None = None) -> None:
        """Cancels the stream. The connection of a blocking stream, whose call is an iterator, ends with it."""
        self._cause = self._cause or cause
        (self._channel.close if isinstance(self._call, Iterator) else self._call.cancel)()

    async def read(self) -> R | None:
        """Returns the next message, or `None` at the end. A stream that is silent for too long is broken."""
        self._waits_since = time.monotonic()
        try:
            message = next(self._call, aio.EOF) if isinstance(self._call, Iterator) else await self._call.read()
            return cast(R, message) if message is not aio.EOF else None
        except grpc.RpcError as failed:
            error = from_rpc(failed, self._node.name)
        except BaseException as failure:
            # The message that arrives after an interrupt would be lost. The next stream repeats it.
            self._call.cancel()
            if not isinstance(failure, asyncio.CancelledError) or (self._cause is None and _is_cancelled()):
                raise
            # The call was cancelled, not its reader.
            error = CableError(_LOST, f"call to {self._node.name} cancelled")
        finally:
            self._waits_since = None
        error = self._cause or error
        self._node.report(self._channel, error)
        raise error


def _is_cancelled() -> bool:
    """Returns whether the running task is cancelled, and not its call alone. Python 3.10 does not know, so it is."""
    return bool(getattr(asyncio.current_task(), "cancelling", lambda: True)())


def _watch(reference: "weakref.ref[Stream[Any]]") -> None:
    """Cancels a stream whose reader waits for too long. Otherwise, it looks again when that can be so."""
    if (stream := reference()) is not None:
        now = time.monotonic()
        left = (stream._waits_since or now) + stream._max_silence - now
        if left <= 0:
            stream._cause = CableError(_LATE, f"no message from {stream._node.name} for {stream._max_silence:g} s")
            stream._call.cancel()
        else:
            asyncio.get_running_loop().call_later(left, _watch, reference)


class Transport:
    """The nodes of a client, and the policy of its attempts."""

    def __init__(self, nodes: Sequence[Node], credentials: Credentials | None, timeout: float, attempts: int) -> None:
        self._nodes, self._credentials, self.attempts = nodes, credentials, attempts
        self.timeout, self._is_closed = timeout, False
        self._streams: weakref.WeakSet[Stream[Any]] = weakref.WeakSet()

    async def call(self, method: Method[Q, R], request: Q, timeout: float | None = None) -> R:
        """Makes a call with one response. A write without a request id gets one, which its retries repeat."""
        if method.writes and not request.request_id:  # type: ignore[attr-defined]
            request = copy.deepcopy(request)
            request.request_id = os.urandom(16).hex()  # type: ignore[attr-defined]

        async def attempt(node: Node, channel: aio.Channel, bound: float, metadata: Any, _: int) -> R:
            rpc = channel.unary_unary(method.path, method.request.SerializeToString, method.response.FromString)
            return await rpc(request, timeout=bound, metadata=metadata)

        return await self._try(attempt, timeout, self.attempts, method.writes)

    async def open(
        self, method: StreamMethod[Q, R], request: Q, silence: float, limit: float | None, attempts: int, blocking: bool
    ) -> Stream[R]:
        """Opens a stream that may be silent for a while. The limit in seconds applies until it is open.

        A blocking one has a connection of its own, is open after the first read, and blocks the thread that reads.
        """

        async def attempt(node: Node, channel: Any, bound: float, metadata: Any, token: int) -> Stream[R]:
            channel = node.connect(grpc) if blocking else channel
            rpc = channel.unary_stream(method.path, method.request.SerializeToString, method.response.FromString)
            call = rpc(request, metadata=metadata)
            if not blocking:
                await asyncio.wait_for(call.wait_for_connection(), bound)
            stream: Stream[R] = Stream(call, node, channel, token, silence)
            self._streams.add(stream)
            return stream

        return await self._try(attempt, limit, attempts, writes=False)

    async def replace_token(self, refused: int, error: CableError) -> bool:
        """Returns whether there is another token than the refused one now."""
        is_refused = error.code is grpc.StatusCode.UNAUTHENTICATED
        return is_refused and self._credentials is not None and await self._credentials.replace(refused)

    async def _try(self, attempt: Callable[..., Awaitable[T]], limit: float | None, attempts: int, writes: bool) -> T:
        """Attempts a call until it succeeds, no retry is allowed, or the next wait would end after the deadline.

        A node that cannot be reached has not received the call: the next node is tried at once.
        """
        timeout = self.timeout if limit is None else limit
        deadline, channel = time.monotonic() + timeout, cast(Any, None)
        failures = unreached = token = 0
        in_doubt = is_replaced = False
        while True:
            # Of the usable nodes a random one or, if there is none, the one that is usable again first.
            now = time.monotonic()
            node = min(self._nodes, key=lambda node: (max(node.ejected_until, now), random.random()))
            try:
                metadata, token = await self._metadata(node, max(deadline - now, 0.001))
                if self._is_closed:
                    raise ConfigError(_CLOSED)
                bound = max(deadline - time.monotonic(), 0.001)
                if failures + 1 < attempts:
                    bound = min(bound, timeout * ATTEMPT_SHARE)
                channel = node.channel()
                result = await attempt(node, channel, bound, metadata, token)
                node.report(channel, None)
                return result
            except aio.AioRpcError as failed:
                error = from_rpc(failed, node.name)
            except asyncio.TimeoutError:
                error = CableError(_LATE, f"no response from {node.name} before the deadline")
            except asyncio.CancelledError:
                if not self._is_closed and _is_cancelled():
                    raise
                # The call was cancelled, not its caller.
                error = ConfigError(_CLOSED) if self._is_closed else CableError(_LOST, f"call to {node.name} cancelled")
                error._connection = "lost"
            except CableError as refused:  # The attempt was not sent.
                refused.may_have_applied = in_doubt
                raise
            node.report(channel, error)
            now = time.monotonic()
            in_doubt = writes and error._settle(in_doubt)
            if error._connection == "unreached" and unreached + 1 < len(self._nodes) and now < deadline:
                unreached += 1
                continue
            failures, unreached = failures + 1, 0
            if not is_replaced and (is_replaced := await self.replace_token(token, error)):
                continue
            wait = 0.0 if error.code is _LATE else pause(failures, error, longest=2.0)
            if failures >= attempts or now + wait >= deadline or error.code not in (_LATE, _LOST):
                raise error
            await asyncio.sleep(wait)

    async def _metadata(self, node: Node, limit: float) -> tuple[list[tuple[str, str]], int]:
        if self._credentials is None:
            return [], 0
        if not node.can_send_token:
            raise ConfigError(f"token: not sent to {node.name} without TLS: use https://, or allow_plaintext_token")
        try:
            return await asyncio.wait_for(self._credentials.current(), limit)
        except asyncio.TimeoutError:
            raise CableError(_LATE, "no token before the deadline: the call was not sent") from None

    async def close(self) -> None:
        """Closes all connections. Their calls and streams fail."""
        self._is_closed = True
        for stream in list(self._streams):
            stream.close(ConfigError(_CLOSED))
        await asyncio.gather(*(node.close() for node in self._nodes))


def pause(failures: int, error: CableError, longest: float) -> float:
    """Returns the wait after the `failures`th failure in a row: 50 ms and doubling, or longer if the server asks."""
    return max(jittered(min(0.05 * 2 ** min(failures - 1, 16), longest)), error.retry_after or 0.0)


def jittered(seconds: float) -> float:
    """Returns a random time between half of it and all of it, so that many clients do not act at once."""
    return seconds * random.uniform(0.5, 1)
