"""Waiting for what runs in the background, and calling it off once it is no longer wanted."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
from contextvars import Context
from contextvars import ContextVar
import functools
import math
from queue import Empty
from queue import SimpleQueue
import threading
import time
from typing import TypeVar


_Item = TypeVar("_Item")

LOOK_SECONDS = 1.0
"""How long one wait for a background thread may last before it is begun anew.

Python runs signal handlers between waits only: an interrupt that comes just before a lock is
waited for, or on Windows at any time within, would be noticed no sooner than the wait ends.
"""


def take_turns(seconds: float | None) -> Iterator[float]:
    """How long to wait, again and again, until so many seconds have passed; None for no end."""
    deadline = math.inf if seconds is None else time.monotonic() + seconds
    left = deadline - time.monotonic()
    while left > LOOK_SECONDS:
        yield LOOK_SECONDS
        left = deadline - time.monotonic()
    yield max(0.0, left)


def take(queue: SimpleQueue[_Item], seconds: float | None) -> _Item:
    """The next item of a queue, or an ``Empty`` once the time is over; None for no end."""
    for turn in take_turns(seconds):
        with contextlib.suppress(Empty):
            return queue.get(timeout=turn)
    raise Empty


class Cancellation:
    """Whether the work of one background thread is still wanted, and what to do once it is not.

    A thread without one is never called off: its work is what somebody waits for.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._event = threading.Event()
        self._watchers: list[Callable[[], None]] = []

    @property
    def is_cancelled(self) -> bool:
        """Whether the work is no longer wanted."""
        return self._event.is_set()

    def cancel(self) -> None:
        """Say that the work is no longer wanted."""
        with self._lock:
            self._event.set()
            watchers, self._watchers = self._watchers, []
        for watcher in watchers:
            watcher()

    def wait(self, seconds: float) -> None:
        """Sleep, until it is cancelled at the longest."""
        any(map(self._event.wait, take_turns(seconds)))

    @contextlib.contextmanager
    def watch(self, watcher: Callable[[], None]) -> Iterator[None]:
        """Have a function called when it is cancelled, from the thread that cancels it."""
        with self._lock:
            is_late = self._event.is_set()
            if not is_late:
                self._watchers.append(watcher)
        if is_late:
            watcher()
        try:
            yield
        finally:
            with self._lock, contextlib.suppress(ValueError):
                self._watchers.remove(watcher)


_CURRENT: ContextVar[Cancellation | None] = ContextVar("_CURRENT", default=None)


def current() -> Cancellation:
    """That of the running thread; where it has none, one that nobody will cancel."""
    return _CURRENT.get() or Cancellation()


def start_thread(target: Callable[[], None], context: Context | None = None) -> Cancellation:
    """Run a function in a thread that can be called off and that no process waits for.

    Args:
        target: The function.
        context: The context that it runs in; None for an empty one.
    """
    cancellation = Cancellation()

    def run() -> None:
        _CURRENT.set(cancellation)
        target()

    wanted = run if context is None else functools.partial(context.run, run)
    threading.Thread(target=wanted, name="optuna_llm.background", daemon=True).start()
    return cancellation
