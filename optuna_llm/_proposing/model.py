"""A model as a proposer: asked until its reply can be used, or until there is no more hope."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
import time
from typing import Any

from optuna.trial import TrialState

from optuna_llm._cancellation import current
from optuna_llm._errors import ContextLengthError
from optuna_llm._errors import LLMError
from optuna_llm._errors import ModelError
from optuna_llm._errors import ModelSetupError
from optuna_llm._errors import ReplyError
from optuna_llm._logging import get_logger
from optuna_llm._outcomes import Outcome
from optuna_llm._outcomes import Pass
from optuna_llm._prompt.builder import Prompt
from optuna_llm._prompt.builder import PromptBuilder
from optuna_llm._prompt.request import Request
from optuna_llm._prompt.schema import make_schema
from optuna_llm._proposing.edits import EditPolicy
from optuna_llm._proposing.form import FormPolicy
from optuna_llm._proposing.images import ImageLoader
from optuna_llm._proposing.log import CallLog
from optuna_llm._proposing.protocol import Accept
from optuna_llm._records import Completion
from optuna_llm._records import Proposal
from optuna_llm._records import TrialRecord
from optuna_llm._records import Usage
from optuna_llm._reply.insights import parse_insights
from optuna_llm._reply.proposals import parse_reply
from optuna_llm._reply.tags import EditError
from optuna_llm._study.snapshot import StudySnapshot
from optuna_llm.models import ChatModel
from optuna_llm.models._chat import takes_schema


_logger = get_logger(__name__)


_NO_PASS = "a text is needed, and nobody else can write one: try something of another kind."


class ModelProposer:
    """Builds a prompt, asks the model, parses the reply, and sends back what cannot be used.

    It starts no threads and knows no storage but that of images.

    Args:
        name: The model's configured name.
        model: The model.
        builder: Builds the prompts.
        edits: Whether texts may be edited.
        form: The form of a reply, and how often one that cannot be used is sent back.
        images: Adds images to requests.
        slots: Entered for each call, to bound how many are in flight.
        log: Gets each call.
    """

    def __init__(
        self,
        name: str,
        model: ChatModel,
        builder: PromptBuilder,
        *,
        edits: EditPolicy,
        form: FormPolicy,
        images: ImageLoader,
        slots: AbstractContextManager[object],
        log: CallLog,
    ) -> None:
        self._name = name
        self._model = model
        self._images = images
        self._builder = builder
        self._edits = edits
        self._form = form
        self._takes_schema = takes_schema(model)
        self._slots = slots
        self._log = log

    def propose(self, snapshot: StudySnapshot, request: Request, accept: Accept) -> Outcome:
        """The proposals of one reply, or why there are none after all calls that are allowed."""
        spent = Usage()
        model = None
        refused = 0
        request = self._choose_form(snapshot, self._images.add(snapshot, request))
        while True:
            try:
                prompt = self._builder.build(snapshot, request)
            except ValueError as error:
                # No later prompt would fit either: the setup must be mended.
                setup = ModelSetupError(str(error))
                return Outcome(setup, usage=spent, proposer=self._name, model=model)
            outcome = self._call(snapshot, request, prompt, accept, spent)
            spent = outcome.usage
            model = outcome.model or model
            outcome = replace(outcome, model=model)
            if isinstance(outcome.result, ContextLengthError):
                tokens = self._builder.halve(prompt)
                if tokens is not None:
                    _logger.warning(
                        "%s From now on a prompt takes at most %d tokens.", outcome.result, tokens
                    )
                    continue
                says = f"The model takes hardly any prompt: {outcome.result}"
                return replace(outcome, result=ModelSetupError(says))
            if isinstance(outcome.result, Pass) and request.problem.texts:
                # Nobody else can write a text: the next reply has to go another way.
                outcome = replace(outcome, result=ReplyError(_NO_PASS))
                request = replace(request, in_vain=request.in_vain or snapshot.since_gain)
            if not isinstance(outcome.result, ReplyError) or current().is_cancelled:
                return outcome
            refused += 1
            if refused > self._form.retries:
                calls = "1 call" if refused == 1 else f"{refused} calls"
                says = f"Trial {request.number}: no usable reply in {calls}; "
                return replace(outcome, result=ReplyError(f"{says}{outcome.result}"))
            _logger.info("Trial %d: the reply is sent back: %s", request.number, outcome.result)
            reply = outcome.completion.text if outcome.completion else ""
            request = replace(request, rejected=(reply, str(outcome.result)))
            request = self._choose_form(snapshot, request)

    def preview(self, snapshot: StudySnapshot, request: Request) -> Prompt:
        """What the next call would send, without a trace in later prompts."""
        request = self._images.add(snapshot, request)
        return self._builder.preview(snapshot, self._choose_form(snapshot, request))

    def _choose_form(self, snapshot: StudySnapshot, request: Request) -> Request:
        problem = request.problem
        if self._form.wants_json(problem):
            # An edit in JSON is more trouble than the text.
            problem = replace(problem, is_json=True, editable=frozenset(), edits_only=False)
        else:
            editable = self._edits.find_editable(snapshot)
            problem = replace(
                problem, is_json=False, editable=editable, edits_only=self._edits.is_only
            )
        return replace(request, problem=problem)

    def _call(
        self,
        snapshot: StudySnapshot,
        request: Request,
        prompt: Prompt,
        accept: Accept,
        spent: Usage,
    ) -> Outcome:
        """What comes of one call, at the cost of all so far."""
        completion: Completion | None = None
        failure: LLMError | None = None
        began = time.monotonic()
        try:
            with self._slots:
                began = time.monotonic()
                completion = self._complete(request, prompt)
        except (ModelError, ReplyError) as error:
            failure = error
            if isinstance(error, ReplyError):
                self._form.note_unusable(is_json=request.problem.is_json, is_form=False)
        used = Usage() if completion is None else completion.usage
        used = replace(used, calls=1, seconds=time.monotonic() - began)
        make_outcome = partial(
            Outcome,
            usage=spent + used,
            proposer=self._name,
            messages=prompt.messages,
            completion=completion,
            model=None if completion is None else completion.model,
            parent=None if request.parent is None else request.parent.number,
            second_parent=prompt.second_parent,
        )
        if completion is not None:
            try:
                found = self._parse(snapshot, request, completion)
                if prompt.asks_insights:
                    make_outcome = partial(make_outcome, insights=parse_insights(completion.text))
                if isinstance(found, Pass):
                    outcome = make_outcome(found)
                else:
                    first, *others = _select(found, lambda p, o: accept(make_outcome(p), o))
                    outcome = make_outcome(first, others=others)
            except ReplyError as error:
                failure = error
        if failure is not None:
            outcome = make_outcome(failure)
        self._log.append(request.number, replace(outcome, usage=used))
        return outcome

    def _complete(self, request: Request, prompt: Prompt) -> Completion:
        if not request.problem.is_json or not self._takes_schema:
            return self._model.complete(prompt.messages)
        model: Any = self._model
        schema = make_schema(request.problem)
        completion: Completion = model.complete(prompt.messages, schema=schema)
        if completion.is_free:
            self._form.note_refused()
        return completion

    def _parse(
        self, snapshot: StudySnapshot, request: Request, completion: Completion
    ) -> Sequence[Proposal] | Pass:
        try:
            find_text = partial(_find_text, snapshot, request)
            find_trial = partial(find_complete, snapshot)
            proposals = parse_reply(completion.text, request.problem, find_text, find_trial)
        except EditError:
            self._edits.note(is_usable=False)
            self._form.note_unusable(is_json=False, is_form=False)
            raise
        except ReplyError as error:
            self._form.note_unusable(is_json=request.problem.is_json, is_form=True)
            cut = " The reply was cut off for its length: be shorter." if completion.is_cut else ""
            raise ReplyError(f"{error}{cut}") from None
        self._form.note_usable(is_json=request.problem.is_json)
        if request.problem.editable and "<edit " in completion.text:
            self._edits.note(is_usable=True)
        return proposals


def find_complete(snapshot: StudySnapshot, number: int) -> TrialRecord | None:
    """The complete trial of a number."""
    record = snapshot.find(number)
    return record if record is not None and record.state == TrialState.COMPLETE else None


def _find_text(
    snapshot: StudySnapshot, request: Request, name: str, number: int | None
) -> str | None:
    """The text of a finished trial; without a number, the one that the request starts from."""
    record = request.parent if number is None else snapshot.find(number)
    if record is not None and name in record.texts:
        return record.texts[name]
    parameter = snapshot.texts.get(name)
    return parameter.initial if number is None and parameter is not None else None


def _select(
    proposals: Sequence[Proposal], accept: Callable[[Proposal, Sequence[Proposal]], None]
) -> list[Proposal]:
    """The proposals that are accepted.

    Raises:
        ReplyError: If there is none, with the reason for the first.
    """
    accepted: list[Proposal] = []
    errors = []
    for proposal in proposals:
        try:
            accept(proposal, accepted)
            accepted.append(proposal)
        except ReplyError as error:
            errors.append(error)
    if not accepted:
        raise errors[0]
    return accepted
