"""Work that is asked for often, and done for a small part of the time and in the end."""

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

_Work: TypeAlias = Callable[[], bool]

_MAX_LAST = 3
"""How often what asks to be done again is done at the end of the process."""


class Pace:
    """Has work done at once if it is time, else later; at the latest when the process ends.

    Args:
        share: Which part of the time the work may take, of its own thread's.
    """

    def __init__(self, share: float) -> None:
        self._share = share
        self._lock = threading.Lock()
        self._working = threading.Lock()
        self._next = -math.inf
        self._timer: threading.Timer | None = None
        self._waiting: _Work | None = None
        self._is_last = False
        _paces.add(self)

    def ask(self, work: _Work) -> None:
        """Have the work done. What is asked for meanwhile takes its place.

        Args:
            work: Does it; returns whether it is settled, or to be done again, later.

        Raises:
            Exception: What the work raises, if it is done at once.
        """
        with self._lock:
            self._waiting = work
            if self._timer is not None or self._working.locked():
                return
            if self._next > time.monotonic():
                self._start_timer()
                return
        self._do()

    def _start_timer(self) -> None:
        """Have it done later, with the lock held."""
        self._timer = threading.Timer(max(0, self._next - time.monotonic()), self._do_quietly)
        self._timer.daemon = True
        self._timer.start()

    def _do(self) -> None:
        with self._working:
            with self._lock:
                work, self._waiting = self._waiting, None
                self._timer = None
            if work is None:
                return
            began = time.monotonic()
            is_settled = True
            try:
                is_settled = work()
            finally:
                ended = time.monotonic()
                with self._lock:
                    self._next = ended + (ended - began) / self._share
                    if not is_settled:
                        self._waiting = self._waiting or work
                    if self._waiting is not None and self._timer is None and not self._is_last:
                        self._start_timer()

    def _do_quietly(self) -> None:
        try:
            self._do()
        except Exception as error:  # noqa: BLE001 - nobody waits for it who could be told
            _logger.warning("What was to be done later came to nothing: %s", error)

    def finish(self) -> None:
        """Do now what is to be done later, and have nothing done later from now on."""
        with self._lock:
            self._is_last = True
        for _ in range(_MAX_LAST):
            self._do_quietly()  # Waits for what is being done.


_paces: WeakSet[Pace] = WeakSet()


@atexit.register
def _finish() -> None:
    for pace in list(_paces):
        pace.finish()
