"""What a server's headers tell of its rate limits."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping
from datetime import datetime
import math
import re
import time

from optuna_llm.models._rate import Allowance
from optuna_llm.models._retry_after import read_duration


KINDS = ("tokens", "requests")

_SOME_DIGIT = re.compile(r"\d")
_EARLIEST_DATE = 1e9
"""Seconds since 1970; a smaller number is a duration."""


def read_allowances(
    headers: Mapping[str, str], asked_at: float, told_at: float, own_tokens: float = 0.0
) -> Iterator[tuple[str, Allowance]]:
    """What the headers of a response say is left, for each of :data:`KINDS` that they tell of.

    They are OpenAI's ``x-ratelimit-limit-tokens``, ``-remaining-tokens``, ``-reset-tokens`` and
    the same of ``requests``, which Groq, Anthropic, litellm's proxy and others send too. A limit
    without all three of them is skipped: it does not say until when to wait.

    Args:
        headers: The headers, by their names in lower case.
        asked_at: When the request was sent.
        told_at: When the response came.
        own_tokens: Tokens of the request.
    """
    for kind in KINDS:
        limit = _read_number(headers.get(f"x-ratelimit-limit-{kind}"))
        remaining = _read_number(headers.get(f"x-ratelimit-remaining-{kind}"))
        reset = _read_reset(headers.get(f"x-ratelimit-reset-{kind}"))
        if limit and remaining is not None and reset is not None and remaining <= limit:
            own = own_tokens if kind == "tokens" else 1.0
            yield kind, Allowance(remaining, limit, reset, asked_at, told_at, own)


def _read_number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None


def _read_reset(text: str | None) -> float | None:
    """Seconds in "6m0s", "1.5" or a date; None where there is none."""
    number = _read_number(text)
    if number is not None:
        if number < _EARLIEST_DATE:
            return number
        # Seconds, or milliseconds, since 1970.
        return max(
            0.0, (number / 1000 if number > 1000 * _EARLIEST_DATE else number) - time.time()
        )
    try:
        # Written so by Anthropic; Python 3.10 knows no Z.
        date = datetime.fromisoformat((text or "").replace("Z", "+00:00"))
        return max(0.0, date.timestamp() - time.time())
    except (ValueError, OverflowError, OSError):
        seconds = read_duration(text or "")
        return seconds if _SOME_DIGIT.search(text or "") and seconds < math.inf else None
