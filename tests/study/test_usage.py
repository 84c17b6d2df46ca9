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


def test_a_usage_is_a_table_in_a_terminal_and_in_a_notebook() -> None:
    study = make_study()
    spent = {"calls": 2, "prompt_tokens": 2_000}
    study.set_user_attr("llm:unclaimed:a", {"<b>": spent})
    found = optuna_llm.usage(study, Prices(prompt=2, completion=10))
    lines = str(found).splitlines()
    assert lines[0].split()[-2:] == ["seconds", "cost"]
    assert lines[1].split() == ["total", "6", "5,000", "1,800", "300", "0.0", "0.013"]
    assert "source unclaimed" in str(found)
    assert len({len(line) for line in lines}) == 1
    shown = found._repr_html_()
    assert "<tr><td>total</td><td>6</td><td>5,000</td>" in shown
    assert "<td>model &lt;b&gt;</td><td>2</td>" in shown


def test_a_preview_is_shown_as_it_is_sent_in_a_notebook() -> None:
    study = make_study()
    study.add_trial(optuna.trial.create_trial(value=1, user_attrs={"feedback": "<b>good</b>"}))
    study.add_trial(study.trials[0])
    sampler = LLMSampler("Go <i>up</i>.", model=ScriptedModel([]))
    preview = sampler.preview(study)
    assert "Go &lt;i&gt;up&lt;/i&gt;." in preview._repr_html_()
    assert "Go <i>up</i>." in str(preview)
