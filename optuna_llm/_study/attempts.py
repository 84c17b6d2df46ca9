"""The part of a proposal's format that tells which other models were asked."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from optuna_llm._outcomes import Attempt
from optuna_llm._quoting import shorten
from optuna_llm._records import Usage
from optuna_llm._study.checks import is_string
from optuna_llm._study.checks import read_usage
from optuna_llm._study.checks import write_usage


_RESULTS = ("failed", "passed", "unused", "evaluated")
_MAX_ATTEMPTS = 20
_MAX_NAME = 200


def write_attempts(attempts: Sequence[Attempt]) -> list[dict[str, Any]]:
    """The attempts as JSON; what is unknown is left out."""
    return [
        {
            "proposer": shorten(attempt.proposer, _MAX_NAME),
            "result": attempt.result,
            **({"model": shorten(attempt.model, _MAX_NAME)} if attempt.model else {}),
            **write_usage(attempt.usage),
        }
        for attempt in attempts[-_MAX_ATTEMPTS:]
    ]


def read_attempts(stored: object, skip: Callable[[], None]) -> tuple[Attempt, ...]:
    """The attempts, as far as they can be read.

    Args:
        stored: What stands in the place of a list of them; None for nothing.
        skip: Called for what cannot be read.
    """
    if stored is None:
        return ()
    if not isinstance(stored, list | tuple):
        skip()
        return ()
    read = [_read_attempt(value, skip) for value in stored[-_MAX_ATTEMPTS:]]
    return tuple(attempt for attempt in read if attempt is not None)


def subtract_attempts(usage: Usage | None, attempts: Sequence[Attempt]) -> Usage | None:
    """What a proposal cost without the attempts before it; None if there is nothing left."""
    if usage is None or not attempts:
        return usage
    own = usage - sum((attempt.usage for attempt in attempts), Usage())
    return own if own.calls else None


def _read_attempt(stored: object, skip: Callable[[], None]) -> Attempt | None:
    if not isinstance(stored, Mapping):
        skip()
        return None
    proposer, result, model = (stored.get(name) for name in ("proposer", "result", "model"))
    is_model = model is None or is_string(model)
    if not is_string(proposer) or result not in _RESULTS or not is_model:
        skip()
        return None
    return Attempt(proposer, result, read_usage(stored, lambda _: skip()), model)
