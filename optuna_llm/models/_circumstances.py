"""What a model may know of a call beside its messages: for which trial it is, who waits."""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
from contextvars import ContextVar
from dataclasses import dataclass
import math


@dataclass(frozen=True)
class Circumstances:
    """What a call is made for.

    Attributes:
        turn: Number of the trial that is asked for; None outside of a study.
        patience: Seconds after which another model is to be asked rather than this one again.
    """

    turn: int | None = None
    patience: float = math.inf


_USUAL = Circumstances()
_CURRENT: ContextVar[Circumstances | None] = ContextVar("_CURRENT", default=None)


def find_circumstances() -> Circumstances:
    """Those of the call that this thread makes."""
    return _CURRENT.get() or _USUAL


@contextlib.contextmanager
def calling(turn: int | None = None, patience: float = math.inf) -> Iterator[None]:
    """Make calls under these circumstances."""
    token = _CURRENT.set(Circumstances(turn, patience))
    try:
        yield
    finally:
        _CURRENT.reset(token)
