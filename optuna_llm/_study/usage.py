"""What a study's proposals have cost, in tokens, seconds and money."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field

from optuna import Study
from optuna.trial import FrozenTrial

from optuna_llm._records import Usage
from optuna_llm._study import attributes as stored
from optuna_llm._study import internals
from optuna_llm._study.declarations import read_unclaimed


@dataclass(frozen=True)
class Prices:
    """What a model costs, in money per million tokens.

    Attributes:
        prompt: Tokens sent.
        completion: Tokens received.
        cached: Tokens sent that the server had in its cache; None is the price of the others.
    """

    prompt: float
    completion: float
    cached: float | None = None

    def cost(self, usage: Usage) -> float:
        """What these tokens cost."""
        cached = self.prompt if self.cached is None else self.cached
        fresh = usage.prompt_tokens - usage.cached_tokens
        total = fresh * self.prompt + usage.cached_tokens * cached
        return (total + usage.completion_tokens * self.completion) / 1e6


@dataclass(frozen=True)
class StudyUsage(Usage):
    """What the proposals of a study have cost, by all of its workers.

    Attributes:
        cost: Money, in the currency of the prices; None where a price is not known.
        by_source: The same for each source of trials. A trial that failed for lack of a proposal
            has the source ``"none"``; ``"unclaimed"`` are calls whose proposals no trial has
            taken, made ahead of trials that never began, or cancelled.
        by_model: The same for each model, by the name that its server reports; ``""`` where it
            reports none.
    """

    cost: float | None = None
    by_source: Mapping[str, StudyUsage] = field(default_factory=dict)
    by_model: Mapping[str, StudyUsage] = field(default_factory=dict)


def usage(study: Study, prices: Prices | Mapping[str, Prices] | None = None) -> StudyUsage:
    """What a study has cost so far.

    .. code-block:: python

        spent = optuna_llm.usage(study)
        print(spent.calls, spent.prompt_tokens, spent.by_model)

    Args:
        study: The study.
        prices: The model's prices, or those of several models by name. By
            default they are looked up in genai-prices, in US dollars, if that is installed.
    """
    costs = read_costs(study)
    sources = {cost.source for cost in costs}
    models = {cost.model for cost in costs}
    return _add_up(
        costs,
        prices,
        by_source={s: _add_up([c for c in costs if c.source == s], prices) for s in sources},
        by_model={m: _add_up([c for c in costs if c.model == m], prices) for m in models},
    )


@dataclass(frozen=True)
class TrialCost:
    """What one trial's proposal has cost.

    Attributes:
        trial: Number of the trial; None for proposals that no trial has taken.
        source: Who decided its values; ``"none"`` where nobody has.
        model: The model's name as its server reports it; empty where it reports none.
        usage: Tokens, calls and seconds.
    """

    trial: int | None
    source: str
    model: str
    usage: Usage


def read_costs(study: Study) -> list[TrialCost]:
    """What the proposals of a study have cost, those included that no trial has taken."""
    unclaimed = [
        TrialCost(None, "unclaimed", model, spent)
        for model, spent in read_unclaimed(study.user_attrs)
        if spent.calls
    ]
    return read_trial_costs(study.get_trials(deepcopy=False)) + unclaimed


def read_trial_costs(trials: Sequence[FrozenTrial]) -> list[TrialCost]:
    """What each trial has cost whose proposal is in, even if it came in another trial's call.

    The retry of a stale trial holds the attributes of the first try, its cost included: that is
    counted once.
    """
    costs = []
    by_number = {trial.number: trial for trial in trials}
    for trial in trials:
        provenance = stored.read_provenance(trial)
        if provenance.usage is None:
            continue
        failed = internals.read_failed_trial(trial)
        first = None if failed is None else by_number.get(failed)
        if first is not None and provenance.usage == stored.read_provenance(first).usage:
            continue
        source = provenance.source or "none"
        costs.append(TrialCost(trial.number, source, provenance.model or "", provenance.usage))
    return costs


def price(cost: TrialCost, prices: Prices | Mapping[str, Prices] | None) -> float:
    """What it cost in money.

    Raises:
        ImportError: If no prices are given and genai-prices is not installed.
        ValueError: If the price of the model is not known.
    """
    if isinstance(prices, Prices):
        return prices.cost(cost.usage)
    if prices is not None:
        if cost.model not in prices:
            raise ValueError(f"prices has none for the model {cost.model!r}: add it.")
        return prices[cost.model].cost(cost.usage)
    import genai_prices

    counted = genai_prices.Usage(
        input_tokens=cost.usage.prompt_tokens,
        cache_read_tokens=cost.usage.cached_tokens,
        output_tokens=cost.usage.completion_tokens,
    )
    try:
        return float(genai_prices.calc_price(counted, model_ref=cost.model).total_price)
    except LookupError as error:
        raise ValueError(f"genai-prices does not know {cost.model!r}: give prices=.") from error


def _add_up(
    costs: Sequence[TrialCost],
    prices: Prices | Mapping[str, Prices] | None,
    by_source: Mapping[str, StudyUsage] | None = None,
    by_model: Mapping[str, StudyUsage] | None = None,
) -> StudyUsage:
    total = sum((cost.usage for cost in costs), Usage())
    money: float | None
    try:
        money = sum(price(cost, prices) for cost in costs)
    except (ImportError, ValueError):
        money = None
    return StudyUsage(
        **vars(total), cost=money, by_source=by_source or {}, by_model=by_model or {}
    )
