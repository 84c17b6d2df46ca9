"""How a study went: its trials in the order in which they ended, and which of them were steps."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass

from optuna import Study
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial
from optuna.trial import TrialState

from optuna_llm._records import TrialRecord
from optuna_llm._study.history import completion_order
from optuna_llm._study.history import make_record
from optuna_llm._study.history import name_objectives
from optuna_llm._study.ranking import merge_leader
from optuna_llm._study.ranking import rank


@dataclass(frozen=True)
class Progress:
    """What can be told of a study so far.

    Attributes:
        objectives: Name and direction of each objective.
        trials: All trials, by number.
        finished: The finished trials, in order of completion.
        steps: The records of those that were the best when they ended, in that order; of several
            objectives those that no trial before dominated.
        best: The best trial, or the Pareto front; feasible ones before infeasible ones.
    """

    objectives: Sequence[tuple[str, StudyDirection]]
    trials: Mapping[int, FrozenTrial]
    finished: Sequence[FrozenTrial]
    steps: Sequence[TrialRecord]
    best: Sequence[TrialRecord]


def follow(study: Study) -> Progress:
    """What has become of a study so far; one read of its trials."""
    trials = study.get_trials(deepcopy=False)
    objectives = name_objectives(study)
    directions = [direction for _, direction in objectives]
    finished = sorted((t for t in trials if t.state.is_finished()), key=completion_order)
    best: list[TrialRecord] = []
    steps = []
    for trial in finished:
        if trial.state != TrialState.COMPLETE:
            continue
        record = make_record(trial)
        if len(directions) == 1 and best and not _is_better(record, best[0], directions):
            continue
        best = merge_leader(best, record, directions, 1)
        if record in best:
            steps.append(record)
    return Progress(objectives, {t.number: t for t in trials}, finished, steps, best)


def _is_better(a: TrialRecord, b: TrialRecord, directions: Sequence[StudyDirection]) -> bool:
    # But for the number, which stands last in the rank: an equal value is no step.
    return rank(a, directions)[:-1] < rank(b, directions)[:-1]
