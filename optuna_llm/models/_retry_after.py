"""When a server wants to be asked again: in a header, in the body or in words."""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import parsedate_to_datetime
import math
import re
import time
from typing import Any

from optuna_llm.models._error_body import ErrorBody


_UNITS = {"ms": 0.001, "millisecond": 0.001, "s": 1.0, "sec": 1.0, "second": 1.0}
_UNITS |= {"m": 60.0, "min": 60.0, "minute": 60.0, "h": 3600.0, "hr": 3600.0, "hour": 3600.0}
_PART = re.compile(
    r"(\d+(?:\.\d+)?)\s*(milliseconds?|ms|hours?|hrs?|h|minutes?|mins?|m|seconds?|secs?|s)"
    r"(?![a-z])",
    re.IGNORECASE,
)
_ASKED = re.compile(
    r"(?:try(?:ing)? (?:your request )?again|retry(?:ing)?(?: your request)?|wait|resets?|"
    r"available(?: again)?)"
    r"(?: for| in| after| at least| about|:){0,2}\s*((?:\d+(?:\.\d+)?\s*[a-z]+[\s,]*){1,4})",
    re.IGNORECASE,
)
_FIELDS = {
    "retrydelay": 1.0,
    "retry_delay": 1.0,
    "retry_after": 1.0,
    "retryafter": 1.0,
    "retry-after": 1.0,
    "retry_after_seconds": 1.0,
    "retry_after_ms": 0.001,
    "estimated_time": 1.0,
}


def read_retry_after(headers: Mapping[str, str], body: ErrorBody) -> float:
    """Seconds that the server asks to wait; 0 where it does not say, or says nonsense."""
    asked = _ASKED.search(body.words)
    said = [
        _read_headers(headers),
        *(_read_number(body.values.get(key), unit) for key, unit in _FIELDS.items()),
        read_duration(asked[1]) if asked else 0.0,
    ]
    return max(seconds for seconds in said if math.isfinite(seconds))


def read_duration(text: str) -> float:
    """Seconds in "34s", "1m2.5s", "20 seconds" or "500ms"; 0 if there are none."""
    return sum(
        float(number) * _UNITS[unit.lower() if len(unit) < 3 else unit.lower().rstrip("s")]
        for number, unit in _PART.findall(text)
    )


def _read_headers(headers: Mapping[str, str]) -> float:
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        if name in headers and (seconds := _read_number(headers[name], unit)):
            return seconds
    try:
        # A date can only be told by the clock on the wall.
        return max(0.0, parsedate_to_datetime(headers["retry-after"]).timestamp() - time.time())
    except (KeyError, ValueError, TypeError, OverflowError):
        return 0.0


def _read_number(value: Any, unit: float) -> float:
    try:
        seconds = float(value) * unit
    except (TypeError, ValueError, OverflowError):
        return read_duration(value) if isinstance(value, str) else 0.0
    return seconds if math.isfinite(seconds) and seconds > 0 else 0.0
