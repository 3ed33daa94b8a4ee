"""The synchronous client: the same behaviour, without an event loop of the caller."""

import signal
import threading
from pathlib import Path

import pytest
from support import article, consumers, tagged

from cable_client import Changes, Checkpoint, FilePosition, NotFoundError, change_name, v1
from cable_client.sync import Cable
from cable_client.testing import Server


def test_calls_pages_and_streams(server: Server) -> None:
    with Cable(server.endpoint) as cable:
        cable.commit([v1.Change(put_article=article(f"n{number}")) for number in range(25)])
        assert cable.get_article("articles/n7").article.headline == "Storm"
        with pytest.raises(NotFoundError):
            cable.get_article("articles/none")
        names = {found.name for found in cable.list_articles(page_size=10)}
        assert names == {found.name for found in cable.stream_articles()}
        assert len(names) == 25
        for _ in cable.stream_articles():
            break  # An iterator that is given up releases its stream.


def test_a_feed_resumes_after_its_position(server: Server, tmp_path: Path) -> None:
    store, seen = FilePosition(tmp_path / "position"), []
    for number in range(3):
        with Cable(server.endpoint, timeout=30, attempts=100) as cable:
            cable.put_article(article(f"n{number}"))
            with cable.feed(tagged("a"), snapshot=True, store=store, checkpoint_interval=1) as feed:
                for event in feed:
                    if isinstance(event, Changes):
                        seen += [change_name(change) for change in event.changes]
                    if isinstance(event, Checkpoint) and feed.is_caught_up:
                        feed.save()
                        break
        server.stop(signal.SIGKILL)
        server.start()
    assert seen == ["articles/n1", "articles/n2"]


def test_a_mirror_is_read_by_several_threads(server: Server) -> None:
    with Cable(server.endpoint) as cable, cable.mirror(tagged("a")) as mirror:
        mirror.ready()
        errors: list[BaseException] = []
        is_done = threading.Event()

        def read() -> None:
            try:
                while not is_done.is_set():
                    assert len(list(mirror)) <= 50
                    mirror.by_tag("a")
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=read) for _ in range(2)]
        for thread in threads:
            thread.start()
        changes = mirror.changes()
        for number in range(50):
            cable.put_article(article(f"n{number}"))
        for _ in changes:
            if len(mirror) == 50:
                break
        is_done.set()
        for thread in threads:
            thread.join()
        assert errors == []
        assert len(mirror.by_tag("a")) == 50


def test_a_feed_of_a_consumer_resumes_after_what_it_has_acknowledged(server: Server) -> None:
    with Cable(server.endpoint) as cable:
        cable.put_article(article("before"))
        with cable.feed(consumer="sync", checkpoint_interval=1) as feed:
            next(feed)
        for name in ("a", "b"):
            cable.put_article(article(name))
            with cable.feed(consumer="sync", checkpoint_interval=1) as feed:
                while isinstance(event := next(feed), Checkpoint):
                    pass
                assert isinstance(event, Changes)
                assert [change_name(change) for change in event.changes] == [f"articles/{name}"]
                feed.save()
            assert consumers(server)["sync"] == event.position.revision
