"""Feeds: no gap, no repeat, and no position that was not applied, whatever fails."""

import asyncio
import signal
from pathlib import Path
from typing import Any

import grpc
import pytest
from support import PATIENCE, Follower, article, asynchronous, consumers, freeze, proxy, snapshot, tagged, until

from cable_client import (
    Cable,
    CableError,
    Changes,
    Checkpoint,
    Feed,
    FilePosition,
    MemoryPosition,
    Position,
    PositionStoreError,
    Snapshot,
    TooLargeError,
    change_name,
    v1,
)
from cable_client.testing import Server


async def next_changes(feed: Feed) -> Changes:
    while True:
        event = await asyncio.wait_for(anext(feed), PATIENCE)
        if isinstance(event, Changes):
            return event


@asynchronous
async def test_a_feed_starts_now_after_a_position_or_with_a_snapshot(server: Server) -> None:
    async with Cable(server.endpoint) as cable:
        first = await cable.put_article(article("first"))
        await cable.put_article(article("second"))
        await cable.put_article(article("other", tag="b"))
        async with cable.feed(tagged("a"), checkpoint_interval=1) as feed:
            assert isinstance(await anext(feed), Checkpoint)
            await cable.put_article(article("third"))
            changes = (await next_changes(feed)).changes
            assert [change_name(change) for change in changes] == ["articles/third"]
        async with cable.feed(tagged("a"), after=first.position) as feed:
            changes = (await next_changes(feed)).changes
            assert change_name(changes[0]) == "articles/second"
        assert await snapshot(cable, tagged("a")) == {
            f"articles/{name}": (await cable.get_article(f"articles/{name}")).article.etag
            for name in ("first", "second", "third")
        }


@asynchronous
async def test_kills_and_restarts_lose_and_repeat_nothing(server: Server) -> None:
    follower = Follower()
    async with Cable(server.endpoint, timeout=30, attempts=100) as cable:
        async with cable.feed(tagged("a"), snapshot=True, checkpoint_interval=1) as feed:
            await follower.caught_up(feed)
            for number in range(6):
                await cable.put_article(article(f"n{number % 4}", f"Headline {number}"))
                if number % 2:
                    await follower.follow(feed, f"articles/n{number % 4}")
                server.stop(signal.SIGKILL if number % 3 else signal.SIGTERM)
                server.start()
            await cable.put_article(article("n0", "Elsewhere", tag="b"))
            await follower.follow(feed, "articles/n0")
            await cable.remove_article("articles/n1", reason=v1.REMOVAL_REASON_DELETED)
            await follower.follow(feed, "articles/n1")
        assert follower.resets == []
        assert follower.etags == await snapshot(cable, tagged("a"))
        assert set(follower.etags) == {"articles/n2", "articles/n3"}


@asynchronous
async def test_a_silent_node_is_noticed_by_missed_checkpoints(server: Server) -> None:
    assert server.process is not None
    follower, retries = Follower(), list[CableError]()
    async with (
        Cable(server.endpoint, timeout=2) as cable,
        cable.feed(snapshot=True, checkpoint_interval=1, on_retry=retries.append) as feed,
    ):
        await follower.caught_up(feed)
        freeze(server)
        waiting = asyncio.create_task(follower.caught_up(feed))

        async def is_noticed() -> bool:
            return bool(retries)

        await until(is_noticed)
        assert retries[0].code is grpc.StatusCode.DEADLINE_EXCEEDED
        server.process.send_signal(signal.SIGCONT)
        await waiting
        await cable.put_article(article("storm"), timeout=30)
        await follower.follow(feed, "articles/storm")


@asynchronous
async def test_a_watchdog_does_not_end_a_later_stream(server: Server) -> None:
    retries: list[CableError] = []
    async with Cable(server.endpoint) as cable, cable.feed(checkpoint_interval=1, on_retry=retries.append) as feed:
        await Follower().caught_up(feed)
        server.stop(signal.SIGKILL)
        server.start()
        await Follower().caught_up(feed)
        seen = len(retries)
        # Longer than the silence that ends a stream, of which the first one has a watchdog.
        for _ in range(5):
            assert isinstance(await asyncio.wait_for(anext(feed), PATIENCE), Checkpoint)
        assert len(retries) == seen


@asynchronous
async def test_a_position_is_saved_only_after_its_changes(server: Server) -> None:
    class Recorder(MemoryPosition):
        def save(self, position: Position) -> None:
            assert position.revision <= applied, "saved before it was applied"
            super().save(position)

    applied, store = 0, Recorder()
    async with Cable(server.endpoint) as cable:
        start = (await cable.put_article(article("storm"))).position
        for number in range(3):
            await cable.put_article(article("storm", f"Headline {number}"))
        async with cable.feed(after=start, store=store, checkpoint_interval=1) as feed:
            first = await next_changes(feed)
            await asyncio.sleep(0.5)
            assert store.load() is None, "not applied: the loop has not asked for the next event"
            applied = first.position.revision
            await anext(feed)
            await asyncio.sleep(0.5)
            assert store.load() == first.position
        assert store.load() == first.position, "the last event was not applied"
        async with cable.feed(store=store, checkpoint_interval=1) as feed:
            assert feed.position is None
            event = await anext(feed)
            assert isinstance(event, Checkpoint)
            assert event.position.revision == 4
            applied = 4
            await feed.save()
        assert store.load() == event.position


@asynchronous
async def test_a_follower_resumes_after_the_position_in_its_file(server: Server, tmp_path: Path) -> None:
    store = FilePosition(tmp_path / "position")
    follower = Follower()
    for number in range(3):
        async with Cable(server.endpoint) as cable:
            await cable.put_article(article(f"n{number}"))
            async with cable.feed(tagged("a"), snapshot=True, store=store, checkpoint_interval=1) as feed:
                await follower.caught_up(feed)
                await feed.save()
    assert set(follower.etags) == {"articles/n0", "articles/n1", "articles/n2"}
    assert follower.revisions == [2, 3], "only the first start had a snapshot"


@asynchronous
async def test_a_position_that_cannot_be_saved_ends_the_feed(server: Server) -> None:
    class Full(MemoryPosition):
        def save(self, position: Position) -> None:
            raise OSError("disk full")

    async with Cable(server.endpoint) as cable:
        feed = cable.feed(store=Full(), snapshot=True, checkpoint_interval=1)
        with pytest.raises(PositionStoreError, match="disk full"):
            async for _ in feed:
                pass
        with pytest.raises(StopAsyncIteration):
            await anext(feed)


@asynchronous
async def test_a_commit_in_parts_is_applied_as_one(server: Server) -> None:
    async with Cable(server.endpoint, timeout=60) as cable:
        text = " ".join(f"word{number}" for number in range(20_000))
        source = v1.BodySource(format=v1.BODY_FORMAT_MARKDOWN, text=text)
        for number in range(40):
            written = await cable.put_article(article(f"n{number}"), body_source=source)
        patches = [
            v1.Change(patch_article=v1.ArticlePatch(article=v1.Article(name=f"articles/n{number}", headline="New")))
            for number in range(40)
        ]
        await cable.commit(patches)
        options = {"view": v1.ARTICLE_VIEW_FULL, "after": written.position}
        async with cable.feed(**options) as feed:  # type: ignore[arg-type]
            event = await next_changes(feed)
            assert sum(change.ByteSize() for change in event.changes) > 4 << 20, "more than one message"
            assert len(event.changes) == 40
        async with cable.feed(max_commit_bytes=1 << 20, **options) as feed:  # type: ignore[arg-type]
            with pytest.raises(TooLargeError, match="max_commit_bytes"):
                await next_changes(feed)


@asynchronous
async def test_a_lost_history_ends_the_feed_or_resets_it(server: Server) -> None:
    other = Position(log_id="00000000", revision=1, chain=bytes(32))
    async with Cable(server.endpoint) as cable:
        await cable.put_article(article("storm"))
        async with cable.feed(after=other) as feed:
            with pytest.raises(CableError) as changed:
                await anext(feed)
            assert changed.value.reason == "LOG_CHANGED"
        follower = Follower()
        async with cable.feed(after=other, allow_reset=True) as feed:
            await follower.caught_up(feed)
        assert follower.resets == ["LOG_CHANGED"]
        assert set(follower.etags) == {"articles/storm"}


@asynchronous
async def test_a_snapshot_that_breaks_starts_again(server: Server) -> None:
    async with Cable(server.endpoint) as cable:
        for number in range(3):
            await cable.commit(
                v1.Change(put_article=article(f"n{number}-{other}", dek="x" * 4000)) for other in range(300)
            )
        async with proxy(server.address) as faulty, Cable(f"http://{faulty.address}") as follower_cable:
            follower = Follower()
            faulty.cut_after = 1_500_000
            async with follower_cable.feed(tagged("a"), snapshot=True) as feed:
                await follower.until(feed, lambda event: isinstance(event, Snapshot))
                await follower.until(feed, lambda _: bool(follower.resets))
                faulty.cut_after = None
                await follower.caught_up(feed)
            assert set(follower.resets) == {"SNAPSHOT_BROKEN"}
        assert follower.etags == await snapshot(cable, tagged("a"))


@asynchronous
async def test_streams_that_are_cut_lose_and_repeat_nothing(server: Server) -> None:
    follower = Follower()
    async with Cable(server.endpoint) as cable, proxy(server.address) as faulty:
        async with Cable(["http://127.0.0.1:1", f"http://{faulty.address}"]) as reader:
            async with reader.feed(tagged("a"), snapshot=True, checkpoint_interval=1) as feed:
                await follower.caught_up(feed)
                faulty.cut_after = 900
                for number in range(12):
                    await cable.put_article(article(f"n{number}", "x" * 200))
                    await follower.follow(feed, f"articles/n{number}")
        assert faulty.connections > 3
        assert follower.etags == await snapshot(cable, tagged("a"))


@asynchronous
async def test_a_caller_that_is_cancelled_loses_nothing(server: Server) -> None:
    async with Cable(server.endpoint) as cable, cable.feed(tagged("a"), checkpoint_interval=300) as feed:
        await anext(feed)
        for number in range(5):
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(anext(feed), 0.05)
            await cable.put_article(article(f"n{number}"))
            changes = (await next_changes(feed)).changes
            assert [change_name(change) for change in changes] == [f"articles/n{number}"]


@asynchronous
async def test_a_request_that_the_server_refuses_ends_the_feed(server: Server) -> None:
    async with Cable(server.endpoint) as cable:
        feed = cable.feed(v1.FeedFilter(any_tags=["not a tag"]))
        with pytest.raises(CableError) as refused:
            await anext(feed)
        assert refused.value.reason == "FIELD_INVALID"
        assert refused.value.field == "filter.any_tags[0]"
        with pytest.raises(StopAsyncIteration):
            await anext(feed)


@asynchronous
async def test_a_closed_feed_ends_its_loop(server: Server) -> None:
    async with Cable(server.endpoint) as cable:
        feed = cable.feed(checkpoint_interval=300)
        await anext(feed)
        waiting = asyncio.create_task(anext(feed))
        await asyncio.sleep(0)
        await feed.aclose()
        with pytest.raises(StopAsyncIteration):
            await waiting


@asynchronous
async def test_the_node_stores_the_position_of_a_consumer(server: Server) -> None:
    options: dict[str, Any] = {"snapshot": True, "consumer": "search", "checkpoint_interval": 1}
    async with Cable(server.endpoint, timeout=30, attempts=100) as cable:
        await cable.put_article(article("a"))
        async with cable.feed(tagged("a"), **options) as feed:
            async for event in feed:
                if isinstance(event, Checkpoint):
                    written = await cable.put_article(article("b"))
                if isinstance(event, Changes):
                    break
            await feed.save()
        assert consumers(server)["search"] == written.position.revision

        # Another feed of the name: no snapshot, only what came since.
        await cable.put_article(article("c"))
        async with cable.feed(tagged("a"), **options) as feed:
            while isinstance(event := await anext(feed), Checkpoint):
                pass
            assert isinstance(event, Changes)
            assert [change_name(change) for change in event.changes] == ["articles/c"]
            # While the node is away, the acknowledgement of `c` fails, and is repeated.
            server.stop(signal.SIGKILL)
            following = asyncio.create_task(feed.__anext__())
            await asyncio.sleep(0.5)
            server.start()
            await following
            while consumers(server)["search"] < event.position.revision:
                await anext(feed)


@asynchronous
async def test_an_event_at_which_the_loop_breaks_is_not_acknowledged(server: Server) -> None:
    async with Cable(server.endpoint) as cable:
        await cable.put_article(article("before"))
        async with cable.feed(consumer="purger", checkpoint_interval=1) as feed:
            await anext(feed)  # The node stores the position at which a consumer begins.
        begin = consumers(server)["purger"]
        written = await cable.put_article(article("a"))
        for _ in range(2):
            async with cable.feed(consumer="purger", checkpoint_interval=1) as feed:
                async for event in feed:
                    if isinstance(event, Changes):
                        assert [change.revision for change in event.changes] == [written.result.revision]
                        break
        assert consumers(server)["purger"] == begin


@asynchronous
async def test_a_consumer_that_the_node_refuses_ends_the_feed(server: Server) -> None:
    async with Cable(server.endpoint) as cable, cable.feed(consumer="not a name") as feed:
        with pytest.raises(CableError) as refused:
            await anext(feed)
        assert refused.value.field == "consumer"
