"""What must not hang, end without an error, or be seen in part, whatever is closed, cancelled or forked."""

import asyncio
import gc
import inspect
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from typing import Any

import grpc
import pytest
from support import PATIENCE, article, asynchronous, freeze, proxy, tagged, until

from cable_client import (
    Cable,
    CableError,
    Changes,
    ConfigError,
    Mirror,
    Reset,
    Snapshot,
    _transport,
    change_name,
    sync,
    v1,
)
from cable_client.testing import Server
from cable_client.v1.methods import WATCH


@pytest.fixture
def silent() -> Iterator[str]:
    """The endpoint of a server that accepts connections and never responds."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


async def time_out(server: Server, cable: Cable) -> None:
    """Makes a call that has no response in time, although the server and the connection are sound."""
    assert server.process is not None
    freeze(server)
    with pytest.raises(CableError, match="DEADLINE_EXCEEDED"):
        await cable.get_status(timeout=0.1)
    server.process.send_signal(signal.SIGCONT)


@asynchronous
async def test_a_call_that_times_out_ends_no_stream(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    # The time after which a connection that was given up used to be closed.
    monkeypatch.setattr(_transport, "RETIREMENT", 0.1, raising=False)
    retries: list[CableError] = []
    async with Cable(server.endpoint) as cable:
        changes = [v1.Change(put_article=article(f"n{number}", dek="x" * 4000)) for number in range(500)]
        await cable.commit(changes)
        options: dict[str, Any] = {"checkpoint_interval": 300, "on_retry": retries.append}
        async with cable.feed(tagged("a"), **options) as feed, cable.mirror(tagged("a"), **options) as mirror:
            await anext(feed)
            await mirror.ready()
            mirrored = mirror.changes()
            stream = cable.stream_articles()
            streamed = [await anext(stream)]
            for _ in range(2):
                await time_out(server, cable)
            await asyncio.sleep(0.5)
            await cable.put_article(article("storm"), timeout=30)
            while not isinstance(event := await asyncio.wait_for(anext(feed), PATIENCE), Changes):
                pass
            assert [change_name(change) for change in event.changes] == ["articles/storm"]
            assert (await anext(mirrored)).revision >= event.position.revision
            streamed += [found async for found in stream]
            assert len(streamed) == 500
    assert retries == [], "they continue on the connection that they have"


@asynchronous
async def test_a_connection_that_was_given_up_ends_with_its_last_stream(server: Server) -> None:
    async with proxy(server.address) as counted, Cable(f"http://{counted.address}") as cable:
        [node] = cable._transport._nodes
        feed = cable.feed(checkpoint_interval=300)
        await anext(feed)
        given_up = weakref.ref(node.channel())
        await time_out(server, cable)
        await cable.get_status(timeout=30)
        assert counted.connections > 1
        assert given_up() is not None
        await feed.aclose()
        gc.collect()
        assert given_up() is None


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 does not know whether a task is cancelled")
@asynchronous
async def test_a_stream_whose_call_is_cancelled_is_a_lost_connection(server: Server) -> None:
    retries: list[CableError] = []
    async with Cable(server.endpoint) as cable:
        await cable.commit([v1.Change(put_article=article(f"n{number}", dek="x" * 4000)) for number in range(500)])
        options: dict[str, Any] = {"checkpoint_interval": 300, "on_retry": retries.append}
        async with cable.feed(tagged("a"), **options) as feed, cable.mirror(tagged("a"), **options) as mirror:
            await anext(feed)
            await mirror.ready()
            waiting = asyncio.create_task(anext(feed))
            stream = cable.stream_articles()
            await anext(stream)
            await asyncio.sleep(0.1)
            await cable._transport._nodes[0].close()
            await cable.put_article(article("storm"))
            event = await asyncio.wait_for(waiting, PATIENCE)
            while not isinstance(event, Changes):
                event = await asyncio.wait_for(anext(feed), PATIENCE)
            assert [change_name(change) for change in event.changes] == ["articles/storm"]

            async def is_mirrored() -> bool:
                return "articles/storm" in mirror

            await until(is_mirrored)
            with pytest.raises(CableError) as broken:
                _ = [found async for found in stream]
            assert broken.value.retryable
    assert {error.code for error in retries} == {grpc.StatusCode.UNAVAILABLE}


@asynchronous
async def test_a_reader_that_is_cancelled_is_cancelled(server: Server) -> None:
    async def watch() -> None:
        stream = await cable._transport.open(WATCH, v1.WatchRequest(), 300, None, 1, blocking=False)
        while await stream.read() is not None:
            is_reading.set()

    is_reading = asyncio.Event()
    async with Cable(server.endpoint) as cable:
        reading = asyncio.create_task(watch())
        await is_reading.wait()
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading


async def outcome(call: Coroutine[Any, Any, object]) -> BaseException | None:
    """Returns the error of a call, also one that no `except Exception` catches."""
    try:
        await asyncio.wait_for(call, PATIENCE)
    except BaseException as error:
        return error
    return None


@asynchronous
async def test_a_client_that_is_closed_fails_all_that_waits(server: Server, silent: str) -> None:
    async def follow(cable: Cable) -> None:
        async for _ in cable.feed(checkpoint_interval=300):
            pass

    async def copy(mirror: Mirror) -> None:
        async for _ in mirror.changes():
            pass

    async def stream(cable: Cable) -> None:
        await anext(cable.stream_articles())

    hanging, serving = Cable(silent), Cable(server.endpoint)
    async with serving.mirror(checkpoint_interval=300) as mirror, hanging.mirror() as empty:
        await mirror.ready()
        calls = [hanging.get_status(), hanging.put_article(article("storm")), stream(hanging), follow(hanging)]
        calls += [follow(serving), copy(mirror), empty.ready()]
        waiting = [asyncio.create_task(outcome(call)) for call in calls]
        await asyncio.sleep(0.5)
        await hanging.aclose()
        await serving.aclose()
        errors = await asyncio.gather(*waiting)
        assert [(type(error), str(error)) for error in errors] == [
            (ConfigError, "the client is closed (INVALID_ARGUMENT)")
        ] * len(calls)
        applied = [error.may_have_applied for error in errors if isinstance(error, CableError)]
        assert applied == [False, True] + [False] * 5
    assert str(await outcome(copy(mirror))).startswith("the client is closed")


@asynchronous
async def test_a_mirror_that_is_closed_fails_what_waits_for_it(server: Server) -> None:
    async with Cable(server.endpoint) as cable:
        async with cable.mirror() as mirror:
            await mirror.ready()
            waiting = asyncio.create_task(outcome(anext(mirror.changes())))  # type: ignore[arg-type]
            await asyncio.sleep(0)
        assert str(await waiting).startswith("the mirror is closed")


@asynchronous
async def test_a_write_whose_retry_is_refused_here_may_have_been_applied(silent: str) -> None:
    async with Cable([silent, "http://192.0.2.1:7190"], token="secret", timeout=1) as cable:
        # The first attempt has no response. The other node must not receive the token.
        cable._transport._nodes[1].ejected_until = time.monotonic() + 0.1
        with pytest.raises(ConfigError, match="without TLS") as refused:
            await cable.put_article(article("storm"))
        assert refused.value.may_have_applied


def test_another_thread_that_closes_a_client_fails_its_calls(silent: str) -> None:
    def run(call: Callable[[], object]) -> None:
        try:
            call()
        except BaseException as error:
            errors.append(error)

    errors: list[BaseException] = []
    cable = sync.Cable(silent)
    mirror = cable.mirror()
    mirror.__enter__()
    calls: list[Callable[[], object]] = [cable.get_status, lambda: list(cable.feed()), mirror.ready]
    calls += [
        lambda: next(cable.stream_articles()),
        lambda: next(cable.list_articles()),
        lambda: next(mirror.changes()),
    ]
    threads = [threading.Thread(target=run, args=(call,), daemon=True) for call in calls]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    cable.close()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert [type(error) for error in errors] == [ConfigError] * len(calls), errors


def program(text: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs a program, which has to end by itself."""
    command = [sys.executable, "-W", "error", "-c", text, *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=PATIENCE)


@pytest.mark.parametrize("call", ["cable.list_articles()", "cable.stream_articles()"])
def test_a_program_ends_within_a_listing(server: Server, call: str) -> None:
    with sync.Cable(server.endpoint) as cable:
        cable.commit([v1.Change(put_article=article(f"n{number}")) for number in range(3)])
    text = "import sys; from cable_client.sync import Cable; cable = Cable(sys.argv[1])"
    ended = program(f"{text}; found = {call}; print(next(found).headline)", server.endpoint)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "Storm\n", "")


def test_a_call_as_the_interpreter_ends_is_an_error(server: Server) -> None:
    text = """
import sys
from cable_client.sync import Cable
class Session:
    cable = Cable(sys.argv[1])
    def __del__(self):
        try:
            self.cable.get_status()
        except RuntimeError as error:
            print(error)
session = Session()
session.cable.get_status()
session.cycle = session
"""
    ended = program(text, server.endpoint)
    assert ended.returncode == 0
    assert "interpreter" in ended.stdout


def test_a_listing_that_the_loop_collects_holds_nothing_up(server: Server) -> None:
    text = """
import gc, sys
from cable_client import _blocking
from cable_client.sync import Cable
cable = Cable(sys.argv[1])
gc.disable()
cycle = [cable.list_articles(), cable.stream_articles()]
for found in cycle[:]:
    next(found)
cycle.append(cycle)
del cycle, found
_blocking._loop.call_soon_threadsafe(gc.collect)
print(cable.get_status(timeout=5).head.revision)
"""
    with sync.Cable(server.endpoint) as cable:
        cable.commit([v1.Change(put_article=article(f"n{number}")) for number in range(3)])
    ended = program(text, server.endpoint)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "3\n", "")


def within_patience(test: Callable[[], None]) -> None:
    """Runs a part of a test that may wait forever, in a thread."""

    def run() -> None:
        try:
            test()
            result.set_result(None)
        except BaseException as error:
            result.set_exception(error)

    result: Future[None] = Future()
    threading.Thread(target=run, daemon=True).start()
    result.result(PATIENCE)


def test_a_handler_calls_the_client_in_the_thread_that_iterates(server: Server) -> None:
    def report(error: CableError) -> None:
        threads.append(threading.get_ident())
        server.start()
        heads.append(cable.get_status(timeout=30).head.revision)

    def follow() -> None:
        with sync.Cable(server.endpoint) as writer, cable.feed(tagged("a"), on_retry=report) as feed:
            next(feed)
            server.stop()
            next(feed)
            writer.put_article(article("storm"), timeout=30)
            while not isinstance(next(feed), Changes):
                pass
        assert set(threads) == {threading.get_ident()}
        assert set(heads) == {0}

    threads, heads = list[int](), list[int]()
    cable = sync.Cable(server.endpoint, timeout=30, attempts=100)
    within_patience(follow)
    cable.close()


def test_the_handler_of_a_mirror_calls_the_client(server: Server) -> None:
    def report(error: CableError) -> None:
        heads.append(cable.get_status(timeout=30).head.revision)
        is_reported.set()

    heads, is_reported = list[int](), threading.Event()
    with sync.Cable(server.endpoint, timeout=30, attempts=100) as cable:
        with cable.mirror(checkpoint_interval=1, on_retry=report) as mirror:
            mirror.ready()
            server.stop()
            server.start()
            assert is_reported.wait(PATIENCE), "a handler that calls the client must not hold up the loop"
    assert set(heads) == {0}


def test_a_call_from_the_loop_is_an_error(server: Server) -> None:
    async def token() -> str:
        return str(other.get_status())

    with sync.Cable(server.endpoint) as other, sync.Cable(server.endpoint, token=token) as cable:
        with pytest.raises(ConfigError, match="a call that blocks"):
            cable.get_status()


def test_a_function_that_exits_ends_only_its_call(server: Server) -> None:
    async def leave() -> str:
        sys.exit(3)

    for source in (leave, sys.exit):
        with sync.Cable(server.endpoint, token=source) as cable:
            with pytest.raises(SystemExit):
                cable.get_status(timeout=5)
    with sync.Cable(server.endpoint) as cable:
        cable.get_status()


@asynchronous
async def test_a_handler_that_raises_loses_no_reset(server: Server) -> None:
    def report(error: CableError) -> None:
        faulty.cut_after = None
        raise InterruptedError

    async with Cable(server.endpoint) as cable:
        for number in range(3):
            changes = [v1.Change(put_article=article(f"n{number}-{other}", dek="x" * 4000)) for other in range(300)]
            await cable.commit(changes)
    async with proxy(server.address) as faulty, Cable(f"http://{faulty.address}") as cable:
        faulty.cut_after = 1_500_000
        async with cable.feed(tagged("a"), snapshot=True, on_retry=report) as feed:
            with pytest.raises(InterruptedError):
                while isinstance(await anext(feed), Snapshot):
                    pass
            assert await anext(feed) == Reset("SNAPSHOT_BROKEN")
        faulty.cut_after = 1_500_000
        async with cable.mirror(tagged("a"), on_retry=report) as mirror:
            with pytest.raises(InterruptedError):
                await mirror.ready()


@pytest.mark.parametrize(("ending", "expected"), [("cable.close()", "Storm"), ("", "a client was open")])
def test_a_forked_process_has_a_loop_of_its_own(server: Server, ending: str, expected: str) -> None:
    text = f"""
import os, sys
from cable_client import ConfigError
from cable_client.sync import Cable
cable = Cable(sys.argv[1])
with cable.feed() as feed:
    next(feed)
    {ending}
    child = os.fork()
    try:
        line = Cable(sys.argv[1]).get_article("articles/storm", timeout=20).article.headline
    except ConfigError as error:
        line = str(error)
os.write(1, (line + os.linesep).encode())
cable.close()
os._exit(os.waitpid(child, 0)[1] if child else 0)
"""
    with sync.Cable(server.endpoint) as cable:
        cable.put_article(article("storm"))
    ended = program(text, server.endpoint)
    assert ended.returncode == 0
    parent = [line for line in ended.stdout.splitlines() if not line.startswith(expected)]
    assert parent == ([] if ending else ["Storm"])
    assert len(ended.stdout.splitlines()) == 2


def test_threads_see_a_commit_as_a_whole(server: Server) -> None:
    class Slow(dict[str, Any]):
        """A mapping in which each step of a commit takes a while."""

        def pop(self, *arguments: Any) -> Any:
            found = super().pop(*arguments)
            time.sleep(0.02)
            return found

        def __setitem__(self, name: str, entity: Any) -> None:
            super().__setitem__(name, entity)
            time.sleep(0.02)

    names = [f"articles/n{number}" for number in range(5)]
    with sync.Cable(server.endpoint) as cable, cable.mirror() as mirror:
        cable.commit([v1.Change(put_article=article(f"n{number}", "0")) for number in range(5)])
        changes = mirror.changes()
        mirror.ready()
        while len(mirror) < 5:
            next(changes)
        mirror._wrapped._entities = Slow(mirror._wrapped._entities)
        commit = [v1.Change(put_article=article(f"n{number}", "1")) for number in range(5)]
        writer = threading.Thread(target=cable.commit, args=(commit,))
        writer.start()
        seen: list[str] = []
        while seen[-1:] != ["1"]:
            assert len(mirror) == 5
            for name in names:
                found = mirror.get(name)
                assert isinstance(found, v1.Article), "an article that always exists is missing"
                seen.append(found.headline)
        writer.join()
        assert seen == sorted(seen), "once a part of a commit is visible, all of it is"


def test_the_types_of_the_blocking_client_are_known(server: Server) -> None:
    """The step `mypy` checks this: each comment that ignores an error states one that it must find."""
    with sync.Cable(server.endpoint, timeout=10.0) as cable:
        options = inspect.signature(Cable.__init__).parameters
        assert inspect.signature(sync.Cable.__init__).parameters.keys() == options.keys()
        with pytest.raises(AttributeError):
            cable.get_artikel("articles/storm")  # type: ignore[attr-defined]
        with pytest.raises(TypeError):
            sync.Cable(server.endpoint, time_out=10.0)  # type: ignore[call-arg]
        with pytest.raises(TypeError):
            cable.get_article("articles/storm", name_of="x")  # type: ignore[call-arg]
        with cable.feed(checkpoint_interval=1) as feed:
            next(feed)
            position: v1.Position | None = feed.position
            assert position is not None
            behind: str = feed.is_caught_up  # type: ignore[assignment]
            assert behind is not None
        with cable.mirror(checkpoint_interval=1) as mirror:
            mirror.ready()
            lag: float | None = mirror.lag
            assert lag is not None
            wrong: str = mirror.content()  # type: ignore[assignment]
            assert len(wrong) == 2
            assert mirror.damaged == set()
            with pytest.raises(AttributeError):
                mirror.delay  # type: ignore[attr-defined]  # noqa: B018
