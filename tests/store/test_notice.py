"""The notice that logins were changed, between a command and a server."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import LOCK_EX, flock
from pathlib import Path

from muster.store.notice import give_notice, take_notice


@contextmanager
def server_lock(data: Path) -> Iterator[None]:
    """Held as a running server holds it."""
    handle = os.open(data / "server.lock", os.O_RDWR | os.O_CREAT)
    try:
        flock(handle, LOCK_EX)
        yield
    finally:
        os.close(handle)


def test_there_is_none_until_somebody_gives_one(tmp_path: Path) -> None:
    assert not take_notice(tmp_path)


def test_without_a_server_nobody_waits_and_nothing_is_left(tmp_path: Path) -> None:
    give_notice(tmp_path, longest_seconds=3_600)

    assert list(tmp_path.iterdir()) == []


def test_the_giver_returns_once_a_server_has_taken_it(tmp_path: Path) -> None:
    taken = threading.Event()

    def serve() -> None:
        while not take_notice(tmp_path):
            pass
        taken.set()

    with server_lock(tmp_path):
        server = threading.Thread(target=serve)
        server.start()
        give_notice(tmp_path, longest_seconds=3_600)
        assert not (tmp_path / "logins.changed").exists()
        server.join()

    assert taken.is_set()
    assert not take_notice(tmp_path)


def test_of_a_server_that_does_not_look_it_waits_for_the_end_of_its_memory(tmp_path: Path) -> None:
    with server_lock(tmp_path):
        give_notice(tmp_path, longest_seconds=0.3)

    assert take_notice(tmp_path)  # still there, for when it looks again


def test_one_that_is_given_again_is_taken_once(tmp_path: Path) -> None:
    with server_lock(tmp_path):
        for _ in range(2):
            give_notice(tmp_path, longest_seconds=0)

    assert take_notice(tmp_path)
    assert not take_notice(tmp_path)
