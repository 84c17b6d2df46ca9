"""What the trials of a study have cost; each finished trial is read once in a process."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
import os
import threading
from weakref import WeakKeyDictionary

from optuna import Study
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial

from optuna_llm._records import Usage
from optuna_llm._study import attributes as stored
from optuna_llm._study import internals
from optuna_llm._study.declarations import read_unclaimed


@dataclass(frozen=True)
class TrialCost:
    """The cost of one trial's proposal.

    Attributes:
        trial: The trial's number; None for proposals that no trial has used.
        source: Who decided the trial's values; ``"none"`` if unknown.
        model: The model's name as its server reports it; empty if it reports none.
        usage: Tokens, calls and seconds.
    """

    trial: int | None
    source: str
    model: str
    usage: Usage


def read_costs(study: Study) -> list[TrialCost]:
    """The cost of each proposal of a study, including those that no trial has used."""
    unclaimed = [
        TrialCost(None, "unclaimed", model, spent)
        for model, spent in read_unclaimed(study.user_attrs)
        if spent.calls
    ]
    trials = study.get_trials(deepcopy=False)
    return _ledgers.find(study, trials).read(trials) + unclaimed


def read_trial_costs(trials: Sequence[FrozenTrial]) -> list[TrialCost]:
    """The cost of each trial whose proposal has arrived, even if in the call for another trial."""
    by_number = {trial.number: trial for trial in trials}
    costs = (_read_cost(trial, by_number) for trial in trials)
    return [cost for cost in costs if cost is not None]


def read_trial_cost(trial: FrozenTrial, trials: Sequence[FrozenTrial]) -> TrialCost | None:
    """The cost of one trial among all of its study; None where it has none of its own."""
    failed = internals.read_failed_trial(trial)
    is_known = failed is not None and 0 <= failed < len(trials)
    return _read_cost(trial, {failed: trials[failed]} if failed is not None and is_known else {})


def _read_cost(trial: FrozenTrial, by_number: Mapping[int, FrozenTrial]) -> TrialCost | None:
    """The cost of a trial's proposal; None where it has cost nothing yet.

    The retry of a stale trial has a copy of its attributes, the cost included, which is counted
    once.
    """
    provenance = stored.read_provenance(trial)
    if provenance.usage is None:
        return None
    failed = internals.read_failed_trial(trial)
    first = None if failed is None else by_number.get(failed)
    if first is not None and provenance.usage == stored.read_provenance(first).usage:
        return None
    source = provenance.source or "none"
    return TrialCost(trial.number, source, provenance.model or "", provenance.usage)


class _Ledger:
    """The costs of one study's trials; thread-safe."""

    def __init__(self) -> None:
        self._settled: list[TrialCost] = []
        self._open: set[int] = set()
        self._n_seen = 0
        self._lock = threading.Lock()

    def read(self, trials: Sequence[FrozenTrial]) -> list[TrialCost]:
        """The cost of each trial that has any.

        Args:
            trials: All trials of the study, by number.
        """
        with self._lock:
            self._open.update(range(self._n_seen, len(trials)))
            self._n_seen = max(self._n_seen, len(trials))
            by_number = {n: trials[n] for n in self._open if n < len(trials)}
            retried = (internals.read_failed_trial(trial) for trial in by_number.values())
            first = {n: trials[n] for n in retried if n is not None and 0 <= n < len(trials)}
            running: list[TrialCost] = []
            for number, trial in sorted(by_number.items()):
                cost = _read_cost(trial, first)
                is_finished = trial.state.is_finished()
                if is_finished:
                    self._open.remove(number)
                if cost is not None:
                    (self._settled if is_finished else running).append(cost)
            return self._settled + running


class _Ledgers:
    """A ledger for each study that this process has asked about."""

    def __init__(self) -> None:
        self.reset()

    def find(self, study: Study, trials: Sequence[FrozenTrial]) -> _Ledger:
        """The ledger of a study, a new one if another study has taken its ID."""
        storage, study_id = internals.find_storage(study)
        first = trials[0].datetime_start if trials else None
        with self._lock:
            ledgers = self._by_storage.setdefault(storage, {})
            key = (study_id, study.study_name, first)
            if key not in ledgers:
                ledgers[key] = _Ledger()
            return ledgers[key]

    def reset(self) -> None:
        """Forget all: locks do not survive a fork."""
        self._lock = threading.Lock()
        self._by_storage: WeakKeyDictionary[BaseStorage, dict[object, _Ledger]]
        self._by_storage = WeakKeyDictionary()


_ledgers = _Ledgers()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_ledgers.reset)
