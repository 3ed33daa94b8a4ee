"""Calls: what they return, how they fail, and what they retry."""

import asyncio
import signal
import socket
import subprocess
import time
from pathlib import Path

import grpc
import pytest
from support import article, asynchronous, freeze, proxy, until

from cable_client import Cable, CableError, ConfigError, NotFoundError, v1
from cable_client.testing import Server
from cable_client.v1 import methods


@asynchronous
async def test_a_write_is_read_at_its_position(server: Server) -> None:
    async with Cable(server.endpoint) as cable:
        written = await cable.put_article(article("storm"))
        assert written.result.changed
        fresh = v1.Freshness(at_least_revision=written.position.revision, log_id=written.position.log_id)
        read = await cable.get_article("articles/storm", freshness=fresh)
        assert read.article.headline == "Storm"
        assert read.article.etag == written.result.etag
        again = await cable.put_article(article("storm"))
        assert not again.result.changed


@asynchronous
async def test_an_error_states_reason_field_and_metadata(server: Server) -> None:
    async with Cable(server.endpoint) as cable:
        with pytest.raises(NotFoundError) as missing:
            await cable.get_article("articles/none")
        assert (missing.value.code, missing.value.reason) == (grpc.StatusCode.NOT_FOUND, "ARTICLE_NOT_FOUND")
        assert not missing.value.retryable
        with pytest.raises(CableError) as invalid:
            await cable.put_article(article("not a name"))
        assert (invalid.value.reason, invalid.value.field) == ("FIELD_INVALID", "article.name")
        etag = (await cable.put_article(article("storm"))).result.etag
        with pytest.raises(CableError) as conflict:
            await cable.put_article(article("storm", "New"), precondition=v1.Precondition(must_be_absent=True))
        assert (conflict.value.reason, conflict.value.metadata["etag"]) == ("NAME_EXISTS", etag)
        assert not conflict.value.may_have_applied


def test_a_field_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="any_tag"):
        v1.FeedFilter(any_tag=["tags/a"])  # type: ignore[call-arg]


@asynchronous
async def test_pages_and_streams_have_every_article_once(server: Server) -> None:
    async with Cable(server.endpoint) as cable:
        changes = [v1.Change(put_article=article(f"n{number}")) for number in range(25)]
        await cable.commit(changes)
        expected = {f"articles/n{number}" for number in range(25)}
        listed = [found.name async for found in cable.list_articles(page_size=10)]
        streamed = [found.name async for found in cable.stream_articles()]
        assert (len(listed), len(streamed)) == (25, 25)
        assert set(listed) == set(streamed) == expected
        pages = [page async for page in cable.pages(methods.LIST_ARTICLES, v1.ListArticlesRequest(page_size=10))]
        assert [len(page.articles) for page in pages] == [10, 10, 5]
        with pytest.raises(CableError) as misused:
            request = v1.ListArticlesRequest(page_size=10, page_token="x")
            _ = [page async for page in cable.pages(methods.LIST_ARTICLES, request)]
        assert misused.value.reason == "PAGE_TOKEN_INVALID"


@asynchronous
async def test_a_write_without_a_response_is_applied_once(server: Server) -> None:
    async with proxy(server.address) as faulty, Cable(f"http://{faulty.address}") as cable:
        await cable.get_status()
        # The settings of HTTP/2 pass, the response does not: the write is applied, its outcome is lost.
        faulty.cut_after = 100
        async with Cable(server.endpoint) as direct:

            async def is_applied() -> bool:
                return (await direct.get_status()).head.revision == 1

            write = asyncio.create_task(
                Cable(f"http://{faulty.address}", timeout=30, attempts=50).put_article(article("storm"))
            )
            await until(is_applied)
            faulty.cut_after = None
            written = await write
            assert written.result.changed, "a retry with the same request id has the first outcome"
            assert (await direct.get_status()).head.revision == 1


@asynchronous
async def test_a_write_whose_outcome_is_unknown_is_settled_by_its_id(server: Server) -> None:
    async with proxy(server.address) as faulty, Cable(server.endpoint) as direct:
        faulty.cut_after = 100
        async with Cable(f"http://{faulty.address}", attempts=1) as cable:
            with pytest.raises(CableError) as unknown:
                await cable.put_article(article("storm"), request_id="cms-1")
            assert unknown.value.retryable
            assert unknown.value.may_have_applied
            faulty.cut_after = None
        settled = await direct.put_article(article("storm"), request_id="cms-1")
        assert settled.result.revision == 1


@asynchronous
async def test_a_write_that_reached_no_node_was_not_applied() -> None:
    async with Cable("http://127.0.0.1:1") as cable:
        with pytest.raises(CableError) as unreached:
            await cable.put_article(article("storm"))
        assert unreached.value.retryable
        assert not unreached.value.may_have_applied
        assert "127.0.0.1:1" in str(unreached.value)


@asynchronous
async def test_a_dead_endpoint_is_avoided(server: Server) -> None:
    async with Cable(["http://127.0.0.1:1", server.endpoint], attempts=1) as cable:
        for _ in range(10):
            await cable.get_status()


@asynchronous
async def test_a_silent_node_ends_no_call_late_and_another_one_serves(server: Server) -> None:
    assert server.process is not None
    async with Cable(server.endpoint, timeout=1) as cable:
        await cable.put_article(article("storm"))
        freeze(server)
        with pytest.raises(CableError) as silent:
            await cable.put_article(article("storm", "New"))
        assert silent.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
        assert silent.value.may_have_applied
        with Server() as other:
            async with Cable([server.endpoint, other.endpoint], timeout=20) as both:
                for _ in range(4):
                    await both.get_status()
        server.process.send_signal(signal.SIGCONT)
        assert (await cable.get_status(timeout=30)).head.revision >= 1


async def slow_calls(cable: Cable) -> int:
    """Returns how many calls of 5 s take more than one. A node that costs a call 2 s is avoided for at least 4 s."""
    slow, end = 0, time.monotonic() + 5
    while time.monotonic() < end:
        start = time.monotonic()
        await cable.get_status()
        slow += time.monotonic() - start > 1
        await asyncio.sleep(0.02)
    return slow


@asynchronous
async def test_a_node_that_accepts_connections_and_never_answers_is_avoided(server: Server) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        endpoints = [f"http://127.0.0.1:{silent.getsockname()[1]}", server.endpoint]
        async with Cable(endpoints, timeout=10) as cable:
            assert await slow_calls(cable) == 1


@asynchronous
async def test_a_node_that_lets_a_call_time_out_is_avoided(server: Server) -> None:
    with Server() as other:
        async with Cable([server.endpoint, other.endpoint], timeout=5) as cable:
            for _ in range(40):
                await cable.get_status()
            freeze(server)
            assert await slow_calls(cable) == 1
    assert server.process is not None
    server.process.send_signal(signal.SIGCONT)


@asynchronous
async def test_a_restarted_node_is_found_again(server: Server) -> None:
    async with Cable(server.endpoint, timeout=30, attempts=100) as cable:
        await cable.put_article(article("storm"))
        server.stop(signal.SIGKILL)
        server.start()
        assert (await cable.get_article("articles/storm")).article.headline == "Storm"


@asynchronous
async def test_a_closed_client_refuses_calls(server: Server) -> None:
    cable = Cable(server.endpoint)
    await cable.get_status()
    await cable.aclose()
    with pytest.raises(ConfigError, match="closed"):
        await cable.get_status()


INVALID_ENDPOINTS = ["", "127.0.0.1:7190", "ftp://host", "http://host/path", "http://user:secret@host", "http://a b"]
INVALID_PORTS = ["http://host:", "http://host:0", "http://host:65536", "http://host:123456"]


@pytest.mark.parametrize("endpoint", [*INVALID_ENDPOINTS, *INVALID_PORTS])
def test_an_invalid_endpoint_is_refused_and_not_repeated(endpoint: str) -> None:
    with pytest.raises(ConfigError, match="endpoint") as refused:
        Cable(endpoint)
    assert "secret" not in str(refused.value)


@asynchronous
async def test_tls_with_a_client_certificate(program: None, tmp_path: Path) -> None:
    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=tmp_path, check=True, capture_output=True)

    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    openssl("req", "-x509", *key, "-days", "1", "-subj", "/CN=Test CA", "-keyout", "ca.key", "-out", "ca.pem")
    for name, extension in [
        ("node", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
        ("desk", "extendedKeyUsage=clientAuth"),
    ]:
        openssl("req", *key, "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        (tmp_path / "ext").write_text(extension)
        signed = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "1", "-extfile", "ext"]
        openssl("x509", "-req", "-in", f"{name}.csr", *signed, "-out", f"{name}.pem")
    settings = {
        "tls.certificate": str(tmp_path / "node.pem"),
        "tls.key": str(tmp_path / "node.key"),
        "tls.client_ca": str(tmp_path / "ca.pem"),
        "tls.client_auth": "required",
    }
    with Server(settings) as server:
        identity = (tmp_path / "desk.pem", (tmp_path / "desk.key").read_bytes())
        async with Cable(server.endpoint, ca=tmp_path / "ca.pem", client_certificate=identity) as cable:
            await cable.get_status()
        async with Cable(server.endpoint, ca=tmp_path / "ca.pem") as anonymous:
            with pytest.raises(CableError) as refused:
                await anonymous.get_status()
            assert refused.value.retryable
        async with Cable(server.endpoint, client_certificate=identity) as untrusting:
            with pytest.raises(CableError):
                await untrusting.get_status()
