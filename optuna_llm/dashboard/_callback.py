"""The callback that keeps the dashboard's notes and plots up to date."""

from __future__ import annotations

from collections.abc import Mapping
import contextlib
from typing import Any
from weakref import WeakKeyDictionary

from optuna import Study
from optuna.trial import FrozenTrial

from optuna_llm._study.usage import Prices
from optuna_llm.dashboard._annotate import annotate
from optuna_llm.dashboard._annotate import check_max_rows
from optuna_llm.dashboard._annotate import MAX_ROWS
from optuna_llm.dashboard._throttle import Throttle
from optuna_llm.visualization._figures import import_plotly


_SHARE = 0.05
"""The share of the time that annotating may take."""


class DashboardNotes:
    """Keep a study's notes and plots in optuna-dashboard up to date.

    .. code-block:: python

        study.optimize(objective, n_trials=100, callbacks=[DashboardNotes()])

    Calls :func:`annotate` after trials, and takes at most 5 % of the time: where trials are
    short, it skips some and catches up a little later, at the latest when the process exits. Any
    number of workers may use it on the same study.

    Args:
        prices: The model's prices, as for :func:`optuna_llm.usage`.
        max_rows: Rows of the storage for the notes on trials, as for :func:`annotate`.

    Raises:
        ValueError: If ``max_rows`` is negative.
    """

    def __init__(
        self,
        *,
        prices: Prices | Mapping[str, Prices] | None = None,
        max_rows: int = MAX_ROWS,
    ) -> None:
        check_max_rows(max_rows)
        self._prices = prices
        self._max_rows = max_rows
        self._throttles: WeakKeyDictionary[Study, Throttle] = WeakKeyDictionary()
        with contextlib.suppress(ImportError):
            # Imported now, or the first call would seem so slow that the second is deferred.
            import_plotly()

    def __getstate__(self) -> dict[str, Any]:
        return {"_prices": self._prices, "_max_rows": self._max_rows}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._throttles = WeakKeyDictionary()

    def __call__(self, study: Study, trial: FrozenTrial) -> None:
        """Annotate the study now or soon."""
        throttle = self._throttles.setdefault(study, Throttle(_SHARE))
        throttle.call(lambda: annotate(study, prices=self._prices, max_rows=self._max_rows))
