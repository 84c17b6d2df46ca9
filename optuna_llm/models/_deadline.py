"""A deadline for a whole call, whatever it waits for."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
import threading
from typing import TypeVar

from optuna_llm.models._faults import TransientError


_Result = TypeVar("_Result")


def within(seconds: float, call: Callable[[], _Result]) -> _Result:
    """What ``call`` returns or raises, or a TransientError once the time is over.

    It runs in a thread of its own, since nothing else bounds headers that trickle; the thread
    is left to end when its connection does. An interrupt ends the wait at once.
    """
    future: Future[_Result] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:  # noqa: BLE001 - handed over to the caller's thread
            future.set_exception(error)

    threading.Thread(target=run, name="optuna_llm.call", daemon=True).start()
    try:
        return future.result(seconds)
    except FutureTimeoutError as error:
        if future.done():
            raise
        raise late(seconds) from error


def late(seconds: float) -> TransientError:
    """The error of a call that took too long."""
    return TransientError(f"No reply within {seconds:g} seconds.")
