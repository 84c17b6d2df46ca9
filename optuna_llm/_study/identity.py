"""When two trials have the same values: what a proposal must not repeat."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
import json
from typing import Any
from typing import TypeAlias

from optuna_llm._records import ParamValue
from optuna_llm._records import TrialRecord


Identity: TypeAlias = tuple[tuple[str, str], ...]
"""Name and value of each parameter by name, exact numbers and digests of texts."""


def identify(params: Mapping[str, ParamValue], texts: Mapping[str, str]) -> Identity:
    """What is equal for equal values; numbers count to their last digit."""
    written = {name: _write_exactly(value) for name, value in params.items()}
    written |= {name: digest_text(text) for name, text in texts.items()}
    return tuple(sorted(written.items()))


def identify_record(record: TrialRecord) -> Identity:
    """The identity of a trial's values."""
    return identify(record.params, record.texts)


def make_claim(params: Mapping[str, ParamValue], texts: Mapping[str, str]) -> str:
    """A digest of the values that a trial is about to take, the same for equal values."""
    return _digest(repr(identify(params, texts)))


def digest_text(text: str) -> str:
    """What texts share that differ only in blank lines and in white space at line ends.

    Indentation counts: it can have a meaning.
    """
    lines = (stripped for line in text.splitlines() if (stripped := line.rstrip()))
    return _digest("\n".join(lines))


def _write_exactly(value: Any) -> str:
    if value is None or isinstance(value, bool | int | float | str):
        return json.dumps(value)
    # Optuna allows any object as a choice while a study is in memory.
    return repr(value)


def _digest(text: str) -> str:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
