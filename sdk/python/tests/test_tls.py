"""TLS with a private CA and a token, and the errors of a client that lacks one of them."""

import asyncio
import subprocess
from pathlib import Path

import pytest
from support import article, asynchronous, tagged

from cable_client import Cable, CableError, SnapshotEnd, sync
from cable_client.testing import Server


def certify(directory: Path) -> None:
    """Writes `ca.pem`, and `node.pem` with `node.key`, a certificate of this CA for the loopback address."""

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=directory, check=True, capture_output=True)

    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    openssl("req", "-x509", *key, "-days", "1", "-subj", "/CN=Test CA", "-keyout", "ca.key", "-out", "ca.pem")
    openssl("req", *key, "-subj", "/CN=node", "-keyout", "node.key", "-out", "node.csr")
    (directory / "ext").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1")
    signed = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "1", "-extfile", "ext"]
    openssl("x509", "-req", "-in", "node.csr", *signed, "-out", "node.pem")


def new_token(server: Server) -> str:
    command = [server.program, "token", "new", "desk", "--role", "publisher", "--data", str(server.store)]
    return subprocess.run(command, check=True, text=True, capture_output=True).stdout.split()[0]


@asynchronous
async def test_tls_with_a_private_ca_and_a_token(program: None, tmp_path: Path) -> None:
    certify(tmp_path)
    ca = tmp_path / "ca.pem"
    with Server({"tls.certificate": str(tmp_path / "node.pem"), "tls.key": str(tmp_path / "node.key")}) as server:
        token = new_token(server)
        server.stop()
        server.start()  # It reads its tokens as it starts.
        assert server.endpoint.startswith("https://")

        async with Cable(server.endpoint, ca=ca, token=token) as cable:
            await cable.put_article(article("storm"))
            async with cable.feed(tagged("a"), snapshot=True) as feed:
                async for event in feed:
                    if isinstance(event, SnapshotEnd):
                        assert event.size == 1
                        break

        def snapshot_size() -> int:
            with sync.Cable(server.endpoint, ca=ca, token=token) as cable:
                with cable.feed(tagged("a"), snapshot=True) as feed:
                    return next(event.size for event in feed if isinstance(event, SnapshotEnd))

        assert await asyncio.to_thread(snapshot_size) == 1

        async with Cable(server.endpoint, ca=ca) as anonymous:
            with pytest.raises(CableError, match="token") as missing:
                await anonymous.put_article(article("storm"))
            assert missing.value.reason == "UNAUTHENTICATED"

        async with Cable(server.endpoint, token=token) as untrusting:
            with pytest.raises(CableError, match="certificate") as untrusted:
                await untrusting.put_article(article("storm"))
            assert not untrusted.value.may_have_applied

            # A feed repeats the attempt, so that a new certificate of the node helps, and reports the cause.
            reported: list[CableError] = []

            def report(error: CableError) -> None:
                reported.append(error)
                raise InterruptedError

            with pytest.raises(InterruptedError):
                await anext(untrusting.feed(on_retry=report))
            assert "certificate" in str(reported[0])
        for error in (missing.value, untrusted.value):
            assert token not in str(error)
