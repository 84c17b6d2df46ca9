"""The storage format of cases: the instances that an objective is averaged over.

Scores are Optuna's intermediate values, with the case's number as the step. A study of several
objectives has none; there they stand beside the words, in the trial's attribute ``llm:cases``.
The attribute also marks the trial: intermediate values of one without it are ordinary steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from typing import Any
from typing import Protocol
from typing import TypeGuard
from weakref import WeakKeyDictionary

from optuna import Study
from optuna.trial import Trial

from optuna_llm._logging import get_logger
from optuna_llm._quoting import one_line
from optuna_llm._quoting import shorten
from optuna_llm._records import CaseResult
from optuna_llm._study import internals
from optuna_llm._study.attributes import CASES
from optuna_llm._study.attributes import HasAttributes
from optuna_llm._study.attributes import json_bytes
from optuna_llm._study.attributes import MAX_BYTES
from optuna_llm._study.checks import is_count
from optuna_llm._study.checks import is_finite
from optuna_llm._study.checks import warn_once
from optuna_llm._study.declarations import CASE_NAMES


_logger = get_logger(__name__)

_MAX_WORDS = 1_000
_LEAST_WORDS = 100
_MAX_NAME = 100
_MAX_CASE = 10**6
MAX_CASES = 2_000
"""How many cases a study of several objectives can keep the scores of."""


class HasCases(HasAttributes, Protocol):
    """A trial that may have reported intermediate values."""

    @property
    def intermediate_values(self) -> dict[int, float]:
        """Its intermediate values by step."""
        ...


@dataclass(frozen=True)
class StoredCases:
    """What a trial holds of its cases.

    Attributes:
        results: Score and words by the case's number.
        count: How many cases it was to be evaluated on; None where nobody has said.
        noise: Standard deviation of the trial's value, estimated from repeats; None without them.
    """

    results: Mapping[int, CaseResult] = field(default_factory=dict)
    count: int | None = None
    noise: float | None = None


def case_attributes(cases: StoredCases, *, with_scores: bool) -> dict[str, Any]:
    """The user attribute that stores cases: what fits, the words of the worst shortened last.

    Args:
        cases: What is known of the trial's cases.
        with_scores: Whether the scores are kept in it, for want of intermediate values.

    Raises:
        ValueError: If there are too many scores for one attribute.
    """
    fields: dict[str, Any] = {}
    if cases.count is not None:
        fields["count"] = cases.count
    if cases.noise is not None:
        fields["noise"] = cases.noise
    if with_scores:
        check_count(len(cases.results) or 1, keeps_scores=True)
        fields["scores"] = {str(case): result.score for case, result in cases.results.items()}
    words = {str(case): r.words for case, r in cases.results.items() if r.words}
    if words:
        fields["words"] = _fit_words(words, cases.results, MAX_BYTES - json_bytes(fields) - 20)
    return {CASES: fields}


def _fit_words(
    words: Mapping[str, str], results: Mapping[int, CaseResult], room: int
) -> dict[str, str]:
    """The words, shortened until they fit; then those of cases go whose score is most common."""
    limit = _MAX_WORDS
    while limit >= _LEAST_WORDS:
        fitting = {case: shorten(text, limit) for case, text in words.items()}
        if json_bytes(fitting) <= room:
            return fitting
        limit = limit * 2 // 3
    # Most cases are at full score or at none: what is rare has more to say.
    common: dict[float, int] = {}
    for result in results.values():
        common[result.score] = common.get(result.score, 0) + 1
    kept: dict[str, str] = {}
    for case in sorted(words, key=lambda case: (common[results[int(case)].score], int(case))):
        cost = json_bytes({case: fitting[case]})
        if cost <= room:
            kept[case] = fitting[case]
            room -= cost
    return kept


def read_cases(trial: HasCases) -> StoredCases:
    """What a trial holds of its cases, as far as it can be read; empty without the attribute."""
    held = trial.user_attrs.get(CASES)
    if held is None:
        return StoredCases()
    if not isinstance(held, Mapping):
        _skip(trial)
        held = {}
    scores = _read_by_case(trial, held, "scores")
    scores = {c: score for c, score in scores.items() if is_finite(score) or _skip(trial)}
    for case, score in trial.intermediate_values.items():
        if is_finite(score) and 0 <= case < _MAX_CASE:
            scores[case] = score
        else:
            _skip(trial)
    words = _read_by_case(trial, held, "words")
    known = {c: text for c, text in words.items() if isinstance(text, str) or _skip(trial)}
    count, noise = held.get("count"), held.get("noise")
    if count is not None and not (is_count(count) and count <= _MAX_CASE):
        count = _skip(trial) or None
    if noise is not None and not (is_finite(noise) and noise >= 0):
        noise = _skip(trial) or None
    return StoredCases(
        {c: CaseResult(float(scores[c]), known.get(c, "")) for c in sorted(scores)},
        count,
        None if noise is None else float(noise),
    )


def _read_by_case(trial: HasCases, held: Mapping[str, Any], name: str) -> dict[int, Any]:
    """One of the objects of the attribute, by the case's number."""
    stored = held.get(name, {})
    if not isinstance(stored, Mapping):
        _skip(trial)
        return {}
    known = {}
    for key, value in stored.items():
        if _is_case(key):
            known[int(key)] = value
        else:
            _skip(trial)
    return known


def _is_case(key: object) -> TypeGuard[str]:
    """Whether a key is a case's number as it is written there."""
    return isinstance(key, str) and key.isascii() and key.isdigit() and len(key) <= 6


def _skip(trial: HasAttributes) -> bool:
    warn_once(CASES, f"trial {trial.number}")
    return False


def store_case(trial: Trial, case: int, result: CaseResult) -> None:
    """Store one case of a running trial; one that it has already keeps its result.

    Raises:
        ValueError: If a study of several objectives has too many cases.
    """
    is_one = len(trial.study.directions) == 1
    known = read_cases(internals.read_live_trial(trial))
    if case in known.results:
        return
    results = {**known.results, case: result}
    attributes = case_attributes(replace(known, results=results), with_scores=not is_one)
    # First what marks the values as those of cases: a process may die in between.
    for key, value in attributes.items():
        if trial.user_attrs.get(key) != value:
            trial.set_user_attr(key, value)
    if is_one:
        trial.report(result.score, case)


def check_count(count: int, *, keeps_scores: bool) -> None:
    """Refuse a number of cases that cannot be stored.

    Raises:
        ValueError: If there are none or too many.
    """
    if not count:
        raise ValueError("There are no cases: give at least one.")
    if count > (MAX_CASES if keeps_scores else _MAX_CASE):
        raise ValueError(
            f"{count:,} cases are too many: the scores of {MAX_CASES:,} can be kept in a study of "
            f"several objectives, of {_MAX_CASE:,} in one of a single objective."
        )


def check_case(case: object, score: object, feedback: object) -> None:
    """Refuse what cannot be reported of a case.

    Raises:
        TypeError: If an argument is of another type.
        ValueError: If the case's number or its score is out of range.
    """
    if not isinstance(case, int) or isinstance(case, bool):
        raise TypeError(f"case must be the case's number, an int from 0: {case!r}.")
    if not 0 <= case < _MAX_CASE:
        raise ValueError(f"case must be from 0 to {_MAX_CASE - 1:,}: {case}.")
    if not isinstance(score, float | int) and not hasattr(score, "__float__"):
        raise TypeError(f"The score of case {case} must be a number: {score!r}.")
    if not is_finite(float(score)):
        raise ValueError(f"The score of case {case} must be a finite number: {score!r}.")
    if not isinstance(feedback, str):
        raise TypeError(f"The feedback of case {case} must be a string: {feedback!r}.")


# Names

_named: WeakKeyDictionary[Study, dict[int, str]] = WeakKeyDictionary()
"""The names that this process knows to be stored."""


def name_cases(study: Study, names: Mapping[int, str]) -> None:
    """Store the names of cases, beside those that the study has; as many as fit."""
    known = _named.setdefault(study, {})
    if all(known.get(case) == name for case, name in names.items()):
        return
    held = read_case_names(study.user_attrs)
    fitting = {case: one_line(name, _MAX_NAME) for case, name in names.items()}
    changed = [case for case, name in fitting.items() if held.get(case, name) != name]
    if changed:
        _logger.warning(
            "The study had another name for case %d, %r, which is %r from now on. Scores are "
            "compared by the case's number: give another case another number.",
            changed[0],
            held[changed[0]],
            fitting[changed[0]],
        )
    wanted = held | fitting
    while json_bytes({str(case): name for case, name in wanted.items()}) > MAX_BYTES:
        wanted = dict(list(wanted.items())[: len(wanted) * 9 // 10])
    if wanted != held:
        study.set_user_attr(CASE_NAMES, {str(case): name for case, name in wanted.items()})
    known.update(names)


def find_named_here(study: Study) -> Mapping[int, str]:
    """The names of cases that this process has stored, by the case's number."""
    return _named.get(study, {})


def read_case_names(attributes: Mapping[str, Any]) -> dict[int, str]:
    """The names of cases that a study's user attributes hold, by the case's number."""
    held = attributes.get(CASE_NAMES, {})
    if not isinstance(held, Mapping):
        warn_once(CASE_NAMES, "the study")
        return {}
    known = {int(c): name for c, name in held.items() if _is_case(c) and isinstance(name, str)}
    if len(known) < len(held):
        warn_once(CASE_NAMES, "the study")
    return known


def number_cases(names: Sequence[str], held: Mapping[int, str]) -> list[int]:
    """A number for each name: the one that it has in the study, or the next that is free.

    Raises:
        ValueError: If two names are the same, as far as they are kept.
    """
    by_name = {name: case for case, name in held.items()}
    free = max(held, default=-1) + 1
    for name in (one_line(name, _MAX_NAME) for name in names):
        if name not in by_name:
            by_name[name], free = free, free + 1
    numbers = [by_name[one_line(name, _MAX_NAME)] for name in names]
    if len(set(numbers)) < len(numbers):
        raise ValueError(
            f"Names of cases must differ when they are shortened to {_MAX_NAME} characters."
        )
    return numbers
