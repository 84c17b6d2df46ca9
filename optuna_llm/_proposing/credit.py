"""Who proposes the next trial: one rule, from the finished trials alone.

A proposer's worth has two parts. One is how often its trials turn out well: a draw from what that
share may be (Thompson sampling), so that who has had few trials gets more. The other is how much
of the recent progress it has made per trial, so that small steps beside the best do not pass for
success. Models are weighed by their cost too. The base sampler waits as long as the models gain.

Sources: discounted Thompson sampling, arXiv 1707.09727; gains per use as the credit of operators,
Fialho et al., "Analyzing bandit-based adaptive operator selection mechanisms" (2010); a bandit
over models that weighs their cost, ShinkaEvolve, arXiv 2509.19349.
tests/benchmarks/proposers.py measures it.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
import itertools
import math
import random
from typing import TypeAlias

from optuna_llm._study.turns import Turn


BASE = "base"
"""The base sampler's name among the proposers."""

TUNE = "tune"
"""The name of what tries other values of the tunables in a text."""

_PATIENCE = 8
"""Trials by which it is told whether the models still gain. A good model rarely has so many in a
row in vain while there is something to gain; a bad one loses few trials by them."""

_LITTLE = 0.2
"""The models gain little if those trials have brought no more than this share of all progress."""

_LEAST_SHARE = 0.35
"""The base sampler's share of the trials while those have brought nothing at all. A model that is
stuck proposes good trials, none of which leads out of where it is."""

_WINDOW = 40
"""How many of the latest trials count: as a study goes on, others are good at it."""

_DISCOUNT = 0.97
"""What a trial's weight is multiplied by with each later trial."""

_GOOD = 0.25
"""A trial turned out well if no more than this share of those before it is better."""

_OPTIMISM = 2.0
"""Good trials that the base sampler begins with, so that it is tried early; a model has one."""

_PRIOR_TRIALS = 3.0
"""Trials of average progress that everybody begins with: one lucky trial proves little."""

_PROGRESS_POWER = 2.0
"""How progress per trial is weighed against the share of good trials."""

_COST_POWER = 0.75
"""How cost is weighed: a model that costs ten times as much must be worth 5.6 times as much. Less
than in proportion, since a trial in vain costs its evaluation as well."""

_LEAST_COST = 0.01
"""The cost that a model has at least, as a share of the dearest model's."""

_LONGEST_REST = 32
"""Trials for which a model that keeps failing is asked last, at most."""


@dataclass(frozen=True)
class Candidate:
    """Somebody who can propose the next trial.

    Attributes:
        name: The name that its trials are stored with.
        is_model: Whether it is a model; else its proposals cost nothing. ``"tune"`` is among the
            candidates only while there is a text worth tuning.
        cost: What a proposal has cost on average, in a unit that is the same for all candidates;
            None where there was none yet.
    """

    name: str
    is_model: bool = True
    cost: float | None = None


ProposerPolicy: TypeAlias = Callable[
    [Sequence[Turn], Sequence[Candidate], random.Random], Sequence[str]
]
"""Finished trials, in order of completion, and candidates to the candidates' names, in the order
in which they are asked. The draws are the same for a trial in all workers of the same seed."""


def choose_by_credit(
    turns: Sequence[Turn], candidates: Sequence[Candidate], rng: random.Random
) -> list[str]:
    """The candidates in the order in which they are asked for the next trial.

    Args:
        turns: The finished trials, in order of completion.
        candidates: Who can propose it.
        rng: Draws that belong to the trial.
    """
    latest = list(itertools.islice(_pass_backwards(turns), 2 * _LONGEST_REST))[::-1]
    tuner = [c.name for c in candidates if c.name == TUNE]
    candidates = [c for c in candidates if c.name != TUNE]
    recent = latest[-_WINDOW:]
    weights = _weigh_costs(candidates)
    worth = {c.name: _draw_worth(recent, c, rng) for c in candidates}
    models = [c.name for c in candidates if c.is_model]
    models.sort(key=lambda n: (not count_rest(latest, n), worth[n] * weights[n]), reverse=True)
    others = [c.name for c in candidates if not c.is_model]
    others.sort(key=worth.__getitem__, reverse=True)
    if not models or not others:
        return tuner + models + others
    progress = measure_progress(turns, models)
    is_granted = not progress and rng.random() < _LEAST_SHARE
    if progress > _LITTLE or (worth[models[0]] >= worth[others[0]] and not is_granted):
        return tuner + models + others
    return [*tuner, others[0], *models, *others[1:]]


def measure_progress(turns: Sequence[Turn], models: Sequence[str]) -> float:
    """The share of all progress that the models' latest trials have brought; 1 at the beginning.

    Trials count that a model has proposed, or was asked for in vain; so it has at least so many
    before anybody else is tried.
    """
    n_own = 0
    latest = 0.0
    total = 0.0
    backwards = _pass_backwards(turns)
    for turn in backwards:
        total += turn.gain
        if turn.proposer in models or any(n in models for n in (*turn.failed, *turn.passed)):
            n_own += 1
            latest += turn.gain if turn.proposer in models else 0.0
        if n_own == _PATIENCE:
            break
    # Of a long study, this sum takes longer than all else.
    total += sum(turn.gain for turn in backwards if turn.gain)
    if n_own < _PATIENCE:
        return 1.0
    return latest / total if latest else 0.0


def _pass_backwards(turns: Sequence[Turn]) -> Iterator[Turn]:
    """The turns, the last first, without those of tuning.

    What tuning gains is owed to who wrote the text; nobody's share depends on it.
    """
    return (turn for turn in reversed(turns) if turn.proposer != TUNE)


def count_rest(turns: Sequence[Turn], name: str) -> int:
    """For how many trials a model that has failed is still asked last.

    Twice as many with each failure in a row.
    """
    failures = 0
    since = 0
    for turn in reversed(turns[-2 * _LONGEST_REST :]):
        if name in turn.failed:
            failures += 1
        elif turn.proposer == name or name in turn.passed:
            break
        since += not failures
    return max(0, min(2**failures, _LONGEST_REST) - since) if failures else 0


def _draw_worth(turns: Sequence[Turn], candidate: Candidate, rng: random.Random) -> float:
    """What a trial of a candidate may be worth, judged by the recent trials."""
    good = bad = gained = 0.0
    n_own = 0
    name = candidate.name
    for turn in turns:
        good, bad = good * _DISCOUNT, bad * _DISCOUNT
        if turn.proposer == name:
            n_own += 1
            gained += turn.gain
            is_good = turn.standing is not None and turn.standing <= _GOOD
            good += (2 if turn.gain else 1) * is_good
            bad += not is_good
        elif name in turn.failed or name in turn.passed:
            bad += 1
    total = sum(turn.gain for turn in turns)
    expected = len(turns) * gained / total if total else n_own
    progress = (expected + _PRIOR_TRIALS) / (n_own + _PRIOR_TRIALS)
    share = rng.betavariate((1.0 if candidate.is_model else _OPTIMISM) + good, 1 + bad)
    return share * math.pow(progress, _PROGRESS_POWER)


def _weigh_costs(candidates: Sequence[Candidate]) -> Mapping[str, float]:
    """What each candidate's worth is multiplied by; one of unknown cost counts as an average."""
    known = [c.cost for c in candidates if c.cost is not None]
    highest = max(known, default=0.0)
    if not highest:
        return {c.name: 1.0 for c in candidates}
    average = sum(known) / len(known)
    costs = {c.name: average if c.cost is None else c.cost for c in candidates}
    return {n: max(cost / highest, _LEAST_COST) ** -_COST_POWER for n, cost in costs.items()}
