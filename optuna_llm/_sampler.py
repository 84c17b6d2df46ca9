"""The sampler: Optuna asks it for a trial's values, and it asks the model."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
import os
from pathlib import Path
import random
from typing import Any
from typing import get_args
from typing import NoReturn
from typing import TYPE_CHECKING

from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.samplers import TPESampler
from optuna.trial import FrozenTrial
from optuna.trial import TrialState

from optuna_llm._errors import LLMError
from optuna_llm._errors import ModelSetupError
from optuna_llm._mistakes import refuse_model_as_task
from optuna_llm._mistakes import refuse_unknown
from optuna_llm._prompt.choice import choose_usual
from optuna_llm._prompt.choice import HistoryPolicy
from optuna_llm._prompt.parents import ParentPolicy
from optuna_llm._prompt.parents import ParentRule
from optuna_llm._prompt.templates import LEAST_PROMPT_TOKENS
from optuna_llm._prompt.templates import SYSTEM_TEMPLATE
from optuna_llm._prompt.templates import Templates
from optuna_llm._prompt.templates import USER_TEMPLATE
from optuna_llm._proposing.base import BaseProposer
from optuna_llm._proposing.credit import choose_by_credit
from optuna_llm._proposing.credit import ProposerPolicy
from optuna_llm._proposing.edits import Edits
from optuna_llm._proposing.form import Structured
from optuna_llm._proposing.log import LOG_VARIABLE
from optuna_llm._proposing.sessions import Sessions
from optuna_llm._proposing.settings import Settings
from optuna_llm._records import Proposal
from optuna_llm._study import attributes as stored
from optuna_llm._study import internals
from optuna_llm._study.declarations import check_task
from optuna_llm._study.declarations import find_declared_here
from optuna_llm._study.declarations import read_stop
from optuna_llm._study.running import pack_texts
from optuna_llm._study.usage import Prices
from optuna_llm.models import ModelsLike
from optuna_llm.models import resolve_models
from optuna_llm.models._chat import takes_schema


if TYPE_CHECKING:
    from optuna.artifacts._protocol import ArtifactStore

    from optuna_llm._prompt.builder import Prompt


class LLMSampler(BaseSampler):
    """A sampler that asks a language model for the next trial's values.

    .. code-block:: python

        import optuna
        from optuna_llm import LLMSampler, explain_failures, suggest_text


        @explain_failures
        def objective(trial):
            width = trial.suggest_int("width", 10, 40)
            greeting = suggest_text(trial, "greeting", "Hello, Ada!", description="One line.")
            if "Ada" not in greeting:
                raise ValueError("The greeting must name Ada.")
            return abs(len(greeting) - width)


        study = optuna.create_study(sampler=LLMSampler("Fill the width.", model="offline"))
        study.optimize(objective, n_trials=10, catch=Exception)

    Trial 0 takes the initial texts, and numbers from the base sampler. Later trials are proposed
    by the model, in one call each, from what all trials of the study have come to, whoever ran
    them; once it gains little, the base sampler gets some of them. A reply that cannot be used
    goes back to the model with the reason. If the model gives no usable reply, numbers come from
    the base sampler (its source is then ``fallback``, and its error says why); a trial that needs
    a text fails with an :class:`LLMError`, which ``study.optimize(…, catch=LLMError)`` lets pass.
    A :class:`ModelSetupError`, such as for a wrong key, ends ``study.optimize`` whatever it
    catches.

    Args:
        task: What the study is about, in words for the model. By default what the study was
            told before.
        model: A :class:`ChatModel`, a function ``messages -> str`` or a name: ``"offline"`` is
            :class:`OfflineModel`, ``"litellm/…"`` a :class:`LiteLLMModel`, any other an
            :class:`OpenAIModel`. None is the name in the environment variable
            ``OPTUNA_LLM_MODEL``. Several models in a list, or as a mapping from names of your
            own, share the trials; where one fails, the next is asked.
        proposers: Decides who proposes a trial, and who is asked next where that fails; called
            with the finished trials (:class:`Turn`), the candidates (:class:`Candidate`) and
            draws that belong to the trial, it returns names of candidates, the first to be asked
            first. By default models share by what they have gained for their cost, and the base
            sampler gets trials once they gain little and as long as it does better.
        prices: The models' prices, as for :func:`usage`, or by the names above.
        base_sampler: Decides numbers where no model does;
            :class:`~optuna.samplers.TPESampler` by default. In a study with texts it varies the
            numbers of the best trial and keeps its texts.
        seed: Makes what is drawn here repeatable: by the default base sampler, by the stand-in
            model if it is given by name, and which trials' texts the next one is made of.
        max_prompt_tokens: Size of the messages of one call together, a token counted as 4
            characters; the text to start from always stands there whole. None is 16,000 and four
            times the longest text.
        max_reply_retries: How often a reply that cannot be used is sent back; less often if none
            of the model's replies has been usable.
        prefetch: How many proposals are made ahead, in the background, while objectives run, so
            that trials need not wait for the model. Twice the number of trials that run here at
            once hides a model that is about as slow as the objective. 0 asks when a trial needs
            a proposal.
        proposals_per_call: How many proposals a reply is to hold, for the next trials of this
            process. They share the cost of the prompt, and the later ones are based on older
            results.
        max_concurrent_calls: How many calls to each model may be in flight at once; None for any
            number.
        edits: Whether the model may answer with changes to a trial's text in place of a whole
            one: ``"auto"`` for texts of more than 1,500 characters, as long as it is good at it;
            ``"always"`` or ``"never"``.
        structured: Whether the model is sent a JSON schema of the reply, which its server holds
            it to. ``"auto"`` does so after three replies in a row that cannot be read, six if
            there are texts, since code is better outside of JSON; ``"always"`` or ``"never"``.
        insights: Whether the model is asked, before the history is cut, for a few lines of what
            it has taught; they are stored with the study and shown from then on.
        history: Ranks finished trials by how useful they are to show in full when not all of them
            fit; called with all finished trials and the study's directions, it returns them, the
            most useful first. By default in turn one of the best, of the latest, of the failed
            with feedback, and of each level of values.
        parents: Which trials' texts the next one is made of. ``"best"`` starts 7 in 10 times from
            the best, else from another of the leading five or, 1 in 10 times, from any complete
            one; half as often from the best after eight trials without gain. ``"cases"``, where
            the objective is a mean over cases (see :func:`report_case`), starts 19 in 20 times
            from the best and shows beside it a second trial, the one that gains most in the cases
            where the first is weak, as often as that has paid off so far. Without cases and
            with several objectives it is the same as ``"best"``. A function of trials,
            directions and a ``random.Random`` returns the trial to start from and at most one
            other.
        system_template: The system message, with placeholders for what it is made of: any of
            ``{role}`` ``{task}`` ``{objectives}`` ``{numbers}`` ``{texts}`` ``{data}``, and
            ``{reply}``, the form of the answer, which must be there.
        user_template: The user message: any of ``{history}`` ``{best}`` ``{running}``, and
            ``{request}``, which must be there.
        log_file: A file that gets a line of JSON for each call: messages, reply, usage, seconds
            and outcome. By default what ``OPTUNA_LLM_LOG`` names.
        artifact_store: Keeps the images that objectives give to :func:`report_feedback`, an
            artifact store of Optuna's such as ``optuna.artifacts.FileSystemArtifactStore``.

    Raises:
        ValueError: If no model is named, a key is missing for it, the task reads like the name of
            a model, a number is out of range, or a template cannot be filled in.
        TypeError: If an argument is of the wrong type or unknown.
    """

    def __init__(
        self,
        task: str = "",
        *,
        model: ModelsLike = None,
        proposers: ProposerPolicy = choose_by_credit,
        prices: Prices | Mapping[str, Prices] | None = None,
        base_sampler: BaseSampler | None = None,
        seed: int | None = None,
        max_prompt_tokens: int | None = None,
        max_reply_retries: int = 2,
        prefetch: int = 0,
        proposals_per_call: int = 1,
        max_concurrent_calls: int | None = None,
        edits: Edits = "auto",
        structured: Structured = "auto",
        insights: bool = True,
        history: HistoryPolicy = choose_usual,
        parents: ParentRule | ParentPolicy = "cases",
        system_template: str = SYSTEM_TEMPLATE,
        user_template: str = USER_TEMPLATE,
        log_file: str | os.PathLike[str] | None = None,
        artifact_store: ArtifactStore | None = None,
        **unknown: NoReturn,
    ) -> None:
        refuse_unknown(LLMSampler.__init__, unknown)
        refuse_model_as_task(task, model)
        base_sampler = TPESampler(seed=seed) if base_sampler is None else base_sampler
        if not isinstance(base_sampler, BaseSampler):
            raise TypeError(f"base_sampler must be an Optuna sampler: {base_sampler!r}.")
        log_file = log_file or os.environ.get(LOG_VARIABLE) or None
        settings = Settings(
            task=check_task(task),
            models=resolve_models(model, seed),
            proposers=proposers,
            prices=prices,
            seed=random.SystemRandom().getrandbits(32) if seed is None else seed,
            templates=Templates(system_template, user_template),
            history=history,
            parents=parents,
            max_prompt_tokens=max_prompt_tokens,
            max_reply_retries=max_reply_retries,
            prefetch=prefetch,
            proposals_per_call=proposals_per_call,
            max_concurrent_calls=max_concurrent_calls,
            edits=edits,
            structured=structured,
            insights=insights,
            log_file=None if log_file is None else Path(log_file),
            artifact_store=artifact_store,
        )
        _check(settings)
        self.artifact_store = artifact_store
        self._base_sampler = base_sampler
        self._sessions = Sessions(settings)

    def preview(self, study: Study) -> Prompt:
        """The messages that the model would be sent for the next trial, without a call.

        .. code-block:: python

            print(sampler.preview(study))

        Args:
            study: A study that has had a trial.

        Raises:
            ValueError: If no trial has had parameters yet, or they do not fit into the prompt.
        """
        return self._sessions.get(study).preview(study)

    def reseed_rng(self) -> None:
        self._base_sampler.reseed_rng()

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        self._base_sampler.before_trial(study, trial)

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        whole = internals.find_whole_study(study)
        return dict(self._sessions.get(whole).read_space(whole, trial))

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        whole = internals.find_whole_study(study)
        session = self._sessions.get(whole)
        base = BaseProposer(self._base_sampler, study, trial, search_space)
        outcome = session.propose(whole, trial, search_space, base)
        if isinstance(outcome.result, ModelSetupError):
            internals.end_optimize(whole, outcome.result)
        if isinstance(outcome.result, LLMError):
            raise outcome.result
        assert isinstance(outcome.result, Proposal)
        return {**outcome.result.params, **pack_texts(outcome.result)}

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        declared = find_declared_here(internals.find_whole_study(study))
        if param_name in declared and param_name in stored.read_texts(trial):
            raise ValueError(f"{param_name!r} is a text parameter: give the number another name.")
        return self._base_sampler.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self,
        study: Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        whole = internals.find_whole_study(study)
        try:
            if _is_asked_to_stop(whole, trial):
                internals.stop_optimize(whole)
            self._sessions.get(whole).end(whole, trial)
        finally:
            self._base_sampler.after_trial(study, trial, state, values)


def _is_asked_to_stop(study: Study, trial: FrozenTrial) -> bool:
    """Whether somebody has asked the study's workers to stop since a trial began."""
    asked = read_stop(study.user_attrs)
    began = trial.datetime_start
    return asked is not None and began is not None and began.timestamp() <= asked


def _check(settings: Settings) -> None:
    """Refuse settings that cannot be right.

    Raises:
        ValueError: If a number is out of range, or a word is not known.
        TypeError: If what is given as an artifact store is none.
    """
    store = settings.artifact_store
    if store is not None and not (hasattr(store, "open_reader") and hasattr(store, "write")):
        raise TypeError(
            f"artifact_store must be an artifact store of Optuna's: {store!r}. For a folder, give "
            "optuna.artifacts.FileSystemArtifactStore(folder)."
        )
    for name, least in (
        ("max_prompt_tokens", LEAST_PROMPT_TOKENS),
        ("max_reply_retries", 0),
        ("prefetch", 0),
        ("proposals_per_call", 1),
        ("max_concurrent_calls", 1),
    ):
        number = getattr(settings, name)
        if number is not None and number < least:
            raise ValueError(f"{name} must be {least} or more: {number!r}.")
    for name, words in (("edits", Edits), ("structured", Structured)):
        word, known = getattr(settings, name), get_args(words)
        if word not in known:
            raise ValueError(f"{name} must be one of {', '.join(known)}: {word!r}.")
    known = get_args(ParentRule)
    if not callable(settings.parents) and settings.parents not in known:
        raise ValueError(
            f"parents must be one of {', '.join(known)}, or a function: {settings.parents!r}."
        )
    if not callable(settings.proposers):
        raise TypeError(f"proposers must be a function: {settings.proposers!r}.")
    for model in settings.models.values():
        if settings.structured == "always" and not takes_schema(model):
            raise ValueError(
                'structured="always" needs a model that takes a JSON schema, by a keyword '
                f"`schema` of its complete(): {model!r} has none."
            )
