"""What is written of a trial while its objective runs, since nobody waits for it."""

from __future__ import annotations

from collections.abc import Mapping
import threading
from typing import Any

from optuna import Study
from optuna.trial import FrozenTrial

from optuna_llm._logging import get_logger
from optuna_llm._study import attributes as stored


_logger = get_logger(__name__)

WAIT_SECONDS = 0.2
"""How long a trial has run before its attributes are written beside it.

A database takes milliseconds for each. Trials that begin together have begun by then, and those
that are shorter write for themselves as they end.
"""


class Backlog:
    """Attributes of running trials that are yet to be written; for use by several threads."""

    def __init__(self) -> None:
        self._entries: dict[int, _Entry] = {}
        self._untried: list[_Entry] = []
        self._timer: threading.Timer | None = None
        self._lock = threading.Lock()

    def add(self, study: Study, trial: FrozenTrial, attributes: Mapping[str, Any]) -> None:
        """Have attributes of a trial written; its objective sees them at once.

        Args:
            study: The study.
            trial: The trial that begins, as its sampler is handed it.
            attributes: Its user attributes.
        """
        trial.user_attrs.update(attributes)
        with self._lock:
            entry = self._entries.setdefault(trial._trial_id, _Entry(study, trial))
        entry.add(attributes)
        with self._lock:
            self._untried.append(entry)
            if self._timer is None:
                # No daemon: a process that ends with its trial running is to have written it all.
                self._timer = threading.Timer(WAIT_SECONDS, self._write_untried)
                self._timer.start()

    def settle(self, trial: FrozenTrial) -> None:
        """Have everything written of a trial that ends.

        Raises:
            Exception: What the storage raises.
        """
        entry = self._entries.get(trial._trial_id)
        if entry is None:
            return
        entry.write()
        with self._lock:
            del self._entries[trial._trial_id]
            if not self._entries and self._timer is not None:
                self._timer.cancel()
                self._timer = None
                self._untried.clear()

    def _write_untried(self) -> None:
        with self._lock:
            entries, self._untried = self._untried, []
            self._timer = None
        for entry in entries:
            try:
                entry.write()
            except Exception as error:  # noqa: BLE001 - raised again when the trial ends
                _logger.debug("Not written yet: %s", error)


class _Entry:
    """What is yet to be written of one trial."""

    def __init__(self, study: Study, trial: FrozenTrial) -> None:
        self._study = study
        self._trial = trial
        self._attributes: dict[str, Any] = {}
        self._lock = threading.Lock()

    def add(self, attributes: Mapping[str, Any]) -> None:
        """Write these too."""
        with self._lock:
            self._attributes.update(attributes)

    def write(self) -> None:
        """Write it, or wait until it is written."""
        with self._lock:
            while self._attributes:
                key, value = next(iter(self._attributes.items()))
                stored.write_attributes(self._study, self._trial, {key: value})
                del self._attributes[key]
