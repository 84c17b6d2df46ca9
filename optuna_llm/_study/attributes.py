"""The storage format of a trial: the only module that knows the keys of its user attributes.

Readers never trust what they read: users, newer versions and half-written trials put anything
under any key. What cannot be read is skipped, with one warning for each key.
"""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Mapping
from dataclasses import dataclass
import itertools
import json
import math
import re
from typing import Any
from typing import get_args
from typing import Protocol
from typing import TypeVar

from optuna_llm._logging import get_logger
from optuna_llm._quoting import clean_text
from optuna_llm._quoting import shorten
from optuna_llm._records import Source
from optuna_llm._records import Usage


_logger = get_logger(__name__)

FEEDBACK = "feedback"
PREFIX = "llm:"

PROPOSAL = "llm:proposal"
_TEXTS = "llm:texts"
_RELATIVE = "llm:text:"

MAX_BYTES = 60_000
"""Size of one attribute at most, as ASCII JSON: MySQL's TEXT holds 65,535 bytes."""

_MAX_RATIONALE = 2_000
_MAX_ERROR = 1_500
_MAX_MODEL = 200
_MAX_PIECES = 100_000
_MAX_WARNED = 100

_Value = TypeVar("_Value")


class HasAttributes(Protocol):
    """A trial of any kind: running, finished or fixed."""

    @property
    def number(self) -> int:
        """The trial's number in its study."""
        ...

    @property
    def user_attrs(self) -> dict[str, Any]:
        """Its user attributes."""
        ...


@dataclass(frozen=True)
class Provenance:
    """Who decided a trial's values, why, and at what cost; stored under ``llm:proposal``.

    Attributes:
        source: Who decided the values; None while nobody has.
        rationale: The model's reason, in its words.
        parent: Number of the trial whose text the proposal was to start from, or has edited.
        model: The model's name, as its server reports it.
        usage: What the proposal cost. Without calls, it came with the proposal of another trial.
        error: Why the model's proposal was not used.
        claim: Digest of the proposed values, by which workers find duplicates while they are
            being proposed.
    """

    source: Source | None = None
    rationale: str = ""
    parent: int | None = None
    model: str | None = None
    usage: Usage | None = None
    error: str = ""
    claim: str | None = None


def check_text_name(name: str) -> None:
    """Refuse a name that cannot be a user attribute beside ours, or cannot stand in a prompt.

    Raises:
        ValueError: If the name is not usable for a text parameter.
    """
    way_out = "Give the text parameter another name."
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"A text parameter's name must be a non-empty string: {name!r}.")
    if name.startswith(PREFIX) or name == FEEDBACK:
        raise ValueError(f"The name {name!r} is reserved for optuna_llm. {way_out}")
    if re.search(r":\d+$", name):
        raise ValueError(f"{name!r} reads like a piece of a long text (<name>:1). {way_out}")
    if re.search(r'[<>"\x00-\x1f\x7f\ud800-\udfff]', name):
        raise ValueError(f'{name!r} contains a control character or one of < > ". {way_out}')


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


# Texts


def text_attributes(texts: Mapping[str, str], trial: HasAttributes) -> dict[str, Any]:
    """The user attributes that add texts to a trial: their pieces, then the list of its texts."""
    attributes: dict[str, Any] = {}
    counts = _read_counts(trial)
    for name, text in texts.items():
        pieces = _split(text)
        # The first piece last: where it is, the text is whole, even if its process died before
        # it could add it to the list.
        keyed = [(_piece_key(name, i), piece) for i, piece in enumerate(pieces)]
        attributes |= dict(reversed(keyed))
        counts[name] = len(pieces)
    return attributes | {_TEXTS: counts}


def read_texts(trial: HasAttributes, declared: Collection[str] = ()) -> dict[str, str]:
    """The texts that a trial holds, by name.

    Args:
        trial: The trial.
        declared: Names of text parameters: a string that stands under one of them counts even if
            it was set by hand, in a trial that was added or enqueued.
    """
    texts = {}
    for name, count in _read_counts(trial).items():
        pieces: list[Any] = [trial.user_attrs.get(_piece_key(name, i)) for i in range(count)]
        if all(isinstance(piece, str) for piece in pieces):
            texts[name] = "".join(pieces)
        else:
            _skip(trial, name)
    for name in declared:
        if name not in texts and isinstance(given := read_given_text(trial, name), str):
            texts[name] = given
    return texts


def read_given_text(trial: HasAttributes, name: str) -> Any:
    """What stands under a text's name without being in the list of texts; None for nothing.

    The user or a process that died has put it there; the retry of a stale trial has it too.
    """
    given = trial.user_attrs.get(name)
    if not isinstance(given, str):
        return given
    keys = (_piece_key(name, i) for i in itertools.count(1))
    held = itertools.takewhile(lambda key: isinstance(trial.user_attrs.get(key), str), keys)
    return given + "".join(trial.user_attrs[key] for key in held)


def pack_texts(texts: Mapping[str, str]) -> dict[str, str]:
    """Texts as a sampler hands them to the objective, among the relative parameters.

    Only those that the objective asks for are stored. No number parameter has such a name.
    """
    return {_RELATIVE + name: text for name, text in texts.items()}


def unpack_text(params: Mapping[str, Any], name: str) -> str | None:
    """The text of a name that a sampler has handed over; None where it has none."""
    text: str | None = params.get(_RELATIVE + name)
    return text


def _read_counts(trial: HasAttributes) -> dict[str, int]:
    """How many pieces each text of a trial has."""
    counts = trial.user_attrs.get(_TEXTS)
    if counts is None:
        return {}
    if not isinstance(counts, Mapping):
        _skip(trial, _TEXTS)
        return {}
    known = {n: c for n, c in counts.items() if _is_count(c) and 0 < c <= _MAX_PIECES}
    if len(known) < len(counts):
        _skip(trial, _TEXTS)
    return known


def _piece_key(name: str, index: int) -> str:
    return f"{name}:{index}" if index else name


def _split(text: str) -> list[str]:
    """The text in pieces that each fit into one attribute; at least one piece."""
    pieces: list[str] = []
    start = 0
    while start < len(text) or not pieces:
        size = MAX_BYTES
        while (cost := json_bytes(text[start : start + size])) > MAX_BYTES:
            size = max(1, min(size, len(text) - start) * MAX_BYTES // cost)
        pieces.append(text[start : start + size])
        start += size
    return pieces


# Provenance and feedback


def provenance_attributes(provenance: Provenance) -> dict[str, Any]:
    """The user attribute that tells where a trial's values come from; unknowns are left out."""
    fields: dict[str, Any] = {
        "source": provenance.source,
        "rationale": shorten(provenance.rationale, _MAX_RATIONALE) or None,
        "parent": provenance.parent,
        "model": provenance.model and shorten(provenance.model, _MAX_MODEL),
        "error": shorten(provenance.error, _MAX_ERROR) or None,
        "claim": provenance.claim,
    }
    known = {name: value for name, value in fields.items() if value is not None}
    return {PROPOSAL: known | write_usage(provenance.usage)}


def read_provenance(trial: HasAttributes) -> Provenance:
    """Where the trial's values come from, as far as can be read."""
    stored = trial.user_attrs.get(PROPOSAL)
    if stored is None:
        return Provenance()
    if not isinstance(stored, Mapping):
        _skip(trial, PROPOSAL)
        return Provenance()

    def read(name: str, kind: type[_Value]) -> _Value | None:
        value = stored.get(name)
        if value is None or (isinstance(value, kind) and not isinstance(value, bool)):
            return value
        _skip(trial, f"{PROPOSAL}: {name}")
        return None

    source = read("source", str)
    if source is not None and source not in get_args(Source):
        _skip(trial, f"{PROPOSAL}: source")
        source = None
    return Provenance(
        source=source,  # type: ignore[arg-type] # Just checked.
        rationale=read("rationale", str) or "",
        parent=read("parent", int),
        model=read("model", str),
        usage=read_usage(stored) if "calls" in stored else None,
        error=read("error", str) or "",
        claim=read("claim", str),
    )


def read_source(trial: HasAttributes) -> Source | None:
    """Who decided the trial's values; None while nobody has."""
    return read_provenance(trial).source


def read_feedback(trial: HasAttributes) -> str:
    """The evaluator's words; empty where there are none."""
    feedback = trial.user_attrs.get(FEEDBACK, "")
    if isinstance(feedback, str):
        return feedback
    # Set by hand, by somebody who did not know of report_feedback: still what they wanted to say.
    return fit_attribute(json.dumps(feedback, ensure_ascii=False, default=str))


def write_usage(usage: Usage | None) -> dict[str, Any]:
    """Token counts where they are known; calls and seconds always."""
    if usage is None:
        return {}
    counts = {name: count for name, count in vars(usage).items() if count}
    return counts | {"calls": usage.calls, "seconds": round(usage.seconds, 3)}


def read_usage(stored: Mapping[str, Any]) -> Usage:
    counts: dict[str, Any] = {name: stored.get(name) for name in vars(Usage())}
    seconds = counts.pop("seconds")
    is_time = isinstance(seconds, int | float) and math.isfinite(seconds) and seconds >= 0
    known = {name: count for name, count in counts.items() if _is_count(count)}
    return Usage(**known, seconds=float(seconds) if is_time else 0.0)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**15


def _skip(trial: HasAttributes, key: str) -> None:
    warn_once(key, f"trial {trial.number}")


_warned: set[str] = set()


def warn_once(key: str, where: str) -> None:
    """Tell once in this process that what stands under a key cannot be read.

    Args:
        key: The key.
        where: The trial or the study that has it.
    """
    if key not in _warned and len(_warned) < _MAX_WARNED:
        _warned.add(key)
        _logger.warning(
            "The user attribute %r of %s cannot be read and is skipped; from now on without "
            "a warning.",
            clean_text(key),
            where,
        )
