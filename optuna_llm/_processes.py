"""Which process this is: a forked child must not use what belongs to its parent."""

from __future__ import annotations

import os
import threading


LAZY_IMPORTS = threading.RLock()
"""Held while a thread imports what is imported late.

No fork happens meanwhile: a child would wait for ever for an import that its parent had begun.
"""

_n_forks = 0


def current_process() -> tuple[int, int]:
    """An identity that differs in every process, also where a process id is used again."""
    return os.getpid(), _n_forks


def _begin_child() -> None:
    global _n_forks
    _n_forks += 1
    LAZY_IMPORTS.release()


# Windows has no fork.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=LAZY_IMPORTS.acquire,
        after_in_parent=LAZY_IMPORTS.release,
        after_in_child=_begin_child,
    )
