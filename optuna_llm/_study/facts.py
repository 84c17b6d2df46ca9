"""What the user knows of a study, told once for all of its workers."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from dataclasses import asdict
from dataclasses import dataclass
import math
from typing import Any
from weakref import WeakKeyDictionary

from optuna import Study

from optuna_llm._study.checks import is_count
from optuna_llm._study.checks import is_finite
from optuna_llm._study.checks import warn_once
from optuna_llm._study.declarations import check_task
from optuna_llm._study.declarations import FACTS
from optuna_llm._study.declarations import write_task


@dataclass(frozen=True)
class StudyFacts:
    """What :func:`describe_study` was told; None for what is not known.

    Attributes:
        n_trials: Number of trials planned in all.
        best_possible: A bound that no objective value can pass, such as 1.0 of an accuracy.
        target_value: The objective value at which the study has reached its goal.
        noise: Standard deviation of the objective at the same values; 0 if they always give the
            same result.
    """

    n_trials: int | None = None
    best_possible: float | None = None
    target_value: float | None = None
    noise: float | None = None


def describe_study(
    study: Study,
    *,
    task: str | None = None,
    n_trials: int | None = None,
    best_possible: float | None = None,
    target_value: float | None = None,
    noise: float | None = None,
) -> None:
    """Tell a study what you know of it: stored with it, known to all of its workers.

    What is left out stays as it was. A model that knows what is left, what can be reached and
    what is noise proposes better trials.

    .. code-block:: python

        describe_study(study, task="Classify digits.", n_trials=40, best_possible=1.0, noise=0)

    Args:
        study: The study.
        task: What it is about, in words for the model.
        n_trials: Number of trials planned in all, those before included.
        best_possible: A bound that no objective value can pass.
        target_value: The objective value that is good enough.
        noise: Standard deviation of the objective at the same values; 0 if they always give the
            same result.

    Raises:
        TypeError: If an argument has another type.
        ValueError: If a number is out of range, or the last three are given for a study of several
            objectives.
    """
    if n_trials is not None and (not isinstance(n_trials, int) or n_trials < 1):
        raise ValueError(f"n_trials must be an int of 1 or more: {n_trials!r}.")
    for name, value in (
        ("best_possible", best_possible),
        ("target_value", target_value),
        ("noise", noise),
    ):
        if value is None:
            continue
        if len(study.directions) > 1:
            raise ValueError(f"{name} is for studies of one objective.")
        if not math.isfinite(value):
            raise ValueError(f"{name} must be a finite number: {value!r}.")
    if noise is not None and noise < 0:
        raise ValueError(f"noise must be 0 or more: {noise!r}.")
    if task is not None:
        write_task(study, check_task(task))
    told = StudyFacts(n_trials, best_possible, target_value, noise)
    known = {**asdict(read_facts(study.user_attrs)), **_drop_unknown(told)}
    facts = StudyFacts(**known)
    if facts != read_facts(study.user_attrs):
        study.set_user_attr(FACTS, _drop_unknown(facts))
    _told[study] = facts


_told: WeakKeyDictionary[Study, StudyFacts] = WeakKeyDictionary()
"""What was told in this process, so that a sampler at work learns of it without a read."""


def find_told_here(study: Study) -> StudyFacts | None:
    """What this process has told of a study; None for nothing."""
    return _told.get(study)


def read_facts(attributes: Mapping[str, Any]) -> StudyFacts:
    """What a study's user attributes hold of it, as far as can be read."""
    held = attributes.get(FACTS, {})
    if not isinstance(held, Mapping):
        warn_once(FACTS, "the study")
        return StudyFacts()
    known: dict[str, Any] = {}
    for name, value in held.items():
        if name in _CHECKS and _CHECKS[name](value):
            known[name] = value
        elif value is not None:
            warn_once(f"{FACTS}: {name}", "the study")
    return StudyFacts(**known)


_CHECKS: Mapping[str, Callable[[object], bool]] = {
    "n_trials": lambda value: is_count(value) and value >= 1,
    "best_possible": is_finite,
    "target_value": is_finite,
    "noise": lambda value: is_finite(value) and value >= 0,
}


def _drop_unknown(facts: StudyFacts) -> dict[str, Any]:
    return {name: value for name, value in asdict(facts).items() if value is not None}
