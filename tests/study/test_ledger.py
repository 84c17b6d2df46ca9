"""Costs that are read once for each finished trial are those of a reader who reads all."""

from __future__ import annotations

import random
from typing import Any

import optuna
from optuna.trial import TrialState

from optuna_llm import usage
from optuna_llm._study.ledger import read_costs
from optuna_llm._study.ledger import read_trial_costs


def spend(tokens: int) -> dict[str, Any]:
    return {"source": "model", "model": "m", "calls": 1, "seconds": 0.5, "prompt_tokens": tokens}


def test_whatever_happens_between_two_reads_the_costs_are_the_same_as_read_anew() -> None:
    rng = random.Random(0)
    study = optuna.create_study()
    running: list[optuna.Trial] = []
    for _ in range(300):
        what = rng.randrange(5)
        if what == 0:
            running.append(study.ask())
        elif what == 1:
            study.enqueue_trial({}, user_attrs={"llm:proposal": spend(rng.randrange(100))})
        elif running:
            trial = rng.choice(running)
            if what == 2:
                # A judge's calls are added to what the proposal has cost.
                trial.set_user_attr("llm:proposal", spend(rng.randrange(100)))
            else:
                running.remove(trial)
                study.tell(
                    trial, rng.random() if what == 3 else None, TrialState(1 if what == 3 else 3)
                )
        if rng.random() < 0.5:
            found = read_costs(study)
            expected = read_trial_costs(study.get_trials())
            assert sorted(c.trial or 0 for c in found) == sorted(c.trial or 0 for c in expected)
            assert {c.trial: c for c in found} == {c.trial: c for c in expected}
            assert usage(study).prompt_tokens == sum(c.usage.prompt_tokens for c in expected)


def test_a_retry_that_bears_a_copy_of_the_cost_is_counted_once_whenever_it_is_read() -> None:
    study = optuna.create_study()
    attributes = {"llm:proposal": spend(10)}
    study.add_trial(optuna.create_trial(state=TrialState.FAIL, user_attrs=attributes))
    assert usage(study).prompt_tokens == 10
    retry = optuna.create_trial(
        state=TrialState.WAITING, user_attrs=attributes, system_attrs={"failed_trial": 0}
    )
    study.add_trial(retry)
    assert usage(study).prompt_tokens == 10
    trial = study.ask()
    trial.set_user_attr("llm:proposal", spend(30))
    assert usage(study).prompt_tokens == 40
    study.tell(trial, 1.0)
    assert usage(study).prompt_tokens == 40


def test_a_study_that_takes_the_place_of_a_deleted_one_has_its_own_costs() -> None:
    storage = optuna.storages.RDBStorage("sqlite://")
    for tokens in (10, 7):
        study = optuna.create_study(storage=storage, study_name="s")
        study.add_trial(optuna.create_trial(value=1, user_attrs={"llm:proposal": spend(tokens)}))
        assert usage(study).prompt_tokens == tokens
        optuna.delete_study(storage=storage, study_name="s")
