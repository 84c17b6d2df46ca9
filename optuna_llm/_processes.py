"""Which process this is: a forked child must not use what belongs to its parent."""

from __future__ import annotations

import os


_n_forks = 0


def current_process() -> tuple[int, int]:
    """An identity that differs in every process, also where a process id is used again."""
    return os.getpid(), _n_forks


def _count_fork() -> None:
    global _n_forks
    _n_forks += 1


# Windows has no fork.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_count_fork)
