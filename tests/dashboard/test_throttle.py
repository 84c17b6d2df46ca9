from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from contextlib import contextmanager
import threading
import time
from typing import TypeAlias

import pytest
from waiting import wait_for

from optuna_llm.dashboard._throttle import Throttle


Append: TypeAlias = Callable[[str], Callable[[], None]]


@pytest.fixture
def done() -> list[str]:
    """What has run, in this order."""
    return []


@pytest.fixture
def append(done: list[str]) -> Append:
    return lambda name: lambda: done.append(name)


def make_busy_throttle() -> Throttle:
    """A throttle that defers whatever comes within the next quarter of an hour."""
    throttle = Throttle(1e-6)
    end = time.monotonic() + 0.001
    throttle.call(lambda: wait_for(lambda: time.monotonic() > end))
    return throttle


@contextmanager
def hold(throttle: Throttle, done: list[str]) -> Iterator[None]:
    """While this lasts, the throttle runs a call from another thread."""
    began, release = threading.Event(), threading.Event()

    def block() -> None:
        began.set()
        release.wait()
        done.append("slow")

    thread = threading.Thread(target=throttle.call, args=[block])
    thread.start()
    began.wait()
    try:
        yield
    finally:
        release.set()
        thread.join()


def test_the_first_call_runs_at_once(done: list[str], append: Append) -> None:
    Throttle(0.1).call(append("a"))
    assert done == ["a"]


def test_a_flush_runs_the_last_of_the_calls_that_came_too_early_and_only_once(
    done: list[str], append: Append
) -> None:
    throttle = make_busy_throttle()
    throttle.call(append("b"))
    throttle.call(append("c"))
    assert done == []
    throttle.flush()
    throttle.flush()
    assert done == ["c"]


def test_a_call_from_another_thread_does_not_wait_for_the_one_in_progress(
    done: list[str], append: Append
) -> None:
    throttle = Throttle(0.5)
    with hold(throttle, done):
        throttle.call(append("early"))
        throttle.call(append("last"))
        assert done == []
    wait_for(lambda: len(done) == 2)
    assert done == ["slow", "last"]


def test_a_flush_waits_for_the_call_in_progress(done: list[str], append: Append) -> None:
    throttle = Throttle(0.5)
    with hold(throttle, done):
        throttle.call(append("last"))
        flush = threading.Thread(target=throttle.flush)
        flush.start()
        assert done == []
    flush.join()
    wait_for(lambda: len(done) == 2)
    assert done == ["slow", "last"]


def fail() -> None:
    raise OSError("no database")


def test_an_error_is_raised_at_once_and_logged_if_the_call_was_deferred(
    done: list[str], logs: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(OSError, match="no database"):
        Throttle(0.1).call(fail)
    throttle = Throttle(0.5)
    with hold(throttle, done):
        throttle.call(fail)
    wait_for(lambda: "A deferred call failed: no database" in logs.text)
    throttle = make_busy_throttle()
    throttle.call(fail)
    throttle.flush()
    assert logs.text.count("A deferred call failed: no database") == 2
