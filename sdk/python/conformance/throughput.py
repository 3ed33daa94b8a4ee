"""Receives changes by the client or by bare stubs, for sdk/conformance/throughput.

python throughput.py stub|sdk|sync-stub|sync-sdk ADDRESS POSITION COUNT
"""

import asyncio
import base64
import os
import sys
from typing import Any

import grpc

from cable_client import Cable, Changes, FeedFilter, Position, sync, v1
from cable_client.v1 import methods

MAX_MESSAGE_BYTES = 64 << 20
FILTER = FeedFilter(kinds=[v1.EntityKind.ENTITY_KIND_ARTICLE])
OPTIONS = [("grpc.max_receive_message_length", MAX_MESSAGE_BYTES)]


def watch(channel: grpc.Channel | grpc.aio.Channel) -> Any:
    """Returns the stub of the feed."""
    return channel.unary_stream(
        methods.WATCH.path,
        request_serializer=v1.WatchRequest.SerializeToString,
        response_deserializer=v1.WatchResponse.FromString,
    )


def request(after: Position) -> v1.WatchRequest:
    """Returns the request that the client makes, too."""
    return v1.WatchRequest(filter=FILTER, view=v1.ArticleView.ARTICLE_VIEW_FULL, after=after, include_backfill=True)


async def stub(address: str, after: Position, count: int) -> None:
    """Receives by the stub of asyncio."""
    async with grpc.aio.insecure_channel(address, options=OPTIONS) as channel:
        async for message in watch(channel)(request(after)):
            count -= len(message.changes.changes)
            if count <= 0:
                os._exit(0)


async def client(address: str, after: Position, count: int) -> None:
    """Receives by the client of asyncio."""
    async with Cable(f"http://{address}") as cable:
        feed = cable.feed(FILTER, after=after, include_backfill=True, view=v1.ArticleView.ARTICLE_VIEW_FULL)
        async for event in feed:
            if isinstance(event, Changes):
                count -= len(event.changes)
            if count <= 0:
                os._exit(0)


def sync_stub(address: str, after: Position, count: int) -> None:
    """Receives by the stub without an event loop."""
    with grpc.insecure_channel(address, options=OPTIONS) as channel:
        for message in watch(channel)(request(after)):
            count -= len(message.changes.changes)
            if count <= 0:
                os._exit(0)


def sync_client(address: str, after: Position, count: int) -> None:
    """Receives by the client without an event loop."""
    with sync.Cable(f"http://{address}") as cable:
        feed = cable.feed(FILTER, after=after, include_backfill=True, view=v1.ArticleView.ARTICLE_VIEW_FULL)
        for event in feed:
            if isinstance(event, Changes):
                count -= len(event.changes)
            if count <= 0:
                os._exit(0)


mode, address, position, count = sys.argv[1:]
arguments = (address, Position.FromString(base64.b64decode(position)), int(count))
match mode:
    case "stub":
        asyncio.run(stub(*arguments))
    case "sdk":
        asyncio.run(client(*arguments))
    case "sync-stub":
        sync_stub(*arguments)
    case "sync-sdk":
        sync_client(*arguments)
