"""Tokens: from text, files and functions, and their rotation."""

import asyncio
import subprocess
from pathlib import Path

import grpc
import pytest
from support import Follower, article, asynchronous, tagged, until

from cable_client import Cable, CableError, ConfigError, TokenSource
from cable_client.testing import Server

CANARY = "cable_1_canary-of-the-token"


def new_token(server: Server, name: str, *options: str) -> str:
    command = [server.program, "token", "new", name, "--role", "admin", "--data", str(server.store), *options]
    return subprocess.run(command, check=True, text=True, capture_output=True).stdout.split()[0]


async def until_accepted(server: Server, token: str) -> None:
    """Waits until the server knows a token, which takes it some seconds."""

    async def is_accepted() -> bool:
        try:
            async with Cable(server.endpoint, token=token) as cable:
                await cable.put_article(article("first"))
        except CableError as error:
            assert error.code is grpc.StatusCode.UNAUTHENTICATED
            return False
        return True

    await until(is_accepted)


@asynchronous
async def test_a_token_comes_from_text_file_or_function(server: Server, tmp_path: Path) -> None:
    token = new_token(server, "one")
    path = tmp_path / "token"
    path.write_text(token + "\n")

    async def fetch() -> str:
        await asyncio.sleep(0)
        return token

    await until_accepted(server, token)
    async with Cable(server.endpoint) as anonymous:
        with pytest.raises(CableError) as refused:
            await anonymous.put_article(article("storm"))
        assert refused.value.reason == "UNAUTHENTICATED"
    sources: list[TokenSource] = [token, path, fetch, lambda: token]
    for source in sources:
        async with Cable(server.endpoint, token=source) as cable:
            await cable.put_article(article("storm"))


@asynchronous
async def test_a_file_is_read_again_when_its_token_is_refused(server: Server, tmp_path: Path) -> None:
    token = new_token(server, "one")
    path = tmp_path / "token"
    await until_accepted(server, token)
    path.write_text(CANARY)
    async with Cable(server.endpoint, token=path) as cable:
        with pytest.raises(CableError) as refused:
            await cable.put_article(article("storm", "New"))
        assert refused.value.code is grpc.StatusCode.UNAUTHENTICATED
        assert "canary" not in f"{refused.value} {refused.value!r} {vars(cable)}"
        path.write_text(token)
        await cable.put_article(article("storm", "New"))


@asynchronous
async def test_a_feed_resumes_with_the_next_token(server: Server, tmp_path: Path) -> None:
    second = new_token(server, "next")
    await until_accepted(server, second)
    first = new_token(server, "desk", "--expires", "6s")
    path = tmp_path / "token"
    path.write_text(first)
    follower = Follower()
    retries: list[CableError] = []
    await until_accepted(server, first)
    async with Cable(server.endpoint, token=path) as cable, Cable(server.endpoint, token=second) as writer:
        async with cable.feed(tagged("a"), snapshot=True, checkpoint_interval=1, on_retry=retries.append) as feed:
            await follower.caught_up(feed)
            path.write_text(second)
            # The first token expires while the stream is open: the server ends it.
            while not any(error.code is grpc.StatusCode.UNAUTHENTICATED for error in retries):
                follower.apply(await anext(feed))
            await writer.put_article(article("storm"))
            await follower.follow(feed, "articles/storm")
    assert follower.resets == []


@asynchronous
async def test_a_feed_with_a_refused_token_ends(server: Server) -> None:
    new_token(server, "one")
    async with Cable(server.endpoint, token=CANARY) as cable:

        async def is_refused() -> bool:
            try:
                async for _ in cable.feed():
                    return False
            except CableError as error:
                return error.code is grpc.StatusCode.UNAUTHENTICATED
            return False

        await until(is_refused)


@asynchronous
async def test_a_function_that_fails_before_the_first_token_fails_the_call(server: Server) -> None:
    def fail() -> str:
        raise OSError("no secret store")

    async with Cable(server.endpoint, token=fail) as cable:
        with pytest.raises(ConfigError, match="no secret store"):
            await cable.get_status()


def test_an_invalid_token_is_refused_without_its_text(tmp_path: Path) -> None:
    path = tmp_path / "token"
    for text in ["", " \n", "x" * 4097, f"{CANARY} two", f"{CANARY}\r\nx: y", f"{CANARY}é"]:
        path.write_text(text)
        sources: list[TokenSource] = [text, path]
        for source in sources:
            with pytest.raises(ConfigError, match="visible ASCII") as refused:
                Cable(token=source)
            assert "canary" not in f"{refused.value} {refused.value!r}"
    with pytest.raises(ConfigError, match="No such file"):
        Cable(token=tmp_path / "none")


@asynchronous
async def test_a_token_is_not_sent_without_tls_to_another_machine() -> None:
    async with Cable("http://192.0.2.1:7190", token=CANARY) as cable:
        with pytest.raises(ConfigError, match="without TLS"):
            await cable.get_status()
