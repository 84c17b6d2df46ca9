"""Notes and plots of a study, written where optuna-dashboard looks for them."""

from __future__ import annotations

from collections.abc import Mapping
import contextlib
import functools
import math
from pathlib import Path
import re
from typing import Any
from typing import cast
from typing import TYPE_CHECKING
from typing import TypeAlias
from weakref import WeakKeyDictionary

import optuna
from optuna import Study
from optuna.artifacts import FileSystemArtifactStore
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial
from optuna.trial import TrialState
import optuna_dashboard

from optuna_llm._logging import get_logger
from optuna_llm._study import internals
from optuna_llm._study.declarations import read_declared_texts
from optuna_llm._study.declarations import read_task
from optuna_llm._study.progress import follow
from optuna_llm._study.progress import Progress
from optuna_llm._study.usage import Prices
from optuna_llm._study.usage import usage
from optuna_llm.dashboard._notes import is_own
from optuna_llm.dashboard._notes import is_whole
from optuna_llm.dashboard._notes import write_study_note
from optuna_llm.dashboard._notes import write_trial_note
from optuna_llm.dashboard._pace import Pace
from optuna_llm.dashboard._server import serve
from optuna_llm.dashboard._server import shorten_attributes
from optuna_llm.visualization._figures import draw_lineage
from optuna_llm.visualization._figures import draw_sources
from optuna_llm.visualization._figures import draw_usage
from optuna_llm.visualization._figures import import_plotly
from optuna_llm.visualization._figures import read_points
from optuna_llm.visualization._figures import thin


if TYPE_CHECKING:
    from optuna.artifacts._protocol import ArtifactStore

_logger = get_logger(__name__)

MAX_ROWS = 100
"""Rows of the storage that the notes on trials take by default, all together."""

_PIECE = 2_045
"""Characters of a note that the dashboard puts into one row."""

_MAX_POINTS = 200
"""Trials that a plot in the dashboard shows at most: it is kept in rows as well."""

_MAX_PASSES = 3
"""How often a study is annotated that goes on meanwhile."""

_SHARE = 0.05
"""Which part of the time may go into annotating."""

_Written: TypeAlias = dict[str, str]
"""Notes and plots by the key that the dashboard keeps them under, without the piece's number."""

_KEY = re.compile(r"(dashboard:(?:(?:\d+:)?note_str|plot_data:.*)):(\d+)", re.DOTALL)
_TRIAL = re.compile(r"dashboard:\d+:note_str")
_STUDY = "dashboard:note_str"


def annotate(
    study: Study,
    *,
    prices: Prices | Mapping[str, Prices] | None = None,
    max_rows: int = MAX_ROWS,
) -> None:
    """Write what optuna-dashboard shows of a study: notes on its trials, its own note, plots.

    The dashboard keeps notes in rows of the storage that Optuna reads at each completed trial, so
    they are bounded: every trial gets one until two thirds of ``max_rows`` are taken; from then on
    those that were the best when they ended, until all are. The study's own note always has the
    best trial, its texts up to 30,000 characters whole.

    What is there already is left alone, and so is a note that somebody else wrote: this can be
    called again and by several workers, at any time.

    Args:
        study: The study; running or finished.
        prices: The model's prices, as for :func:`optuna_llm.usage`.
        max_rows: How many rows the notes on trials may take together. A note takes one, and one
            more for each 2,045 characters. A hundred rows add about 3 ms to each trial on SQLite.

    Raises:
        ValueError: If ``max_rows`` is negative.
    """
    _check_max_rows(max_rows)
    for _ in range(_MAX_PASSES):
        if _annotate(study, prices, max_rows):
            return


def _annotate(study: Study, prices: Prices | Mapping[str, Prices] | None, max_rows: int) -> bool:
    """Write what is missing or no longer true; whether that is still so when it is written.

    It is not if a trial has ended meanwhile, or another worker has written at the same time:
    that can leave what it knew, which is less, or halves of both.
    """
    progress = follow(study)
    there = _read(study)
    written = _annotate_trials(study, progress, there, max_rows)
    written |= _annotate_study(study, progress, there, prices)
    written |= _save_plots(study, progress, there, prices)
    if not written:
        return True
    ended = sum(trial.state.is_finished() for trial in study.get_trials(deepcopy=False))
    return ended == len(progress.finished) and written.items() <= _read(study).items()


def _annotate_study(
    study: Study,
    progress: Progress,
    there: _Written,
    prices: Prices | Mapping[str, Prices] | None,
) -> _Written:
    """Write the study's own note, if it is ours and has changed."""
    known = there.get(_STUDY)
    own = study.user_attrs
    note = write_study_note(
        study.study_name,
        progress,
        read_task(own),
        read_declared_texts(own),
        usage(study, prices),
    )
    if known == note or (known is not None and not is_own(known)):
        return {}
    optuna_dashboard.save_note(study, note)
    return {_STUDY: note}


def _annotate_trials(study: Study, progress: Progress, there: _Written, max_rows: int) -> _Written:
    """Write the notes that are missing, as far as there is room."""
    texts = read_declared_texts(study.user_attrs)
    written: _Written = {}
    taken = sum(_count_rows(note) for key, note in there.items() if _TRIAL.fullmatch(key))
    steps = {step.number for step in progress.steps}
    for trial in progress.finished:
        key = f"dashboard:{internals.find_trial_id(trial)}:note_str"
        known = there.get(key)
        if known is not None and (not is_own(known) or is_whole(known)):
            continue
        is_early = taken < max_rows * 2 / 3
        if not is_early and trial.number not in steps:
            continue
        # The whole text of a later one stands in the study's note while it is the best.
        whole = is_early and trial.number in steps
        note = write_trial_note(trial, progress, texts, whole)
        if taken + _count_rows(note) > max_rows:
            continue
        optuna_dashboard.save_note(cast(optuna.Trial, _FinishedTrial(study, trial)), note)
        taken += _count_rows(note)
        written[key] = note
    return written


class _FinishedTrial:
    """What ``save_note`` reads of a trial: making Optuna's own tells the sampler of a new one."""

    def __init__(self, study: Study, trial: FrozenTrial) -> None:
        self.study = study
        self.storage, _ = internals.find_storage(study)
        self._trial_id = internals.find_trial_id(trial)


def _count_rows(note: str) -> int:
    return 1 + math.ceil(len(note) / _PIECE)


def _read(study: Study) -> _Written:
    """What the dashboard keeps in pieces in a study's system attributes, put together again."""
    pieces: dict[str, dict[int, str]] = {}
    for key, value in internals.read_study_system_attrs(study).items():
        if found := _KEY.fullmatch(key):
            pieces.setdefault(found[1], {})[int(found[2])] = value
    return {key: "".join(parts[i] for i in sorted(parts)) for key, parts in pieces.items()}


def _save_plots(
    study: Study,
    progress: Progress,
    there: _Written,
    prices: Prices | Mapping[str, Prices] | None,
) -> _Written:
    """Save the plots that differ from what is there, if plotly is installed."""
    if not any(trial.state == TrialState.COMPLETE for trial in progress.finished):
        return {}
    is_one = len(progress.objectives) == 1
    objective = progress.objectives[0][0]
    points = thin(read_points(progress, None if is_one else _first_value), _MAX_POINTS)
    try:
        figures = {
            "llm-sources": draw_sources(points, is_one, objective),
            "llm-lineage": draw_lineage(points, objective),
            "llm-usage": draw_usage(progress, points, is_one, objective, prices),
        }
    except ImportError as error:
        _warn_once(f"There are no plots in the dashboard. {error}")
        return {}
    written = {}
    for name, figure in figures.items():
        # The default template alone is 6 kB.
        figure.update_layout(template="none")
        key, plot = f"dashboard:plot_data:{name}", figure.to_json()
        if there.get(key) != plot:
            optuna_dashboard.save_plotly_graph_object(study, figure, graph_object_id=name)
            written[key] = plot
    return written


@functools.cache
def _warn_once(message: str) -> None:
    _logger.warning(message)


def _first_value(trial: FrozenTrial) -> float:
    value: float = trial.values[0]
    return value


class DashboardNotes:
    """A callback that keeps notes and plots in the dashboard up to date.

    It calls :func:`annotate` after a trial, and takes 5 % of the time at most: where trials are
    short it skips some, and makes up for it a little later or at the end of the process. Any
    number of workers may have one.

    .. code-block:: python

        study.optimize(objective, n_trials=100, callbacks=[DashboardNotes()])

    Args:
        prices: The model's prices, as for :func:`optuna_llm.usage`.
        max_rows: How many rows of the storage the notes on trials may take together, as for
            :func:`annotate`.

    Raises:
        ValueError: If ``max_rows`` is negative.
    """

    def __init__(
        self,
        *,
        prices: Prices | Mapping[str, Prices] | None = None,
        max_rows: int = MAX_ROWS,
    ) -> None:
        _check_max_rows(max_rows)
        self._prices = prices
        self._max_rows = max_rows
        self._paces: WeakKeyDictionary[Study, Pace] = WeakKeyDictionary()
        with contextlib.suppress(ImportError):
            # Now, so that the first time does not seem to be so slow that the second must wait.
            import_plotly()

    def __getstate__(self) -> dict[str, Any]:
        return {"_prices": self._prices, "_max_rows": self._max_rows}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._paces = WeakKeyDictionary()

    def __call__(self, study: Study, trial: FrozenTrial) -> None:
        """Annotate the study, now or soon."""
        pace = self._paces.setdefault(study, Pace(_SHARE))
        pace.ask(lambda: _annotate(study, self._prices, self._max_rows))


def run(
    storage: str | BaseStorage,
    *,
    host: str = "127.0.0.1",
    port: int = 8080,
    artifact_store: str | Path | ArtifactStore | None = None,
) -> None:
    """Serve optuna-dashboard, until it is interrupted, in a way that suits long texts.

    Given a storage rather than its address, the dashboard keeps what it has read of finished
    trials: at 10,000 trials a page takes a tenth of the time. Attributes of several lines or
    more than 100 characters are cut in its pages, which show them on one line; downloads
    have them whole.

    .. code-block:: python

        from optuna_llm.dashboard import run

        run("sqlite:///study.db")

    Args:
        storage: The storage, or its address.
        host: The name or address to listen at. Whoever can reach it can change studies.
        port: The port to listen at.
        artifact_store: Where the studies' artifacts are, as a directory or a store of Optuna.

    Raises:
        OSError: If the port is taken.
    """
    if isinstance(artifact_store, str | Path):
        artifact_store = FileSystemArtifactStore(artifact_store)
    app = optuna_dashboard.wsgi(optuna.storages.get_storage(storage), artifact_store)
    serve(shorten_attributes(app), host, port)


def _check_max_rows(max_rows: int) -> None:
    if max_rows < 0:
        raise ValueError(f"max_rows must be 0 or more: {max_rows!r}.")
