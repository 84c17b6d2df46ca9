"""validate: which trials are scored on held-out cases, and what is said of them."""

from __future__ import annotations

from typing import Any

import optuna
from optuna.trial import FrozenTrial
from optuna_dashboard import get_note
import pytest

from optuna_llm import suggest_text
from optuna_llm._study.validation import compare
from optuna_llm._study.validation import read_validation
from optuna_llm.dashboard import annotate
from optuna_llm.evaluate import evaluate_cases
from optuna_llm.evaluate import validate


def make_study(direction: str = "maximize", n_trials: int = 6) -> optuna.Study:
    """Trial n scores n / 10 in the training cases."""
    study = optuna.create_study(direction=direction)

    def objective(trial: optuna.Trial) -> float:
        suggest_text(trial, "prompt", f"prompt {trial.number}")
        trial.suggest_float("x", trial.number, trial.number + 1e-9)
        return evaluate_cases(trial, range(4), lambda _: trial.number / 10)

    study.optimize(objective, n_trials)
    return study


def score(trial: FrozenTrial, case: int) -> tuple[float, str]:
    """Held out, trial 3 is the best; the values are read as the objective reads them."""
    text = suggest_text(trial, "prompt", "")
    number = round(trial.suggest_float("x", trial.number, trial.number + 1e-9))
    assert text == f"prompt {number}"
    return (1.0 if number == 3 else 0.5) + case / 1000, "said"


@pytest.mark.parametrize("max_workers", [1, 4])
def test_the_best_trials_are_scored_and_the_best_held_out_is_named(max_workers: int) -> None:
    study = make_study()
    found = validate(study, range(10), score, top=4, max_workers=max_workers)
    assert [trial.number for trial in found.trials] == [5, 4, 3, 2]
    assert found.best.number == 3
    assert found.best.held_out == pytest.approx(1.0045)
    assert found.best.training == pytest.approx(0.3)
    assert found.best.standard_error == pytest.approx(0.000957, rel=0.01)
    assert "Trial 5 is the best by training, but not held out: trial 3 is better" in str(found)
    assert "Trust trial 3." in str(found)
    assert "<td>0.3</td>" in found._repr_html_()
    assert read_validation(study.user_attrs) == found


def test_less_is_better_where_the_study_minimizes() -> None:
    found = validate(make_study("minimize"), range(3), score, top=4)
    assert [trial.number for trial in found.trials] == [0, 1, 2, 3]
    assert found.best.number == 0
    assert found.verdict == "Trial 0, the best by training, is the best held out too."


def test_a_small_gain_is_called_chance() -> None:
    found = compare([(7, 0.9), (2, 0.8)], [[0, 1, 1, 0], [1, 1, 0, 1]], 1)
    assert "trial 2 is better there by 0.25 ± 0.48" in found.verdict
    assert "may be chance" in found.verdict


def test_a_validation_of_one_trial_or_one_case_has_a_verdict() -> None:
    study = make_study()
    assert validate(study, [1], score, top=1).verdict == "Trial 5 reaches 0.501 in held-out cases."
    alone = validate(study, {"only": 1}, score)
    assert alone.trials[0].standard_error is None
    assert "may be chance" in alone.verdict


def test_a_later_validation_replaces_an_earlier_one() -> None:
    study = make_study()
    validate(study, range(10), score)
    later = validate(study, range(3), score, top=2)
    assert read_validation(study.user_attrs) == later


def test_of_several_objectives_the_pareto_front_is_scored() -> None:
    study = optuna.create_study(directions=["minimize", "maximize"])

    def objective(trial: optuna.Trial) -> tuple[float, float]:
        trial.suggest_float("x", trial.number, trial.number + 1e-9)
        n = trial.number
        accuracy = evaluate_cases(trial, range(4), lambda case: n + case)
        return (n, accuracy) if n < 5 else (9.0, 0.0)

    study.optimize(objective, 7)
    found = validate(study, range(5), lambda trial, _: -trial.number, top=3)
    assert [trial.number for trial in found.trials] == [4, 2, 0]
    assert [trial.training for trial in found.trials] == [5.5, 3.5, 1.5]
    assert found.best.number == 0


def test_failures_are_raised_or_scored() -> None:
    study = make_study()

    def fail(trial: FrozenTrial, case: int) -> float:
        return 1 / case

    with pytest.raises(ZeroDivisionError):
        validate(study, range(2), fail)
    assert validate(study, range(2), fail, failed_score=0, top=1).trials[0].held_out == 0.5


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"top": 0}, "top must be"),
        ({"cases": []}, "There are no cases"),
        ({"max_workers": 0}, "max_workers must be"),
    ],
)
def test_bad_input_is_refused(options: dict[str, Any], match: str) -> None:
    arguments: dict[str, Any] = {"cases": [1], "evaluate": score, **options}
    with pytest.raises(ValueError, match=match):
        validate(make_study(n_trials=1), **arguments)


def test_a_study_without_a_complete_trial_cannot_be_validated() -> None:
    with pytest.raises(ValueError, match="No trial of the study is complete"):
        validate(optuna.create_study(), [1], score)


@pytest.mark.parametrize(
    "held",
    [
        5,
        {},
        {"cases": 3, "trials": 5},
        {"cases": -1, "trials": []},
        {"cases": 3, "trials": [5, {"number": 1}]},
        {"cases": 3, "trials": [{"number": 1, "training": 1, "held_out": "x", "gain": 0}]},
        {"cases": 3, "trials": [{"number": 1, "training": 1, "held_out": 10**400, "gain": 0}]},
    ],
    ids=repr,
)
def test_what_cannot_be_read_is_skipped(held: object) -> None:
    assert read_validation({"llm:validation": held}) is None


def test_the_dashboard_note_tells_which_trial_to_trust() -> None:
    study = make_study()
    annotate(study)
    assert "Held-out" not in get_note(study)
    validate(study, range(10), score, top=4)
    annotate(study)
    assert "## Held-out cases" in get_note(study)
    assert "Trust trial 3" in get_note(study)
