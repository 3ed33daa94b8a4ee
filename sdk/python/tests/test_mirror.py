"""Mirrors: at the end the map equals a snapshot, whatever failed meanwhile."""

import asyncio
import random
import signal

import pytest
from support import PATIENCE, article, asynchronous, consumers, snapshot, tagged, until

from cable_client import Cable, CableError, FeedFilter, v1
from cable_client.testing import Server


@asynchronous
async def test_a_mirror_equals_a_snapshot_after_changes_and_kills(server: Server) -> None:
    choices = random.Random(7)
    async with Cable(server.endpoint, timeout=30, attempts=100) as cable:
        await cable.put_tag(v1.Tag(name="tags/a", display_name="A"))
        async with cable.mirror(FeedFilter(kinds=[v1.ENTITY_KIND_ARTICLE]), checkpoint_interval=1) as mirror:
            await mirror.ready()
            for number in range(60):
                name, tag = f"n{choices.randrange(12)}", choices.choice("abc")
                try:
                    if choices.random() < 0.3:
                        await cable.remove_article(f"articles/{name}", reason=v1.REMOVAL_REASON_DELETED)
                    else:
                        await cable.put_article(article(name, f"Headline {number}", tag))
                except CableError as error:
                    assert error.reason in ("ARTICLE_NOT_FOUND", "ARTICLE_GONE")
                if number % 20 == 10:
                    server.stop(signal.SIGKILL)
                    server.start()
            head = (await cable.get_status()).head

            async def is_current() -> bool:
                return mirror.position == head

            await until(is_current)
            position, entities = mirror.content()
            assert position == head
            assert {name: entity.etag for name, entity in entities.items()} == await snapshot(cable)
            for tag in "abc":
                expected = await snapshot(cable, tagged(tag))
                assert {found.name for found in mirror.by_tag(tag)} == set(expected)
                revisions = [found.revision for found in mirror.by_tag(f"tags/{tag}")]
                assert revisions == sorted(revisions, reverse=True)
            assert mirror.by_tag("none") == []


@asynchronous
async def test_a_mirror_is_a_mapping_with_lag_and_changes(server: Server) -> None:
    async with Cable(server.endpoint) as cable:
        await cable.put_article(article("storm"))
        await cable.put_tag(v1.Tag(name="tags/a", display_name="A"))
        mirror = cable.mirror(checkpoint_interval=1)
        assert (len(mirror), mirror.position, mirror.lag) == (0, None, None)
        with pytest.raises(RuntimeError, match="async with"):
            await mirror.ready()
        async with mirror:
            await asyncio.wait_for(mirror.ready(), PATIENCE)
            assert set(mirror) == {"articles/storm", "tags/a"}
            assert isinstance(mirror["articles/storm"], v1.Article)
            assert "articles/none" not in mirror
            assert mirror.get("articles/none") is None
            assert mirror.lag is not None
            changes = mirror.changes()
            written = await cable.put_article(article("flood"))
            position = await asyncio.wait_for(anext(changes), PATIENCE)
            assert position.revision >= written.position.revision
            assert "articles/flood" in mirror
        assert len(mirror) == 3, "the content stays readable"


@asynchronous
async def test_a_commit_is_never_visible_in_part(server: Server) -> None:
    async with Cable(server.endpoint) as cable, cable.mirror() as mirror:
        await mirror.ready()
        for number in range(20):
            await cable.commit(v1.Change(put_article=article(f"n{other}", f"Headline {number}")) for other in range(20))

        async def is_complete() -> bool:
            _, entities = mirror.content()
            headlines = {entity.headline for entity in entities.values() if isinstance(entity, v1.Article)}
            assert len(headlines) <= 1
            return headlines == {"Headline 19"}

        await until(is_complete)


@asynchronous
async def test_a_mirror_whose_feed_ends_raises_its_error(server: Server) -> None:
    async with Cable(server.endpoint) as cable, cable.mirror(FeedFilter(any_tags=["not a tag"])) as mirror:
        with pytest.raises(CableError) as refused:
            await asyncio.wait_for(mirror.ready(), PATIENCE)
        assert refused.value.reason == "FIELD_INVALID"


@asynchronous
async def test_a_mirror_acknowledges_as_a_consumer(server: Server) -> None:
    async with Cable(server.endpoint) as cable:
        for expected in ({"articles/a"}, {"articles/a", "articles/b"}):
            # The second one starts with a snapshot, as each mirror does.
            async with cable.mirror(consumer="copy", checkpoint_interval=1) as mirror:
                await mirror.ready()
                written = await cable.put_article(article(max(expected).removeprefix("articles/")))

                async def is_acknowledged(revision: int = written.result.revision) -> bool:
                    return consumers(server).get("copy", 0) >= revision

                await until(is_acknowledged)
                assert set(mirror) == expected
