"""Waiting for what other threads and processes do."""

from __future__ import annotations

from collections.abc import Callable
import socket
import time
from typing import TypeVar


_Found = TypeVar("_Found")


def wait_for(find: Callable[[], _Found | None], seconds: float = 300) -> _Found:
    """What is found, once it is there."""
    deadline = time.monotonic() + seconds
    pause = 0.001
    while not (found := find()):
        assert time.monotonic() < deadline
        time.sleep(pause)
        # Looking takes from the machine what is waited for.
        pause = min(2 * pause, 0.1)
    return found


def accepts_connections(port: int) -> bool:
    """Whether a server on this machine listens at a port."""
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True
