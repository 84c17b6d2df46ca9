"""The heat map of cases, alone and in the dashboard."""

from __future__ import annotations

from typing import Any

import optuna
from optuna_dashboard import get_note
import pytest

from optuna_llm import report_case
from optuna_llm._study.internals import read_study_system_attrs
from optuna_llm._study.progress import read_progress
from optuna_llm.dashboard import annotate
from optuna_llm.visualization import plot_cases
from optuna_llm.visualization._cases import draw_cases


def make_study(n_trials: int = 5, n_cases: int = 4, direction: str = "maximize") -> optuna.Study:
    study = optuna.create_study(direction=direction)
    for number in range(n_trials):
        trial = study.ask()
        for case in range(n_cases):
            score = number / 10 if case % 2 else 0.25
            report_case(trial, case, score, "said <b>" if case == 1 else "", name=f"q<{case}>")
        study.tell(trial, number / 10)
    return study


def test_the_best_trials_are_rows_the_best_on_top() -> None:
    (shown,) = plot_cases(make_study(), n_trials=3).data
    assert list(shown.y) == ["trial 2", "trial 3", "trial 4"]
    assert list(shown.x) == ["0", "1", "2", "3"]
    assert list(shown.z[2]) == [0.25, 0.4, 0.25, 0.4]
    assert shown.customdata[0][1] == "1 (q&lt;1&gt;)"
    assert shown.text[0][1] == "said &lt;b&gt;"
    assert not shown.reversescale


def test_less_is_green_where_the_study_minimizes() -> None:
    (shown,) = plot_cases(make_study(direction="minimize")).data
    assert list(shown.y)[-1] == "trial 0"
    assert shown.reversescale


def test_a_trial_may_lack_cases() -> None:
    study = make_study(2)
    trial = study.ask()
    report_case(trial, 1, 0.5)
    study.tell(trial, 0.5)
    (shown,) = plot_cases(study).data
    assert list(shown.z[2]) == [None, 0.5, None, None]


def test_of_many_cases_those_are_shown_that_tell_the_trials_apart() -> None:
    figure = draw_cases(read_progress(make_study(n_cases=10)), {}, 5, 3)
    assert list(figure.data[0].x) == ["1", "3", "5"]
    assert "3 of 10" in figure.layout.title.text


def test_a_study_without_cases_cannot_be_plotted() -> None:
    study = optuna.create_study()
    study.add_trial(optuna.create_trial(value=1.0, intermediate_values={0: 1.0}))
    with pytest.raises(ValueError, match="has cases"):
        plot_cases(study)
    with pytest.raises(ValueError, match="n_trials must be 1 or more: 0"):
        plot_cases(make_study(), n_trials=0)


def find_rows(study: optuna.Study, name: str) -> list[Any]:
    found = read_study_system_attrs(study).items()
    return [value for key, value in found if key.startswith(f"dashboard:plot_data:{name}")]


def test_the_dashboard_has_the_heat_map_where_there_are_cases() -> None:
    study = optuna.create_study(direction="maximize")
    for number in range(50):
        scores = {case: float((case + number) % 7 > 0) for case in range(600)}
        marked = {"llm:cases": {"count": 600}}
        study.add_trial(
            optuna.create_trial(value=number, intermediate_values=scores, user_attrs=marked)
        )
    annotate(study)
    assert 0 < len(find_rows(study, "llm-cases")) < 30
    assert get_note(study)
    plain = optuna.create_study()
    plain.optimize(lambda _: 1.0, 3)
    annotate(plain)
    assert find_rows(plain, "llm-usage")
    assert not find_rows(plain, "llm-cases")


def test_notes_on_trials_tell_of_their_worst_cases() -> None:
    study = make_study(2)
    trial = study.ask()
    report_case(trial, 0, 0.5)
    report_case(trial, 7, 1.0)
    study.tell(trial, state=optuna.trial.TrialState.PRUNED)
    annotate(study)
    attributes = read_study_system_attrs(study)
    notes = {n: attributes[f"dashboard:{study.trials[n]._trial_id}:note_str:0"] for n in range(3)}
    assert "The worst of 4 cases" in notes[0]
    assert "said &lt;b&gt;" in notes[0] or "said \\<b\\>" in notes[0]
    assert "Pruned after 2 cases with a mean of 0.75" in notes[2]
