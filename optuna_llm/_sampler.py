"""The sampler: Optuna asks it for a trial's values, and it asks the model."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import copy
from dataclasses import replace
import os
from pathlib import Path
import random
from typing import Any
from typing import get_args

from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.samplers import TPESampler
from optuna.trial import FrozenTrial
from optuna.trial import TrialState

from optuna_llm._errors import LLMError
from optuna_llm._errors import ModelSetupError
from optuna_llm._errors import ReplyError
from optuna_llm._logging import get_logger
from optuna_llm._prompt.choice import choose_usual
from optuna_llm._prompt.choice import HistoryPolicy
from optuna_llm._prompt.page import Request
from optuna_llm._prompt.system import SYSTEM_TEMPLATE
from optuna_llm._prompt.system import Templates
from optuna_llm._prompt.system import USER_TEMPLATE
from optuna_llm._proposing.asker import Asker
from optuna_llm._proposing.asker import LEAST_PROMPT_TOKENS
from optuna_llm._proposing.asker import Preview
from optuna_llm._proposing.exchanges import Answer
from optuna_llm._proposing.exchanges import LOG_VARIABLE
from optuna_llm._proposing.pool import Pool
from optuna_llm._proposing.view import Edits
from optuna_llm._proposing.view import View
from optuna_llm._proposing.view import Views
from optuna_llm._records import Problem
from optuna_llm._records import Proposal
from optuna_llm._records import Source
from optuna_llm._reply.proposals import check_proposal
from optuna_llm._study import attributes as stored
from optuna_llm.models import ModelLike
from optuna_llm.models import resolve_model


_logger = get_logger(__name__)


class LLMSampler(BaseSampler):
    """A sampler that asks a language model for the next trial's values.

    .. code-block:: python

        import optuna
        from optuna_llm import LLMSampler, suggest_text


        def objective(trial):
            greeting = suggest_text(trial, "greeting", "Hello", description="A greeting.")
            return len(greeting) + trial.suggest_float("x", 0, 1)


        study = optuna.create_study(sampler=LLMSampler("Be brief.", model="offline"))
        study.optimize(objective, n_trials=10)

    Trial 0 takes the initial texts, and numbers from the base sampler. Each later trial is
    proposed by the model in one call, from what all trials of the study have come to, whoever
    ran them. A reply that cannot be used goes back to the model with the reason. If the model
    gives no usable reply, numbers come from the base sampler (the trial's ``llm:source`` is
    then ``fallback``, and ``llm:error`` says why); a trial that needs a text fails with an
    :class:`LLMError`, which ``study.optimize(…, catch=LLMError)`` lets pass.

    Args:
        task: What the study is about, in words for the model. By default what the study was
            told before.
        model: A :class:`ChatModel`, a function ``messages -> str`` or a name: ``"offline"`` is
            :class:`OfflineModel`, any other an :class:`OpenAIModel`. None is the name in the
            environment variable ``OPTUNA_LLM_MODEL``.
        base_sampler: Decides numbers where the model does not;
            :class:`~optuna.samplers.TPESampler` by default.
        seed: Makes what is drawn here repeatable: by the default base sampler, by the stand-in
            model if it is given by name, and which trial's text the next one is to start from
            (7 in 10 times the best; else one of the leading five or, 1 in 10 times, any
            complete one; half as often the best after eight trials without gain).
        max_prompt_tokens: What the messages of one call may take together, a token counted as
            4 characters. Above it the history is cut to the best and the latest trials.
        max_reply_retries: How often a reply that cannot be used is sent back.
        prefetch: How many proposals are asked for in the background while objectives run, so
            that trials need not wait for the model: twice as many as trials run here at once
            hide all of a model that is about as slow as the objective. What a trial's proposal
            cost, and why it was made, is then written while its objective runs. 0 asks when a
            trial needs one.
        proposals_per_call: How many proposals a reply is to hold, for the next trials of this
            process. They share the cost of the prompt; the later ones know less.
        max_concurrent_calls: How many calls to the model may be under way at once; None for
            any number.
        edits: Whether the model may answer with changes to a trial's text in place of a whole
            one: ``"auto"`` for texts of more than 1,500 characters, as long as it is good at it;
            ``"always"`` or ``"never"``.
        history: Says which trials are shown when not all of them fit; called with all finished
            trials and the study's directions, it returns those to be kept, the most worth
            showing first. By default in turn one of the best, of the latest, of the failed with
            feedback, and of each level of values.
        system_template: The system message, with placeholders for what it is made of: any of
            ``{role}`` ``{task}`` ``{objectives}`` ``{numbers}`` ``{texts}`` ``{data}``, and
            ``{reply}``, the form of the answer, which must be there.
        user_template: The user message: any of ``{history}`` ``{best}`` ``{running}``, and
            ``{request}``, which must be there.
        log_file: A file that gets a line of JSON for each call: messages, reply, usage, seconds
            and outcome. By default what ``OPTUNA_LLM_LOG`` names.

    Raises:
        ValueError: If no model is named or the one named cannot be reached for lack of a key,
            a number is out of range, or a template cannot be filled in.
        TypeError: If an argument is of another type.
    """

    def __init__(
        self,
        task: str = "",
        *,
        model: ModelLike = None,
        base_sampler: BaseSampler | None = None,
        seed: int | None = None,
        max_prompt_tokens: int = 16_000,
        max_reply_retries: int = 2,
        prefetch: int = 0,
        proposals_per_call: int = 1,
        max_concurrent_calls: int | None = None,
        edits: Edits = "auto",
        history: HistoryPolicy = choose_usual,
        system_template: str = SYSTEM_TEMPLATE,
        user_template: str = USER_TEMPLATE,
        log_file: str | os.PathLike[str] | None = None,
    ) -> None:
        if not isinstance(task, str):
            raise TypeError(f"task must be a string: {task!r}.")
        if stored.json_bytes(task) > stored.MAX_BYTES:
            raise ValueError(f"task is too long to be stored: {len(task):,} characters.")
        if base_sampler is not None and not isinstance(base_sampler, BaseSampler):
            raise TypeError(f"base_sampler must be an Optuna sampler: {base_sampler!r}.")
        if max_prompt_tokens < LEAST_PROMPT_TOKENS:
            raise ValueError(f"max_prompt_tokens must be 500 or more: {max_prompt_tokens!r}.")
        if max_reply_retries < 0:
            raise ValueError(f"max_reply_retries must be 0 or more: {max_reply_retries!r}.")
        for name, number, least in (
            ("prefetch", prefetch, 0),
            ("proposals_per_call", proposals_per_call, 1),
            ("max_concurrent_calls", max_concurrent_calls, 1),
        ):
            if number is not None and number < least:
                raise ValueError(f"{name} must be {least} or more: {number!r}.")
        self._task = task
        log_file = log_file or os.environ.get(LOG_VARIABLE) or None
        self._asker = Asker(
            resolve_model(model, seed),
            templates=Templates(system_template, user_template),
            max_prompt_tokens=max_prompt_tokens,
            max_reply_retries=max_reply_retries,
            max_concurrent_calls=max_concurrent_calls,
            log_file=None if log_file is None else Path(log_file),
        )
        self._base_sampler = TPESampler(seed=seed) if base_sampler is None else base_sampler
        if edits not in (known := get_args(Edits)):
            raise ValueError(f"edits must be one of {', '.join(known)}: {edits!r}.")
        self._edits = edits
        self._history_policy = history
        self._seed = random.SystemRandom().getrandbits(32) if seed is None else seed
        self._prefetch = prefetch
        self._proposals_per_call = proposals_per_call
        self._max_concurrent_calls = max_concurrent_calls
        self._views = Views(self._make_view)

    def __getstate__(self) -> dict[str, Any]:
        # Views are made of what the storage holds, and have locks, which cannot be copied.
        return {name: value for name, value in self.__dict__.items() if name != "_views"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._views = Views(self._make_view)

    def preview(self, study: Study) -> Preview:
        """The messages that the model would be sent for the next trial, without a call.

        .. code-block:: python

            print(sampler.preview(study))

        Args:
            study: A study that has had a trial.

        Raises:
            ValueError: If no trial has had parameters yet, or they do not fit into the prompt.
        """
        view = self._views.get(study)
        problem, request = view.preview(study, self._task)
        problem = replace(problem, n_proposals=self._proposals_per_call)
        return self._asker.preview(view, problem, request)

    def reseed_rng(self) -> None:
        self._base_sampler.reseed_rng()

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        self._base_sampler.before_trial(study, trial)

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        whole = _unfiltered(study)
        return self._views.get(whole).read_space(whole, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        whole = _unfiltered(study)
        view = self._views.get(whole)
        problem, request = view.pose(whole, trial, search_space, self._task)
        view.pool.enter(trial.number)
        source: Source
        values: Mapping[str, Any]
        if trial.number == 0 or not view.is_worth_asking(problem):
            source = "initial" if problem.texts else "base"
            values = self._sample_base(study, trial, search_space)
        else:
            answer = self._get_answer(whole, trial, view, problem, request)
            self._tell(whole, trial, view, _answer_attributes(answer))
            if isinstance(answer.outcome, Proposal):
                source = "model"
                values = answer.outcome.params
            elif isinstance(answer.outcome, ModelSetupError):
                _stop(whole)
                raise answer.outcome
            elif problem.texts:
                raise answer.outcome
            else:
                _logger.warning("%s The base sampler decides.", answer.outcome)
                source = "fallback"
                values = self._sample_base(study, trial, search_space)
        if _is_enqueued(trial):
            # Of a trial done again, who had decided its values the first time.
            source = stored.read_source(trial.user_attrs) or "user"
        self._tell(whole, trial, view, stored.source_attributes(source))
        return dict(values)

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        if param_name in stored.read_texts(trial.user_attrs):
            raise ValueError(f"{param_name!r} is a text parameter: name the number otherwise.")
        return self._base_sampler.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self,
        study: Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        whole = _unfiltered(study)
        view = self._views.get(whole)
        if _is_enqueued(trial) and not stored.read_source(trial.user_attrs):
            # All of its values were enqueued: nobody has asked this sampler.
            stored.write_attributes(study, trial, stored.source_attributes("user"))
        view.note_end(trial)
        view.pool.leave(trial.number, is_last=whole._stop_flag)
        view.backlog.settle(trial)
        self._base_sampler.after_trial(study, trial, state, values)

    def _get_answer(
        self, study: Study, trial: FrozenTrial, view: View, problem: Problem, request: Request
    ) -> Answer:
        """A proposal whose values are the trial's now, or why there is none."""
        # Ahead of what is known in full only: else what was made has to be made again.
        is_usual = not request.fixed and not request.given and view.has_results
        size = self._prefetch + self._proposals_per_call
        # If what was made ahead is out of date time after time, this trial asks for itself.
        for _ in range(2 * size if view.pool.is_used and is_usual else 0):
            answer = view.pool.take(lambda: self._ask_ahead(view, problem))
            if not isinstance(answer.outcome, Proposal):
                return answer
            try:
                check_proposal(answer.outcome, problem)
                view.claim(study, trial, answer.outcome, request)
            except ReplyError as error:
                _logger.info("Trial %d: a proposal is out of date: %s", trial.number, error)
                view.pool.drop(answer)
            else:
                view.note_values(trial, answer.outcome)
                view.pool.fill(lambda: self._ask_ahead(view, problem))
                return answer
        return self._asker.ask(
            view, problem, request, lambda p, _: view.claim(study, trial, p, request)
        )

    def _ask_ahead(self, view: View, problem: Problem) -> Answer:
        """Proposals for trials that have not begun; uses no storage, since in other threads."""
        problem = replace(problem, n_proposals=self._proposals_per_call)
        return self._asker.ask(view, problem, view.look_ahead(problem), view.check_ahead)

    def _tell(
        self, study: Study, trial: FrozenTrial, view: View, attributes: Mapping[str, Any]
    ) -> None:
        """Write what tells of a trial that begins, and what nothing depends on while it runs."""
        if self._prefetch and not _is_enqueued(trial):
            view.backlog.add(study, trial, attributes)
        else:
            stored.write_attributes(study, trial, attributes)

    def _make_view(self, study: Study) -> View:
        pool = Pool(self._prefetch, self._proposals_per_call, self._max_concurrent_calls)
        return View(study, pool, edits=self._edits, choose=self._history_policy, seed=self._seed)

    def _sample_base(
        self, study: Study, trial: FrozenTrial, search_space: Mapping[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The base sampler's values for all of a search space."""
        own_space = self._base_sampler.infer_relative_search_space(study, trial)
        sampled = self._base_sampler.sample_relative(study, trial, own_space)
        values = {name: sampled[name] for name in search_space if name in sampled}
        # The rest one by one, each in sight of those before, as an objective would ask; what a
        # sampler's before_trial has written is in the storage only.
        trial = copy.copy(trial)
        trial.system_attrs = study._storage.get_trial_system_attrs(trial._trial_id)
        trial.params = trial.params | values
        trial.distributions = trial.distributions | {n: search_space[n] for n in values}
        for name, distribution in search_space.items():
            if name not in values:
                value = self._base_sampler.sample_independent(study, trial, name, distribution)
                values[name] = value
                trial.params = trial.params | {name: value}
                trial.distributions = trial.distributions | {name: distribution}
        return values


def _answer_attributes(answer: Answer) -> dict[str, Any]:
    """What a trial stores of what asking the model came to, beside the texts."""
    cost = stored.cost_attributes(answer.usage, answer.model)
    if isinstance(answer.outcome, LLMError):
        return cost | stored.error_attributes(answer.outcome)
    parent = answer.parent if answer.outcome.parent is None else answer.outcome.parent
    parent = parent if answer.outcome.texts else None
    return stored.proposal_attributes(answer.outcome.rationale, parent) | cost


def _unfiltered(study: Study) -> Study:
    """The study itself, where a HyperbandPruner hands over a part of it.

    That part lacks the attributes that are needed here, and a model reads all trials.
    """
    whole: Study = getattr(study, "_study", study)
    return whole


def _is_enqueued(trial: FrozenTrial) -> bool:
    """Whether the user has set values of the trial, be it none."""
    return "fixed_params" in trial.system_attrs


def _stop(study: Study) -> None:
    """End the study's loop if it is in one, so that not even ``catch`` lets it go on."""
    with contextlib.suppress(RuntimeError):
        study.stop()
