"""Which trials the next one is made of: one to start from, and one that complements it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
import itertools
import math
import random
from typing import Literal
from typing import Protocol
from typing import TypeAlias

from optuna.study import StudyDirection
from optuna.trial import TrialState

from optuna_llm._prompt.aim import is_stuck
from optuna_llm._records import CaseResult
from optuna_llm._records import TrialRecord
from optuna_llm._study.ranking import to_costs
from optuna_llm._study.snapshot import StudySnapshot


ParentRule: TypeAlias = Literal["best", "cases"]
"""How parents are chosen: by the value alone, or by what trials came to in each case."""

_FADE = 0.95
_MAX_TALLIED = 100
"""What a trial counts for that is so many trials old is next to nothing."""


class ParentPolicy(Protocol):
    """Says what the next trial is to be made of; called by several threads at once."""

    def __call__(
        self,
        trials: Sequence[TrialRecord],
        directions: Sequence[StudyDirection],
        rng: random.Random,
    ) -> Sequence[TrialRecord]:
        """The trial whose texts to start from, and a second one to take over from, if any.

        None of both is the initial text.

        Args:
            trials: The complete and pruned trials that have the texts, in order of completion;
                at least one is complete.
            directions: The study's directions.
            rng: For what is drawn: the same for the same trial number and seed of the sampler.
        """
        ...


Parents: TypeAlias = tuple[TrialRecord | None, TrialRecord | None]
"""The trial to start from and a second one; None where there is none."""


def choose_parents(
    snapshot: StudySnapshot,
    name: str,
    number: int,
    seed: int,
    rule: ParentRule | ParentPolicy = "cases",
) -> Parents:
    """The trial whose texts the next one is to start from, and one that complements it.

    Without cases, or with several objectives, ``"cases"`` is the same as ``"best"``, and there is
    no second parent.

    Args:
        snapshot: The study.
        name: Name of a text that the trial is to have.
        number: Number of the next trial. With the seed it makes the draw: so workers differ, and
            a study goes on the same in another process.
        seed: The sampler's.
        rule: How they are chosen.

    Raises:
        ValueError: If a function returns what cannot be parents.
    """
    leaders = [record for record in snapshot.leaders if name in record.texts]
    if not leaders:
        return snapshot.find_latest_with(name), None
    rng = random.Random(f"{seed} {number}")
    if callable(rule):
        return _ask_policy(snapshot, name, rng, rule)
    if rule == "cases" and len(snapshot.directions) == 1 and leaders[-1].cases:
        return _choose_by_cases(snapshot, name, leaders[-1], rng)
    # Where there is better, to start anew from where the study began leads nowhere new.
    *others, best = leaders
    leaders = [*(record for record in others if record.source != "initial"), best]
    return _choose_by_value(snapshot, name, number, leaders, rng), None


def count_gains(
    first: TrialRecord, second: TrialRecord, direction: StudyDirection
) -> dict[int, float]:
    """By how much the second trial is better than the first, in each case where it is."""
    sign = _sign(direction)
    gains = {}
    for case, result in second.cases.items():
        other = first.cases.get(case)
        if other is not None and sign * result.score < sign * other.score:
            gains[case] = abs(result.score - other.score)
    return gains


def _ask_policy(
    snapshot: StudySnapshot, name: str, rng: random.Random, policy: ParentPolicy
) -> Parents:
    known = [record for record in snapshot.finished if _is_usable(record, name)]
    found = list(policy(known, snapshot.directions, rng))
    numbers = {record.number for record in known}
    for record in found:
        if not isinstance(record, TrialRecord) or record.number not in numbers:
            raise ValueError(f"parents must return trials that it was given: {record!r}.")
    if len(found) > 2 or len({record.number for record in found}) < len(found):
        raise ValueError(
            "parents must return a trial to start from and at most one other: "
            f"{[record.number for record in found]}."
        )
    first, second, *_ = [*found, None, None]
    return first, second


def _is_usable(record: TrialRecord, name: str) -> bool:
    return name in record.texts and record.state in (TrialState.COMPLETE, TrialState.PRUNED)


def _choose_by_value(
    snapshot: StudySnapshot,
    name: str,
    number: int,
    leaders: Sequence[TrialRecord],
    rng: random.Random,
) -> TrialRecord:
    """The best 7 times in 10, else another leader or, 1 time in 10, any complete trial.

    Half as often the best where nothing was gained for long; the best if this is the last trial.
    """
    is_last = snapshot.facts.n_trials == number + 1
    share = 1.0 if is_last else 0.35 if is_stuck(snapshot) else 0.7
    draw = rng.random()
    if draw < share:
        # Of several objectives no trial is the best: each in turn is built upon.
        return leaders[-1 if len(snapshot.directions) == 1 else number % len(leaders)]
    if draw > share + (1 - share) * 2 / 3:
        found = snapshot.families.find_best(rng.choice(snapshot.complete))
        if name in found.texts:
            return found
    return rng.choice(leaders)


def _choose_by_cases(
    snapshot: StudySnapshot, name: str, best: TrialRecord, rng: random.Random
) -> Parents:
    """The best 19 times in 20, else one that is ahead in a case; and one that complements it.

    How often there is a second one follows from what trials with and without it have gained.
    """
    first = best
    share = 0.8 if is_stuck(snapshot) else 0.95
    if rng.random() > share:
        complete = [r for r in snapshot.complete if name in r.texts and r.cases]
        first = _draw_front(complete, snapshot.directions[0], rng)
    if not _draws_second(snapshot, rng):
        return first, None
    return first, _find_complement(snapshot, name, first)


def _draw_front(
    trials: Sequence[TrialRecord], direction: StudyDirection, rng: random.Random
) -> TrialRecord:
    """One of those that no other beats in a case drawn at random."""
    sign = _sign(direction)
    case = rng.choice(sorted({case for record in trials for case in record.cases}))
    worst = CaseResult(sign * math.inf)
    best = min(sign * r.cases.get(case, worst).score for r in trials)
    return rng.choice([r for r in trials if sign * r.cases.get(case, worst).score == best])


def _find_complement(snapshot: StudySnapshot, name: str, first: TrialRecord) -> TrialRecord | None:
    """The trial that gains most in the cases where the first is weak; None where none does.

    A pair counts for less each time that it was tried.
    """
    tried = Counter(
        frozenset((r.parent, r.second_parent)) for r in [*snapshot.finished, *snapshot.running]
    )
    found, most = None, 0.0
    for record in snapshot.finished:
        if record.number == first.number or not _is_usable(record, name):
            continue
        gain = math.fsum(count_gains(first, record, snapshot.directions[0]).values())
        gain /= 1 + tried[frozenset((first.number, record.number))]
        if gain > most:
            found, most = record, gain
    return found


def _draws_second(snapshot: StudySnapshot, rng: random.Random) -> bool:
    """Whether the next trial is to have a second parent; by Thompson sampling.

    What a trial has gained is by how much it beats the better of its parents. Trials with and
    without a second parent are two arms whose mean gains are taken for exponential; older trials
    count for less.
    """
    counts, sums = {True: 0.0, False: 0.0}, {True: 0.0, False: 0.0}
    proposed = (r for r in reversed(snapshot.finished) if r.source == "model")
    for age, record in enumerate(itertools.islice(proposed, _MAX_TALLIED)):
        gain = _find_gain(snapshot, record)
        if gain is not None:
            has_second = record.second_parent is not None
            counts[has_second] += _FADE**age
            sums[has_second] += _FADE**age * gain
    total = sum(sums.values())
    mean = total / sum(counts.values()) if total else 1.0
    drawn = {
        has_second: rng.gammavariate(1 + counts[has_second], 1)
        / (1 + counts[has_second]) ** 2
        * (mean + sums[has_second])
        for has_second in (True, False)
    }
    return drawn[True] > drawn[False]


def _find_gain(snapshot: StudySnapshot, record: TrialRecord) -> float | None:
    """By how much a trial beats the better of its parents, 0 if it does not.

    None without parents, and for children of the very first trial alone: there was no other to
    choose then, and the first gains are the largest.
    """
    if record.second_parent is None and record.parent == snapshot.finished[0].number:
        return None
    found = (snapshot.find(number) for number in (record.parent, record.second_parent))
    parents = [r for r in found if r is not None and r.state == TrialState.COMPLETE]
    if not parents:
        return None
    if record.state != TrialState.COMPLETE or record.violation:
        return 0.0
    cost = to_costs(record, snapshot.directions)[0]
    gain = min(to_costs(parent, snapshot.directions)[0] for parent in parents) - cost
    return gain if 0 < gain < math.inf else 0.0


def _sign(direction: StudyDirection) -> int:
    """What makes less better."""
    return -1 if direction == StudyDirection.MAXIMIZE else 1
