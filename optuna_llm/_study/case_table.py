"""How the trials of a study have done in each case that the objective is averaged over."""

from __future__ import annotations

from collections.abc import Sequence
import math

from optuna.study import StudyDirection
from optuna.trial import TrialState

from optuna_llm._records import TrialRecord


_MAX_KEPT = 3


class CaseTable:
    """What trials have reached in each case, kept up to date trial by trial.

    Args:
        directions: The study's directions.
    """

    def __init__(self, directions: Sequence[StudyDirection]) -> None:
        self._directions = directions
        self._sign: int | None = None
        self._best: dict[int, float] = {}
        self._n_seen: dict[int, int] = {}
        self._reached: dict[int, list[int]] = {}
        self._at_full: set[int] = set()
        self._full: float | None = None
        self._least = math.inf
        self.n_trials = 0

    def add(self, record: TrialRecord) -> None:
        """Take in a finished trial."""
        if not record.cases or record.state == TrialState.FAIL:
            return
        self.n_trials += 1
        if self._sign is None:
            self._sign = find_case_sign(record, self._directions)
        for case, result in record.cases.items():
            gain = self.gain(result.score)
            self._n_seen[case] = self._n_seen.get(case, 0) + 1
            if gain > self._best.get(case, -math.inf):
                self._best[case], self._reached[case] = gain, []
            if gain == self._best[case] and len(self._reached[case]) <= _MAX_KEPT:
                self._reached[case].append(record.number)
            self._least = min(self._least, gain)
            if self._full is None or gain > self._full:
                self._full, self._at_full = gain, set()
            if gain == self._full:
                self._at_full.add(case)

    def gain(self, score: float) -> float:
        """The score with the sign that makes more better."""
        return (self._sign or find_case_sign(None, self._directions)) * score

    @property
    def full(self) -> float | None:
        """The best score of all, if several cases have reached it, and not all of them always."""
        if self._full is None or len(self._at_full) < 2 or self._least == self._full:
            return None
        return self.gain(self._full)

    @property
    def cases(self) -> Sequence[int]:
        """The cases that any trial has been evaluated on, those with the lowest best first."""
        return sorted(self._best, key=lambda case: (self._best[case], case))

    def best(self, case: int) -> float:
        """The best score that a trial has in a case."""
        return self.gain(self._best[case])

    def find_best(self, case: int) -> Sequence[int]:
        """Numbers of the first trials with that score; one beyond three tells that more have."""
        return self._reached[case]

    def count(self, case: int) -> int:
        """How many trials were evaluated on a case."""
        return self._n_seen[case]

    def is_solved(self, case: int) -> bool:
        """Whether any trial has the full score in a case."""
        return self._best[case] == self._full


def find_case_sign(record: TrialRecord | None, directions: Sequence[StudyDirection]) -> int:
    """What makes more better of a case's scores: 1, or -1 where less is better.

    Of several objectives they belong to the one that is their mean, else to the first.
    """
    found = directions[0]
    if record is not None and record.values and record.cases and len(directions) > 1:
        mean = math.fsum(r.score for r in record.cases.values()) / len(record.cases)
        pairs = zip(record.values, directions, strict=False)
        found = next((d for value, d in pairs if math.isclose(value, mean)), found)
    return 1 if found == StudyDirection.MAXIMIZE else -1
