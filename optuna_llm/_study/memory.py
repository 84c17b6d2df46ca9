"""What this process keeps of the studies that it has asked about, so as not to read all again."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
import os
import threading
from typing import Any
from typing import Generic
from typing import TypeVar
from weakref import WeakKeyDictionary
from weakref import WeakSet

from optuna import Study
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial

from optuna_llm._study import internals


_Kept = TypeVar("_Kept")


class StudyMemory(Generic[_Kept]):
    """Something for each study, as long as its storage is in use here; thread-safe.

    Args:
        make: Makes it for a study that nothing is kept of yet.
    """

    def __init__(self, make: Callable[[], _Kept]) -> None:
        self._make = make
        self.reset()
        _memories.add(self)

    def find(self, study: Study, trials: Sequence[FrozenTrial]) -> _Kept:
        """What is kept of a study; a new one if another study has taken its ID."""
        storage, study_id = internals.find_storage(study)
        first = trials[0].datetime_start if trials else None
        with self._lock:
            kept = self._by_storage.setdefault(storage, {})
            key = (study_id, study.study_name, first)
            if key not in kept:
                kept[key] = self._make()
            return kept[key]

    def reset(self) -> None:
        """Forget all: locks do not survive a fork."""
        self._lock = threading.Lock()
        self._by_storage: WeakKeyDictionary[BaseStorage, dict[object, _Kept]]
        self._by_storage = WeakKeyDictionary()


_memories: WeakSet[StudyMemory[Any]] = WeakSet()


def _reset_all() -> None:
    for memory in list(_memories):
        memory.reset()


# Windows has no fork.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_all)
