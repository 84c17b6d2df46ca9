"""Notes and plots of a study, stored where optuna-dashboard looks for them."""

from __future__ import annotations

from collections.abc import Mapping
import functools
import math
import re
from typing import cast
from typing import TypeAlias

import optuna
from optuna import Study
from optuna.trial import FrozenTrial
from optuna.trial import TrialState
import optuna_dashboard

from optuna_llm._logging import get_logger
from optuna_llm._study import internals
from optuna_llm._study.cases import read_case_names
from optuna_llm._study.declarations import read_adaptations
from optuna_llm._study.declarations import read_declared_texts
from optuna_llm._study.declarations import read_task
from optuna_llm._study.ledger import read_costs
from optuna_llm._study.progress import Progress
from optuna_llm._study.progress import read_progress
from optuna_llm._study.usage import Prices
from optuna_llm._study.usage import usage
from optuna_llm._study.validation import read_validation
from optuna_llm.dashboard._notes import is_complete
from optuna_llm.dashboard._notes import is_own
from optuna_llm.dashboard._study_note import write_study_note
from optuna_llm.dashboard._trial_note import write_trial_note
from optuna_llm.visualization._cases import draw_cases
from optuna_llm.visualization._figures import draw_lineage
from optuna_llm.visualization._figures import draw_source_history
from optuna_llm.visualization._figures import draw_usage
from optuna_llm.visualization._points import read_points


_logger = get_logger(__name__)

MAX_ROWS = 100
"""Rows of the storage that the notes on trials take by default, all together."""

_EARLY = 2 / 3
"""The share of them that are for any trials."""

_ROW_SIZE = 2_045
"""Characters of a note that the dashboard stores in one row."""

_MAX_POINTS = 200
_MAX_CASE_TRIALS = 20
_MAX_CASES = 200
"""Trials in a plot at most, since plots are stored in rows as well."""

_MAX_PASSES = 3
"""How often a study is annotated that changes meanwhile."""

_Saved: TypeAlias = dict[str, str]
"""Notes and plots by the key that the dashboard stores them under, without the row's number."""

_KEY = re.compile(r"(dashboard:(?:(?:\d+:)?note_str|plot_data:.*)):(\d{1,9})", re.DOTALL)
_TRIAL_KEY = re.compile(r"dashboard:\d+:note_str")
_STUDY_KEY = "dashboard:note_str"


def annotate(
    study: Study,
    *,
    prices: Prices | Mapping[str, Prices] | None = None,
    max_rows: int = MAX_ROWS,
) -> None:
    """Write notes on trials, a note on the study and plots, which optuna-dashboard shows.

    The dashboard stores notes in rows that Optuna reads whenever a trial completes, so their
    number is bounded. Every trial gets a note until two thirds of ``max_rows`` are used; after
    that only trials that were the best when they completed, until all rows are used. The note on
    the study always contains the best trial, with up to 30,000 characters of its texts.

    Existing notes on trials are kept, and so are notes that users wrote or edited. It is safe to
    call this repeatedly and from several workers.

    Args:
        study: The study, finished or still running.
        prices: The model's prices, as for :func:`optuna_llm.usage`.
        max_rows: Rows of the storage for the notes on trials, all together. A note takes one, and
            one more for each 2,045 characters. A hundred rows add about 3 ms to a trial on SQLite.

    Raises:
        ValueError: If ``max_rows`` is negative.
    """
    check_max_rows(max_rows)
    for _ in range(_MAX_PASSES):
        if _annotate(study, prices, max_rows):
            return


def check_max_rows(max_rows: int) -> None:
    """Refuse a negative number of rows.

    Raises:
        ValueError: If ``max_rows`` is negative.
    """
    if max_rows < 0:
        raise ValueError(f"max_rows must be 0 or more: {max_rows!r}.")


def _annotate(study: Study, prices: Prices | Mapping[str, Prices] | None, max_rows: int) -> bool:
    """Write what is missing or outdated; whether it was still up to date after writing.

    It is not if a trial has ended meanwhile, or if another worker has written at the same time:
    that worker may know of fewer trials, or the rows of both may be mixed.
    """
    progress = read_progress(study)
    saved = _read(study)
    written = _annotate_trials(study, progress, saved, max_rows)
    written |= _annotate_study(study, progress, saved, prices)
    written |= _save_plots(study, progress, saved, prices)
    if not written:
        return True
    n_finished = sum(trial.state.is_finished() for trial in study.get_trials(deepcopy=False))
    return n_finished == len(progress.finished) and written.items() <= _read(study).items()


def _annotate_study(
    study: Study,
    progress: Progress,
    saved: _Saved,
    prices: Prices | Mapping[str, Prices] | None,
) -> _Saved:
    """Write the note on the study if it has changed and is not the user's."""
    known = saved.get(_STUDY_KEY)
    attributes = study.user_attrs
    note = write_study_note(
        study.study_name,
        progress,
        read_task(attributes),
        read_declared_texts(attributes),
        read_adaptations(attributes),
        usage(study, prices),
        read_validation(attributes),
    )
    if known == note or (known is not None and not is_own(known)):
        return {}
    optuna_dashboard.save_note(study, note)
    return {_STUDY_KEY: note}


def _annotate_trials(study: Study, progress: Progress, saved: _Saved, max_rows: int) -> _Saved:
    """Write the notes on trials that are missing, while there is room."""
    texts = read_declared_texts(study.user_attrs)
    written: _Saved = {}
    n_rows = sum(_count_rows(note) for key, note in saved.items() if _TRIAL_KEY.fullmatch(key))
    improvements = {record.number for record in progress.improvements}
    trials = progress.finished
    if n_rows >= max_rows * _EARLY:
        trials = [progress.trials[record.number] for record in progress.improvements]
    for trial in trials:
        key = f"dashboard:{internals.find_trial_id(trial)}:note_str"
        known = saved.get(key)
        if known is not None and (not is_own(known) or is_complete(known)):
            continue
        is_early = n_rows < max_rows * _EARLY
        is_improvement = trial.number in improvements
        if not is_early and not is_improvement:
            continue
        # The text of a later improvement is in the note on the study while it is the best.
        note = write_trial_note(trial, progress, texts, is_early and is_improvement)
        if n_rows + _count_rows(note) > max_rows:
            continue
        optuna_dashboard.save_note(cast(optuna.Trial, _FinishedTrial(study, trial)), note)
        n_rows += _count_rows(note)
        written[key] = note
    return written


class _FinishedTrial:
    """What ``save_note`` needs of a trial. An ``optuna.Trial`` would notify the sampler."""

    def __init__(self, study: Study, trial: FrozenTrial) -> None:
        self.study = study
        self.storage, _ = internals.find_storage(study)
        self._trial_id = internals.find_trial_id(trial)


def _count_rows(note: str) -> int:
    # One more for the note's version.
    return 1 + math.ceil(len(note) / _ROW_SIZE)


def _read(study: Study) -> _Saved:
    """The notes and plots in a study's system attributes, joined from their rows."""
    rows: dict[str, dict[int, str]] = {}
    for key, value in internals.read_study_system_attrs(study).items():
        if (found := _KEY.fullmatch(key)) and isinstance(value, str):
            rows.setdefault(found[1], {})[int(found[2])] = value
    return {key: "".join(parts[i] for i in sorted(parts)) for key, parts in rows.items()}


def _save_plots(
    study: Study,
    progress: Progress,
    saved: _Saved,
    prices: Prices | Mapping[str, Prices] | None,
) -> _Saved:
    """Save the plots that have changed, if plotly is installed."""
    if not any(trial.state == TrialState.COMPLETE for trial in progress.finished):
        return {}
    is_single = len(progress.objectives) == 1
    objective = progress.objectives[0][0]
    target = None if is_single else _first_value
    points = read_points(progress, target, limit=_MAX_POINTS)
    try:
        figures = {
            "llm-sources": draw_source_history(points, is_single, objective),
            "llm-lineage": draw_lineage(points, objective),
            "llm-usage": draw_usage(
                progress, points, is_single, objective, read_costs(study), prices
            ),
        }
        cases = draw_cases(
            progress, read_case_names(study.user_attrs), _MAX_CASE_TRIALS, _MAX_CASES
        )
        if cases is not None:
            figures["llm-cases"] = cases
    except ImportError as error:
        _warn_once(f"The dashboard gets no plots. {error}")
        return {}
    written = {}
    for name, figure in figures.items():
        # The default template alone takes 6 kB.
        figure.update_layout(template="none")
        key, plot = f"dashboard:plot_data:{name}", figure.to_json()
        if saved.get(key) != plot:
            optuna_dashboard.save_plotly_graph_object(study, figure, graph_object_id=name)
            written[key] = plot
    return written


@functools.cache
def _warn_once(message: str) -> None:
    _logger.warning(message)


def _first_value(trial: FrozenTrial) -> float:
    value: float = trial.values[0]
    return value
