"""How a study has progressed: its trials in order of completion, and which were improvements."""

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
    """The course of a study so far.

    Attributes:
        objectives: Name and direction of each objective.
        trials: All trials, by number.
        finished: The finished trials, in order of completion.
        improvements: The trials that were the best when they completed, in order of completion;
            with several objectives, those that no earlier trial dominated.
        best: The best trial, or the Pareto front. Infeasible trials only if none is feasible.
        numbers: Names of the number parameters that any trial has used.
    """

    objectives: Sequence[tuple[str, StudyDirection]]
    trials: Mapping[int, FrozenTrial]
    finished: Sequence[FrozenTrial]
    improvements: Sequence[TrialRecord]
    best: Sequence[TrialRecord]
    numbers: frozenset[str]


def read_progress(study: Study) -> Progress:
    """The course of a study so far, from one read of its trials."""
    trials = study.get_trials(deepcopy=False)
    objectives = name_objectives(study)
    directions = [direction for _, direction in objectives]
    finished = sorted((t for t in trials if t.state.is_finished()), key=completion_order)
    best: list[TrialRecord] = []
    improvements = []
    for trial in finished:
        if trial.state != TrialState.COMPLETE:
            continue
        if len(directions) == 1 and best and _cannot_beat(trial, best[0], directions[0]):
            continue  # Of hundreds of trials with cases, records take longer than all else.
        record = make_record(trial)
        if len(directions) == 1 and best and not _is_better(record, best[0], directions):
            continue
        best = merge_leader(best, record, directions, 1)
        if record in best:
            improvements.append(record)
    numbers = frozenset().union(*(trial.params for trial in trials))
    by_number = {trial.number: trial for trial in trials}
    return Progress(objectives, by_number, finished, improvements, best, numbers)


def _cannot_beat(trial: FrozenTrial, best: TrialRecord, direction: StudyDirection) -> bool:
    """Whether a trial's value is no better than that of a feasible one."""
    if best.violation or not best.values or not trial.values:
        return False
    own: float = trial.values[0]
    other = best.values[0]
    return own <= other if direction == StudyDirection.MAXIMIZE else own >= other


def _is_better(a: TrialRecord, b: TrialRecord, directions: Sequence[StudyDirection]) -> bool:
    # Without the trial number, which comes last in the rank: an equal value is no improvement.
    return rank(a, directions)[:-1] < rank(b, directions)[:-1]
