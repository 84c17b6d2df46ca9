"""Proposals of the model made ahead of the trials that take them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from optuna import Study
from optuna.trial import FrozenTrial

from optuna_llm._errors import ReplyError
from optuna_llm._logging import get_logger
from optuna_llm._outcomes import Outcome
from optuna_llm._prompt.request import make_request
from optuna_llm._prompt.request import Request
from optuna_llm._proposing.choosing import ProposerChooser
from optuna_llm._proposing.claims import check_new
from optuna_llm._proposing.claims import ClaimRegistry
from optuna_llm._proposing.panel import ModelPanel
from optuna_llm._proposing.prefetch import Prefetcher
from optuna_llm._proposing.settings import Settings
from optuna_llm._records import Problem
from optuna_llm._records import Proposal
from optuna_llm._reply.proposals import check_proposal
from optuna_llm._study import internals
from optuna_llm._study.identity import make_claim
from optuna_llm._study.snapshot import StudySnapshot
from optuna_llm._study.store import StudyStore


_logger = get_logger(__name__)


class AheadProposer:
    """Has models asked ahead, and gives trials what came of it; thread-safe.

    Args:
        settings: The sampler's.
        store: The study's.
        claims: Keeps trials apart.
        panel: The models.
        chooser: Decides which of them is asked.
    """

    def __init__(
        self,
        settings: Settings,
        store: StudyStore,
        claims: ClaimRegistry,
        panel: ModelPanel,
        chooser: ProposerChooser,
    ) -> None:
        self._settings = settings
        self._store = store
        self._claims = claims
        self._panel = panel
        self._chooser = chooser
        limit = settings.max_concurrent_calls
        self._prefetcher = Prefetcher(
            settings.prefetch,
            settings.proposals_per_call,
            None if limit is None else limit * len(settings.models),
        )

    def enter(self, trial: FrozenTrial) -> None:
        """A trial begins to run here."""
        self._prefetcher.enter(trial.number)

    def leave(self, study: Study, trial: FrozenTrial) -> None:
        """A trial has ended. Once none has run for a while, unused proposals are accounted for."""
        self._prefetcher.leave(
            trial.number,
            is_last=internals.is_stopping(study),
            settle=lambda usage: self._store.record_unclaimed(study, usage),
        )

    def take(
        self, study: Study, trial: FrozenTrial, snapshot: StudySnapshot, request: Request
    ) -> Outcome | None:
        """What was made ahead and still fits, or why there is none; None to ask for this trial."""
        # Ahead of what is known in full only: otherwise what was made has to be made again.
        is_usual = not request.fixed and not request.given and snapshot.has_results
        if not self._prefetcher.is_used or not is_usual:
            return None

        def ask() -> Outcome:
            return self._ask(request.problem)

        # If what was made ahead is stale time after time, this trial asks for itself.
        for _ in range(2 * (self._settings.prefetch + self._settings.proposals_per_call)):
            outcome = self._prefetcher.take(ask)
            if not isinstance(outcome.result, Proposal):
                return outcome
            try:
                check_proposal(outcome.result, request.problem)
                self._claims.claim(study, trial, outcome, request)
            except ReplyError as error:
                _logger.info("Trial %d: a proposal is stale: %s", trial.number, error)
                self._prefetcher.drop(outcome)
            else:
                self._prefetcher.fill(ask)
                return outcome
        return None

    def _ask(self, problem: Problem) -> Outcome:
        """Proposals for trials that have not begun; uses no storage, since in other threads."""
        snapshot = self._store.latest
        proposals = self._prefetcher.proposals
        request = make_request(
            snapshot,
            replace(problem, n_proposals=self._settings.proposals_per_call),
            snapshot.n_trials - self._prefetcher.n_waiting + len(proposals),
            seed=self._settings.seed,
            taken=self._claims.taken,
            proposals=proposals,
            parents=self._settings.parents,
        )
        # The model is chosen as of now. Whether the trial takes it or the base sampler is decided
        # when it begins.
        order = self._chooser.choose(snapshot, request.number, has_base=False)
        return self._panel.propose(snapshot, request, self._accept, order)

    def _accept(self, outcome: Outcome, others: Sequence[Proposal]) -> None:
        """Refuse a proposal for a later trial that would be a duplicate, as far as is known."""
        assert isinstance(outcome.result, Proposal)
        check_new(self._store.latest, outcome.result.params, outcome.result.texts)
        claim = _claim(outcome.result)
        if any(claim == _claim(other) for other in [*self._prefetcher.proposals, *others]):
            raise ReplyError("another trial is about to take these values: propose others.")


def _claim(proposal: Proposal) -> str:
    return make_claim(proposal.params, proposal.texts)
