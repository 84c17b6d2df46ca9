"""Where the next trial is to start from, and what it is to aim at."""

from __future__ import annotations

from collections.abc import Sequence
import math
import random

from optuna.study import StudyDirection

from optuna_llm._records import TrialRecord
from optuna_llm._study.snapshot import StudySnapshot


_PLATEAU = 8
"""Number of trials without gain after which another direction is asked for."""

_LEAST_GAINS = 2
"""How often the best value must have improved: the first leap alone tells nothing of the next."""


def choose_parent(
    snapshot: StudySnapshot, name: str, number: int, seed: int
) -> TrialRecord | None:
    """The trial whose texts the next one is to start from; None where there is none.

    The best 7 times in 10, else another leader or, 1 time in 10, any complete trial; half as
    often the best where nothing was gained for long.

    Args:
        snapshot: The study.
        name: Name of a text that the trial is to have.
        number: Number of the next trial. With the seed it makes the draw: so workers differ, and
            a study goes on the same in another process.
        seed: The sampler's.
    """
    having = [record for record in snapshot.leaders if name in record.texts]
    if not having:
        return snapshot.find_latest_with(name)
    # Where there is better, to start anew from where the study began leads nowhere new.
    leaders = [record for record in having if record.source != "initial"] or having
    rng = random.Random(f"{seed} {number}")
    share = 0.35 if _is_stuck(snapshot) else 0.7
    draw = rng.random()
    if draw < share:
        # Of several objectives no trial is the best: each in turn is built upon.
        return leaders[-1 if len(snapshot.directions) == 1 else number % len(leaders)]
    if draw > share + (1 - share) * 2 / 3:
        found = rng.choice(snapshot.complete)
        if name in found.texts:
            return found
    return rng.choice(leaders)


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
    return snapshot.since_gain if _is_stuck(snapshot) else ()


def _is_stuck(snapshot: StudySnapshot) -> bool:
    return len(snapshot.since_gain) >= _PLATEAU
