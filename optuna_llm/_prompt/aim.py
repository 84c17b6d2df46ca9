"""What the next trial is to aim at."""

from __future__ import annotations

from collections.abc import Sequence
import math

from optuna.study import StudyDirection

from optuna_llm._records import TrialRecord
from optuna_llm._study.snapshot import StudySnapshot


_PLATEAU = 8
"""Number of trials without gain after which another direction is asked for."""

_LEAST_GAINS = 2
"""How often the best value must have improved: the first leap alone tells nothing of the next."""


def find_target(snapshot: StudySnapshot) -> float | None:
    """A value that a further gain would lead to; None where there is no honest one.

    The gain goes on from the last two as they have shrunk, so that it cannot outgrow them; it is
    no smaller than the noise. The target never passes the best possible value or the goal of the
    study, nor zero unless that is known to be possible.
    """
    leaders = snapshot.leaders
    if len(snapshot.directions) > 1 or not leaders or leaders[-1].violation:
        return None
    if len(snapshot.gains) < _LEAST_GAINS:
        return None
    before, last = snapshot.gains[-2:]
    step = max(last * min(1.0, last / before), snapshot.facts.noise or 0.0)
    values = leaders[-1].values or (math.nan,)
    is_up = snapshot.directions[0] == StudyDirection.MAXIMIZE
    best, possible = values[0], snapshot.facts.best_possible
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
