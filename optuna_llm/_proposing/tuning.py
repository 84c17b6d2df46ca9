"""Which program's tunables are given other values next, and when it is enough.

Sources: tuning the programs that a model writes, LLaMEA-HPO, arXiv 2410.16309; leaving what
brings less than the average, the marginal value theorem of Charnov (1976).
tests/benchmarks/tunables.py measures it.
"""

from __future__ import annotations

from collections import Counter

from optuna_llm._proposing.credit import TUNE
from optuna_llm._study.families import Family
from optuna_llm._study.families import find_family
from optuna_llm._study.snapshot import StudySnapshot


_WORTH = 2.0
"""How much more than the average a trial of tuning must bring: it costs no call, but it cannot
lead out of where the program is."""

_BEHIND = 3
"""How many programs behind the best are tuned a little: poor constants may hide a better one.
Without them, twice as many trials and three times as many calls were needed."""


def choose_family(snapshot: StudySnapshot) -> Family | None:
    """The family to try other values of; None where none is worth it.

    Each gets one trial more than it has tunables if it is among the best few, which tells what
    tuning it brings. Then the best one goes on as long as that is clearly more per trial than what
    the study has gained on average; and later again, in turn with the models, while nobody gains.
    """
    families = snapshot.families.list_best()
    if not families:
        return None
    running = Counter(map(find_family, snapshot.running))
    best = families[0]
    count = len(best.space) + 1
    if len(best.trials) + running[best.key] <= count:
        return best
    rate = sum(turn.gain for turn in snapshot.turns) / max(1, len(snapshot.turns))
    if best.measure_gain(count) / count > _WORTH * rate:
        return best
    behind = sorted(families[1 : 1 + _BEHIND], key=lambda f: f.number, reverse=True)
    for family in behind:
        if len(family.trials) + running[family.key] <= len(family.space) + 1:
            return family
    n_tuned, n_others = _count_since_gain(snapshot)
    if n_others >= count and n_tuned + running[best.key] < n_others:
        return best
    return None


def _count_since_gain(snapshot: StudySnapshot) -> tuple[int, int]:
    """How many trials tuning has had since the last gain, and how many others have."""
    n_tuned = n_others = 0
    for turn in reversed(snapshot.turns):
        if turn.gain:
            break
        n_tuned += turn.proposer == TUNE
        n_others += turn.proposer != TUNE
    return n_tuned, n_others
