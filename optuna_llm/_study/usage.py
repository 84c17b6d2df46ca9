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
        by_source: The same for each source of trials (``llm:source``); a trial that failed for
            lack of a proposal has the source ``"none"``.
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
        prices: The model's prices, or those of several models by name (as ``llm:model``). By
            default they are looked up in genai-prices, in US dollars, if that is installed.
    """
    costs = read_costs(study.get_trials(deepcopy=False))
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
        trial: Number of the trial.
        source: Who decided its values; ``"none"`` where nobody has said.
        model: The model's name as its server reports it; empty where it reports none.
        usage: Tokens, calls and seconds.
    """

    trial: int
    source: str
    model: str
    usage: Usage


def read_costs(trials: Sequence[FrozenTrial]) -> list[TrialCost]:
    """What each trial has cost whose proposal is in, if only a share in another's call.

    A trial that is done again, since its worker had died, has its attributes, its cost included,
    from the first time: that is counted once.
    """
    costs = []
    by_number = {trial.number: trial for trial in trials}
    for trial in trials:
        attributes = trial.user_attrs
        if not stored.has_cost(attributes):
            continue
        spent = stored.read_usage(attributes)
        first = by_number.get(trial.system_attrs.get("failed_trial", -1))
        if first is not None and spent == stored.read_usage(first.user_attrs):
            continue
        source = stored.read_source(attributes) or "none"
        model = stored.read_model(attributes) or ""
        costs.append(TrialCost(trial.number, source, model, spent))
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
