"""The heat map of cases and trials."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
import statistics
from typing import TYPE_CHECKING

from optuna.study import StudyDirection
from optuna.trial import FrozenTrial
from optuna.trial import TrialState

from optuna_llm._quoting import one_line
from optuna_llm._records import TrialRecord
from optuna_llm._study.attributes import CASES
from optuna_llm._study.case_table import find_case_sign
from optuna_llm._study.history import make_record
from optuna_llm._study.progress import Progress
from optuna_llm._study.ranking import rank
from optuna_llm.visualization._figures import import_plotly
from optuna_llm.visualization._points import escape_html


if TYPE_CHECKING:
    import plotly.graph_objects as go

_MAX_WORDS = 120
_MAX_NAME = 40
_DIGITS = 5


def choose_case_trials(progress: Progress, count: int) -> list[TrialRecord]:
    """The best complete trials that have cases, best first."""
    directions = [direction for _, direction in progress.objectives]
    is_up = directions[0] == StudyDirection.MAXIMIZE

    def order(trial: FrozenTrial) -> float:
        value: float = trial.values[0]
        return -value if is_up else value

    having = [
        trial
        for trial in progress.finished
        if trial.state == TrialState.COMPLETE and CASES in trial.user_attrs
    ]
    # Records take time: with constraints, the best are looked for among twice as many.
    likely = sorted(having, key=lambda trial: (order(trial), trial.number))[: 2 * count]
    records = [record for record in map(make_record, likely) if record.cases]
    return sorted(records, key=lambda record: rank(record, directions))[:count]


def draw_cases(
    progress: Progress,
    names: Mapping[int, str],
    n_trials: int,
    max_cases: int | None = None,
) -> go.Figure | None:
    """The figure of :func:`plot_cases`; None where no complete trial has cases.

    Args:
        progress: The study's course.
        names: Names of cases, by number.
        n_trials: How many trials to show.
        max_cases: How many cases to show, those that tell the trials apart, and no words; None
            for all, with words.
    """
    go = import_plotly()
    records = choose_case_trials(progress, n_trials)
    if not records:
        return None
    cases = sorted({case for record in records for case in record.cases})
    title = f"Cases of the best {len(records)} trials"
    if max_cases is not None and len(cases) > max_cases:
        title += f", {max_cases} of {len(cases)}"
        cases = sorted(sorted(cases, key=lambda case: (-_vary(records, case), case))[:max_cases])
    directions = [direction for _, direction in progress.objectives]
    labels = [escape_html(_label(case, names)) for case in cases]
    figure = go.Figure(
        go.Heatmap(
            # The best on top.
            y=[f"trial {record.number}" for record in reversed(records)],
            x=[str(case) for case in cases],
            z=[[_read_score(record, case) for case in cases] for record in reversed(records)],
            text=None
            if max_cases is not None
            else [[_read_words(record, case) for case in cases] for record in reversed(records)],
            customdata=[labels] * len(records) if max_cases is None else None,
            colorscale="RdYlGn",
            reversescale=find_case_sign(records[0], directions) < 0,
            colorbar={"title": {"text": "score"}},
            hovertemplate="%{y}, case %{customdata}: %{z}<br>%{text}<extra></extra>"
            if max_cases is None
            else "%{y}, case %{x}: %{z}<extra></extra>",
        )
    )
    return figure.update_layout(
        title={"text": title},
        xaxis={"title": {"text": "Case"}, "type": "category"},
        yaxis={"type": "category"},
    )


def _vary(records: Sequence[TrialRecord], case: int) -> float:
    scores = [record.cases[case].score for record in records if case in record.cases]
    return statistics.pvariance(scores)


def _read_score(record: TrialRecord, case: int) -> float | None:
    if case not in record.cases:
        return None
    return float(f"{record.cases[case].score:.{_DIGITS}g}")


def _read_words(record: TrialRecord, case: int) -> str:
    if case not in record.cases:
        return ""
    return escape_html(one_line(record.cases[case].words, _MAX_WORDS))


def _label(case: int, names: Mapping[int, str]) -> str:
    return f"{case} ({one_line(names[case], _MAX_NAME)})" if case in names else str(case)
