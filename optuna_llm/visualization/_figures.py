"""Figures of what only a study with a model has: sources, lineage, cost."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace
import html
import itertools
import math
import textwrap
from typing import Any
from typing import TYPE_CHECKING

from optuna import Study
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial
from optuna.trial import TrialState

from optuna_llm._logging import get_logger
from optuna_llm._quoting import clean_text
from optuna_llm._quoting import shorten
from optuna_llm._study import attributes as stored
from optuna_llm._study.internals import read_constraints
from optuna_llm._study.progress import follow
from optuna_llm._study.progress import Progress
from optuna_llm._study.usage import price
from optuna_llm._study.usage import Prices
from optuna_llm._study.usage import read_trial_costs


if TYPE_CHECKING:
    import plotly.graph_objects as go

_logger = get_logger(__name__)

_COLORS = {
    "initial": "#7f7f7f",
    "model": "#1f77b4",
    "base": "#2ca02c",
    "fallback": "#ff7f0e",
    "user": "#9467bd",
    "none": "#c7c7c7",
}
_BEST = "#d62728"
_EDGE = "#c7c7c7"

_Target = Callable[[FrozenTrial], float]


@dataclass(frozen=True)
class Point:
    """A complete trial, as it stands in a figure.

    Attributes:
        number: The trial's number.
        value: Its value, or what the target makes of it.
        source: Who decided its values; ``"none"`` where nobody has said.
        parent: Number of the trial that its texts come from.
        is_step: Whether it was the best when it ended.
        is_record: Whether it is better than all of lower numbers; trials end in another order.
        is_best: Whether it is the best of all.
        words: What a pointer on it shows besides; HTML as plotly knows it, nothing of it the
            model's.
    """

    number: int
    value: float
    source: str
    parent: int | None
    is_step: bool
    is_record: bool
    is_best: bool
    words: str


def plot_source_history(
    study: Study, *, target: _Target | None = None, target_name: str = "Objective Value"
) -> go.Figure:
    """Values over trials, colored by who decided them, and the best so far.

    Args:
        study: The study.
        target: What is shown of a trial, for a study of several objectives; the best so far is
            left out then.
        target_name: What the axis is called.

    Returns:
        A ``plotly.graph_objects.Figure``.

    Raises:
        ImportError: If plotly is not installed.
        ValueError: If the study has several objectives and there is no target.
    """
    return draw_sources(read_points(follow(study), target), target is None, target_name)


def plot_lineage(
    study: Study, *, target: _Target | None = None, target_name: str = "Objective Value"
) -> go.Figure:
    """Which trial's texts each trial's come from, and how the best came about.

    Args:
        study: The study.
        target: What is shown of a trial, for a study of several objectives.
        target_name: What the axis is called.

    Returns:
        A ``plotly.graph_objects.Figure``: a point per complete trial, at its number and value, and
        a line from its parent; the ancestors of the best trial in red.

    Raises:
        ImportError: If plotly is not installed.
        ValueError: If the study has several objectives and there is no target.
    """
    return draw_lineage(read_points(follow(study), target), target_name)


def plot_usage(
    study: Study,
    *,
    prices: Prices | Mapping[str, Prices] | None = None,
    target: _Target | None = None,
    target_name: str = "Objective Value",
) -> go.Figure:
    """The best value against the tokens that it took and, where prices are known, the money.

    Args:
        study: The study.
        prices: The model's prices, as for :func:`optuna_llm.usage`.
        target: What is shown of a trial, for a study of several objectives; then each trial's
            value in place of the best.
        target_name: What the axis is called.

    Returns:
        A ``plotly.graph_objects.Figure``. Tokens are those sent and received by all trials that
        had ended by then; calls, where the model does not count tokens.

    Raises:
        ImportError: If plotly is not installed.
        ValueError: If the study has several objectives and there is no target.
    """
    progress = follow(study)
    return draw_usage(progress, read_points(progress, target), target is None, target_name, prices)


def read_points(progress: Progress, target: _Target | None) -> list[Point]:
    """The complete trials of a study as points, by number; infinite values are left out.

    Raises:
        ValueError: If there are several objectives and no target.
    """
    if target is None and len(progress.objectives) > 1:
        raise ValueError(
            "The study has several objectives: say what to show, "
            "like target=lambda trial: trial.values[0]."
        )
    steps = {step.number for step in progress.steps}
    best = {record.number for record in progress.best[:1]}
    is_up = progress.objectives[0][1] == StudyDirection.MAXIMIZE
    record = -math.inf
    points = []
    for number, trial in sorted(progress.trials.items()):
        if trial.state != TrialState.COMPLETE:
            continue
        value = trial.values[0] if target is None else target(trial)
        if not math.isfinite(value):
            continue
        provenance = stored.read_provenance(trial)
        source, parent = provenance.source or "none", provenance.parent
        is_feasible = all(c <= 0 for c in read_constraints(trial).values())
        height = value if is_up else -value
        is_record = is_feasible and height > record
        record = height if is_record else record
        points.append(
            Point(
                number=number,
                value=float(value),
                source=source,
                parent=parent,
                is_step=number in steps,
                is_record=is_record,
                is_best=number in best,
                words=_describe(trial, source, parent),
            )
        )
    if not points:
        _logger.warning("There is nothing to plot: no trial is complete.")
    return points


def thin(points: Sequence[Point], limit: int) -> list[Point]:
    """At most so many points, without words: the steps and the best one's ancestors first."""
    steps = [point for point in points if point.is_step or point.is_record]
    kept = {p.number for p in [*steps[-limit // 2 :], *find_line(points)[-limit // 2 :]]}
    rest = [point.number for point in points if point.number not in kept]
    room = limit - len(kept)
    kept |= set(rest if len(rest) <= room else (rest[i * len(rest) // room] for i in range(room)))
    return [replace(point, words="") for point in points if point.number in kept]


def find_line(points: Sequence[Point]) -> list[Point]:
    """The best trial and its ancestors, the first of them first."""
    by_number = {point.number: point for point in points}
    line: dict[int, Point] = {}
    point = next((point for point in points if point.is_best), None)
    while point is not None and point.number not in line:
        line[point.number] = point
        point = None if point.parent is None else by_number.get(point.parent)
    return list(line.values())[::-1]


def draw_sources(points: Sequence[Point], with_best: bool, name: str) -> go.Figure:
    """The figure of :func:`plot_source_history`."""
    go = import_plotly()
    figure = go.Figure(list(_draw_points(go, points)))
    if with_best:
        records = [point for point in points if point.is_record]
        last = points[-1:] if records else []
        figure.add_trace(
            go.Scatter(
                x=[point.number for point in [*records, *last]],
                y=[point.value for point in [*records, *records[-1:]]],
                name="best so far",
                mode="lines",
                line={"color": _BEST, "shape": "hv"},
                hoverinfo="skip",
            )
        )
    return _lay_out(figure, "Values by source", "Trial", name)


def draw_lineage(points: Sequence[Point], name: str) -> go.Figure:
    """The figure of :func:`plot_lineage`."""
    go = import_plotly()
    by_number = {point.number: point for point in points}
    edges = [(by_number[point.parent], point) for point in points if point.parent in by_number]
    line = find_line(points)
    figure = go.Figure(
        [
            _draw_lines(go, edges, "from its parent", _EDGE, 1),
            _draw_lines(go, list(itertools.pairwise(line)), "to the best", _BEST, 2),
            *_draw_points(go, points),
        ]
    )
    return _lay_out(figure, "Lineage", "Trial", name)


def draw_usage(
    progress: Progress,
    points: Sequence[Point],
    with_best: bool,
    name: str,
    prices: Prices | Mapping[str, Prices] | None,
) -> go.Figure:
    """The figure of :func:`plot_usage`."""
    go = import_plotly()
    found = read_trial_costs(progress.finished)
    costs = {cost.trial: cost for cost in found if cost.trial is not None}
    counts = any(cost.usage.prompt_tokens for cost in costs.values())
    amounts = {
        n: c.usage.prompt_tokens + c.usage.completion_tokens if counts else c.usage.calls
        for n, c in costs.items()
    }
    try:
        money = {n: price(cost, prices) for n, cost in costs.items()}
    except (ImportError, ValueError):
        money = {}
    unit = "Tokens, sent and received" if counts else "Calls"
    shown = [point for point in points if point.is_step or not with_best]
    figure = go.Figure(_draw_spending(go, progress, shown, amounts, unit, with_best))
    if any(money.values()):
        trace = _draw_spending(go, progress, shown, money, "Cost", with_best)
        trace.update(xaxis="x2", line_color=_COLORS["fallback"])
        figure.add_trace(trace)
        figure.update_layout(xaxis2={"overlaying": "x", "side": "top", "title": {"text": "Cost"}})
    return _lay_out(figure, "Best value by cost" if with_best else "Values by cost", unit, name)


def _draw_spending(
    go: Any,
    progress: Progress,
    points: Sequence[Point],
    amounts: Mapping[int, float],
    unit: str,
    with_best: bool,
) -> Any:
    """Values against what all trials had taken that ended no later."""
    numbers = [trial.number for trial in progress.finished]
    totals = list(itertools.accumulate(amounts.get(number, 0) for number in numbers))
    spent = dict(zip(numbers, totals, strict=True))
    place = {number: i for i, number in enumerate(numbers)}
    points = sorted(points, key=lambda point: place[point.number])
    x = [spent[point.number] for point in points]
    y = [point.value for point in points]
    if with_best and points:
        x.append(totals[-1])
        y.append(y[-1])
    return go.Scatter(
        x=x,
        y=y,
        name=f"by {unit.lower()}",
        mode="lines+markers" if with_best else "markers",
        line={"shape": "hv"},
        text=[f"trial {point.number}" for point in points],
        hovertemplate="%{text}<br>%{y} after %{x}<extra></extra>",
    )


def _draw_points(go: Any, points: Sequence[Point]) -> Iterator[Any]:
    for source, color in _COLORS.items():
        shown = [point for point in points if point.source == source]
        if not shown:
            continue
        words = [point.words for point in shown]
        yield go.Scatter(
            x=[point.number for point in shown],
            y=[point.value for point in shown],
            name=source,
            mode="markers",
            marker={"color": color},
            text=words if any(words) else None,
            hovertemplate="%{text}<br>%{y}<extra></extra>"
            if any(words)
            else "trial %{x}: %{y}<extra>%{fullData.name}</extra>",
        )


def _draw_lines(
    go: Any, edges: Sequence[tuple[Point, Point]], name: str, color: str, width: int
) -> Any:
    return go.Scatter(
        # None ends a line.
        x=[x for a, b in edges for x in (a.number, b.number, None)],
        y=[y for a, b in edges for y in (a.value, b.value, None)],
        name=name,
        mode="lines",
        line={"color": color, "width": width},
        hoverinfo="skip",
    )


def _lay_out(figure: Any, title: str, x: str, y: str) -> Any:
    return figure.update_layout(
        title={"text": title},
        xaxis_title={"text": x},
        yaxis_title={"text": _escape(shorten(y, 80))},
        legend={"orientation": "h", "y": -0.2},
    )


def _describe(trial: FrozenTrial, source: str, parent: int | None) -> str:
    origin = "" if parent is None else f", from trial {parent}"
    words = [f"trial {trial.number} ({source}{origin})"]
    if rationale := stored.read_provenance(trial).rationale:
        lines = textwrap.wrap(clean_text(shorten(rationale, 300)), 60)
        words += [_escape(line) for line in lines]
    return "<br>".join(words)


def _escape(text: str) -> str:
    """The text as plotly shows it; quotes are not among what it knows an escape for."""
    return html.escape(text, quote=False)


def import_plotly() -> Any:
    """The module ``plotly.graph_objects``.

    Raises:
        ImportError: If plotly is not installed; says how to install it.
    """
    try:
        import plotly.graph_objects
    except ImportError as error:
        raise ImportError('Figures need plotly: pip install "optuna-llm[plots]".') from error
    return plotly.graph_objects
