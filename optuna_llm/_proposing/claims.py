"""No two trials with the same values, however many workers propose at the same time."""

from __future__ import annotations

from collections.abc import Mapping
import threading

from optuna import Study
from optuna.trial import FrozenTrial
from optuna.trial import TrialState

from optuna_llm._errors import ReplyError
from optuna_llm._outcomes import Outcome
from optuna_llm._prompt.request import Request
from optuna_llm._records import ParamValue
from optuna_llm._records import Proposal
from optuna_llm._records import TrialRecord
from optuna_llm._study.identity import make_claim
from optuna_llm._study.snapshot import StudySnapshot
from optuna_llm._study.store import StudyStore


class ClaimRegistry:
    """Gives values to trials, one trial each; thread-safe.

    Args:
        store: Where claims are written and other workers' claims are read.
    """

    def __init__(self, store: StudyStore) -> None:
        self._store = store
        self._taken: dict[int, TrialRecord] = {}
        self._lock = threading.Lock()
        self._claiming = threading.Lock()

    @property
    def taken(self) -> Mapping[int, TrialRecord]:
        """Values of trials that run in this process: the storage may not hold them yet."""
        with self._lock:
            return dict(self._taken)

    def claim(self, study: Study, trial: FrozenTrial, outcome: Outcome, request: Request) -> None:
        """Give a proposal's values to a trial, and store what tells of the proposal.

        The claim is written before the others are read: so of two workers that were given the
        same values at the same time, at least one sees the other.

        Args:
            study: The study.
            trial: The trial.
            outcome: A proposal and what it cost.
            request: What was asked for.

        Raises:
            ReplyError: If a trial has these values, or is about to take them.
        """
        assert isinstance(outcome.result, Proposal)
        params = {**request.fixed, **outcome.result.params}
        texts = {**request.given, **outcome.result.texts}
        # One after the other: threads whose trials begin together would otherwise slow each other
        # down at every query, end together, and begin together again.
        with self._claiming:
            claim = make_claim(params, texts)
            self._store.record(study, trial, outcome, texts, claim=claim)
            if outcome.result.repeats is None:
                snapshot, claimant = self._store.find_claimant(study, trial, claim)
                check_new(snapshot, params, texts, besides=trial.number, claimant=claimant)
        record = TrialRecord(
            trial.number,
            TrialState.RUNNING,
            params=params,
            texts=texts,
            rationale=outcome.result.rationale,
            parent=outcome.find_parent(),
            second_parent=outcome.find_second_parent(),
        )
        with self._lock:
            self._taken[trial.number] = record

    def release(self, trial: FrozenTrial) -> None:
        """Forget the values of a trial that ends here: the storage has them."""
        with self._lock:
            self._taken.pop(trial.number, None)


def check_new(
    snapshot: StudySnapshot,
    params: Mapping[str, ParamValue],
    texts: Mapping[str, str],
    *,
    besides: int | None = None,
    claimant: int | None = None,
) -> None:
    """Refuse values that a trial has already, or has claimed.

    Args:
        snapshot: The study.
        params: Proposed numbers.
        texts: Proposed texts.
        besides: Number of the trial that the values are for, if it has begun.
        claimant: Number of a trial that has claimed them since; None for none.

    Raises:
        ReplyError: If there is such a trial.
    """
    equal = snapshot.find_equal(params, texts, besides=besides)
    equal = claimant if equal is None else equal
    if equal is not None:
        raise ReplyError(f"trial {equal} has these values already: propose others.")
