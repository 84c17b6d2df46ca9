"""One process at work on one study: who is asked for a trial's values, and what is kept."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
import itertools

from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial

from optuna_llm._errors import ModelSetupError
from optuna_llm._errors import NeverAnsweredError
from optuna_llm._errors import ReplyError
from optuna_llm._logging import get_logger
from optuna_llm._outcomes import Outcome
from optuna_llm._outcomes import Pass
from optuna_llm._prompt.builder import Prompt
from optuna_llm._prompt.request import make_problem
from optuna_llm._prompt.request import make_request
from optuna_llm._prompt.request import Request
from optuna_llm._proposing.ahead import AheadProposer
from optuna_llm._proposing.choosing import can_vary
from optuna_llm._proposing.choosing import ProposerChooser
from optuna_llm._proposing.claims import ClaimRegistry
from optuna_llm._proposing.credit import BASE
from optuna_llm._proposing.credit import TUNE
from optuna_llm._proposing.panel import ModelPanel
from optuna_llm._proposing.protocol import Proposer
from optuna_llm._proposing.settings import Settings
from optuna_llm._proposing.tuner import Tuner
from optuna_llm._records import ParamValue
from optuna_llm._records import Problem
from optuna_llm._records import Proposal
from optuna_llm._study import attributes as stored
from optuna_llm._study import internals
from optuna_llm._study.snapshot import StudySnapshot
from optuna_llm._study.store import StudyStore
from optuna_llm._study.tunings import find_params
from optuna_llm._study.tunings import mark_texts


_logger = get_logger(__name__)

_TELLING_PASSES = 2
"""After how many passes in a row the user is told."""


class StudySession:
    """What one process keeps of one study between trials; thread-safe.

    Args:
        study: The study.
        settings: The sampler's.
        slots: For each model, what is entered for a call to it, in all studies of the sampler.
    """

    def __init__(
        self,
        study: Study,
        settings: Settings,
        slots: Mapping[str, AbstractContextManager[object]],
    ) -> None:
        self._settings = settings
        self._n_passes = 0
        self._knows_task = False
        self._store = StudyStore(study, settings.task, settings.models)
        self._claims = ClaimRegistry(self._store)
        self._chooser = ProposerChooser(settings)
        self._tuner = Tuner(settings.seed)
        self._panel = ModelPanel(settings, slots, study.study_name)
        self._ahead = AheadProposer(
            settings, self._store, self._claims, self._panel, self._chooser
        )

    def read_space(self, study: Study, trial: FrozenTrial) -> Mapping[str, BaseDistribution]:
        """The number parameters that are known when a trial begins."""
        return self._store.snapshot(study, trial).space

    def propose(
        self,
        study: Study,
        trial: FrozenTrial,
        space: Mapping[str, BaseDistribution],
        base: Proposer,
    ) -> Outcome:
        """A proposal whose values are the trial's now, or why there is none.

        Args:
            study: The study.
            trial: The trial that begins.
            space: Its number parameters.
            base: Decides numbers where there is nothing to ask a model for, or no answer, and
                where that is more promising.
        """
        self._ahead.enter(trial)
        snapshot = self._store.snapshot(study, trial)
        if _find_new_texts(snapshot, trial.number):
            # One trial of all tries an initial text: none that runs may be missing.
            snapshot = self._store.snapshot(study)
        request = self._make_request(snapshot, trial, space)
        texts = request.given
        if not _is_worth_asking(snapshot, request.problem):
            outcome = base.propose(snapshot, request, _accept)
            if new := _find_new_texts(snapshot, trial.number):
                outcome = replace(outcome, source="initial")
                initial = {n: t.initial for n, t in snapshot.texts.items() if n in new}
                texts = {**{n: t for n, t in initial.items() if t is not None}, **texts}
        else:
            order = self._chooser.choose(
                snapshot,
                request.number,
                has_base=can_vary(snapshot, request.problem, request.number),
                has_tuner=self._tuner.find(snapshot, request) is not None,
            )
            others: dict[str, Proposer] = {BASE: base, TUNE: self._tuner}
            varied = None
            for name in itertools.takewhile(others.__contains__, order):
                varied = varied or self._vary(study, trial, snapshot, request, others[name])
            models = [name for name in order if name not in others]
            outcome = varied or self._ask(study, trial, snapshot, request, models)
            if not isinstance(outcome.result, Proposal):
                outcome = self._stand_in(snapshot, request, base, outcome)
        if outcome.source != "model" or not isinstance(outcome.result, Proposal):
            self._store.record(study, trial, outcome, texts)
        return _find_families(snapshot, outcome)

    def _vary(
        self,
        study: Study,
        trial: FrozenTrial,
        snapshot: StudySnapshot,
        request: Request,
        proposer: Proposer,
    ) -> Outcome | None:
        """The proposal of who asks no model, claimed by the trial; None if it was tried before."""

        def claim(outcome: Outcome, others: Sequence[Proposal]) -> None:
            self._claims.claim(study, trial, outcome, request)

        try:
            return proposer.propose(snapshot, request, claim)
        except ReplyError as error:
            _logger.info("Trial %d: no new values without a model: %s", trial.number, error)
            return None

    def _ask(
        self,
        study: Study,
        trial: FrozenTrial,
        snapshot: StudySnapshot,
        request: Request,
        order: Sequence[str],
    ) -> Outcome:
        """A proposal of a model that the trial has claimed, or why there is none."""
        if not self._knows_task:
            self._knows_task = True
            if not snapshot.task:
                _logger.info(
                    "The model is not told what this study is about. Say it in the task, the "
                    'first argument of LLMSampler: LLMSampler("Minimize …").'
                )

        def claim(outcome: Outcome, others: Sequence[Proposal]) -> None:
            self._claims.claim(study, trial, outcome, request)

        try:
            outcome = self._ahead.take(study, trial, snapshot, request)
            if outcome is None:
                outcome = self._panel.propose(snapshot, request, claim, order)
        finally:
            self._panel.record_adaptations(study, self._store)
        if outcome.insights:
            self._store.record_insights(study, outcome.insights)
        return outcome

    def _stand_in(
        self, snapshot: StudySnapshot, request: Request, base: Proposer, asked: Outcome
    ) -> Outcome:
        """The base sampler's proposal where the model has none, if it can stand in."""
        result = asked.result
        self._n_passes = self._n_passes + 1 if isinstance(result, Pass) else 0
        if isinstance(result, Pass):
            if self._n_passes == _TELLING_PASSES:
                _logger.warning("The model sees nothing left to gain: %s", result.reason)
            stand_in = base.propose(snapshot, request, _accept)
            passed = Proposal(_params(stand_in), {}, f"The model passed: {result.reason}")
            return replace(
                stand_in, result=passed, attempts=asked.list_attempts(), model=asked.model
            )
        # A server that has never answered may still come up: meanwhile numbers go on.
        is_final = isinstance(result, ModelSetupError) and not isinstance(
            result, NeverAnsweredError
        )
        if is_final or request.problem.texts:
            return asked
        _logger.warning("%s The base sampler decides.", result)
        return replace(
            base.propose(snapshot, request, _accept),
            source="fallback",
            error=str(result),
            attempts=asked.list_attempts(),
            model=asked.model,
        )

    def end(self, study: Study, trial: FrozenTrial) -> None:
        """Take leave of a trial that ends here."""
        self._store.learn_space(trial)
        self._claims.release(trial)
        self._ahead.leave(study, trial)
        self._store.record_user(study, trial)

    def preview(self, study: Study) -> Prompt:
        """What the model would be asked next; nothing is stored.

        Raises:
            ValueError: If no parameter is known yet.
        """
        snapshot = self._store.snapshot(study)
        problem = make_problem(snapshot, space=snapshot.space)
        if not problem.space and not problem.texts:
            raise ValueError(
                "No parameter is known yet, since no trial has asked for one: run a trial first."
            )
        problem = replace(problem, n_proposals=self._settings.proposals_per_call)
        request = make_request(
            snapshot,
            problem,
            snapshot.n_trials,
            seed=self._settings.seed,
            taken=self._claims.taken,
            parents=self._settings.parents,
        )
        order = self._chooser.choose(snapshot, request.number, has_base=False)
        return self._panel.preview(snapshot, request, order[0])

    def _make_request(
        self, snapshot: StudySnapshot, trial: FrozenTrial, space: Mapping[str, BaseDistribution]
    ) -> Request:
        # A stale trial that is done again has the values that it had then.
        fixed = {**trial.params, **(internals.read_fixed_params(trial) or {})}
        for name in find_params(trial, fixed):
            del fixed[name]  # Its text holds them.
        held = mark_texts(trial, stored.read_texts(trial, snapshot.texts.keys()))
        own = {n: fixed.pop(n) for n in snapshot.texts if isinstance(fixed.get(n), str)}
        given = {**held, **own}
        problem = make_problem(
            snapshot,
            space=space,
            fixed=fixed,
            given=given,
            new=_find_new_texts(snapshot, trial.number),
        )
        return make_request(
            snapshot,
            problem,
            trial.number,
            seed=self._settings.seed,
            taken=self._claims.taken,
            parents=self._settings.parents,
            fixed=fixed,
            given=given,
        )


def _find_families(snapshot: StudySnapshot, outcome: Outcome) -> Outcome:
    """An outcome that says which trials have introduced the tunables in its texts."""
    if not isinstance(outcome.result, Proposal):
        return outcome
    texts = outcome.result.texts
    tunable = [t.name for t in snapshot.texts.values() if t.tunable and t.name in texts]
    found = {name: snapshot.families.find(name, texts[name]) for name in tunable}
    families = {name: number for name, number in found.items() if number is not None}
    return replace(outcome, result=replace(outcome.result, families=families))


def _params(outcome: Outcome) -> Mapping[str, ParamValue]:
    assert isinstance(outcome.result, Proposal)
    return outcome.result.params


def _accept(outcome: Outcome, others: Sequence[Proposal]) -> None:
    """Accept any proposal."""


def _find_new_texts(snapshot: StudySnapshot, number: int) -> frozenset[str]:
    """Names of the texts that no trial has yet: their initial text is tried once.

    By the running trial of the lowest number, so that not all workers try it at once.
    """
    if snapshot.first_running is not None and snapshot.first_running < number:
        return frozenset()
    held = snapshot.longest.keys() | {n for record in snapshot.running for n in record.texts}
    return frozenset(
        name for name, text in snapshot.texts.items() if text.has_initial and name not in held
    )


def _is_worth_asking(snapshot: StudySnapshot, problem: Problem) -> bool:
    """Whether there is anything that a model could propose and that is not tried yet."""
    if problem.texts:
        return True
    return bool(problem.space) and not snapshot.is_exhausted(problem.space)
