"""What the next trial is to aim at."""

from __future__ import annotations

from collections.abc import Sequence
import itertools
import math
import statistics

from optuna.study import StudyDirection

from optuna_llm._records import TrialRecord
from optuna_llm._study.snapshot import StudySnapshot


_PLATEAU = 8
"""Number of trials without gain after which another direction is asked for."""

_LEAST_LEADERS = 3
"""Number of different values among the best trials from which on a step can be told."""


def find_target(snapshot: StudySnapshot) -> float | None:
    """A value a step beyond the best; None where there is no honest one.

    The step is the lower median of those between the best trials, since gains among good trials
    tell what can be reached and the first leap does not; it is no smaller than the noise. The
    target never passes the best possible value or the goal of the study, nor zero unless that is
    known to be possible.
    """
    leaders = snapshot.leaders
    if len(snapshot.directions) > 1 or not leaders or leaders[-1].violation:
        return None
    values = [record.values[0] for record in leaders if record.values]
    different = sorted({value for value in values if math.isfinite(value)})
    if len(different) < _LEAST_LEADERS:
        return None
    step = statistics.median_low(b - a for a, b in itertools.pairwise(different))
    step = max(step, snapshot.facts.noise or 0.0)
    is_up = snapshot.directions[0] == StudyDirection.MAXIMIZE
    best, possible = values[-1], snapshot.facts.best_possible
    target = best + step if is_up else best - step
    if possible is not None:
        target = min(target, possible) if is_up else max(target, possible)
    elif target * best <= 0:
        return None
    goal = snapshot.facts.target_value
    if goal is not None and (best < goal < target if is_up else target < goal < best):
        target = goal
    is_beyond = target > best if is_up else target < best
    return target if math.isfinite(target) and is_beyond else None


def find_in_vain(snapshot: StudySnapshot) -> Sequence[TrialRecord]:
    """The model's trials since the last gain, where they are many."""
    return snapshot.since_gain if is_stuck(snapshot) else ()


def is_stuck(snapshot: StudySnapshot) -> bool:
    """Whether many of the model's trials in a row have gained nothing."""
    return len(snapshot.since_gain) >= _PLATEAU
