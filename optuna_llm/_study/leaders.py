"""The best trials of a study, and what each trial has gained on those before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
import math

from optuna.study import StudyDirection

from optuna_llm._records import TrialRecord
from optuna_llm._study.families import find_family
from optuna_llm._study.identity import Identity
from optuna_llm._study.ranking import is_tie
from optuna_llm._study.ranking import merge_leader
from optuna_llm._study.ranking import rank
from optuna_llm._study.ranking import spread
from optuna_llm._study.ranking import to_costs
from optuna_llm._study.snapshot import TrialIndex


_N_SHOWN = 5


class Leaders:
    """Takes in complete trials in order of completion; not thread-safe.

    Args:
        directions: The study's directions.
        index: Gets the trials that were the best when they ended, and those that repeat others.

    Attributes:
        noise: Standard deviation of the objective; a smaller gain is none.
        gains: By how much the best value has improved, each time; one objective only.
        since_gain: The model's trials since then; those as good as the best are left out.
    """

    def __init__(self, directions: Sequence[StudyDirection], index: TrialIndex) -> None:
        self._directions = directions
        self._index = index
        self._best: list[TrialRecord] = []
        self.noise = 0.0
        self.gains: list[float] = []
        self.since_gain: list[TrialRecord] = []

    @property
    def shown(self) -> list[TrialRecord]:
        """Some of the best, the best last; infeasible ones only while none is feasible."""
        feasible = [record for record in self._best if not record.violation]
        leaders = feasible or self._best
        is_one = len(self._directions) == 1
        return (leaders[:_N_SHOWN] if is_one else spread(leaders, _N_SHOWN))[::-1]

    def add(self, record: TrialRecord, identity: Identity) -> None:
        """Take a trial among the best; repeats count once, with their mean."""
        same = self._index.repeats.setdefault(identity, [])
        same.append(record)
        if len(same) > 1 and len(self._directions) == 1:
            self._best = [r for r in self._best if r.number != same[0].number]
            mean = math.fsum(r.values[0] for r in same if r.values) / len(same)
            record = replace(same[0], values=(mean,))
        if len(self._directions) == 1:
            record = self._replace_relative(record)
        self._best = merge_leader(self._best, record, self._directions, 2 * _N_SHOWN)

    def _replace_relative(self, record: TrialRecord) -> TrialRecord:
        """The better of a trial and the leader of its family, which is no longer among them.

        Five values of the same tunables would leave no room for another program.
        """
        family = find_family(record)
        if family is None:
            return record
        relatives = [record, *(r for r in self._best if find_family(r) == family)]
        self._best = [r for r in self._best if find_family(r) != family]
        return min(relatives, key=lambda r: rank(r, self._directions))

    def note_gain(self, record: TrialRecord) -> float:
        """Learn what a trial has gained, before it is added.

        Returns:
            By how much it is better than the best before it, 0 if by no more than noise; NaN if
            it is better in a way that cannot be measured. Of several objectives 0.
        """
        if len(self._directions) > 1 or not (record.params or record.texts):
            return 0.0
        if not self._best:
            self._index.steps.add(record.number)
            return 0.0
        best = self._best[0]
        former, new = (to_costs(r, self._directions)[0] for r in (best, record))
        is_feasible = not record.violation and not best.violation
        if is_feasible and is_tie(former, new):
            return 0.0
        is_step = rank(record, self._directions)[:-1] < rank(best, self._directions)[:-1]
        if is_step:
            self._index.steps.add(record.number)
        if is_feasible and former - new > self.noise:
            # A new list, since snapshots keep the one that was.
            self.since_gain = []
            if math.isfinite(former - new):
                # What tuning gains says nothing of what another program would.
                if record.source != "tune":
                    self.gains.append(former - new)
                return former - new
            return math.nan
        if record.source == "model" and not (is_feasible and abs(former - new) <= self.noise):
            self.since_gain.append(record)
        return math.nan if is_step and not is_feasible else 0.0
