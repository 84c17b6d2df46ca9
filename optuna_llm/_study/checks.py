"""Checks of stored values. Users, newer versions and half-written trials store anything.

What cannot be read is skipped, with one warning for each key.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from typing import TypeGuard

from optuna_llm._logging import get_logger
from optuna_llm._quoting import one_line
from optuna_llm._records import Usage


_logger = get_logger(__name__)

USAGE_FIELDS = frozenset(vars(Usage()))
_MAX_WARNED = 100


_warned: set[str] = set()


def warn_once(key: str, where: str) -> None:
    """Warn, once per key in this process, that what is stored under the key cannot be read.

    Args:
        key: The key.
        where: The trial or the study that has it.
    """
    if key not in _warned and len(_warned) < _MAX_WARNED:
        _warned.add(key)
        _logger.warning(
            "The user attribute %r of %s cannot be read and is skipped. Further warnings about "
            "this attribute are suppressed.",
            one_line(key),
            where,
        )


def is_known_key(key: str, known: Iterable[str]) -> bool:
    """Whether a key is one of these, or begins with one of them that ends in a colon."""
    return any(key == name or (name.endswith(":") and key.startswith(name)) for name in known)


def is_measure(value: object) -> TypeGuard[float]:
    """Whether a value is a number that counts or measures something."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 10**15


def is_finite(value: object) -> TypeGuard[float]:
    """Whether a value is a number that fits into a finite float."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 10**300


def is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and is_measure(value)


def is_string(value: object) -> TypeGuard[str]:
    return isinstance(value, str)


def write_usage(usage: Usage | None) -> dict[str, Any]:
    """Token counts where they are known; calls and seconds always."""
    if usage is None:
        return {}
    counts = {name: count for name, count in vars(usage).items() if count}
    return counts | {"calls": usage.calls, "seconds": round(usage.seconds, 3)}


def read_usage(stored: Mapping[str, Any], skip: Callable[[str], None]) -> Usage:
    """The usage that an object holds, as far as it can be read.

    Args:
        stored: The object; it may have other fields.
        skip: Called with the name of each field that cannot be read.
    """
    known: dict[str, Any] = {}
    for name in USAGE_FIELDS & stored.keys():
        value = stored[name]
        if is_measure(value) if name == "seconds" else is_count(value):
            known[name] = value
        else:
            skip(name)
    usage = Usage(**known)
    return replace(usage, cached_tokens=min(usage.cached_tokens, usage.prompt_tokens))
