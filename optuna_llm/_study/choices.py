"""What came of each choice of the categorical parameters."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field

from optuna.distributions import BaseDistribution
from optuna.distributions import CategoricalDistribution
from optuna.study import StudyDirection
from optuna.trial import TrialState

from optuna_llm._records import TrialRecord
from optuna_llm._study.distributions import write_number
from optuna_llm._study.ranking import to_costs


@dataclass
class ChoiceTally:
    """What came of one choice.

    Attributes:
        count: How many trials have tried it, failed ones included.
        best: The best value of a feasible complete trial; None without one, or of several
            objectives.
        companions: How many of the trials that did not fail had each other parameter.
        ended: How many of the trials did not fail.
    """

    count: int = 0
    best: float | None = None
    companions: dict[str, int] = field(default_factory=dict)
    ended: int = 0

    def add(self, record: TrialRecord, directions: Sequence[StudyDirection]) -> None:
        """Count one more finished trial."""
        self.count += 1
        if record.state not in (TrialState.COMPLETE, TrialState.PRUNED):
            return
        self.ended += 1
        for name in (*record.params, *record.texts):
            self.companions[name] = self.companions.get(name, 0) + 1
        if record.state == TrialState.COMPLETE and len(directions) == 1 and not record.violation:
            (cost,) = to_costs(record, directions)
            is_up = directions[0] == StudyDirection.MAXIMIZE
            value = -cost if is_up else cost
            if self.best is None or (value > self.best if is_up else value < self.best):
                self.best = value


class ChoiceStatistics:
    """Tallies of each categorical parameter's choices, kept up to date trial by trial.

    Args:
        directions: The study's directions.
    """

    def __init__(self, directions: Sequence[StudyDirection]) -> None:
        self._directions = directions
        self._tallies: dict[str, dict[str, ChoiceTally]] = {}

    def add(self, record: TrialRecord, space: Mapping[str, BaseDistribution]) -> None:
        """Take in one more finished trial.

        Args:
            record: The trial.
            space: The number parameters by name.
        """
        for name, value in record.params.items():
            if isinstance(space.get(name), CategoricalDistribution):
                tally = self._tallies.setdefault(name, {}).setdefault(
                    write_number(value), ChoiceTally()
                )
                tally.add(record, self._directions)

    def find(self, name: str, choice: str) -> ChoiceTally:
        """What came of a choice, as :func:`write_number` writes it."""
        return self._tallies.get(name, {}).get(choice, ChoiceTally())

    def find_condition(self, parameter: str, on: str) -> list[str] | None:
        """The choices of ``on`` with which trials always had a parameter, and never without.

        None where the trials do not show such a rule, or it would say nothing.
        """
        tallies = {c: t for c, t in self._tallies.get(on, {}).items() if t.ended}
        having = [c for c, t in tallies.items() if t.companions.get(parameter, 0) == t.ended]
        lacking = [c for c, t in tallies.items() if parameter not in t.companions]
        is_rule = having and lacking and len(having) + len(lacking) == len(tallies)
        return having if is_rule else None
