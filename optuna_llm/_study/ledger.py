"""What the trials of a study have cost; each finished trial is read once in a process."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
import threading

from optuna import Study
from optuna.trial import FrozenTrial

from optuna_llm._outcomes import EVALUATION
from optuna_llm._records import Usage
from optuna_llm._study import attributes as stored
from optuna_llm._study import internals
from optuna_llm._study.attempts import subtract_attempts
from optuna_llm._study.declarations import read_unclaimed
from optuna_llm._study.memory import StudyMemory


@dataclass(frozen=True)
class TrialCost:
    """The cost of one trial's proposal, or of the models that its objective asked.

    Attributes:
        trial: The trial's number; None for proposals that no trial has used.
        source: Who decided the trial's values; ``"evaluation"`` for what the objective asked,
            ``"none"`` if unknown.
        proposer: The configured name of the model that was asked; ``"unclaimed"`` for proposals
            that no trial has used, ``"evaluation"`` as above, ``"none"`` if unknown.
        model: The model's name as its server reports it; empty if it reports none.
        usage: Tokens, calls and seconds.
    """

    trial: int | None
    source: str
    proposer: str
    model: str
    usage: Usage


def read_costs(study: Study) -> list[TrialCost]:
    """The cost of each proposal of a study, including those that no trial has used."""
    unclaimed = [
        TrialCost(None, "unclaimed", "unclaimed", model, spent)
        for model, spent in read_unclaimed(study.user_attrs)
        if spent.calls
    ]
    trials = study.get_trials(deepcopy=False)
    return _ledgers.find(study, trials).read(trials) + unclaimed


def read_trial_costs(trials: Sequence[FrozenTrial]) -> list[TrialCost]:
    """The cost of each trial whose proposal has arrived, even if in the call for another trial."""
    by_number = {trial.number: trial for trial in trials}
    return [cost for trial in trials for cost in _read_costs(trial, by_number)]


def read_trial_cost(trial: FrozenTrial, trials: Sequence[FrozenTrial]) -> list[TrialCost]:
    """What one trial among all of its study has cost, by who was asked for it."""
    failed = internals.read_failed_trial(trial)
    is_known = failed is not None and 0 <= failed < len(trials)
    return _read_costs(trial, {failed: trials[failed]} if failed is not None and is_known else {})


def _read_costs(trial: FrozenTrial, by_number: Mapping[int, FrozenTrial]) -> list[TrialCost]:
    """What a trial's proposal has cost, by who was asked for it; nothing while it is unknown.

    The retry of a stale trial has a copy of its attributes, the cost included, which is counted
    once.
    """
    provenance = stored.read_provenance(trial)
    if provenance.usage is None:
        return []
    failed = internals.read_failed_trial(trial)
    first = None if failed is None else by_number.get(failed)
    if first is not None and provenance.usage == stored.read_provenance(first).usage:
        return []
    source = provenance.source or "none"
    costs = [
        TrialCost(
            trial.number,
            EVALUATION if tried.result == "evaluated" else source,
            tried.proposer or "unclaimed",
            tried.model or "",
            tried.usage,
        )
        for tried in provenance.attempts
    ]
    own = subtract_attempts(provenance.usage, provenance.attempts)
    if own is not None:
        model, proposer = provenance.model or "", provenance.proposer or "none"
        costs.append(TrialCost(trial.number, source, proposer, model, own))
    return costs


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
                costs = _read_costs(trial, first)
                is_finished = trial.state.is_finished()
                if is_finished:
                    self._open.remove(number)
                (self._settled if is_finished else running).extend(costs)
            return self._settled + running


_ledgers = StudyMemory(_Ledger)
