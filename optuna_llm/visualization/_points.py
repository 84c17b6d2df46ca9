"""The complete trials of a study as points of a figure."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Container
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
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
    progress: Progress, target: Target | None, *, limit: int | None = None
) -> list[Point]:
    """The complete trials of a study by number, without those of infinite value.

    Within a limit, improvements and the ancestors of the best trial take precedence, and the
    others are thinned out evenly.

    Args:
        progress: The study.
        target: What to plot of a trial; None for the value of a single objective.
        limit: How many points there may be, without hover labels; None for all, with them.

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
    values: dict[int, float] = {}
    best_so_far = set()
    for number in sorted(progress.trials):
        trial = progress.trials[number]
        if trial.state != TrialState.COMPLETE:
            continue
        value = trial.values[0] if target is None else target(trial)
        if not math.isfinite(value):
            continue
        values[number] = float(value)
        if progress.origins[number].is_feasible and sign * value > highest:
            highest = sign * value
            best_so_far.add(number)
    if not values:
        _logger.warning("There is nothing to plot: no trial is complete.")
    shown = list(values)
    if limit is not None and len(shown) > limit:
        lineage = _find_ancestors(next(iter(best), None), progress.origins, values)
        notable = [n for n in shown if n in improvements or n in best_so_far]
        shown = _thin_out(shown, notable, lineage, limit)
    return [
        Point(
            number=number,
            value=values[number],
            source=_name_source(progress.origins[number], several=len(proposers) > 1),
            parent=progress.origins[number].parent,
            second_parent=progress.origins[number].second_parent,
            is_improvement=number in improvements,
            is_best_so_far=number in best_so_far,
            is_best=number in best,
            rationale=None if limit else read_provenance(progress.trials[number]).rationale,
        )
        for number in shown
    ]


def _thin_out(
    numbers: Sequence[int], notable: Sequence[int], lineage: Sequence[int], limit: int
) -> list[int]:
    """At most so many numbers: the latest of the notable and of the lineage, and others."""
    kept = {*notable[-limit // 2 :], *lineage[-limit // 2 :]}
    rest = [number for number in numbers if number not in kept]
    room = limit - len(kept)
    kept |= set(rest if len(rest) <= room else (rest[i * len(rest) // room] for i in range(room)))
    return sorted(kept)


def _find_ancestors(
    number: int | None, origins: Mapping[int, Origin], known: Container[int]
) -> list[int]:
    """A trial and its ancestors, oldest first."""
    lineage: dict[int, None] = {}
    while number is not None and number in known and number not in lineage:
        lineage[number] = None
        number = origins[number].parent
    return list(lineage)[::-1]


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
