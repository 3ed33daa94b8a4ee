"""The synchronous client: the same behaviour, without an event loop of the caller."""

import gc
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from support import PATIENCE, Follower, article, consumers, freeze, tagged

from cable_client import (
    CableError,
    Changes,
    Checkpoint,
    ConfigError,
    Event,
    FilePosition,
    MemoryPosition,
    NotFoundError,
    Position,
    PositionStoreError,
    change_name,
    v1,
)
from cable_client.sync import Cable, Feed
from cable_client.testing import Server


def follow(feed: Feed, name: str, apply: Callable[[Event], object] = lambda event: None) -> None:
    """Applies events until a name has been delivered by a change."""
    for event in feed:
        apply(event)
        if isinstance(event, Changes) and name in map(change_name, event.changes):
            return
    pytest.fail("the feed ended")


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


def test_kills_and_restarts_lose_and_repeat_nothing(server: Server) -> None:
    follower = Follower()
    with Cable(server.endpoint, timeout=30, attempts=100) as cable:
        with cable.feed(tagged("a"), snapshot=True, checkpoint_interval=1) as feed:
            while not feed.is_caught_up:
                follower.apply(next(feed))
            for number in range(4):
                cable.put_article(article(f"n{number % 3}", f"Headline {number}"))
                if number % 2:
                    follow(feed, f"articles/n{number % 3}", follower.apply)
                server.stop(signal.SIGKILL if number % 3 else signal.SIGTERM)
                server.start()
            cable.remove_article("articles/n1", reason=v1.REMOVAL_REASON_DELETED)
            follow(feed, "articles/n1", follower.apply)
        assert follower.resets == []
        found = {name: cable.get_article(name).article.etag for name in ("articles/n0", "articles/n2")}
        assert follower.etags == found


def test_a_silent_node_is_noticed_by_missed_checkpoints(server: Server) -> None:
    assert server.process is not None
    retries, is_noticed = list[CableError](), threading.Event()

    def note(error: CableError) -> None:
        retries.append(error)
        is_noticed.set()

    with Cable(server.endpoint, timeout=2) as cable:
        with cable.feed(tagged("a"), checkpoint_interval=1, on_retry=note) as feed:
            assert isinstance(next(feed), Checkpoint)
            # A caller that takes longer than the silence that ends a stream does not end it.
            time.sleep(4)
            for _ in range(5):
                assert isinstance(next(feed), Checkpoint)
            assert retries == []
            freeze(server)
            following = threading.Thread(target=follow, args=(feed, "articles/storm"))
            following.start()
            assert is_noticed.wait(PATIENCE)
            assert retries[0].code is grpc.StatusCode.DEADLINE_EXCEEDED
            server.process.send_signal(signal.SIGCONT)
            cable.put_article(article("storm"), timeout=30)
            following.join(PATIENCE)
            assert not following.is_alive()


@pytest.mark.parametrize("is_connected", [True, False])
def test_any_thread_closes_a_feed(server: Server, is_connected: bool) -> None:
    store, is_retried = MemoryPosition(), threading.Event()
    with Cable(server.endpoint) as cable:
        feed = cable.feed(tagged("a"), store=store, checkpoint_interval=300, on_retry=lambda error: is_retried.set())
        first = next(feed)
        cable.put_article(article("storm"))
        last = next(feed)
        assert isinstance(first, Checkpoint)
        assert isinstance(last, Changes)
        if not is_connected:
            server.stop(signal.SIGKILL)
        following = threading.Thread(target=list, args=(feed,))
        following.start()
        if not is_connected:
            assert is_retried.wait(PATIENCE)
        feed.close()
        following.join(PATIENCE)
        assert not following.is_alive()
        assert is_retried.is_set() is not is_connected, "to close a feed is no failure"
        assert store.load() in (first.position, last.position)
        assert list(feed) == []


def test_a_client_that_is_closed_ends_its_feeds(server: Server) -> None:
    errors: list[CableError] = []

    def read() -> None:
        try:
            next(feed)
        except CableError as error:
            errors.append(error)

    with Cable(server.endpoint) as cable:
        feed = cable.feed(checkpoint_interval=300)
        next(feed)
        reading = threading.Thread(target=read)
        reading.start()
    reading.join(PATIENCE)
    assert not reading.is_alive()
    assert [type(error) for error in errors] == [ConfigError]
    assert list(feed) == []


@pytest.fixture
def interrupts() -> Iterator[None]:
    """SIGINT raises KeyboardInterrupt. It is ignored where a shell has started the tests in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interrupts")
def test_an_interrupt_ends_the_wait_and_loses_nothing(server: Server) -> None:
    with Cable(server.endpoint) as cable, cable.feed(tagged("a"), checkpoint_interval=300) as feed:
        next(feed)
        for number in range(2):
            with pytest.raises(KeyboardInterrupt):
                main = threading.main_thread().ident or 0
                threading.Timer(0.3, signal.pthread_kill, (main, signal.SIGINT)).start()
                while isinstance(next(feed), Checkpoint):
                    pass
            cable.put_article(article(f"n{number}"))
            while isinstance(event := next(feed), Checkpoint):
                pass
            assert isinstance(event, Changes)
            assert [change_name(change) for change in event.changes] == [f"articles/n{number}"]


def test_a_position_is_saved_only_after_its_changes(server: Server) -> None:
    class Recorder(MemoryPosition):
        def save(self, position: Position) -> None:
            assert position.revision <= applied, "saved before it was applied"
            super().save(position)
            is_saved.set()

    applied, store, is_saved = 0, Recorder(), threading.Event()
    with Cable(server.endpoint) as cable:
        start = cable.put_article(article("storm")).position
        for number in range(50):
            cable.put_article(article("storm", f"Headline {number}"))
        with cable.feed(after=start, store=store, checkpoint_interval=300) as feed:
            first = next(feed)
            assert isinstance(first, Changes)
            time.sleep(0.5)
            assert store.load() is None, "not applied: the loop has not requested the next event"
            applied = first.position.revision
            event: Event = first
            while not isinstance(event, Checkpoint):
                applied = event.position.revision  # type: ignore[union-attr]
                event = next(feed)
            # Nothing comes after the checkpoint: the position before it is written while the loop works on it.
            assert is_saved.wait(PATIENCE)
        assert store.load() is not None
        assert (store.load() or Position()).revision == applied


def test_a_position_that_cannot_be_saved_ends_the_feed(server: Server) -> None:
    class Full(MemoryPosition):
        def save(self, position: Position) -> None:
            raise OSError("disk full")

    with Cable(server.endpoint) as cable:
        feed = cable.feed(store=Full(), snapshot=True, checkpoint_interval=1)
        with pytest.raises(PositionStoreError, match="disk full"):
            list(feed)
        assert list(feed) == []


def test_several_threads_follow_with_one_client(server: Server) -> None:
    with Cable(server.endpoint) as cable:
        start = cable.put_article(article("first")).position
        feeds = [cable.feed(tagged("a"), after=start) for _ in range(4)]
        threads = [threading.Thread(target=follow, args=(feed, "articles/n19")) for feed in feeds]
        for thread in threads:
            thread.start()
        for number in range(20):
            cable.put_article(article(f"n{number}"))
        for thread in threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()
        for feed in feeds:
            feed.close()


def test_a_feed_that_is_given_up_releases_its_stream(server: Server) -> None:
    with Cable(server.endpoint) as cable:
        feed = cable.feed(checkpoint_interval=300)
        next(feed)
        stream = weakref.ref(feed._wrapped._stream)
        del feed
        gc.collect()
        assert stream() is None


@pytest.mark.parametrize("last", ["next(feed)", "threading.Thread(target=list, args=(feed,), daemon=True).start()"])
def test_a_program_ends_without_closing_its_feed(server: Server, last: str) -> None:
    program = "import sys, threading; from cable_client.sync import Cable"
    program += "; feed = Cable(sys.argv[1]).feed(checkpoint_interval=300); next(feed) and print('one', flush=True)"
    program += "" if last == "next(feed)" else f"; {last}"
    command = [sys.executable, "-c", program, server.endpoint]
    ended = subprocess.run(command, check=False, capture_output=True, text=True, timeout=PATIENCE)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "one\n", "")
