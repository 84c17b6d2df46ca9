"""Which tunables of a family mattered, by Optuna's own evaluator."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
from functools import lru_cache

import optuna
from optuna.distributions import BaseDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial
from optuna.trial import TrialState

from optuna_llm._records import TrialRecord
from optuna_llm._study.families import Family
from optuna_llm._study.families import read_values
from optuna_llm._study.internals import create_scratch_study


_LEAST = 8
"""Below this number of complete trials, importances are chance."""


def rate_importances(family: Family, directions: Sequence[StudyDirection]) -> Mapping[str, float]:
    """Parameter to its share in what the values differ by, the largest first.

    Empty where there are several objectives or few trials.
    """
    complete = [r for r in family.trials if r.state == TrialState.COMPLETE]
    if len(directions) > 1 or len(complete) < _LEAST or len(family.space) < 2:
        return {}
    return _rate(tuple(complete), tuple(family.space.items()), directions[0])


@lru_cache(maxsize=32)
def _rate(
    records: tuple[TrialRecord, ...],
    space: tuple[tuple[str, BaseDistribution], ...],
    direction: StudyDirection,
) -> Mapping[str, float]:
    study = create_scratch_study([direction])
    study.add_trials([to_trial(record, dict(space)) for record in records])
    evaluator = optuna.importance.PedAnovaImportanceEvaluator()
    return optuna.importance.get_param_importances(study, evaluator=evaluator)


def to_trial(record: TrialRecord, space: Mapping[str, BaseDistribution]) -> FrozenTrial:
    """A finished trial with the tunables of its family as its parameters."""
    values = read_values(record)
    return optuna.trial.create_trial(
        state=record.state,
        values=record.values if record.state == TrialState.COMPLETE else None,
        params={name: values[name] for name in space},
        distributions=dict(space),
    )
