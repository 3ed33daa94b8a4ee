"""The programs of the documents do what the documents say."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support import article

from cable_client import change_name
from cable_client.sync import Cable
from cable_client.testing import Server

ROOT = Path(__file__).resolve().parents[3]


def programs(document: str) -> list[str]:
    """Returns the complete programs of a document: those that create their own client."""
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / document).read_text(), re.MULTILINE | re.DOTALL)
    return [block for block in blocks if '"http://127.0.0.1:7190"' in block]


@pytest.mark.parametrize("number", [0, 1])
def test_the_followers_of_the_document_resume(server: Server, tmp_path: Path, number: int) -> None:
    found = programs("docs/python.md")
    assert len(found) == 2
    program = found[number].replace("http://127.0.0.1:7190", server.endpoint)
    command = [sys.executable, "-u", "-c", program]
    with Cable(server.endpoint) as cable:
        for name, expected in [("ice", "found ['articles/ice']"), ("storm", "upsert articles/storm")]:
            cable.put_article(article(name, tag="russia"))
            environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
            with subprocess.Popen(
                command, cwd=tmp_path, env=environment, text=True, stdout=subprocess.PIPE
            ) as follower:
                assert follower.stdout is not None
                assert follower.stdout.readline().strip() == expected
                # The position is saved once the next event was requested.
                while not (tmp_path / "russia.position").exists():
                    pass
                follower.kill()


def test_the_program_of_the_readme_follows(server: Server) -> None:
    [found] = programs("sdk/python/README.md")
    command = [sys.executable, "-u", "-c", found.replace("http://127.0.0.1:7190", server.endpoint)]
    with subprocess.Popen(command, text=True, stdout=subprocess.PIPE) as follower, Cable(server.endpoint) as cable:
        number = 0
        lines: list[str] = []
        import threading

        def read() -> None:
            assert follower.stdout is not None
            lines.append(follower.stdout.readline())

        reader = threading.Thread(target=read)
        reader.start()
        while reader.is_alive():
            cable.put_article(article("storm", f"Headline {number}", tag="russia"))
            number += 1
            reader.join(0.1)
        follower.kill()
        assert lines == ["['articles/storm']\n"]


def test_every_block_of_the_documents_is_python() -> None:
    for document in ["docs/python.md", "sdk/python/README.md"]:
        for block in re.findall(r"^```python\n(.*?)^```", (ROOT / document).read_text(), re.MULTILINE | re.DOTALL):
            compile("async def block():\n" + re.sub(r"^(?=.)", "    ", block, flags=re.MULTILINE), document, "exec")
    assert callable(change_name)
