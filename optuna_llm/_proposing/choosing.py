"""Who is asked for a trial, in which order: the rule put to what a study holds."""

from __future__ import annotations

from collections.abc import Mapping
import random

from optuna_llm._proposing.credit import BASE
from optuna_llm._proposing.credit import Candidate
from optuna_llm._proposing.credit import TUNE
from optuna_llm._proposing.settings import Settings
from optuna_llm._records import Problem
from optuna_llm._records import TrialRecord
from optuna_llm._records import Usage
from optuna_llm._study.ledger import TrialCost
from optuna_llm._study.snapshot import StudySnapshot
from optuna_llm._study.turns import Spending
from optuna_llm._study.usage import price
from optuna_llm._study.usage import Prices


class ProposerChooser:
    """Puts the candidates for a trial in order; the same in all workers of the same seed.

    Args:
        settings: The sampler's.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def choose(
        self,
        snapshot: StudySnapshot,
        number: int,
        *,
        has_base: bool = False,
        has_tuner: bool = False,
    ) -> list[str]:
        """Names of the candidates in the order in which they are asked.

        Args:
            snapshot: The study.
            number: The trial's number.
            has_base: Whether the base sampler has something to decide.
            has_tuner: Whether there are tunables to tune.

        Raises:
            ValueError: If the user's function names nobody, or somebody who is no candidate.
        """
        models = list(self._settings.models)
        if len(models) == 1 and not has_base and not has_tuner:
            return models
        costs = {}
        if len(models) > 1:
            costs = find_costs(snapshot.spent, models, self._settings.prices)
        candidates = [Candidate(name, cost=costs.get(name)) for name in models]
        if has_base:
            candidates.append(Candidate(BASE, is_model=False))
        if has_tuner:
            candidates.append(Candidate(TUNE, is_model=False))
        # Drawn by the trial's number, as its parent is: so workers need not talk.
        rng = random.Random(f"{self._settings.seed} {number} proposer")
        chosen = self._settings.proposers(snapshot.turns, candidates, rng)
        names = [candidate.name for candidate in candidates]
        order = list(dict.fromkeys([chosen] if isinstance(chosen, str) else chosen))
        unknown = [name for name in order if name not in names]
        if unknown or not order:
            raise ValueError(
                f"proposers= must return names of candidates ({', '.join(names)}), the first to "
                f"be asked first: {chosen!r}."
            )
        return order + [name for name in models if name not in order]


def find_leader(snapshot: StudySnapshot, problem: Problem, number: int) -> TrialRecord | None:
    """The trial whose texts the base sampler may vary the numbers of; None where there is none.

    The best one; of several objectives each of the leaders in turn.
    """
    names = {text.name for text in problem.texts}
    leaders = [record for record in snapshot.leaders if names <= record.texts.keys()]
    if not leaders:
        return None
    return leaders[-1] if len(snapshot.directions) == 1 else leaders[number % len(leaders)]


def can_vary(snapshot: StudySnapshot, problem: Problem, number: int) -> bool:
    """Whether the base sampler has something to decide: numbers, with a leader's texts if any."""
    if not problem.space:
        return False
    return not problem.texts or find_leader(snapshot, problem, number) is not None


def find_costs(
    spent: Mapping[str, Spending],
    names: list[str],
    prices: Prices | Mapping[str, Prices] | None,
) -> dict[str, float]:
    """What a proposal of each model has cost on average; those without any are left out.

    In money if all prices are known, else in tokens if all servers count them, else in calls.
    """
    known = {name: spent[name] for name in names if name in spent}
    try:
        return {name: _price(name, own, prices) / own.count for name, own in known.items()}
    except (ImportError, ValueError):
        pass
    usages = {name: sum(own.by_model.values(), Usage()) for name, own in known.items()}
    tokens = {n: usage.prompt_tokens + usage.completion_tokens for n, usage in usages.items()}
    amounts = tokens if all(tokens.values()) else {n: u.calls for n, u in usages.items()}
    return {name: amount / known[name].count for name, amount in amounts.items()}


def _price(name: str, spending: Spending, prices: Prices | Mapping[str, Prices] | None) -> float:
    """What all proposals of a model have cost, its prices given by either of its names."""
    total = 0.0
    for model, usage in spending.by_model.items():
        own = prices.get(name) if isinstance(prices, Mapping) else None
        total += price(TrialCost(None, "model", name, model, usage), own or prices)
    return total
