"""What one process knows of the studies it works on, between its calls."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import replace
import math
import threading
from typing import Literal
from typing import TypeAlias
from weakref import WeakKeyDictionary

from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial
from optuna.trial import TrialState

from optuna_llm._errors import ReplyError
from optuna_llm._logging import get_logger
from optuna_llm._prompt.aim import choose_parent
from optuna_llm._prompt.aim import find_in_vain
from optuna_llm._prompt.aim import find_target
from optuna_llm._prompt.choice import HistoryPolicy
from optuna_llm._prompt.page import render_prompt
from optuna_llm._prompt.page import Request
from optuna_llm._prompt.system import Templates
from optuna_llm._prompt.transcript import Transcript
from optuna_llm._proposing.backlog import Backlog
from optuna_llm._proposing.pool import Pool
from optuna_llm._records import Message
from optuna_llm._records import ParamValue
from optuna_llm._records import Problem
from optuna_llm._records import Proposal
from optuna_llm._records import TextParameter
from optuna_llm._records import TrialRecord
from optuna_llm._study import attributes as stored
from optuna_llm._study.history import History
from optuna_llm._study.history import make_claim
from optuna_llm._study.history import name_objectives


Edits: TypeAlias = Literal["auto", "always", "never"]

_LONG_TEXT = 1_500
"""From how many characters on a text may be answered with edits."""

_MAX_MISEDITED = 3

_logger = get_logger(__name__)


class View:
    """What one process knows of one study; all methods may be called from several threads.

    Args:
        study: The study.
        pool: The proposals that are asked for ahead of its trials.
        edits: Which texts may be answered with changes to a trial's text.
        choose: Which trials are shown if not all of them fit.
        seed: Of the choice of parents.
    """

    def __init__(
        self, study: Study, pool: Pool, *, edits: Edits, choose: HistoryPolicy, seed: int
    ) -> None:
        self.pool = pool
        self.backlog = Backlog()
        self._choose = choose
        self._seed = seed
        self._edits = edits
        self._n_edited = 0
        self._n_misedited = 0
        self._objectives = name_objectives(study)
        self._history = History(study.directions)
        self._transcript = Transcript()
        self._task: str | None = None
        self._stored_task = ""
        self._declared: Mapping[str, TextParameter] = {}
        self._fresh_for = -1
        self._taken: dict[int, TrialRecord] = {}
        self._lock = threading.Lock()
        self._claiming = threading.Lock()

    def read_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The number parameters that are known when a trial begins."""
        # A trial that takes what is at hand reads the storage when it claims that.
        if not self.pool.proposals:
            self._refresh(study)
        with self._lock:
            self._fresh_for = trial.number
            return self._history.space

    def pose(
        self,
        study: Study,
        trial: FrozenTrial,
        search_space: Mapping[str, BaseDistribution],
        task: str,
    ) -> tuple[Problem, Request]:
        """What there is to be decided for a trial, and what the model is to be asked for it.

        Args:
            study: The study.
            trial: The trial that begins.
            search_space: Its number parameters.
            task: What the study is about; empty for what it was told before.
        """
        if self._fresh_for != trial.number:
            self._refresh(study)
        declared = self._read_declarations(study, task)
        if self._task and self._task != self._stored_task:
            stored.write_task(study, self._task)
            self._stored_task = self._task
        # A trial that is done again, since its worker has died, has the values it had then.
        fixed = trial.params | trial.system_attrs.get("fixed_params", {})
        given = _given_texts(trial, declared)
        with self._lock:
            problem = self._pose_all(
                {n: d for n, d in search_space.items() if n not in fixed},
                [text for name, text in declared.items() if name not in given],
            )
            request = self._request(problem, trial.number)
        return problem, replace(request, fixed=fixed, given=given)

    def preview(self, study: Study, task: str) -> tuple[Problem, Request]:
        """What the model would be asked next; nothing is stored.

        Args:
            study: The study.
            task: As for :meth:`pose`.

        Raises:
            ValueError: If no trial has had parameters yet.
        """
        self._refresh(study)
        declared = self._read_declarations(study, task)
        with self._lock:
            problem = self._pose_all(self._history.space, list(declared.values()))
            if not problem.space and not problem.texts:
                raise ValueError("No parameter is known before trial 0: run a trial first.")
            return problem, self._request(problem, self._history.n_trials)

    def look_ahead(self, problem: Problem) -> Request:
        """What the model is to be asked for trials that have not begun, without the storage.

        Args:
            problem: What there will be to be decided for them.
        """
        proposals = self.pool.proposals
        with self._lock:
            number = self._history.n_trials - self.pool.n_waiting + len(proposals)
            request = self._request(problem, number)
        return replace(request, proposals=proposals)

    def note_end(self, trial: FrozenTrial) -> None:
        """Learn the parameters of a trial that has ended here, ahead of the storage."""
        with self._lock:
            self._history.note_space(trial)

    def note_values(self, trial: FrozenTrial, proposal: Proposal) -> None:
        """Remember the values of a trial that begins here: the storage has not got them yet."""
        record = TrialRecord(
            trial.number, TrialState.RUNNING, params=proposal.params, texts=proposal.texts
        )
        with self._lock:
            self._taken[trial.number] = record

    def find_text(self, request: Request, name: str, number: int | None) -> str | None:
        """The text of a finished trial; without a number that which a request starts from."""
        with self._lock:
            record = request.parent if number is None else self._history.find(number)
            if record is not None and name in record.texts:
                return record.texts[name]
            parameter = self._declared.get(name)
        return parameter.initial if number is None and parameter is not None else None

    def note_edits(self, is_usable: bool) -> None:
        """Learn how well the model does at edits; of one that fails whole texts are asked."""
        with self._lock:
            self._n_edited += is_usable
            self._n_misedited += not is_usable
            if self._edits == "auto" and self._n_misedited >= _MAX_MISEDITED + self._n_edited:
                self._edits = "never"
                _logger.warning("The model fails at edits: it is asked for whole texts.")

    @property
    def has_results(self) -> bool:
        """Whether a trial has ended: before, no more is known of the parameters than was met."""
        with self._lock:
            return self._history.has_results

    def is_worth_asking(self, problem: Problem) -> bool:
        """Whether there is anything that a model could propose and that is not tried yet."""
        if problem.texts:
            return True
        with self._lock:
            return bool(problem.space) and not self._history.is_exhausted(problem.space)

    def render(
        self, problem: Problem, request: Request, max_tokens: int, templates: Templates
    ) -> tuple[Message, Message]:
        """The messages that ask for it."""
        with self._lock:
            return render_prompt(
                problem,
                self._history,
                request,
                self._transcript,
                max_tokens,
                templates,
                self._choose,
            )

    def claim(
        self, study: Study, trial: FrozenTrial, proposal: Proposal, request: Request
    ) -> None:
        """Give a proposal's values to a trial, unless they are those of another.

        A claim is written before the others are read: so of two workers that were given the
        same values at the same time one at least sees the other. The texts are stored; numbers
        are once the objective asks for them.

        Raises:
            ReplyError: If a trial has these values, or is about to take them.
        """
        numbers = {**request.fixed, **proposal.params}
        texts = {**request.given, **proposal.texts}
        claim = stored.claim_attributes(make_claim(numbers, texts))
        # One after the other: threads whose trials begin together would else slow each other
        # down at every query, and end together, and begin together again.
        with self._claiming:
            stored.write_attributes(study, trial, claim)
            self._refresh(study)
            self._check_new(numbers, texts, trial.number)
            if proposal.texts:
                pieces = stored.text_attributes(proposal.texts, trial.user_attrs)
                stored.write_attributes(study, trial, pieces)

    def check_ahead(self, proposal: Proposal, others: Sequence[Proposal]) -> None:
        """Refuse a proposal for a later trial that is no use any more, as far as is known here.

        Args:
            proposal: What was proposed.
            others: What else the same reply has proposed.

        Raises:
            ReplyError: If a trial or another proposal has these values.
        """
        self._check_new(proposal.params, proposal.texts, None)
        claim = make_claim(proposal.params, proposal.texts)
        if any(claim == make_claim(p.params, p.texts) for p in [*self.pool.proposals, *others]):
            raise ReplyError("another trial is about to take these values: propose others.")

    def _check_new(
        self, numbers: Mapping[str, ParamValue], texts: Mapping[str, str], but: int | None
    ) -> None:
        claim = make_claim(numbers, texts)
        with self._lock:
            equal = self._history.find_equal(numbers, texts, but)
            if equal is None:
                equal = self._history.find_claim(claim, but)
        if equal is not None:
            raise ReplyError(f"trial {equal} has these values already: propose others.")

    def _read_declarations(self, study: Study, task: str) -> Mapping[str, TextParameter]:
        """The text parameters, read again only if there seem to be others than are known."""
        here = stored.declared_here(study)
        with self._lock:
            names = self._history.text_names | here.keys()
        if self._task is None or not names <= self._declared.keys():
            attributes = study.user_attrs
            self._stored_task = stored.read_task(attributes)
            self._task = self._task or task or self._stored_task
            self._declared = stored.read_declared_texts(attributes)
        self._declared = {**self._declared, **here}
        return self._declared

    def _pose_all(
        self, numbers: Mapping[str, BaseDistribution], texts: Sequence[TextParameter]
    ) -> Problem:
        """What there is to be decided, with the lock held."""
        return Problem(
            task=self._task or "",
            objectives=self._objectives,
            space=numbers,
            texts=texts,
            conditional=self._history.conditional,
            constrained=self._history.constrained,
            editable=self._find_editable(),
            edits_only=self._edits == "always",
        )

    def _request(self, problem: Problem, number: int) -> Request:
        """What is asked for a trial, with the lock held."""
        leaders = self._history.leaders
        parent = None
        if problem.texts:
            parent = choose_parent(self._history, problem.texts[0].name, number, self._seed)
        running = {record.number: record for record in self._history.running} | self._taken
        running.pop(number, None)
        return Request(
            number,
            leaders,
            parent,
            [running[n] for n in sorted(running)],
            target=find_target(self._history),
            in_vain=find_in_vain(self._history),
        )

    def _find_editable(self) -> frozenset[str]:
        """The texts that are so long that changes are shorter, with the lock held."""
        least = {"auto": _LONG_TEXT, "always": 0, "never": math.inf}[self._edits]
        return frozenset(n for n, size in self._history.longest.items() if size > least)

    def _refresh(self, study: Study) -> None:
        trials = study.get_trials(deepcopy=False)
        with self._lock:
            self._history.update(trials)
            is_over = self._history.is_finished
            self._taken = {n: r for n, r in self._taken.items() if not is_over(n)}


class Views:
    """The views of the studies that a sampler serves, made when they are asked for.

    Args:
        make_view: Makes the view of a study.
    """

    def __init__(self, make_view: Callable[[Study], View]) -> None:
        self._make_view = make_view
        self._views: WeakKeyDictionary[BaseStorage, dict[int, View]] = WeakKeyDictionary()
        self._lock = threading.Lock()

    def get(self, study: Study) -> View:
        """The view of a study."""
        with self._lock:
            views = self._views.setdefault(study._storage, {})
            if study._study_id not in views:
                views[study._study_id] = self._make_view(study)
            return views[study._study_id]


def _given_texts(trial: FrozenTrial, declared: Mapping[str, TextParameter]) -> dict[str, str]:
    """The texts that a trial has before the model is asked: enqueued by the user."""
    texts = stored.read_texts(trial.user_attrs)
    for name in declared:
        value = stored.read_given_text(trial.user_attrs, name)
        if name not in texts and isinstance(value, str):
            texts[name] = value
    return texts
