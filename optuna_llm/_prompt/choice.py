"""Which trials of a long history are worth showing."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence
import itertools
from typing import Protocol

from optuna.study import StudyDirection
from optuna.trial import TrialState

from optuna_llm._records import TrialRecord
from optuna_llm._study.ranking import find_front
from optuna_llm._study.ranking import rank
from optuna_llm._study.ranking import spread
from optuna_llm._study.sequences import Finished


_MAX_SORTED = 200
_N_CLUSTERS = 20
_MAX_CHOSEN = 1_000
"""More than are ever shown."""


class HistoryPolicy(Protocol):
    """Says which finished trials matter most, when not all of them fit into the prompt."""

    def __call__(
        self, trials: Sequence[TrialRecord], directions: Sequence[StudyDirection]
    ) -> Sequence[TrialRecord]:
        """Some of the trials, the most worth showing first.

        As many of them as there is room for are shown, in order of completion. Asked only when
        the history has outgrown its room, since each cut costs what a provider has cached.

        Args:
            trials: All finished trials in the order they ended in.
            directions: The study's directions.
        """
        ...


def choose_usual(
    trials: Sequence[TrialRecord], directions: Sequence[StudyDirection]
) -> list[TrialRecord]:
    """In turn: the best, the latest, the latest failure that has feedback, and one of each level.

    As many as can be of use, and of the snapshot's trials without a look at all of them.

    The best are of one objective by value, of several by Pareto fronts; feasible trials come
    first, then those that violate the constraints least. The levels are twenty steps from the
    best value to the worst, for variety.
    """
    best = _rank(trials, directions)
    # Sorting by fronts takes the square of the number: of many trials only of the best of them.
    fronts = _sort_by_fronts(best[:_MAX_SORTED], directions) if len(directions) > 1 else best
    failed = (t for t in reversed(trials) if t.state == TrialState.FAIL and t.feedback)
    levels = spread(best, _N_CLUSTERS) if len(best) > 1 else best
    turns = itertools.zip_longest(fronts, reversed(trials), failed, levels)
    chosen: dict[int, TrialRecord] = {}
    for turn in turns:
        chosen |= {t.number: t for t in turn if t is not None and t.number not in chosen}
        if len(chosen) >= _MAX_CHOSEN:
            break
    return list(chosen.values())


def _rank(
    trials: Sequence[TrialRecord], directions: Sequence[StudyDirection]
) -> Sequence[TrialRecord]:
    """The complete trials, best first."""
    if isinstance(trials, Finished):
        return trials.ranked
    complete = [t for t in trials if t.state == TrialState.COMPLETE]
    return sorted(complete, key=lambda t: rank(t, directions))


def _sort_by_fronts(
    trials: Sequence[TrialRecord], directions: Sequence[StudyDirection]
) -> list[TrialRecord]:
    def peel(left: Sequence[TrialRecord]) -> Iterator[TrialRecord]:
        while left:
            front = find_front(left, directions)
            yield from front
            shown = {t.number for t in front}
            left = [t for t in left if t.number not in shown]

    return list(peel(trials))
