from __future__ import annotations

import optuna
from optuna.trial import TrialState
import pytest

import optuna_llm
from optuna_llm import Completion
from optuna_llm import LLMSampler
from optuna_llm import ModelError
from optuna_llm import Prices
from optuna_llm import Usage
from optuna_llm.testing import ScriptedModel
from optuna_llm.testing import write_reply


def objective(trial: optuna.Trial) -> float:
    return trial.suggest_float("x", 0, 1)


def make_study() -> optuna.Study:
    usage = Usage(prompt_tokens=1_000, cached_tokens=600, completion_tokens=100)
    replies = [Completion(write_reply({"x": i / 8}), f"m{i % 2}", usage) for i in range(3)]
    model = ScriptedModel([*replies, ModelError("down")])
    study = optuna.create_study(sampler=LLMSampler(model=model))
    study.optimize(objective, n_trials=5)
    return study


def test_what_a_study_has_cost_is_added_up_by_source_and_model() -> None:
    prices = Prices(prompt=2, cached=0.5, completion=10)
    spent = optuna_llm.usage(make_study(), prices)
    assert (spent.prompt_tokens, spent.cached_tokens, spent.completion_tokens) == (3000, 1800, 300)
    assert spent.calls == 4
    assert spent.cost == pytest.approx((1200 * 2 + 1800 * 0.5 + 300 * 10) / 1e6)
    assert spent.by_source.keys() == {"model", "fallback"}
    assert spent.by_source["fallback"].calls == 1
    assert {name: part.calls for name, part in spent.by_model.items()} == {"m0": 2, "m1": 1, "": 1}
    assert spent.by_model["m1"].prompt_tokens == 1000


def test_an_unknown_price_is_no_cost_at_all() -> None:
    spent = optuna_llm.usage(make_study(), {"m0": Prices(1, 1)})
    assert spent.cost is None
    assert spent.by_model["m0"].cost == pytest.approx(2200 / 1e6)
    assert optuna_llm.usage(optuna.create_study(), Prices(1, 1)) == optuna_llm.StudyUsage(cost=0)


def test_a_trial_that_is_done_again_is_paid_for_once() -> None:
    study = make_study()
    before = optuna_llm.usage(study, Prices(1, 1))
    first = study.trials[1]
    # As RetryHeartbeatStaleTrialCallback makes it.
    study.add_trial(
        optuna.create_trial(
            state=TrialState.WAITING,
            params=first.params,
            distributions=first.distributions,
            user_attrs=first.user_attrs,
            system_attrs={"failed_trial": 1, "retry_history": [1]},
        )
    )
    study.optimize(objective, n_trials=1)
    assert study.trials[-1].params == first.params
    assert optuna_llm.usage(study, Prices(1, 1)) == before
