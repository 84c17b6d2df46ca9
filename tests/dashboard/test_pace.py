from __future__ import annotations

from collections.abc import Callable
import threading
import time

import pytest
from waiting import wait_for

from optuna_llm.dashboard._pace import Pace


def work_for(seconds: float, done: list[str], name: str = "x") -> Callable[[], bool]:
    def work() -> bool:
        time.sleep(seconds)
        done.append(name)
        return True

    return work


def test_the_first_is_done_at_once_and_of_those_that_are_early_the_last_later() -> None:
    done: list[str] = []
    pace = Pace(0.02)
    pace.ask(work_for(0.05, done, "a"))
    assert done == ["a"]
    pace.ask(work_for(0, done, "b"))
    pace.ask(work_for(0, done, "c"))
    assert done == ["a"]
    wait_for(lambda: len(done) > 1)
    assert done == ["a", "c"]


def test_what_is_not_settled_is_done_again() -> None:
    answers = [False, False, True]
    done: list[bool] = []

    def work() -> bool:
        done.append(answers.pop(0))
        return done[-1]

    Pace(0.9).ask(work)
    wait_for(lambda: not answers)
    time.sleep(0.05)
    assert done == [False, False, True]


def test_at_the_end_all_is_done_that_waits_and_no_more_than_a_few_times() -> None:
    done: list[str] = []
    pace = Pace(0.001)
    pace.ask(work_for(0.01, done, "a"))
    pace.ask(work_for(0, done, "b"))
    pace.finish()
    assert done == ["a", "b"]
    pace = Pace(0.001)
    work = work_for(0.02, done, "c")
    pace.ask(lambda: not work())
    pace.finish()
    assert done[2:] == ["c"] * 4


def test_threads_that_ask_meanwhile_do_not_wait() -> None:
    done: list[str] = []
    pace = Pace(0.5)
    thread = threading.Thread(target=pace.ask, args=[work_for(0.8, done, "slow")])
    thread.start()
    time.sleep(0.1)
    began = time.monotonic()
    pace.ask(work_for(0, done, "quick"))
    assert time.monotonic() - began < 0.5
    thread.join()
    wait_for(lambda: len(done) == 2)
    assert done == ["slow", "quick"]


def test_an_error_is_raised_at_once_and_logged_later(logs: pytest.LogCaptureFixture) -> None:
    def fail() -> bool:
        time.sleep(0.01)
        raise OSError("no database")

    pace = Pace(0.005)
    with pytest.raises(OSError, match="no database"):
        pace.ask(fail)
    pace.ask(fail)
    wait_for(lambda: "came to nothing: no database" in logs.text)
