"""Asking a model until its reply can be used, or until there is no more to be hoped for."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
from contextlib import AbstractContextManager
from contextlib import nullcontext
from dataclasses import dataclass
from dataclasses import replace
from functools import partial
from pathlib import Path
import threading
import time
from typing import Any
from typing import TypeAlias

from optuna_llm._cancellation import current
from optuna_llm._errors import ContextLengthError
from optuna_llm._errors import ModelError
from optuna_llm._errors import ModelSetupError
from optuna_llm._errors import ReplyError
from optuna_llm._logging import get_logger
from optuna_llm._prompt.page import CHARACTERS_PER_TOKEN
from optuna_llm._prompt.page import Request
from optuna_llm._prompt.system import Templates
from optuna_llm._proposing.exchanges import Answer
from optuna_llm._proposing.exchanges import log_exchange
from optuna_llm._proposing.view import View
from optuna_llm._records import Message
from optuna_llm._records import Problem
from optuna_llm._records import Proposal
from optuna_llm._records import Usage
from optuna_llm._reply.proposals import parse_reply
from optuna_llm._reply.tags import EditError
from optuna_llm.models import ChatModel


_logger = get_logger(__name__)

LEAST_PROMPT_TOKENS = 500

Check: TypeAlias = Callable[[Proposal, Sequence[Proposal]], None]


@dataclass(frozen=True)
class Preview:
    """What the next call would send.

    Attributes:
        messages: The system message and the user message.
        tokens: What they take together, a token counted as 4 characters.
    """

    messages: Sequence[Message]
    tokens: int

    def __str__(self) -> str:
        return "\n".join(f"--- {m.role}\n{m.content}" for m in self.messages)


class Asker:
    """Asks one model; knows prompts and replies, and nothing of storages.

    Args:
        model: The model.
        templates: What the messages are made of.
        max_prompt_tokens: What the messages of one call may take together.
        max_reply_retries: How often a reply that cannot be used is sent back.
        max_concurrent_calls: How many calls may be under way at once; None for any number.
        log_file: What gets a line for each call; None for nothing.
    """

    def __init__(
        self,
        model: ChatModel,
        *,
        templates: Templates,
        max_prompt_tokens: int,
        max_reply_retries: int,
        max_concurrent_calls: int | None,
        log_file: Path | None,
    ) -> None:
        self._model = model
        self._templates = templates
        self._max_prompt_tokens = max_prompt_tokens
        self._max_reply_retries = max_reply_retries
        self._max_concurrent_calls = max_concurrent_calls
        self._log_file = log_file
        self._slots = self._make_slots()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_slots"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._slots = self._make_slots()

    def _make_slots(self) -> AbstractContextManager[object]:
        limit = self._max_concurrent_calls
        return nullcontext() if limit is None else threading.BoundedSemaphore(limit)

    def ask(
        self,
        view: View,
        problem: Problem,
        request: Request,
        check: Check,
    ) -> Answer:
        """The proposals of one reply, or why there are none after all calls that are allowed.

        Args:
            view: What is known of the study.
            problem: What there is to be decided.
            request: What is asked for.
            check: Raises a :class:`ReplyError` for a proposal that is not to be used; given
                also those of the same reply that are.
        """
        spent = Usage()
        name = None
        refused = 0
        while True:
            answer = self._call(view, problem, request, check)
            log_exchange(self._log_file, request.number, answer)
            spent += answer.usage
            name = answer.model or name
            answer = replace(answer, usage=spent, model=name)
            if isinstance(answer.outcome, ContextLengthError):
                if self._shorten_prompts(answer.messages, answer.outcome):
                    continue
                says = f"The model takes hardly any prompt: {answer.outcome}"
                return replace(answer, outcome=ModelSetupError(says))
            if not isinstance(answer.outcome, ReplyError) or current().is_cancelled:
                return answer
            refused += 1
            if refused > self._max_reply_retries:
                says = f"Trial {request.number}: no usable reply in {refused} calls; "
                return replace(answer, outcome=ReplyError(says + str(answer.outcome)))
            _logger.info("Trial %d: the reply is sent back: %s", request.number, answer.outcome)
            reply = answer.completion.text if answer.completion else ""
            request = replace(request, rejected=(reply, str(answer.outcome)))

    def preview(self, view: View, problem: Problem, request: Request) -> Preview:
        """The messages that would be sent."""
        messages = view.render(problem, request, self._max_prompt_tokens, self._templates)
        return Preview(messages, _count_tokens(messages))

    def _call(self, view: View, problem: Problem, request: Request, check: Check) -> Answer:
        """What one call to the model comes to."""
        messages = view.render(problem, request, self._max_prompt_tokens, self._templates)
        parent = request.parent
        origin = None if parent is None else parent.number
        began = time.monotonic()
        try:
            with self._slots:
                began = time.monotonic()
                completion = self._model.complete(messages)
        except (ModelError, ReplyError) as error:
            usage = Usage(calls=1, seconds=time.monotonic() - began)
            return Answer(messages, error, None, usage, parent=origin)
        usage = replace(completion.usage, calls=1, seconds=time.monotonic() - began)
        outcome: Proposal | ReplyError
        others: Sequence[Proposal] = ()
        try:
            proposals = parse_reply(completion.text, problem, partial(view.find_text, request))
            if problem.editable and "<edit " in completion.text:
                view.note_edits(is_usable=True)
            outcome, *others = _select(proposals, check)
        except EditError as error:
            view.note_edits(is_usable=False)
            outcome = error
        except ReplyError as error:
            cut = " The reply was cut off for its length: be shorter." if completion.is_cut else ""
            outcome = ReplyError(f"{error}{cut}")
        return Answer(messages, outcome, completion, usage, completion.model, origin, others)

    def _shorten_prompts(self, messages: Sequence[Message], error: ContextLengthError) -> bool:
        """Ask with half of this prompt from now on; False if hardly anything is left to cut."""
        size = _count_tokens(messages)
        if size // 2 < LEAST_PROMPT_TOKENS:
            return False
        self._max_prompt_tokens = min(self._max_prompt_tokens, size // 2)
        _logger.warning(
            "%s From now on a prompt takes at most %d tokens.", error, self._max_prompt_tokens
        )
        return True


def _count_tokens(messages: Sequence[Message]) -> int:
    return sum(len(message.content) for message in messages) // CHARACTERS_PER_TOKEN


def _select(proposals: Sequence[Proposal], check: Check) -> list[Proposal]:
    """The proposals that can be used.

    Raises:
        ReplyError: If there is none, with the reason for the first.
    """
    usable: list[Proposal] = []
    errors = []
    for proposal in proposals:
        try:
            check(proposal, usable)
            usable.append(proposal)
        except ReplyError as error:
            errors.append(error)
    if not usable:
        raise errors[0]
    return usable
