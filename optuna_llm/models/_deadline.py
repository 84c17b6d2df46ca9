"""A deadline for a whole call, whatever it waits for."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from queue import Empty
from queue import SimpleQueue
import threading
from typing import TypeVar

from optuna_llm import _cancellation
from optuna_llm._errors import ModelError
from optuna_llm.models._faults import TransientError


_Result = TypeVar("_Result")


class CancelledError(ModelError):
    """Nobody wants the reply any more."""


def within(seconds: float, call: Callable[[], _Result], abort: Callable[[], None]) -> _Result:
    """What ``call`` returns or raises, or a TransientError once the time is over.

    It runs in a thread of its own, since nothing else bounds headers that trickle. An interrupt
    or a cancellation ends the wait at once. If the call is not over by then, ``abort`` is to end
    it.
    """
    # Whatever comes first: the call's outcome or its cancellation.
    ends: SimpleQueue[Future[_Result]] = SimpleQueue()

    def run() -> None:
        future: Future[_Result] = Future()
        try:
            future.set_result(call())
        except BaseException as error:  # noqa: BLE001 - handed over to the caller's thread
            future.set_exception(error)
        ends.put(future)

    def cancel() -> None:
        future: Future[_Result] = Future()
        future.set_exception(CancelledError("The call was cancelled."))
        ends.put(future)
        abort()

    thread = threading.Thread(target=run, name="optuna_llm.call", daemon=True)
    # An interrupt may come as soon as the call has begun, not only in the wait for it.
    try:
        with _cancellation.current().watch(cancel):
            thread.start()
            end = _cancellation.take(ends, seconds)
    except Empty:
        abort()
        raise late(seconds) from None
    except BaseException:
        abort()
        raise
    return end.result()


def late(seconds: float) -> TransientError:
    """The error of a call that took too long."""
    return TransientError(f"No reply within {seconds:g} seconds.")
