"""Families: the trials that differ in the values of their tunables only."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
import math
from typing import TypeAlias

from optuna.distributions import BaseDistribution
from optuna.study import StudyDirection
from optuna.trial import TrialState

from optuna_llm._records import ParamValue
from optuna_llm._records import TrialRecord
from optuna_llm._study.identity import digest_text
from optuna_llm._study.ranking import rank
from optuna_llm._study.ranking import to_costs
from optuna_llm._tunables import find_tunables
from optuna_llm._tunables import make_skeleton
from optuna_llm._tunables import ParamName


FamilyKey: TypeAlias = tuple[tuple[str, int], ...]
"""Name of each text with tunables and number of the trial that introduced them."""


def find_family(record: TrialRecord) -> FamilyKey | None:
    """The family that a trial belongs to; None without tunables."""
    if not record.tuned:
        return None
    return tuple(sorted((name, tuning.family) for name, tuning in record.tuned.items()))


def identify_skeleton(marked: str) -> str:
    """What marked texts share that differ in the values of their tunables and in white space."""
    return digest_text(make_skeleton(marked))


def read_values(record: TrialRecord) -> dict[str, ParamValue]:
    """The values of a trial's tunables, by the name of their parameter."""
    return {
        str(ParamName(text, name, tuning.family)): value
        for text, tuning in record.tuned.items()
        for name, value in tuning.values.items()
    }


@dataclass
class Family:
    """The finished trials of one family, in order of completion.

    Attributes:
        key: What identifies it.
        space: The values that its tunables may take, by the name of their parameter.
        trials: Its trials, failed ones included.
        best: The best of its complete trials; None while there is none.
        bests: After each of its trials, the cost of the best one so far; of several objectives
            the first alone.
    """

    key: FamilyKey
    space: Mapping[str, BaseDistribution]
    trials: list[TrialRecord] = field(default_factory=list)
    best: TrialRecord | None = None
    bests: list[float] = field(default_factory=list)

    @property
    def number(self) -> int:
        """The trial that introduced it; of several texts, the last of them."""
        return max(number for _, number in self.key)

    @property
    def first(self) -> TrialRecord | None:
        """The first of its complete trials."""
        return next((r for r in self.trials if r.state == TrialState.COMPLETE), None)

    def add(self, record: TrialRecord, directions: Sequence[StudyDirection]) -> None:
        """Take in one more trial."""
        self.trials.append(record)
        best = self.best
        if record.state == TrialState.COMPLETE and (
            best is None or rank(record, directions) < rank(best, directions)
        ):
            self.best = record
        self.bests.append(math.inf if self.best is None else to_costs(self.best, directions)[0])

    def measure_gain(self, count: int) -> float:
        """By how much its best trial has become better with its last trials.

        Args:
            count: How many of them.
        """
        before = self.bests[: max(1, len(self.bests) - count)][-1]
        return before - self.bests[-1]


class FamilyBook:
    """Takes in finished trials in order of completion; not thread-safe.

    Args:
        directions: The study's directions.
    """

    def __init__(self, directions: Sequence[StudyDirection]) -> None:
        self._directions = directions
        self._families: dict[FamilyKey, Family] = {}
        self._by_skeleton: dict[tuple[str, str], int] = {}

    def __len__(self) -> int:
        return len(self._families)

    def add(self, record: TrialRecord) -> bool:
        """Take in one more finished trial.

        Returns:
            Whether its family had a trial already.
        """
        key = find_family(record)
        if key is None:
            return False
        family = self._families.get(key)
        is_known = family is not None
        if family is None:
            family = self._families[key] = Family(key, _read_space(record))
            for name, number in key:
                skeleton = identify_skeleton(record.texts[name])
                self._by_skeleton.setdefault((name, skeleton), number)
        family.add(record, self._directions)
        return is_known

    def find(self, name: str, marked: str) -> int | None:
        """Number of the trial that has introduced the tunables of a marked text, if any has."""
        return self._by_skeleton.get((name, identify_skeleton(marked)))

    def find_best(self, record: TrialRecord) -> TrialRecord:
        """The best trial of a trial's family; without tunables, the trial itself."""
        key = find_family(record)
        family = None if key is None else self._families.get(key)
        return record if family is None or family.best is None else family.best

    def list_best(self) -> list[Family]:
        """The families that have a complete trial, the best first."""
        having = [(f, f.best) for f in list(self._families.values()) if f.best is not None]
        having.sort(key=lambda item: rank(item[1], self._directions))
        return [family for family, _ in having]


def _read_space(record: TrialRecord) -> dict[str, BaseDistribution]:
    return {
        str(ParamName(text, tunable.name, tuning.family)): tunable.distribution
        for text, tuning in record.tuned.items()
        for tunable in find_tunables(record.texts[text])
    }
