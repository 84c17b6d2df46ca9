"""Where the next trial is to start from, and what it is to aim at."""

from __future__ import annotations

from collections.abc import Sequence
import math
import random

from optuna.study import StudyDirection

from optuna_llm._records import TrialRecord
from optuna_llm._study.snapshot import StudySnapshot


_PLATEAU = 8
"""After how many trials without gain another direction is asked for."""

_N_GAINS = 3


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
    leaders = [record for record in snapshot.leaders if name in record.texts]
    if not leaders:
        return snapshot.find_latest_with(name)
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
    """A value as far beyond the best as the last gains suggest; None where there is no telling.

    Less far the longer nothing was gained, and not beyond zero: errors and losses have nothing
    there.
    """
    gains = snapshot.gains[-_N_GAINS:]
    leaders = snapshot.leaders
    if not gains or not leaders or leaders[-1].values is None or leaders[-1].violation:
        return None
    # Half of the least of them: gains shrink, and the first is often a leap.
    gain = min(gains) / 2 / (1 + len(snapshot.since_gain) // _PLATEAU)
    best = leaders[-1].values[0]
    target = best + gain if snapshot.directions[0] == StudyDirection.MAXIMIZE else best - gain
    if target * best <= 0:
        target = best / 2
    return target if math.isfinite(target) and target != best else None


def find_in_vain(snapshot: StudySnapshot) -> Sequence[TrialRecord]:
    """The trials since the last gain, where they are many."""
    return snapshot.since_gain if _is_stuck(snapshot) else ()


def _is_stuck(snapshot: StudySnapshot) -> bool:
    return len(snapshot.since_gain) >= _PLATEAU
