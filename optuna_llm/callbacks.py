"""Callbacks for ``study.optimize``: stop a study, show its trials, fail trials that have died."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
import math
import time

from optuna import Study
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial
from optuna.trial import TrialState

from optuna_llm._console import ConsoleCallback
from optuna_llm._logging import get_logger
from optuna_llm._quoting import one_line
from optuna_llm._study.attributes import read_source
from optuna_llm._study.internals import find_trial_id
from optuna_llm._study.internals import read_constraints
from optuna_llm._study.internals import read_heartbeat_interval
from optuna_llm._study.internals import record_heartbeat
from optuna_llm._study.ledger import read_costs
from optuna_llm._study.ledger import TrialCost
from optuna_llm._study.usage import import_genai_prices
from optuna_llm._study.usage import price
from optuna_llm._study.usage import Prices


_logger = get_logger(__name__)

__all__ = [
    "ConsoleCallback",
    "FirstHeartbeatCallback",
    "MaxCostCallback",
    "MaxTokensCallback",
    "Prices",
    "TargetValueCallback",
]

_PATIENCE = 3
"""Heartbeat intervals without a heartbeat after which a running trial may have died."""


class TargetValueCallback:
    """Stop a study once a trial reaches a target value.

    .. code-block:: python

        study.optimize(objective, callbacks=[TargetValueCallback(0.99)])

    Args:
        value: The target: a trial reaches it if its value is as good or better.
    """

    def __init__(self, value: float) -> None:
        self._value = value

    def __call__(self, study: Study, trial: FrozenTrial) -> None:
        """Stop the study if this trial is feasible and has reached the target."""
        if len(study.directions) > 1:
            raise ValueError("TargetValueCallback supports a single objective only.")
        if trial.state != TrialState.COMPLETE or _is_infeasible(trial):
            return
        assert trial.value is not None
        is_up = study.direction == StudyDirection.MAXIMIZE
        if trial.value >= self._value if is_up else trial.value <= self._value:
            study.stop()


class MaxTokensCallback:
    """Stop a study once its workers have used a number of tokens in total.

    Running trials whose proposals have not arrived yet are counted at the average cost.

    .. code-block:: python

        study.optimize(objective, callbacks=[MaxTokensCallback(1_000_000)])

    Args:
        n_tokens: Tokens sent and received, as the model's server counts them. If it does not
            count tokens, a warning says so once, and the study is not stopped.
    """

    def __init__(self, n_tokens: int) -> None:
        if not n_tokens > 0:
            raise ValueError(f"n_tokens must be above 0: {n_tokens!r}.")
        self._n_tokens = n_tokens
        self._warned = False

    def __call__(self, study: Study, trial: FrozenTrial) -> None:
        """Stop the study if the tokens are used up."""
        costs = read_costs(study)
        self._warned = self._warned or _warn_of_uncounted_tokens(costs)
        spent = [cost.usage.prompt_tokens + cost.usage.completion_tokens for cost in costs]
        if sum(spent) + _in_flight(study, costs, spent) >= self._n_tokens:
            study.stop()


class MaxCostCallback:
    """Stop a study once its workers have spent an amount of money in total.

    Running trials whose proposals have not arrived yet are counted at the average cost.

    .. code-block:: python

        prices = Prices(prompt=1.25, cached=0.125, completion=10)
        study.optimize(objective, callbacks=[MaxCostCallback(5.0, prices)])

    Args:
        cost: The amount, in the currency of the prices.
        prices: The model's prices, or those of several models by name. By default, they are
            looked up by the model's name in genai-prices
            (``pip install "optuna-llm[prices]"``), in US dollars.

    Raises:
        ImportError: If no prices are given and genai-prices is not installed.
    """

    def __init__(self, cost: float, prices: Prices | Mapping[str, Prices] | None = None) -> None:
        if not cost > 0:
            raise ValueError(f"cost must be above 0: {cost!r}.")
        if prices is None:
            import_genai_prices()
        self._cost = cost
        self._warned = False
        self._prices = prices

    def __call__(self, study: Study, trial: FrozenTrial) -> None:
        """Stop the study if the money is spent.

        Raises:
            ValueError: If the price of a model is unknown.
        """
        costs = read_costs(study)
        self._warned = self._warned or _warn_of_uncounted_tokens(costs)
        spent = [price(cost, self._prices) for cost in costs]
        if sum(spent) + _in_flight(study, costs, spent) >= self._cost:
            study.stop()


def _in_flight(study: Study, costs: Sequence[TrialCost], spent: Sequence[float]) -> float:
    """The expected cost of the running trials whose proposals have not arrived yet.

    Args:
        study: The study.
        costs: What has been spent, of a trial by whom it asked.
        spent: The same as one number each.
    """
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    waiting = [t for t in running if read_source(t) is None]
    n_known = len({cost.trial for cost in costs})
    return len(waiting) * sum(spent) / n_known if spent else 0.0


def _warn_of_uncounted_tokens(costs: Sequence[TrialCost]) -> bool:
    """Warn if a model has proposed trials without any tokens; whether it has."""
    for cost in costs:
        is_uncounted = not cost.usage.prompt_tokens + cost.usage.completion_tokens
        if cost.source == "model" and cost.usage.calls and is_uncounted:
            _logger.warning(
                "The server of the model %r does not report how many tokens it uses, so a budget "
                "of tokens or money cannot stop the study. Limit it with n_trials= or timeout= of "
                "study.optimize instead.",
                one_line(cost.model),
            )
            return True
    return False


def _is_infeasible(trial: FrozenTrial) -> bool:
    return any(value > 0 for value in read_constraints(trial).values())


class FirstHeartbeatCallback:
    """Fail trials whose worker died before their first heartbeat.

    Optuna fails a running trial whose heartbeats have stopped, and
    ``RetryHeartbeatStaleTrialCallback`` retries it. A worker that is killed within milliseconds
    of the start of a trial leaves one without any heartbeat, which would run forever. This
    callback records a heartbeat, once per process, for each trial that has been running for three
    heartbeat intervals; trials that are alive are not affected.

    .. code-block:: python

        storage = RDBStorage(url, heartbeat_interval=60)
        study = optuna.load_study(study_name="s", storage=storage, sampler=LLMSampler())
        study.optimize(objective, callbacks=[FirstHeartbeatCallback()])

    Do not use it on studies that are also run with ``study.ask()``: such trials have no
    heartbeats while they are alive, and would be failed.
    """

    def __init__(self) -> None:
        self._next_check = -math.inf
        self._seen_since: dict[int, float] = {}

    def __call__(self, study: Study, trial: FrozenTrial) -> None:
        """Check the running trials, at most once per heartbeat interval.

        Raises:
            ValueError: If the study's storage has no heartbeats.
        """
        interval = read_heartbeat_interval(study)
        if interval is None:
            raise ValueError(
                "FirstHeartbeatCallback needs a storage with heartbeats: "
                "RDBStorage(url, heartbeat_interval=60)."
            )
        now = time.monotonic()
        if now < self._next_check:
            return
        self._next_check = now + interval
        running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        seen = map(find_trial_id, running)
        since = {trial_id: self._seen_since.get(trial_id, now) for trial_id in seen}
        due = [i for i, began in since.items() if now - began >= _PATIENCE * interval]
        # Only once per trial, or one whose heartbeats have stopped would never be failed.
        self._seen_since = since | dict.fromkeys(due, math.inf)
        for trial_id in due:
            record_heartbeat(study, trial_id)
