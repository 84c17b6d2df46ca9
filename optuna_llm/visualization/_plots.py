"""The plots that users call, named and called like those of ``optuna.visualization``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from optuna import Study

from optuna_llm._study.cases import read_case_names
from optuna_llm._study.ledger import read_costs
from optuna_llm._study.progress import read_progress
from optuna_llm._study.usage import Prices
from optuna_llm.visualization._cases import draw_cases
from optuna_llm.visualization._figures import draw_lineage
from optuna_llm.visualization._figures import draw_source_history
from optuna_llm.visualization._figures import draw_usage
from optuna_llm.visualization._points import read_points
from optuna_llm.visualization._points import Target


if TYPE_CHECKING:
    import plotly.graph_objects as go


def plot_source_history(
    study: Study, *, target: Target | None = None, target_name: str = "Objective Value"
) -> go.Figure:
    """Plot objective values by trial, colored by who decided them, and the best value so far.

    Args:
        study: The study.
        target: Computes the plotted value from a trial; required for several objectives. The
            best value so far is then not plotted.
        target_name: The label of the value axis.

    Returns:
        A ``plotly.graph_objects.Figure``.

    Raises:
        ImportError: If plotly is not installed.
        ValueError: If the study has several objectives and no target is given.
    """
    points = read_points(read_progress(study), target)
    return draw_source_history(points, target is None, target_name)


def plot_lineage(
    study: Study, *, target: Target | None = None, target_name: str = "Objective Value"
) -> go.Figure:
    """Plot which trial each trial's texts were derived from, and the ancestors of the best trial.

    Args:
        study: The study.
        target: Computes the plotted value from a trial; required for several objectives.
        target_name: The label of the value axis.

    Returns:
        A ``plotly.graph_objects.Figure`` with a point for each complete trial and a line to it
        from its parent. The lineage of the best trial is red.

    Raises:
        ImportError: If plotly is not installed.
        ValueError: If the study has several objectives and no target is given.
    """
    return draw_lineage(read_points(read_progress(study), target), target_name)


def plot_cases(study: Study, *, n_trials: int = 20) -> go.Figure:
    """Plot the scores of the best trials in each case, as a heat map.

    Args:
        study: The study; its objective reports cases (:func:`~optuna_llm.report_case`,
            :func:`~optuna_llm.evaluate.evaluate_cases`).
        n_trials: How many trials to show at most, the best on top; of several objectives, the
            best by the first.

    Returns:
        A ``plotly.graph_objects.Figure``. A case's name and what the evaluator said of it are
        shown where the pointer is.

    Raises:
        ImportError: If plotly is not installed.
        ValueError: If no complete trial has reported cases, or ``n_trials`` is below 1.
    """
    if n_trials < 1:
        raise ValueError(f"n_trials must be 1 or more: {n_trials!r}.")
    figure = draw_cases(read_progress(study), read_case_names(study.user_attrs), n_trials)
    if figure is None:
        raise ValueError(
            "No complete trial of the study has cases: report them with evaluate_cases or "
            "report_case."
        )
    return figure


def plot_usage(
    study: Study,
    *,
    prices: Prices | Mapping[str, Prices] | None = None,
    target: Target | None = None,
    target_name: str = "Objective Value",
) -> go.Figure:
    """Plot the best value against the tokens spent and, where prices are known, the cost.

    Args:
        study: The study.
        prices: The model's prices, as for :func:`optuna_llm.usage`.
        target: Computes the plotted value from a trial; required for several objectives. Every
            trial's value is then plotted instead of the best.
        target_name: The label of the value axis.

    Returns:
        A ``plotly.graph_objects.Figure``. Tokens are those sent and received, summed over all
        trials that had ended by then; if the server does not count tokens, calls are plotted
        instead.

    Raises:
        ImportError: If plotly is not installed.
        ValueError: If the study has several objectives and no target is given.
    """
    progress = read_progress(study)
    points = read_points(progress, target)
    return draw_usage(progress, points, target is None, target_name, read_costs(study), prices)
