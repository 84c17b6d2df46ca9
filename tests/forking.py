"""Running work in forked processes."""

from __future__ import annotations

from collections.abc import Callable
import multiprocessing
from typing import Any

import pytest


FORK_MARKS = [
    pytest.mark.skipif(
        "fork" not in multiprocessing.get_all_start_methods(), reason="there is no fork"
    ),
    # Python warns of just what is tested here.
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]


def needs_fork(test: Callable[..., None]) -> Callable[..., None]:
    for mark in FORK_MARKS:
        test = mark(test)
    return test


def run_forked(work: Callable[[int], Any], n: int = 4) -> list[Any]:
    """What the work comes to in each of so many forked processes, in any order."""
    context = multiprocessing.get_context("fork")
    results: Any = context.SimpleQueue()

    def child(number: int) -> None:
        results.put(work(number))

    children = [context.Process(target=child, args=(i,)) for i in range(n)]
    for process in children:
        process.start()
    for process in children:
        process.join(120)
        assert process.exitcode == 0
    return [results.get() for _ in children]
