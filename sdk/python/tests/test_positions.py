"""Positions: their text, and the file that retains one."""

import os
import threading
from pathlib import Path

import pytest

from cable_client import ConfigError, FilePosition, MemoryPosition, Position, PositionStore
from cable_client.positions import format_position, parse_position


def position(revision: int) -> Position:
    return Position(log_id="0123abcd", revision=revision, chain=b"\x00\xff\x10")


def test_the_last_saved_position_is_loaded(tmp_path: Path) -> None:
    stores: list[PositionStore] = [FilePosition(tmp_path / "feed"), MemoryPosition()]
    for store in stores:
        assert store.load() is None
        for revision in (7, 8):
            store.save(position(revision))
            assert store.load() == position(revision)
    assert (tmp_path / "feed").read_text() == "0123abcd:8:00ff10\n"
    assert [path.name for path in tmp_path.iterdir()] == ["feed"]


def test_a_partial_write_leaves_the_previous_position(tmp_path: Path) -> None:
    store = FilePosition(tmp_path / "feed")
    store.save(position(7))
    complete = format_position(position(8)) + "\n"
    for end in range(len(complete)):
        (tmp_path / "feed.new").write_text(complete[:end])
        assert store.load() == position(7)
    store.save(position(9))
    assert store.load() == position(9)


def test_a_truncated_file_is_an_error(tmp_path: Path) -> None:
    complete = format_position(position(8)) + "\n"
    for end in range(len(complete)):
        (tmp_path / "feed").write_text(complete[:end])
        with pytest.raises(ValueError, match="position"):
            FilePosition(tmp_path / "feed").load()


def test_a_failed_save_leaves_the_previous_position(tmp_path: Path) -> None:
    store = FilePosition(tmp_path / "feed")
    store.save(position(7))
    (tmp_path / "feed.new").mkdir()
    with pytest.raises(OSError, match="feed.new"):
        store.save(position(8))
    assert store.load() == position(7)


def test_a_position_file_can_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "link").symlink_to("other")
    (tmp_path / "other").symlink_to("data/position")
    store = FilePosition(tmp_path / "link")
    for revision in (7, 8):  # The target does not exist at first.
        store.save(position(revision))
        assert store.load() == FilePosition(tmp_path / "data" / "position").load() == position(revision)
    assert (tmp_path / "link").readlink() == Path("other")
    assert (tmp_path / "other").readlink() == Path("data/position")


def test_a_pipe_is_no_position_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    writer = os.open(tmp_path / "pipe", os.O_RDWR)
    os.write(writer, f"{format_position(position(7))}\n".encode())
    closing = threading.Timer(1, os.close, [writer])  # A read of the pipe would end then, with a position.
    closing.start()
    with pytest.raises(ValueError, match="pipe: not a complete position"):
        FilePosition(tmp_path / "pipe").load()
    closing.join()


@pytest.mark.parametrize("text", ["", "7190", "0123abcd:x:00", "0123abcd:7", "0123abcd:7:zz", "0123abcd:7:00:1"])
def test_text_that_is_no_position_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="LOG:REVISION:CHAIN"):
        parse_position(text)
