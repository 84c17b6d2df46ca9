from __future__ import annotations

from collections.abc import Callable
import threading

import pytest
from waiting import wait_for

from optuna_llm.dashboard._throttle import Throttle


class Clock:
    """Work that takes as long as it is told to, and what has been done."""

    def __init__(self) -> None:
        self.done: list[str] = []

    def work(self, name: str, seconds: float = 0) -> Callable[[], None]:
        def run() -> None:
            threading.Event().wait(seconds)
            self.done.append(name)

        return run


def test_the_first_call_runs_at_once_and_the_last_of_the_early_ones_later() -> None:
    clock = Clock()
    throttle = Throttle(0.1)
    throttle.call(clock.work("a", 0.02))
    assert clock.done == ["a"]
    throttle.call(clock.work("b"))
    throttle.call(clock.work("c"))
    assert clock.done == ["a"]
    wait_for(lambda: len(clock.done) > 1)
    assert clock.done == ["a", "c"]


def test_a_flush_runs_what_is_deferred_once() -> None:
    clock = Clock()
    throttle = Throttle(0.0001)
    throttle.call(clock.work("a", 0.02))
    throttle.call(clock.work("b"))
    throttle.flush()
    throttle.flush()
    assert clock.done == ["a", "b"]


def test_a_call_from_another_thread_does_not_wait_for_the_one_in_progress() -> None:
    throttle = Throttle(0.5)
    began, release = threading.Event(), threading.Event()
    done: list[str] = []

    def block() -> None:
        began.set()
        release.wait()
        done.append("slow")

    thread = threading.Thread(target=throttle.call, args=[block])
    thread.start()
    began.wait()
    throttle.call(lambda: done.append("quick"))
    assert done == []
    release.set()
    thread.join()
    wait_for(lambda: len(done) == 2)
    assert done == ["slow", "quick"]


def test_a_flush_waits_for_the_call_in_progress() -> None:
    throttle = Throttle(0.5)
    began, release = threading.Event(), threading.Event()
    done: list[str] = []

    def block() -> None:
        began.set()
        release.wait()
        done.append("slow")

    thread = threading.Thread(target=throttle.call, args=[block])
    thread.start()
    began.wait()
    throttle.call(lambda: done.append("last"))
    flush = threading.Thread(target=throttle.flush)
    flush.start()
    release.set()
    flush.join()
    assert done == ["slow", "last"]
    thread.join()


def test_an_error_is_raised_at_once_and_logged_later(logs: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        threading.Event().wait(0.01)
        raise OSError("no database")

    throttle = Throttle(0.1)
    with pytest.raises(OSError, match="no database"):
        throttle.call(fail)
    throttle.call(fail)
    wait_for(lambda: "A deferred call failed: no database" in logs.text)
    throttle = Throttle(0.0001)
    with pytest.raises(OSError, match="no database"):
        throttle.call(fail)
    throttle.call(fail)
    throttle.flush()
    assert logs.text.count("no database") == 2
