"""How the history grows and is cut."""

from __future__ import annotations

import optuna
from optuna.distributions import FloatDistribution
from optuna.study import StudyDirection
import pytest

from optuna_llm._prompt.builder import PromptBuilder
from optuna_llm._prompt.request import make_problem
from optuna_llm._prompt.request import make_request
from optuna_llm._study.history import History


SPACE = {f"x{i}": FloatDistribution(-5, 5) for i in range(5)}


@pytest.mark.parametrize("n_earlier", [0, 500])
def test_short_trials_are_cut_seldom_since_each_cut_costs_what_a_provider_has_cached(
    n_earlier: int,
) -> None:
    history = History([("value", StudyDirection.MINIMIZE)])
    builder = PromptBuilder()
    trials = []
    n_kept = 0
    before = ""
    for number in range(n_earlier + 100):
        attributes = {
            "llm:proposal": {"source": "model", "rationale": f"Try number {number} for less."},
            "feedback": "It ran.",
        }
        params = {name: (number * 37 % 100) / 10 - 5 for name in SPACE}
        trial = optuna.create_trial(
            params=params, distributions=SPACE, value=1.0 + number, user_attrs=attributes
        )
        trial.number = number
        trials.append(trial)
        if number < n_earlier:
            continue
        history.update(trials)
        snapshot = history.make_snapshot("", {})
        problem = make_problem(snapshot, space=SPACE)
        request = make_request(snapshot, problem, number + 1, seed=0, taken={})
        told = builder.build(snapshot, request).messages[1].content.partition("\n# ")[0]
        n_kept += told.startswith(before.rstrip("\n"))
        before = told
    assert n_kept > 75
