from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
from pathlib import Path
import threading
import time
from typing import Any

import optuna
from optuna.trial import TrialState
import pytest

from optuna_llm import Completion
from optuna_llm import LLMSampler
from optuna_llm import Message
from optuna_llm import ModelError
from optuna_llm import Usage
from optuna_llm.callbacks import FirstHeartbeatCallback
from optuna_llm.callbacks import MaxCostCallback
from optuna_llm.callbacks import MaxTokensCallback
from optuna_llm.callbacks import Prices
from optuna_llm.callbacks import TargetValueCallback
from optuna_llm.testing import ScriptedModel
from optuna_llm.testing import write_reply


USAGE = Usage(prompt_tokens=900, cached_tokens=400, completion_tokens=100)


def make_study(model_name: str = "m", **arguments: Any) -> optuna.Study:
    """A study in which each proposal costs a thousand tokens."""

    def answer(messages: Sequence[Message]) -> Completion:
        return Completion(write_reply({"x": len(model.calls) / 1_000}), model_name, USAGE)

    model = ScriptedModel(answer)
    return optuna.create_study(sampler=LLMSampler(model=model, seed=0), **arguments)


def objective(trial: optuna.Trial) -> float:
    return trial.suggest_float("x", 0, 1)


@pytest.mark.parametrize(
    ("direction", "value", "n_trials"), [("minimize", 0.005, 2), ("maximize", 0.003, 1)]
)
def test_a_target_value_stops_the_study(direction: Any, value: float, n_trials: int) -> None:
    study = make_study(direction=direction)
    study.optimize(objective, n_trials=10, callbacks=[TargetValueCallback(value)])
    assert len(study.trials) == n_trials


def sleep_for(seconds: float) -> Callable[[optuna.Trial], float]:
    def sleep(trial: optuna.Trial) -> float:
        time.sleep(seconds)
        return 0.0

    return sleep


def open_with_heartbeats(path: Path, grace_period: int) -> optuna.storages.RDBStorage:
    url = f"sqlite:///{path}/s.db"
    return optuna.storages.RDBStorage(url, heartbeat_interval=1, grace_period=grace_period)


@pytest.mark.slow
def test_a_trial_that_died_before_its_first_heartbeat_is_failed(tmp_path: Path) -> None:
    study = optuna.create_study(storage=open_with_heartbeats(tmp_path, 2))
    # All that a worker has done that is killed in study.ask().
    orphan = study._storage.create_new_trial(study._study_id)
    callback = FirstHeartbeatCallback()
    deadline = time.monotonic() + 60
    while study._storage.get_trial(orphan).state == TrialState.RUNNING:
        assert time.monotonic() < deadline
        study.optimize(sleep_for(0.2), n_trials=1, callbacks=[callback])
    assert study._storage.get_trial(orphan).state == TrialState.FAIL
    others = study.get_trials()[1:]
    assert {trial.state for trial in others} == {TrialState.COMPLETE}


@pytest.mark.slow
def test_a_trial_that_is_alive_is_left_alone(tmp_path: Path) -> None:
    # A grace that no busy machine uses up.
    study = optuna.create_study(storage=open_with_heartbeats(tmp_path, 60))
    long = threading.Thread(target=study.optimize, args=(sleep_for(7), 1))
    long.start()
    callback = FirstHeartbeatCallback()
    while long.is_alive():
        study.optimize(sleep_for(0.2), n_trials=1, callbacks=[callback])
    assert {trial.state for trial in study.trials} == {TrialState.COMPLETE}


def test_a_storage_without_heartbeats_is_refused() -> None:
    study = make_study()
    with pytest.raises(ValueError, match="heartbeat_interval=60"):
        study.optimize(objective, n_trials=1, callbacks=[FirstHeartbeatCallback()])


def test_an_infeasible_trial_does_not_reach_the_target() -> None:
    def constrained(trial: optuna.Trial) -> float:
        trial.storage.set_trial_system_attr(trial._trial_id, "constraints", [1.0])
        return objective(trial)

    study = make_study()
    study.optimize(constrained, n_trials=4, callbacks=[TargetValueCallback(1)])
    assert len(study.trials) == 4


def test_a_target_value_needs_a_single_objective() -> None:
    study = optuna.create_study(directions=["minimize"] * 2)
    with pytest.raises(ValueError, match="single objective"):
        study.optimize(lambda t: (0, 0), n_trials=1, callbacks=[TargetValueCallback(1)])


def test_a_budget_of_tokens_stops_the_study() -> None:
    study = make_study()
    study.optimize(objective, n_trials=20, callbacks=[MaxTokensCallback(4_500)])
    assert len(study.trials) == 1 + 5


def test_tokens_of_other_workers_and_of_calls_in_flight_count() -> None:
    study = make_study()
    study.optimize(objective, n_trials=3)  # By another worker: 2,000 tokens.
    others = [study.ask() for _ in range(2)]  # Their proposals are not in yet.
    study.optimize(objective, n_trials=20, callbacks=[MaxTokensCallback(5_000)])
    # 2,000 + 2,000 in flight + 1,000 of its own.
    assert len([t for t in study.trials if t.state == TrialState.COMPLETE]) == 4
    assert len(others) == 2


def test_prices_are_per_million_tokens() -> None:
    assert Prices(10, 20, 1).cost(USAGE) == pytest.approx(500 * 10e-6 + 400 * 1e-6 + 100 * 20e-6)
    assert Prices(10, 20).cost(USAGE) == pytest.approx(900 * 10e-6 + 100 * 20e-6)


@pytest.mark.parametrize("prices", [Prices(10, 20), {"m": Prices(10, 20)}])
def test_a_budget_of_money_stops_the_study(prices: Any) -> None:
    study = make_study()
    study.optimize(objective, n_trials=20, callbacks=[MaxCostCallback(0.04, prices)])
    # 0.011 a proposal.
    assert len(study.trials) == 1 + 4


def test_failed_calls_need_no_price() -> None:
    study = optuna.create_study(sampler=LLMSampler(model=ScriptedModel([ModelError("down")] * 3)))
    study.optimize(objective, 3, callbacks=[MaxCostCallback(1, {"m": Prices(1, 1)})])
    assert len(study.trials) == 3


def test_a_model_without_a_price_is_an_error() -> None:
    callback = MaxCostCallback(1, {"other": Prices(1, 1)})
    with pytest.raises(ValueError, match="prices= has no entry for the model 'm'"):
        make_study().optimize(objective, n_trials=2, callbacks=[callback])


try:
    import genai_prices  # noqa: F401 - not to be had for the oldest Python
except ImportError:

    def test_without_genai_prices_prices_must_be_given() -> None:
        with pytest.raises(ImportError, match=r"pip install \"optuna-llm\[prices\]\""):
            MaxCostCallback(1)

else:

    def test_prices_that_are_known_are_looked_up() -> None:
        study = make_study("gpt-4o")
        # 500 x 2.5 + 400 x 1.25 + 100 x 10 dollars per million: 0.00275 a proposal.
        study.optimize(objective, n_trials=20, callbacks=[MaxCostCallback(0.006)])
        assert len(study.trials) == 1 + 3
        with pytest.raises(ValueError, match="price of the model 'nobody-knows-me': give prices="):
            make_study("nobody-knows-me").optimize(
                objective, n_trials=2, callbacks=[MaxCostCallback(1)]
            )


@pytest.mark.parametrize("make", [MaxTokensCallback, lambda n: MaxCostCallback(n, Prices(1, 1))])
def test_a_budget_must_be_above_0(make: Any) -> None:
    with pytest.raises(ValueError, match="must be above 0: 0"):
        make(0)


def test_a_budget_warns_once_if_the_server_counts_no_tokens(
    logs: pytest.LogCaptureFixture,
) -> None:
    model = ScriptedModel(lambda _: write_reply({"x": len(model.calls) / 10}))
    study = optuna.create_study(sampler=LLMSampler(model=model))
    callbacks = [MaxTokensCallback(10), MaxCostCallback(1, Prices(1, 1))]
    study.optimize(objective, 4, callbacks=callbacks[:1])
    assert logs.text.count("does not report how many tokens it uses") == 1
    assert "Limit it with n_trials= or timeout=" in logs.text
    study.optimize(objective, 4, callbacks=callbacks[1:])
    assert logs.text.count("does not report how many tokens it uses") == 2


def test_a_failed_call_is_not_taken_for_a_server_without_token_counts(
    logs: pytest.LogCaptureFixture,
) -> None:
    study = optuna.create_study(sampler=LLMSampler(model=ScriptedModel([ModelError("down")])))
    study.optimize(objective, 2, callbacks=[MaxTokensCallback(10)])
    assert "does not report" not in logs.text
