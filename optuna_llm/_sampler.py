"""The sampler: Optuna asks it for a trial's values, and it asks the model."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import copy
from dataclasses import replace
import os
from pathlib import Path
import time
from typing import Any

from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.samplers import TPESampler
from optuna.trial import FrozenTrial
from optuna.trial import TrialState

from optuna_llm import _attributes
from optuna_llm._errors import ContextLengthError
from optuna_llm._errors import LLMError
from optuna_llm._errors import ModelError
from optuna_llm._errors import ModelSetupError
from optuna_llm._errors import ReplyError
from optuna_llm._exchanges import Answer
from optuna_llm._exchanges import log_exchange
from optuna_llm._exchanges import LOG_VARIABLE
from optuna_llm._logging import get_logger
from optuna_llm._prompt import CHARACTERS_PER_TOKEN
from optuna_llm._prompt import Request
from optuna_llm._prompt import SYSTEM_TEMPLATE
from optuna_llm._prompt import Templates
from optuna_llm._prompt import USER_TEMPLATE
from optuna_llm._records import Message
from optuna_llm._records import Problem
from optuna_llm._records import Proposal
from optuna_llm._records import Source
from optuna_llm._records import TrialRecord
from optuna_llm._records import Usage
from optuna_llm._reply import parse_reply
from optuna_llm._view import View
from optuna_llm._view import Views
from optuna_llm.models import ModelLike
from optuna_llm.models import resolve_model


_logger = get_logger(__name__)

_LEAST_PROMPT_TOKENS = 500


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
        seed: Makes what is drawn here repeatable: by the default base sampler, and by the
            stand-in model if it is given by name.
        max_prompt_tokens: What the messages of one call may take together, a token counted as
            4 characters. Above it the history is cut to the best and the latest trials.
        max_reply_retries: How often a reply that cannot be used is sent back.
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
        system_template: str = SYSTEM_TEMPLATE,
        user_template: str = USER_TEMPLATE,
        log_file: str | os.PathLike[str] | None = None,
    ) -> None:
        if not isinstance(task, str):
            raise TypeError(f"task must be a string: {task!r}.")
        if _attributes.json_bytes(task) > _attributes.MAX_BYTES:
            raise ValueError(f"task is too long to be stored: {len(task):,} characters.")
        if base_sampler is not None and not isinstance(base_sampler, BaseSampler):
            raise TypeError(f"base_sampler must be an Optuna sampler: {base_sampler!r}.")
        if max_prompt_tokens < _LEAST_PROMPT_TOKENS:
            raise ValueError(f"max_prompt_tokens must be 500 or more: {max_prompt_tokens!r}.")
        if max_reply_retries < 0:
            raise ValueError(f"max_reply_retries must be 0 or more: {max_reply_retries!r}.")
        self._task = task
        self._model = resolve_model(model, seed)
        self._base_sampler = TPESampler(seed=seed) if base_sampler is None else base_sampler
        self._max_prompt_tokens = max_prompt_tokens
        self._max_reply_retries = max_reply_retries
        log_file = log_file or os.environ.get(LOG_VARIABLE) or None
        self._log_file = None if log_file is None else Path(log_file)
        self._templates = Templates(system_template, user_template)
        self._views = Views()

    def __getstate__(self) -> dict[str, Any]:
        # Views are made of what the storage holds, and have locks, which cannot be copied.
        return {name: value for name, value in self.__dict__.items() if name != "_views"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._views = Views()

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
        source: Source
        values: Mapping[str, Any]
        if trial.number == 0 or not view.is_worth_asking(problem):
            source = "initial" if problem.texts else "base"
            values = self._sample_base(study, trial, search_space)
        else:
            answer = self._ask_model(whole, trial, view, problem, request)
            _attributes.write_attributes(
                whole, trial, _answer_attributes(answer, trial, request.parent)
            )
            if isinstance(answer.outcome, Proposal):
                source = "model"
                values = answer.outcome.numbers
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
            source = _attributes.read_source(trial.user_attrs) or "user"
        _attributes.write_attributes(whole, trial, _attributes.source_attributes(source))
        return dict(values)

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        if param_name in _attributes.read_texts(trial.user_attrs):
            raise ValueError(f"{param_name!r} is a text parameter: name the number otherwise.")
        return self._base_sampler.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self,
        study: Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        if _is_enqueued(trial) and not _attributes.read_source(trial.user_attrs):
            # All of its values were enqueued: nobody has asked this sampler.
            _attributes.write_attributes(study, trial, _attributes.source_attributes("user"))
        self._base_sampler.after_trial(study, trial, state, values)

    def _ask_model(
        self, study: Study, trial: FrozenTrial, view: View, problem: Problem, request: Request
    ) -> Answer:
        """One proposal, or why there is none, after as many calls as are allowed for it."""
        spent = Usage()
        name = None
        refused = 0
        while True:
            answer = self._call(study, trial, view, problem, request)
            log_exchange(self._log_file, request.number, answer)
            spent += answer.usage
            name = answer.model or name
            answer = replace(answer, usage=spent, model=name)
            if isinstance(answer.outcome, ContextLengthError):
                if self._shorten_prompts(answer.messages, answer.outcome):
                    continue
                says = f"The model takes hardly any prompt: {answer.outcome}"
                return replace(answer, outcome=ModelSetupError(says))
            if not isinstance(answer.outcome, ReplyError):
                return answer
            refused += 1
            if refused > self._max_reply_retries:
                says = f"Trial {request.number}: no usable reply in {refused} calls; "
                return replace(answer, outcome=ReplyError(says + str(answer.outcome)))
            _logger.info("Trial %d: the reply is sent back: %s", request.number, answer.outcome)
            reply = answer.completion.text if answer.completion else ""
            request = replace(request, rejected=(reply, str(answer.outcome)))

    def _call(
        self, study: Study, trial: FrozenTrial, view: View, problem: Problem, request: Request
    ) -> Answer:
        """What one call to the model comes to."""
        messages = view.render(problem, request, self._max_prompt_tokens, self._templates)
        began = time.monotonic()
        try:
            completion = self._model.complete(messages)
        except (ModelError, ReplyError) as error:
            usage = Usage(calls=1, seconds=time.monotonic() - began)
            return Answer(messages, error, None, usage)
        usage = replace(completion.usage, calls=1, seconds=time.monotonic() - began)
        outcome: Proposal | ReplyError
        try:
            outcome = parse_reply(completion.text, problem)
            view.claim(study, trial, outcome, request)
        except ReplyError as error:
            cut = " The reply was cut off for its length: be shorter." if completion.is_cut else ""
            outcome = ReplyError(f"{error}{cut}")
        return Answer(messages, outcome, completion, usage, completion.model)

    def _shorten_prompts(self, messages: Sequence[Message], error: ContextLengthError) -> bool:
        """Ask with half of this prompt from now on; False if hardly anything is left to cut."""
        size = sum(len(message.content) for message in messages) // CHARACTERS_PER_TOKEN
        if size // 2 < _LEAST_PROMPT_TOKENS:
            return False
        self._max_prompt_tokens = min(self._max_prompt_tokens, size // 2)
        _logger.warning(
            "%s From now on a prompt takes at most %d tokens.", error, self._max_prompt_tokens
        )
        return True

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


def _answer_attributes(
    answer: Answer, trial: FrozenTrial, parent: TrialRecord | None
) -> dict[str, Any]:
    """What a trial stores of what asking the model came to."""
    cost = _attributes.cost_attributes(answer.usage, answer.model)
    if isinstance(answer.outcome, LLMError):
        return cost | _attributes.error_attributes(answer.outcome)
    texts = answer.outcome.texts
    stored = _attributes.text_attributes(texts, trial.user_attrs) if texts else {}
    origin = parent.number if parent is not None and texts else None
    return stored | _attributes.proposal_attributes(answer.outcome.rationale, origin) | cost


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
