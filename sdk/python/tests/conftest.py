"""Fixtures: a server for each test, which is the real program."""

import os
import shutil
from collections.abc import Iterator

import pytest

from cable_client.testing import Server


@pytest.fixture
def program() -> None:
    if os.environ.get("CABLE_PROGRAM") or shutil.which("cable"):
        return
    if os.environ.get("CI"):
        pytest.fail("the program `cable` is missing: set CABLE_PROGRAM")
    pytest.skip("needs the program `cable`: set CABLE_PROGRAM, or install it in PATH")


@pytest.fixture
def server(program: None) -> Iterator[Server]:
    with Server({"server.drain_timeout": "1s", "rate.failures_per_minute": "100000"}) as running:
        yield running
