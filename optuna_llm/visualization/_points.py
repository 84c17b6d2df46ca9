"""The complete trials of a study as points of a figure."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace
import html
import math
import textwrap
from typing import TypeAlias

from optuna.study import StudyDirection
from optuna.trial import FrozenTrial
from optuna.trial import TrialState

from optuna_llm._logging import get_logger
from optuna_llm._quoting import clean_text
from optuna_llm._quoting import shorten
from optuna_llm._study.attributes import read_provenance
from optuna_llm._study.progress import Origin
from optuna_llm._study.progress import Progress


_logger = get_logger(__name__)

Target: TypeAlias = Callable[[FrozenTrial], float]

_MAX_RATIONALE = 300
_HOVER_WIDTH = 60


@dataclass(frozen=True)
class Point:
    """A complete trial in a figure.

    Attributes:
        number: The trial's number.
        value: Its objective value, or what the target returns for it.
        source: Who decided its values; ``"none"`` if unknown. Where several models have
            proposed, the name of the model.
        parent: Number of the trial that its texts were derived from.
        second_parent: Number of the trial that it was to take over from.
        is_improvement: Whether it was the best trial when it completed.
        is_best_so_far: Whether it beats every trial of a lower number. Trials that run in
            parallel complete in another order, so this is not the same.
        is_best: Whether it is the best trial of the study.
        rationale: The model's words on why; None if there is to be no hover label.
    """

    number: int
    value: float
    source: str
    parent: int | None
    second_parent: int | None
    is_improvement: bool
    is_best_so_far: bool
    is_best: bool
    rationale: str | None

    @property
    def hover(self) -> str:
        """Its hover label, as HTML for plotly; what the model wrote is escaped."""
        if self.rationale is None:
            return ""
        parents = [n for n in (self.parent, self.second_parent) if n is not None]
        origin = f", from trial {' and '.join(map(str, parents))}" if parents else ""
        words = shorten(clean_text(self.rationale), _MAX_RATIONALE)
        lines = map(escape_html, textwrap.wrap(words, _HOVER_WIDTH))
        return "<br>".join([f"trial {self.number} ({escape_html(self.source)}{origin})", *lines])


def read_points(
    progress: Progress, target: Target | None, *, with_words: bool = True
) -> list[Point]:
    """The complete trials of a study by number, without those of infinite value.

    Args:
        progress: The study.
        target: What to plot of a trial; None for the value of a single objective.
        with_words: Whether there are to be hover labels.

    Raises:
        ValueError: If the study has several objectives and no target is given.
    """
    if target is None and len(progress.objectives) > 1:
        raise ValueError(
            "The study has several objectives: choose what to plot, "
            "such as target=lambda trial: trial.values[0]."
        )
    proposers = {origin.proposer for origin in progress.origins.values() if _is_by_model(origin)}
    improvements = {record.number for record in progress.improvements}
    best = {record.number for record in progress.best[:1]}
    sign = 1 if progress.objectives[0][1] == StudyDirection.MAXIMIZE else -1
    highest = -math.inf
    points = []
    for number, trial in sorted(progress.trials.items()):
        if trial.state != TrialState.COMPLETE:
            continue
        value = trial.values[0] if target is None else target(trial)
        if not math.isfinite(value):
            continue
        origin = progress.origins[number]
        is_best_so_far = origin.is_feasible and sign * value > highest
        highest = sign * value if is_best_so_far else highest
        points.append(
            Point(
                number=number,
                value=float(value),
                source=_name_source(origin, several=len(proposers) > 1),
                parent=origin.parent,
                second_parent=origin.second_parent,
                is_improvement=number in improvements,
                is_best_so_far=is_best_so_far,
                is_best=number in best,
                rationale=read_provenance(trial).rationale if with_words else None,
            )
        )
    if not points:
        _logger.warning("There is nothing to plot: no trial is complete.")
    return points


def downsample(points: Sequence[Point], limit: int) -> list[Point]:
    """At most ``limit`` points, without hover labels.

    Improvements and the ancestors of the best trial take precedence; the others are thinned out
    evenly.
    """
    notable = [point for point in points if point.is_improvement or point.is_best_so_far]
    lineage = find_lineage(points)
    kept = {p.number for p in [*notable[-limit // 2 :], *lineage[-limit // 2 :]]}
    rest = [point.number for point in points if point.number not in kept]
    room = limit - len(kept)
    kept |= set(rest if len(rest) <= room else (rest[i * len(rest) // room] for i in range(room)))
    return [replace(point, rationale=None) for point in points if point.number in kept]


def find_lineage(points: Sequence[Point]) -> list[Point]:
    """The best trial and its ancestors, oldest first."""
    by_number = {point.number: point for point in points}
    lineage: dict[int, Point] = {}
    point = next((point for point in points if point.is_best), None)
    while point is not None and point.number not in lineage:
        lineage[point.number] = point
        point = None if point.parent is None else by_number.get(point.parent)
    return list(lineage.values())[::-1]


def escape_html(text: str) -> str:
    """The text as plotly shows it verbatim. Plotly does not decode escaped quotes."""
    return html.escape(clean_text(text), quote=False)


def _is_by_model(origin: Origin) -> bool:
    return origin.source == "model" and origin.proposer is not None


def _name_source(origin: Origin, *, several: bool) -> str:
    """Who decided a trial's values; of several models which one."""
    if several and _is_by_model(origin):
        return origin.proposer or ""
    return origin.source or "none"
