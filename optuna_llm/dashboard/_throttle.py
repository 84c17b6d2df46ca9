"""A throttle that limits a frequent call to a share of the time and never loses the last one."""

from __future__ import annotations

import atexit
from collections.abc import Callable
import math
import threading
import time
from typing import TypeAlias
from weakref import WeakSet

from optuna_llm._logging import get_logger


_logger = get_logger(__name__)

_Function: TypeAlias = Callable[[], object]


class Throttle:
    """Runs functions such that they take at most a share of the time; thread-safe.

    A function that is due runs at once, in the caller's thread. One that comes too early is
    deferred, and replaces one that was deferred before. It runs in a timer's thread as soon as
    the share allows, since a study in a notebook may be idle from then on, and otherwise when the
    process exits, since a script may end before that.

    Args:
        share: The share of the time that the functions may take, between 0 and 1.
    """

    def __init__(self, share: float) -> None:
        self._share = share
        self._lock = threading.Lock()
        self._running = threading.Lock()
        self._deferred: _Function | None = None
        self._is_busy = False
        self._next = -math.inf
        _throttles.add(self)

    def call(self, function: _Function) -> None:
        """Run a function now or later.

        Raises:
            Exception: What the function raises, if it runs now.
        """
        with self._lock:
            self._deferred = function
            if self._is_busy:
                return
            self._is_busy = True
            delay = self._next - time.monotonic()
        if delay > 0:
            self._start_timer(delay)
        else:
            self._run()

    def flush(self) -> None:
        """Run the deferred function now; an error is logged."""
        try:
            self._run_deferred()
        except Exception as error:  # noqa: BLE001 - no caller is left to handle it
            _logger.warning("A deferred call failed: %s", error)

    def _run(self) -> None:
        began = time.monotonic()
        try:
            self._run_deferred()
        finally:
            ended = time.monotonic()
            delay = (ended - began) * (1 / self._share - 1)
            with self._lock:
                self._next = ended + delay
                self._is_busy = self._deferred is not None
                is_due = self._is_busy
            if is_due:
                self._start_timer(delay)

    def _run_deferred(self) -> None:
        with self._running:  # Waits for a call in progress.
            with self._lock:
                function, self._deferred = self._deferred, None
            if function is not None:
                function()

    def _start_timer(self, delay: float) -> None:
        timer = threading.Timer(delay, self._run_later)
        timer.daemon = True
        timer.start()

    def _run_later(self) -> None:
        try:
            self._run()
        except Exception as error:  # noqa: BLE001 - no caller is left to handle it
            _logger.warning("A deferred call failed: %s", error)


_throttles: WeakSet[Throttle] = WeakSet()


@atexit.register
def _flush_all() -> None:
    for throttle in list(_throttles):
        throttle.flush()
