"""What each trial tells of those who have proposed it: how good it was, and what it has cost."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
import math
from typing import Any

from optuna.study import StudyDirection
from optuna.trial import TrialState

from optuna_llm._records import TrialRecord
from optuna_llm._records import Usage
from optuna_llm._study.attempts import subtract_attempts
from optuna_llm._study.attributes import Provenance
from optuna_llm._study.ranking import dominates
from optuna_llm._study.ranking import rank


_N_COMPARED = 100
"""With how many of the latest trials one is compared where there are several objectives."""


@dataclass(frozen=True)
class Turn:
    """One finished trial, as far as it tells of those who propose trials.

    Attributes:
        trial: The trial's number.
        proposer: Who decided its values: a model's configured name, ``"base"`` or another name;
            None if the user has, or nobody has said.
        standing: Share of the complete trials before it that are better, from 0 for the best one
            to 1; of several objectives, the share that dominates it. None if it did not complete.
        gain: By how much it was better than all before it; 0 if by no more than the noise. Where
            that cannot be measured, as with several objectives, an average gain counts for a
            trial that joins the Pareto front, or is the first that is feasible.
        failed: Names of the models that were asked for it in vain.
        passed: Names of the models that saw nothing to gain.
    """

    trial: int
    proposer: str | None
    standing: float | None = None
    gain: float = 0.0
    failed: Sequence[str] = ()
    passed: Sequence[str] = ()


@dataclass
class Spending:
    """What one proposer's proposals have cost.

    Attributes:
        count: For how many trials it was asked.
        by_model: The cost, by the model's name as its server reports it.
    """

    count: int = 0
    by_model: dict[str, Usage] = field(default_factory=dict)

    def add(self, model: str | None, usage: Usage) -> None:
        """Take in the cost of one more proposal."""
        self.count += 1
        self.by_model[model or ""] = self.by_model.get(model or "", Usage()) + usage


class TurnBook:
    """Takes in finished trials in order of completion; not thread-safe.

    Args:
        directions: The study's directions.
    """

    def __init__(self, directions: Sequence[StudyDirection]) -> None:
        self._directions = directions
        self._ranks: list[Any] = []
        self._latest: list[TrialRecord] = []
        self._gained = 0.0
        self._n_gains = 0
        self.turns: list[Turn] = []
        self._spent: dict[str, Spending] = {}

    def add(self, record: TrialRecord, provenance: Provenance, gain: float) -> None:
        """Take in one more finished trial.

        Args:
            record: The trial.
            provenance: Where its values come from.
            gain: Of a single objective, by how much it was better than all before it; NaN if that
                cannot be measured.
        """
        standing = None
        if record.state == TrialState.COMPLETE:
            several = len(self._directions) > 1
            standing = self._compare(record) if several else self._insert(record)
            if several:
                gain = math.nan if standing == 0 else 0.0
        gain = self._measure(gain)
        attempts = provenance.attempts
        own = subtract_attempts(provenance.usage, attempts)
        if own is not None and provenance.proposer is not None:
            self._spend(provenance.proposer, provenance.model, own)
        for attempt in (a for a in attempts if a.result != "evaluated"):
            self._spend(attempt.proposer, attempt.model, attempt.usage)
        self.turns.append(
            Turn(
                record.number,
                provenance.proposer,
                standing,
                gain,
                failed=tuple(a.proposer for a in attempts if a.result == "failed"),
                passed=tuple(a.proposer for a in attempts if a.result == "passed"),
            )
        )

    def copy_spent(self) -> dict[str, Spending]:
        """What the proposals of each proposer have cost so far."""
        return {n: Spending(s.count, dict(s.by_model)) for n, s in self._spent.items()}

    def _spend(self, proposer: str, model: str | None, usage: Usage) -> None:
        self._spent.setdefault(proposer, Spending()).add(model, usage)

    def _measure(self, gain: float) -> float:
        """The gain; the average of those before it if it is not known."""
        if math.isnan(gain):
            return self._gained / self._n_gains if self._n_gains else 1.0
        self._gained += gain
        self._n_gains += gain > 0
        return gain

    def _insert(self, record: TrialRecord) -> float:
        """The share of trials before that are better, from a sorted list of all."""
        key = rank(record, self._directions)[:-1]
        n_better = bisect.bisect_left(self._ranks, key)
        standing = n_better / len(self._ranks) if self._ranks else 0.0
        self._ranks.insert(n_better, key)
        return standing

    def _compare(self, record: TrialRecord) -> float:
        """The share of the latest trials that dominate this one or have the same values."""
        n_better = sum(
            other.values == record.values or dominates(other, record, self._directions)
            for other in self._latest
        )
        standing = n_better / len(self._latest) if self._latest else 0.0
        self._latest = [*self._latest[1 - _N_COMPARED :], record]
        return standing
