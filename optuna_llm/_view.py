"""What one process knows of the studies it works on, between its calls."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
import threading
from weakref import WeakKeyDictionary

from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial

from optuna_llm import _attributes
from optuna_llm._errors import ReplyError
from optuna_llm._history import History
from optuna_llm._history import make_claim
from optuna_llm._prompt import render_prompt
from optuna_llm._prompt import Request
from optuna_llm._prompt import Templates
from optuna_llm._records import Message
from optuna_llm._records import Problem
from optuna_llm._records import Proposal
from optuna_llm._records import TextParameter
from optuna_llm._records import TrialRecord
from optuna_llm._transcript import Transcript


class View:
    """What one process knows of one study; all methods may be called from several threads."""

    def __init__(self, study: Study) -> None:
        names = study.metric_names
        if names is None:
            count = len(study.directions)
            names = ["value"] if count == 1 else [f"value {i}" for i in range(count)]
        self._objectives = tuple(zip(names, study.directions, strict=True))
        self._history = History(study.directions)
        self._transcript = Transcript()
        self._task: str | None = None
        self._fresh_for = -1
        self._lock = threading.Lock()

    def read_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The number parameters that are known when a trial begins."""
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
        attributes = study.user_attrs
        declared = _attributes.read_declared_texts(attributes)
        if self._task is None:
            self._task = task or _attributes.read_task(attributes)
            if self._task != _attributes.read_task(attributes):
                _attributes.write_task(study, self._task)
        fixed = trial.system_attrs.get("fixed_params", {})
        given = _given_texts(trial, declared)
        with self._lock:
            problem = Problem(
                task=self._task,
                objectives=self._objectives,
                numbers={n: d for n, d in search_space.items() if n not in fixed},
                texts=[text for name, text in declared.items() if name not in given],
                conditional=self._history.conditional,
                constrained=self._history.constrained,
            )
            running = [r for r in self._history.running if r.number != trial.number]
            leaders = self._history.leaders
            parent = self._choose_parent(leaders, trial.number, problem)
        return problem, Request(trial.number, leaders, parent, running, fixed, given)

    def is_worth_asking(self, problem: Problem) -> bool:
        """Whether there is anything that a model could propose and that is not tried yet."""
        if problem.texts:
            return True
        with self._lock:
            return bool(problem.numbers) and not self._history.is_exhausted(problem.numbers)

    def render(
        self, problem: Problem, request: Request, max_tokens: int, templates: Templates
    ) -> tuple[Message, Message]:
        """The messages that ask for it."""
        with self._lock:
            return render_prompt(
                problem, self._history, request, self._transcript, max_tokens, templates
            )

    def claim(
        self, study: Study, trial: FrozenTrial, proposal: Proposal, request: Request
    ) -> None:
        """Claim a proposal's values for a trial, unless they are those of another.

        The claim is written before the others are read: so of two workers that were given the
        same values at the same time one at least sees the other.

        Raises:
            ReplyError: If a trial has these values, or is about to take them.
        """
        numbers = {**request.fixed, **proposal.numbers}
        texts = {**request.given, **proposal.texts}
        claim = make_claim(numbers, texts)
        _attributes.write_attributes(study, trial, _attributes.claim_attributes(claim))
        self._refresh(study)
        with self._lock:
            equal = self._history.find_equal(numbers, texts, but=trial.number)
            if equal is None:
                equal = self._history.find_claim(claim, but=trial.number)
        if equal is not None:
            raise ReplyError(f"trial {equal} has these values already: propose others.")

    def _refresh(self, study: Study) -> None:
        trials = study.get_trials(deepcopy=False)
        with self._lock:
            self._history.update(trials)

    def _choose_parent(
        self, leaders: Sequence[TrialRecord], number: int, problem: Problem
    ) -> TrialRecord | None:
        """The trial whose texts the next one is to start from."""
        if not problem.texts:
            return None
        if not leaders:
            return self._history.latest_with(problem.texts[0].name)
        # Of several objectives no trial is the best: each in turn is built upon.
        return leaders[-1 if len(self._objectives) == 1 else number % len(leaders)]


class Views:
    """The views of the studies that a sampler serves, made when they are asked for."""

    def __init__(self) -> None:
        self._views: WeakKeyDictionary[BaseStorage, dict[int, View]] = WeakKeyDictionary()
        self._lock = threading.Lock()

    def get(self, study: Study) -> View:
        """The view of a study."""
        with self._lock:
            views = self._views.setdefault(study._storage, {})
            if study._study_id not in views:
                views[study._study_id] = View(study)
            return views[study._study_id]


def _given_texts(trial: FrozenTrial, declared: Mapping[str, TextParameter]) -> dict[str, str]:
    """The texts that a trial has before the model is asked: enqueued by the user."""
    texts = _attributes.read_texts(trial.user_attrs)
    for name in declared:
        value = trial.user_attrs.get(name)
        if name not in texts and isinstance(value, str):
            texts[name] = value
    return texts
