"""The storage format of a trial: the only module that knows the keys of its user attributes.

Readers never trust what they read: users, newer versions and half-written trials put anything
under any key. What cannot be read is skipped, with one warning for each key.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Hashable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
import functools
import itertools
import json
import re
from typing import Any
from typing import get_args
from typing import Protocol
from typing import TypeGuard

from optuna_llm._images import MAX_IMAGES
from optuna_llm._logging import get_logger
from optuna_llm._outcomes import Attempt
from optuna_llm._quoting import shorten
from optuna_llm._records import Source
from optuna_llm._records import Usage
from optuna_llm._study.attempts import read_attempts
from optuna_llm._study.attempts import write_attempts
from optuna_llm._study.checks import is_count
from optuna_llm._study.checks import is_known_key
from optuna_llm._study.checks import is_string
from optuna_llm._study.checks import read_usage
from optuna_llm._study.checks import USAGE_FIELDS
from optuna_llm._study.checks import warn_once
from optuna_llm._study.checks import write_usage
from optuna_llm._study.pieces import TextsInPieces
from optuna_llm._study.sizes import fit_attribute
from optuna_llm._study.sizes import json_bytes
from optuna_llm._study.sizes import MAX_BYTES


_logger = get_logger(__name__)

FEEDBACK = "feedback"
PREFIX = "llm:"

PROPOSAL = "llm:proposal"
IMAGES = "llm:images"
CASES = "llm:cases"
TEMPLATE = "llm:template:"
_TRIAL_KEYS = (PROPOSAL, IMAGES, CASES, TEMPLATE)
"""The keys of a trial under our prefix, or what they begin with if they end in a colon."""

_MAX_RATIONALE = 2_000
_MAX_ERROR = 1_500
_MAX_NAME = 200
MAX_PIECES = 100_000

_ARTIFACT_ID = re.compile(r"[0-9A-Za-z][0-9A-Za-z-]{0,99}")
"""Artifact stores make paths and keys of these."""


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
        proposer: Who has: a model as it is configured, ``"base"``, or another name.
        rationale: The model's reason, in its words.
        parent: Number of the trial whose text the proposal was to start from, or has edited.
        second_parent: Number of a trial that it was to take over from beside it.
        model: The model's name, as its server reports it.
        usage: What it cost, attempts included. Without calls, it came with another trial's.
        attempts: Which models were asked for it in vain, or by the objective.
        error: Why the model's proposal was not used.
        claim: Digest of the proposed values, by which workers find duplicates while they are
            being proposed.
        texts: Number of pieces of each text that the trial has or is to get.
    """

    source: Source | None = None
    proposer: str | None = None
    rationale: str = ""
    parent: int | None = None
    second_parent: int | None = None
    model: str | None = None
    usage: Usage | None = None
    attempts: Sequence[Attempt] = ()
    error: str = ""
    claim: str | None = None
    texts: Mapping[str, int] = field(default_factory=dict)


def check_text_name(name: str) -> None:
    """Refuse a name that cannot be a user attribute beside ours, or cannot stand in a prompt.

    Raises:
        ValueError: If the name is not usable for a text parameter.
    """
    if problem := _find_name_problem(name):
        raise ValueError(f"{problem} Give the text parameter another name.")


@functools.lru_cache
def is_text_name(name: Hashable) -> TypeGuard[str]:
    """Whether a text parameter can have this name."""
    return not _find_name_problem(name)


def _find_name_problem(name: object) -> str:
    """Why a name cannot be a text parameter's; empty if it can."""
    if not isinstance(name, str) or not name.strip():
        return f"A text parameter's name must be a non-empty string: {name!r}."
    if name.startswith(PREFIX) or name == FEEDBACK:
        return f"The name {name!r} is reserved for optuna_llm."
    if re.search(r":\d+$", name):
        return f"{name!r} reads like a piece of a long text (<name>:1)."
    if re.search(r'[<>"\x00-\x1f\x7f\ud800-\udfff]', name):
        return f'{name!r} contains a control character or one of < > ".'
    return ""


# Texts


def split_text(name: str, text: str) -> dict[str, str]:
    """The user attributes that hold a text, in the order in which they have to be written.

    The first piece last, and their number before: where the first piece is, the text is whole.
    """
    keyed = [(_piece_key(name, i), piece) for i, piece in enumerate(_split(text))]
    return dict(reversed(keyed))


def count_pieces(texts: Mapping[str, str]) -> dict[str, int]:
    """In how many pieces each text is stored."""
    return {name: len(_split(text)) for name, text in texts.items()}


def read_texts(trial: HasAttributes, declared: Collection[str] = ()) -> dict[str, str]:
    """The texts that a trial holds, by name.

    Args:
        trial: The trial.
        declared: Names of text parameters: a string that stands under one of them counts even if
            it was set by hand, in a trial that was added or enqueued.
    """
    return dict(find_texts(trial, declared))


def find_texts(trial: HasAttributes, declared: Collection[str] = ()) -> Mapping[str, str]:
    """The same, of which what is stored in pieces is joined whenever it is asked for."""
    found: dict[str, Collection[str]] = {}
    for name, count in _read_counts(trial).items():
        if trial.user_attrs.get(name) is None:
            continue  # The objective has not asked for it, or not yet.
        pieces = take_pieces(trial, name, count)
        if len(pieces) == count:
            found[name] = pieces.values()
        else:
            _skip(trial, name)
    for name in declared:
        if name not in found and (pieces := read_given_pieces(trial, name)):
            found[name] = pieces.values()
    # One piece joined is the piece itself, which the storage keeps anyway.
    is_short = all(len(pieces) == 1 for pieces in found.values())
    texts = TextsInPieces({name: tuple(pieces) for name, pieces in found.items()})
    return dict(texts) if is_short else texts


def read_given_pieces(trial: HasAttributes, name: str) -> dict[str, str]:
    """All pieces of a text that was stored by hand, by key; empty if there is none."""
    if name in _read_counts(trial):
        return {}
    pieces = take_pieces(trial, name, MAX_PIECES)
    if not pieces and trial.user_attrs.get(name) is not None:
        _skip(trial, name)
    return pieces


def take_pieces(trial: HasAttributes, name: str, count: int) -> dict[str, str]:
    """At most so many pieces of a text, by key, up to the first that is missing or no string."""
    attributes = trial.user_attrs
    keys = (_piece_key(name, i) for i in range(count))
    present = itertools.takewhile(lambda key: is_string(attributes.get(key)), keys)
    return {key: attributes[key] for key in present}


def _read_counts(trial: HasAttributes) -> dict[str, int]:
    """How many pieces each text of a trial has, or is going to have."""
    proposal = trial.user_attrs.get(PROPOSAL)
    counts = proposal.get("texts") if isinstance(proposal, Mapping) else None
    if counts is None:
        return {}
    if not isinstance(counts, Mapping):
        _skip(trial, f"{PROPOSAL}: texts")
        return {}
    known = {
        name: count
        for name, count in counts.items()
        if is_text_name(name) and is_count(count) and 0 < count <= MAX_PIECES
    }
    if len(known) < len(counts):
        _skip(trial, f"{PROPOSAL}: texts")
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

CLAIM_MARK = '"claim": "'
"""What the JSON of :data:`PROPOSAL` holds if there is a claim in it."""


def provenance_attributes(provenance: Provenance) -> dict[str, Any]:
    """The user attribute that stores a provenance; what is unknown is left out."""
    # The long ones last: the dashboard truncates JSON.
    fields: dict[str, Any] = {
        "source": provenance.source,
        "proposer": provenance.proposer and shorten(provenance.proposer, _MAX_NAME),
        "parent": provenance.parent,
        "second_parent": provenance.second_parent,
        "model": provenance.model and shorten(provenance.model, _MAX_NAME),
        "claim": provenance.claim,
        "texts": dict(provenance.texts) or None,
        **write_usage(provenance.usage),
        "attempts": write_attempts(provenance.attempts) or None,
        "error": shorten(provenance.error, _MAX_ERROR) or None,
        "rationale": shorten(provenance.rationale, _MAX_RATIONALE) or None,
    }
    return {PROPOSAL: {name: value for name, value in fields.items() if value is not None}}


def read_provenance(trial: HasAttributes) -> Provenance:
    """Where the trial's values come from, as far as it can be read."""
    stored = trial.user_attrs.get(PROPOSAL)
    if stored is None:
        return Provenance()
    if not isinstance(stored, Mapping):
        _skip(trial, PROPOSAL)
        return Provenance()
    skip = functools.partial(_skip, trial, f"{PROPOSAL}: attempts")
    attempts = read_attempts(stored.get("attempts"), skip)
    known: dict[str, Any] = {"texts": _read_counts(trial), "attempts": attempts}
    usage: dict[str, Any] = {}
    for name, value in stored.items():
        if value is None or name in ("texts", "attempts"):
            continue
        if name in USAGE_FIELDS:
            usage[name] = value
        elif name in _PROVENANCE_FIELDS and _PROVENANCE_FIELDS[name](value):
            known[name] = value
        else:
            _skip(trial, f"{PROPOSAL}: {name}")
    for name in ("parent", "second_parent"):
        if known.get(name) == trial.number:
            _skip(trial, f"{PROPOSAL}: {name}")
            del known[name]
    if "calls" in usage:
        known["usage"] = read_usage(usage, lambda name: _skip(trial, f"{PROPOSAL}: {name}"))
    return Provenance(**known)


def read_source(trial: HasAttributes) -> Source | None:
    """Who decided the trial's values; None while nobody has."""
    return read_provenance(trial).source


def read_feedback(trial: HasAttributes) -> str:
    """The evaluator's words; empty where there are none."""
    feedback = trial.user_attrs.get(FEEDBACK, "")
    if isinstance(feedback, str):
        return feedback
    # Set by a user who did not know of report_feedback: still the evaluator's words.
    try:
        return fit_attribute(json.dumps(feedback, ensure_ascii=False, default=str))
    except (RecursionError, TypeError, ValueError):
        _skip(trial, FEEDBACK)
        return ""


def read_images(trial: HasAttributes) -> tuple[str, ...]:
    """The artifact ids of the images that the evaluator has handed over."""
    ids = trial.user_attrs.get(IMAGES, ())
    if not isinstance(ids, list | tuple):
        _skip(trial, IMAGES)
        return ()
    known = [i for i in ids if isinstance(i, str) and _ARTIFACT_ID.fullmatch(i)][:MAX_IMAGES]
    if len(known) < len(ids):
        _skip(trial, IMAGES)
    return tuple(known)


def skip_unknown_keys(trial: HasAttributes) -> None:
    """Warn of attributes under our prefix that no reader knows, such as a newer version's."""
    for key in trial.user_attrs:
        if key.startswith(PREFIX) and not is_known_key(key, _TRIAL_KEYS):
            _skip(trial, key)


_PROVENANCE_FIELDS: Mapping[str, Callable[[object], bool]] = {
    "source": lambda value: value in get_args(Source),
    "parent": is_count,
    "second_parent": is_count,
    **dict.fromkeys(("proposer", "model", "claim", "error", "rationale"), is_string),
}


def _skip(trial: HasAttributes, key: str) -> None:
    warn_once(key, f"trial {trial.number}")
