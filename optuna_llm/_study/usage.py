"""The cost of a study in tokens, seconds and money."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
import html
from typing import Any

from optuna import Study

from optuna_llm._outcomes import EVALUATION
from optuna_llm._quoting import one_line
from optuna_llm._records import Usage
from optuna_llm._study.ledger import read_costs
from optuna_llm._study.ledger import TrialCost


@dataclass(frozen=True)
class Prices:
    """A model's prices per million tokens, in any currency.

    Attributes:
        prompt: The price of tokens sent.
        completion: The price of tokens received.
        cached: The price of tokens sent that the server had cached; None for that of the others.
    """

    prompt: float
    completion: float
    cached: float | None = None

    def cost(self, usage: Usage) -> float:
        """The cost of a usage, in the currency of the prices."""
        cached = self.prompt if self.cached is None else self.cached
        fresh = usage.prompt_tokens - usage.cached_tokens
        total = fresh * self.prompt + usage.cached_tokens * cached
        return (total + usage.completion_tokens * self.completion) / 1e6


@dataclass(frozen=True)
class StudyUsage(Usage):
    """The cost of a study's calls to models, summed over all of its workers.

    Its ``str()`` is a table, and so is its form in a notebook.

    Attributes:
        cost: The cost in the currency of the prices; None if a price is unknown.
        by_source: The part of each source of trials. Trials that failed without a proposal have
            the source ``"none"``. The source ``"unclaimed"`` stands for calls whose proposals no
            trial has used: they were cancelled, or made ahead for trials that never began. The
            source ``"evaluation"`` stands for the models that objectives asked, as far as the
            trials were told of it: by a :class:`~optuna_llm.evaluate.Judge`, and by programs of
            DSPy.
        by_proposer: The part of each model, by its configured name; ``"unclaimed"`` and
            ``"evaluation"`` are the same.
        by_model: The part of each model, by the name that its server reports; ``""`` if it
            reports none.
    """

    cost: float | None = None
    by_source: Mapping[str, StudyUsage] = field(default_factory=dict)
    by_proposer: Mapping[str, StudyUsage] = field(default_factory=dict)
    by_model: Mapping[str, StudyUsage] = field(default_factory=dict)

    def __str__(self) -> str:
        rows = self._make_rows()
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join(
            "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])])
            for row in rows
        )

    def _repr_html_(self) -> str:
        header, *rows = (list(map(html.escape, row)) for row in self._make_rows())
        lines = [f"<tr><th>{'</th><th>'.join(header)}</th></tr>"]
        lines += [f"<tr><td>{'</td><td>'.join(row)}</td></tr>" for row in rows]
        return "<table>\n" + "\n".join(lines) + "\n</table>"

    def _make_rows(self) -> list[list[str]]:
        """A table: the total, and the parts by source and by model."""
        header = ["", "calls", "prompt tokens", "cached", "completion tokens", "seconds", "cost"]
        parts = [("total", self)]
        parts += [(f"source {one_line(name)}", part) for name, part in self.by_source.items()]
        if len(self.by_proposer.keys() - {EVALUATION, "none", "unclaimed"}) > 1:
            parts += [(f"proposer {one_line(n)}", part) for n, part in self.by_proposer.items()]
        parts += [
            (f"model {one_line(name) or '(unnamed)'}", part)
            for name, part in self.by_model.items()
        ]
        return [header, *([name, *part._make_cells()] for name, part in parts)]

    def _make_cells(self) -> list[str]:
        counts = (self.calls, self.prompt_tokens, self.cached_tokens, self.completion_tokens)
        cost = "unknown" if self.cost is None else f"{self.cost:.4g}"
        return [*(f"{count:,}" for count in counts), f"{self.seconds:.1f}", cost]


def usage(study: Study, prices: Prices | Mapping[str, Prices] | None = None) -> StudyUsage:
    """The cost of a study so far.

    .. code-block:: python

        spent = optuna_llm.usage(study)
        print(spent.calls, spent.prompt_tokens, spent.by_model)

    Args:
        study: The study.
        prices: The model's prices, or those of several models by name. By default, they are
            looked up in genai-prices, in US dollars, if it is installed.
    """
    costs: dict[tuple[str, str, str], list[TrialCost]] = {}
    for cost in read_costs(study):
        costs.setdefault((cost.source, cost.proposer, cost.model), []).append(cost)
    parts = [(key, _add_up(some), _sum_prices(some, prices)) for key, some in costs.items()]
    return replace(
        _join(parts),
        by_source=_group(parts, 0),
        by_proposer=_group(parts, 1),
        by_model=_group(parts, 2),
    )


def price(cost: TrialCost, prices: Prices | Mapping[str, Prices] | None) -> float:
    """The cost in money.

    Raises:
        ImportError: If no prices are given and genai-prices is not installed.
        ValueError: If the price of the model is unknown.
    """
    if isinstance(prices, Prices):
        return prices.cost(cost.usage)
    if not cost.model and not cost.usage.prompt_tokens + cost.usage.completion_tokens:
        return 0.0  # Calls that failed: no server has named its model or counted tokens.
    if prices is not None:
        if cost.model not in prices:
            raise ValueError(f"prices= has no entry for the model {cost.model!r}: add one.")
        return prices[cost.model].cost(cost.usage)
    genai_prices = import_genai_prices()
    counted = genai_prices.Usage(
        input_tokens=cost.usage.prompt_tokens,
        cache_read_tokens=cost.usage.cached_tokens,
        output_tokens=cost.usage.completion_tokens,
    )
    try:
        return float(genai_prices.calc_price(counted, model_ref=cost.model).total_price)
    except LookupError as error:
        raise ValueError(
            f"genai-prices does not know the price of the model {cost.model!r}: give prices=."
        ) from error


def import_genai_prices() -> Any:
    """The module ``genai_prices``.

    Raises:
        ImportError: If it is not installed.
    """
    try:
        import genai_prices
    except ImportError as error:
        raise ImportError(
            "Looking up prices needs genai-prices and Python 3.11 or later: "
            'pip install "optuna-llm[prices]", or give prices=.'
        ) from error
    return genai_prices


def _add_up(costs: Sequence[TrialCost]) -> Usage:
    usages = [cost.usage for cost in costs]
    return Usage(**{name: sum(getattr(u, name) for u in usages) for name in vars(Usage())})


def _sum_prices(
    costs: Sequence[TrialCost], prices: Prices | Mapping[str, Prices] | None
) -> float | None:
    try:
        return sum(price(cost, prices) for cost in costs)
    except (ImportError, ValueError):
        return None


def _join(parts: Sequence[tuple[object, Usage, float | None]]) -> StudyUsage:
    """The sum of parts; its cost is unknown if that of a part is."""
    total = sum((spent for _, spent, _ in parts), Usage())
    known = [cost for _, _, cost in parts if cost is not None]
    return StudyUsage(**vars(total), cost=sum(known) if len(known) == len(parts) else None)


def _group(
    parts: Sequence[tuple[tuple[str, str, str], Usage, float | None]], index: int
) -> dict[str, StudyUsage]:
    """The parts joined by one of the names that they are known by."""
    names = sorted({key[index] for key, _, _ in parts})
    return {name: _join([part for part in parts if part[0][index] == name]) for name in names}
