"""The asynchronous client."""

import contextlib
import copy
import os
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import grpc

from cable_client import v1
from cable_client._method import Closing, Method, Q, R
from cable_client._transport import Credentials, Node, TokenSource, Transport
from cable_client.errors import CableError, ConfigError, incomplete
from cable_client.feed import Feed
from cable_client.positions import Saver
from cable_client.v1.calls import Calls
from cable_client.v1.methods import STREAM_ARTICLES

Pem = bytes | str | os.PathLike[str]


class Cable(Closing, Calls):
    """A client of one Cable, with one or several nodes. Close it, or use it in `async with`."""

    def __init__(
        self,
        endpoints: str | Iterable[str] = "http://127.0.0.1:7190",
        *,
        token: TokenSource | None = None,
        ca: Pem | None = None,
        client_certificate: tuple[Pem, Pem] | None = None,
        server_name: str | None = None,
        timeout: float = 10.0,
        attempts: int = 3,
        allow_plaintext_token: bool = False,
    ) -> None:
        """Creates a client, which connects with its first call.

        `endpoints` are URLs, in a list or separated by commas. `token` is a token, or the file (a `Path`) or the
        function, also an asynchronous one, that returns it: both are read again every 10 s and when a server refuses
        the token. `ca` and `client_certificate` (the chain and its key) are PEM in bytes, or files. `timeout` is the
        time of a call in seconds, with all its `attempts`.
        """
        chain, key = map(_pem, client_certificate or (None, None))
        tls = grpc.ssl_channel_credentials(_pem(ca), key, chain) if ca or chain else None
        urls = endpoints.split(",") if isinstance(endpoints, str) else endpoints
        nodes = [Node(url.strip(), tls, server_name, allow_plaintext_token) for url in urls]
        if not nodes or timeout <= 0 or attempts < 1:
            raise ConfigError("a client needs an endpoint, a timeout above 0 and at least one attempt")
        self._transport = Transport(nodes, Credentials(token) if token is not None else None, timeout, attempts)

    async def aclose(self) -> None:
        """Closes all connections."""
        await self._transport.close()

    async def call(self, method: Method[Q, R], request: Q, *, timeout: float | None = None) -> R:
        """Makes a call of `v1.methods` with one response. A write without a request id gets one."""
        return await self._transport.call(method, request, timeout)

    async def pages(self, method: Method[Q, R], request: Q, *, timeout: float | None = None) -> AsyncIterator[R]:
        """Makes a call that lists, page by page."""
        page: Any = copy.deepcopy(request)
        while True:
            response: Any = await self.call(method, page, timeout=timeout)
            yield response
            page.page_token = response.next_page_token
            if not page.page_token:
                return

    async def items(
        self, method: Method[Q, R], request: Q, field: str, timeout: float | None = None
    ) -> AsyncIterator[Any]:
        """Iterates over the items of a listing, and raises at its end if the server could not read some."""
        damage = v1.Damage()
        async for page in self.pages(method, request, timeout=timeout):
            for item in getattr(page, field):
                yield item
            damage.MergeFrom(page.damage)  # type: ignore[attr-defined]
        if damage.ByteSize():
            raise incomplete(damage)

    async def stream_articles(
        self, request: v1.StreamArticlesRequest | None = None, *, timeout: float | None = None
    ) -> AsyncIterator[v1.Article]:
        """Iterates over the articles that match, which one call streams. It raises unless all of them arrive."""
        count, transport = 0, self._transport
        request, timeout = request or v1.StreamArticlesRequest(), timeout or transport.timeout
        stream = await transport.open(STREAM_ARTICLES, request, timeout, timeout, transport.attempts, blocking=False)
        with contextlib.closing(stream):
            while (message := await stream.read()) is not None:
                count += len(message.articles)
                for article in message.articles:
                    yield article
                if message.end.HasField("damage"):
                    raise incomplete(message.end.damage)
                if message.HasField("end") and message.end.count == count:
                    return
        raise CableError(grpc.StatusCode.UNAVAILABLE, f"the stream ended early, after {count} articles")

    def follow(
        self, request: v1.WatchRequest, after: v1.Position | None, snapshot: bool, interval: float, *options: Any
    ) -> Feed:
        """Returns a feed. Use `feed`, which has all its options."""
        if after is not None and snapshot:
            raise ConfigError("feed: `after` and `snapshot` exclude each other")
        request.MergeFrom(v1.WatchRequest(snapshot=True) if snapshot else v1.WatchRequest(after=after))
        request.checkpoint_interval.FromMilliseconds(round(interval * 1000))
        is_saved = options[0] is not None or request.consumer
        saver = Saver(options[0], self.acknowledge_position, request.consumer) if is_saved else None
        return Feed(self._transport, request, saver, *options[1:])


def _pem(source: Pem | None) -> bytes | None:
    return source if source is None or isinstance(source, bytes) else Path(source).read_bytes()
