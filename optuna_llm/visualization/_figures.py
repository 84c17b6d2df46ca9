"""Figures drawn with plotly from the points of a study."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import itertools
from typing import Any
from typing import TYPE_CHECKING

from optuna_llm._quoting import shorten
from optuna_llm._study.ledger import TrialCost
from optuna_llm._study.progress import Progress
from optuna_llm._study.usage import price
from optuna_llm._study.usage import Prices
from optuna_llm.visualization._points import escape_html
from optuna_llm.visualization._points import find_lineage
from optuna_llm.visualization._points import Point


if TYPE_CHECKING:
    import plotly.graph_objects as go

_COLORS = {
    "initial": "#7f7f7f",
    "model": "#1f77b4",
    "base": "#2ca02c",
    "fallback": "#ff7f0e",
    "tune": "#17becf",
    "user": "#9467bd",
    "none": "#c7c7c7",
}
_BEST_COLOR = "#d62728"
_EDGE_COLOR = "#c7c7c7"
_OTHER_COLORS = ("#1f77b4", "#17becf", "#e377c2", "#8c564b", "#bcbd22")
_MAX_NAME = 80


def draw_source_history(points: Sequence[Point], with_best: bool, name: str) -> go.Figure:
    """The figure of :func:`plot_source_history`."""
    go = import_plotly()
    figure = go.Figure(list(_draw_points(go, points)))
    if with_best:
        records = [point for point in points if point.is_best_so_far]
        last = points[-1:] if records else []
        figure.add_trace(
            go.Scatter(
                x=[point.number for point in [*records, *last]],
                y=[point.value for point in [*records, *records[-1:]]],
                name="best so far",
                mode="lines",
                line={"color": _BEST_COLOR, "shape": "hv"},
                hoverinfo="skip",
            )
        )
    return _add_layout(figure, "Values by source", "Trial", name)


def draw_lineage(points: Sequence[Point], name: str) -> go.Figure:
    """The figure of :func:`plot_lineage`."""
    go = import_plotly()
    by_number = {point.number: point for point in points}
    edges = [(by_number[point.parent], point) for point in points if point.parent in by_number]
    line = find_lineage(points)
    figure = go.Figure(
        [
            _draw_lines(go, edges, "from parent", _EDGE_COLOR, 1),
            _draw_lines(go, list(itertools.pairwise(line)), "lineage of the best", _BEST_COLOR, 2),
            *_draw_points(go, points),
        ]
    )
    return _add_layout(figure, "Lineage", "Trial", name)


def draw_usage(
    progress: Progress,
    points: Sequence[Point],
    with_best: bool,
    name: str,
    spent: Sequence[TrialCost],
    prices: Prices | Mapping[str, Prices] | None,
) -> go.Figure:
    """The figure of :func:`plot_usage`."""
    go = import_plotly()
    costs = [cost for cost in spent if cost.trial is not None]
    has_tokens = any(cost.usage.prompt_tokens for cost in costs)
    amounts = _add_up(
        (
            c.trial,
            c.usage.prompt_tokens + c.usage.completion_tokens if has_tokens else c.usage.calls,
        )
        for c in costs
    )
    try:
        money = _add_up((cost.trial, price(cost, prices)) for cost in costs)
    except (ImportError, ValueError):
        money = {}
    unit = "Tokens sent and received" if has_tokens else "Calls"
    shown = [point for point in points if point.is_improvement or not with_best]
    figure = go.Figure(_draw_spending(go, progress, shown, amounts, unit, with_best))
    if any(money.values()):
        trace = _draw_spending(go, progress, shown, money, "Cost (upper axis)", with_best)
        trace.update(xaxis="x2", line_color=_COLORS["fallback"])
        figure.add_trace(trace)
        # Without a title of its own, which would overlap with that of the figure.
        figure.update_layout(xaxis2={"overlaying": "x", "side": "top"})
    return _add_layout(figure, "Best value by cost" if with_best else "Values by cost", unit, name)


def _add_up(amounts: Iterable[tuple[int | None, float]]) -> dict[int, float]:
    """The sum for each trial, of which several proposers may have had a part."""
    sums: dict[int, float] = {}
    for trial, amount in amounts:
        if trial is not None:
            sums[trial] = sums.get(trial, 0) + amount
    return sums


def _draw_spending(
    go: Any,
    progress: Progress,
    points: Sequence[Point],
    amounts: Mapping[int, float],
    unit: str,
    with_best: bool,
) -> Any:
    """Values against the cumulative amount that all trials up to then have taken."""
    numbers = [trial.number for trial in progress.finished]
    totals = list(itertools.accumulate(amounts.get(number, 0) for number in numbers))
    spent = dict(zip(numbers, totals, strict=True))
    order = {number: i for i, number in enumerate(numbers)}
    points = sorted(points, key=lambda point: order[point.number])
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
    """A trace for each source, in the order of the legend."""
    order = list(_COLORS)
    present = {point.source for point in points}
    others = sorted(present - _COLORS.keys())
    colors = _COLORS | {n: _OTHER_COLORS[i % len(_OTHER_COLORS)] for i, n in enumerate(others)}
    for source in sorted(present, key=lambda s: (s not in order, s in order and order.index(s))):
        shown = [point for point in points if point.source == source]
        labels = [point.hover for point in shown]
        yield go.Scatter(
            x=[point.number for point in shown],
            y=[point.value for point in shown],
            name=escape_html(source),
            mode="markers",
            marker={"color": colors[source]},
            text=labels if any(labels) else None,
            hovertemplate="%{text}<br>%{y}<extra></extra>"
            if any(labels)
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


def _add_layout(figure: Any, title: str, x: str, y: str) -> Any:
    return figure.update_layout(
        title={"text": title},
        xaxis_title={"text": x},
        yaxis_title={"text": escape_html(shorten(y, _MAX_NAME))},
        legend={"orientation": "h", "y": -0.2},
    )


def import_plotly() -> Any:
    """The module ``plotly.graph_objects``.

    Raises:
        ImportError: If plotly is not installed.
    """
    try:
        import plotly.graph_objects
    except ImportError as error:
        raise ImportError('Figures need plotly: pip install "optuna-llm[plots]".') from error
    return plotly.graph_objects
