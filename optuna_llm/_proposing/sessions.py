"""A sampler's sessions: one for each study that this process works on."""

from __future__ import annotations

from contextlib import nullcontext
import os
import threading
from typing import Any
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary
from weakref import WeakSet

from optuna import Study
from optuna.storages import BaseStorage

from optuna_llm._proposing.settings import Settings
from optuna_llm._study import internals


if TYPE_CHECKING:
    from optuna_llm._proposing.session import StudySession


class Sessions:
    """The sessions of a sampler, one for each study, made when they are asked for.

    A forked child starts without any: threads and locks do not survive a fork, and connections
    must not be shared.

    Args:
        settings: The sampler's.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.reset()
        _all_sessions.add(self)

    def get(self, study: Study) -> StudySession:
        """The session of a study.

        Raises:
            ValueError: If the study's storage would not give back what is stored.
        """
        storage, study_id = internals.find_storage(study)
        with self._lock:
            sessions = self._sessions.setdefault(storage, {})
            if study_id not in sessions:
                internals.check_storage(study)
                # All that makes prompts and reads replies, twice as much to load as the rest.
                from optuna_llm._proposing.session import StudySession

                sessions[study_id] = StudySession(study, self._settings, self._slots)
            return sessions[study_id]

    def reset(self) -> None:
        """Forget all sessions."""
        limit = self._settings.max_concurrent_calls
        self._slots = {
            name: nullcontext() if limit is None else threading.BoundedSemaphore(limit)
            for name in self._settings.models
        }
        self._sessions: WeakKeyDictionary[BaseStorage, dict[int, StudySession]]
        self._sessions = WeakKeyDictionary()
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {"_settings": self._settings}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.reset()
        _all_sessions.add(self)


_all_sessions: WeakSet[Sessions] = WeakSet()


def _reset_all() -> None:
    for sessions in list(_all_sessions):
        sessions.reset()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_all)
