"""Which trials are better than others: order, dominance, Pareto fronts."""

from __future__ import annotations

from collections.abc import Sequence
import math

from optuna.study import StudyDirection

from optuna_llm._records import TrialRecord


def rank(record: TrialRecord, directions: Sequence[StudyDirection]) -> tuple[float, ...]:
    """Sort key of complete trials, best first: violation, then values, then number."""
    return (record.violation, *to_costs(record, directions), record.number)


def to_costs(record: TrialRecord, directions: Sequence[StudyDirection]) -> list[float]:
    """The objective values with the sign that makes less better."""
    return [
        -value if direction == StudyDirection.MAXIMIZE else value
        for value, direction in zip(record.values or (), directions, strict=True)
    ]


def is_tie(a: float, b: float) -> bool:
    """Whether two values differ by no more than rounding."""
    return math.isclose(a, b, rel_tol=1e-9)


def merge_leader(
    leaders: Sequence[TrialRecord],
    record: TrialRecord,
    directions: Sequence[StudyDirection],
    count: int,
) -> list[TrialRecord]:
    """The leaders after one more complete trial, best first.

    Of one objective the best ``count`` trials, feasible ones before infeasible ones. Of several
    objectives the whole Pareto front.
    """
    if len(directions) == 1:
        return sorted([*leaders, record], key=lambda r: rank(r, directions))[:count]
    if any(dominates(leader, record, directions) for leader in leaders):
        return list(leaders)
    beaten = {id(leader) for leader in leaders if dominates(record, leader, directions)}
    front = [leader for leader in leaders if id(leader) not in beaten]
    return sorted([*front, record], key=lambda r: rank(r, directions))


def dominates(a: TrialRecord, b: TrialRecord, directions: Sequence[StudyDirection]) -> bool:
    """Whether ``a`` is no worse in any objective and better in one, constraints first."""
    if a.violation or b.violation:
        return a.violation < b.violation
    costs = list(zip(to_costs(a, directions), to_costs(b, directions), strict=True))
    return all(x <= y for x, y in costs) and any(x < y for x, y in costs)


def find_front(
    trials: Sequence[TrialRecord], directions: Sequence[StudyDirection]
) -> list[TrialRecord]:
    """Those of the trials that no other dominates."""
    return [t for t in trials if not any(dominates(other, t, directions) for other in trials)]


def spread(front: Sequence[TrialRecord], count: int) -> list[TrialRecord]:
    """At most ``count`` of the records, evenly from the first to the last."""
    if len(front) <= count:
        return list(front)
    return [front[round(i * (len(front) - 1) / (count - 1))] for i in range(count)]
