from __future__ import annotations

from typing import Any

import optuna
from optuna.trial import create_trial
import pytest

from optuna_llm import Prices
from optuna_llm._study.progress import read_progress
from optuna_llm.visualization import plot_lineage
from optuna_llm.visualization import plot_source_history
from optuna_llm.visualization import plot_usage
from optuna_llm.visualization._points import find_lineage
from optuna_llm.visualization._points import read_points


VALUES = [5.0, 4.0, 6.0, 3.0, float("inf"), 3.5]


def make_study(values: list[Any] = VALUES, directions: int = 1, **tokens: int) -> optuna.Study:
    """Each trial comes from the one two before it; every third is of the base sampler."""
    study = optuna.create_study(directions=["minimize"] * directions)
    for number, value in enumerate(values):
        own = {
            "llm:proposal": {
                "source": "initial" if number == 0 else "base" if number % 3 == 0 else "model",
                "rationale": f'<b>because</b> "{number}"',
                "calls": 1,
                **({"parent": number - 2} if number > 1 else {}),
                **tokens,
            },
        }
        study.add_trial(create_trial(values=[value] * directions, user_attrs=own))
    return study


def traces(figure: Any) -> dict[str, Any]:
    return {trace.name: trace for trace in figure.data}


def test_values_are_colored_by_source_and_the_best_so_far_is_a_line() -> None:
    shown = traces(plot_source_history(make_study()))
    assert shown.keys() == {"initial", "model", "base", "best so far"}
    assert list(shown["model"].x) == [1, 2, 5]
    assert list(shown["base"].y) == [3.0]
    best = shown["best so far"]
    assert list(zip(best.x, best.y, strict=True)) == [(0, 5.0), (1, 4.0), (3, 3.0), (5, 3.0)]


def test_the_best_so_far_is_monotonic_where_trials_complete_out_of_order() -> None:
    study = optuna.create_study()
    late, early = study.ask(), study.ask()
    study.tell(early, 2.0)
    study.tell(late, 1.0)
    study.tell(study.ask(), 3.0)
    best = traces(plot_source_history(study))["best so far"]
    assert list(zip(best.x, best.y, strict=True)) == [(0, 1.0), (2, 1.0)]
    spent = traces(plot_usage(study))["by calls"]
    assert list(spent.y) == [2.0, 1.0, 1.0]


def test_infeasible_trials_do_not_count_as_best_so_far() -> None:
    study = optuna.create_study()
    for value, constraint in [(3.0, 0.0), (1.0, 1.0), (2.0, -1.0)]:
        trial = study.ask()
        study._storage.set_trial_system_attr(trial._trial_id, "constraints", [constraint])
        if hasattr(trial, "set_constraint"):
            trial.set_constraint("c", constraint)
        study.tell(trial, value)
    best = traces(plot_source_history(study))["best so far"]
    assert list(best.y) == [3.0, 2.0, 2.0]


def test_points_that_are_thinned_out_keep_the_lineage_of_the_best() -> None:
    study = make_study([*range(500, 0, -1), *[501.0] * 500])
    progress = read_progress(study)
    kept = read_points(progress, None, limit=100)
    assert len(kept) == 100
    assert find_lineage(kept)[-50:] == find_lineage(read_points(progress, None, limit=999))[-50:]
    assert find_lineage(kept)[-1].number == 499
    assert max(point.number for point in kept) > 950
    assert len(read_points(progress, None, limit=2_000)) == len(study.trials)
    assert {point.hover for point in kept} == {""}


def test_what_a_model_wrote_is_escaped_in_a_figure() -> None:
    shown = traces(plot_lineage(make_study()))
    assert shown["model"].text[0] == 'trial 1 (model)<br>&lt;b&gt;because&lt;/b&gt; "1"'


def test_the_lineage_has_edges_from_parents_and_the_best_ones_ancestors() -> None:
    shown = traces(plot_lineage(make_study()))
    edges = shown["from parent"]
    assert list(edges.x) == [0, 2, None, 1, 3, None, 3, 5, None]
    assert list(shown["lineage of the best"].x) == [1, 3, None]
    assert list(shown["lineage of the best"].y) == [4.0, 3.0, None]


def test_the_best_value_is_plotted_against_tokens_and_cost() -> None:
    study = make_study(prompt_tokens=900, completion_tokens=100)
    shown = traces(plot_usage(study, prices=Prices(prompt=1, completion=10)))
    tokens = shown["by tokens sent and received"]
    assert list(tokens.x) == [1000, 2000, 4000, 6000]
    assert list(tokens.y) == [5.0, 4.0, 3.0, 3.0]
    assert list(shown["by cost (upper axis)"].x) == pytest.approx([0.0019, 0.0038, 0.0076, 0.0114])
    assert list(traces(plot_usage(make_study()))) == ["by calls"]


@pytest.mark.parametrize("plot", [plot_lineage, plot_source_history, plot_usage])
def test_several_objectives_need_a_target(plot: Any) -> None:
    study = make_study(directions=2)
    with pytest.raises(ValueError, match="choose what to plot, such as target="):
        plot(study)
    figure = plot(study, target=lambda trial: trial.values[1], target_name="loss")
    assert figure.layout.yaxis.title.text == "loss"
    assert "best so far" not in traces(figure)


@pytest.mark.parametrize("plot", [plot_lineage, plot_source_history, plot_usage])
def test_a_study_without_complete_trials_is_an_empty_figure(
    plot: Any, logs: pytest.LogCaptureFixture
) -> None:
    figure = plot(optuna.create_study())
    assert not any(trace.x for trace in figure.data)
    assert "no trial is complete" in logs.text
