"""How much fits into one attribute of a trial or a study."""

from __future__ import annotations

import json

from optuna_llm._quoting import shorten


MAX_BYTES = 60_000
"""Size of one attribute at most, as ASCII JSON: MySQL's TEXT holds 65,535 bytes."""


def json_bytes(value: object) -> int:
    """Length of the value as a storage writes it: JSON, ASCII only."""
    return len(json.dumps(value))


def fit_attribute(text: str) -> str:
    """The text; its middle is left out where it is too long for one attribute."""
    limit = MAX_BYTES
    fitting = shorten(text, limit)
    while (cost := json_bytes(fitting)) > MAX_BYTES:
        limit = limit * MAX_BYTES // (cost + 1)
        fitting = shorten(text, limit)
    return fitting
