"""What all models behind a server share: retries, adaptations, what a pickle leaves behind."""

from __future__ import annotations

from abc import ABC
from abc import abstractmethod
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import replace
import itertools
import logging
import random
import time
from typing import Any

from optuna_llm import _cancellation
from optuna_llm._errors import ContextLengthError
from optuna_llm._errors import LLMError
from optuna_llm._errors import ModelSetupError
from optuna_llm._errors import NeverAnsweredError
from optuna_llm._logging import get_logger
from optuna_llm._records import Completion
from optuna_llm._records import Message
from optuna_llm._secrets import is_public_header
from optuna_llm.models._circumstances import find_circumstances
from optuna_llm.models._deadline import CancelledError
from optuna_llm.models._faults import IMAGES
from optuna_llm.models._faults import MovedError
from optuna_llm.models._faults import RejectedError
from optuna_llm.models._faults import TransientError
from optuna_llm.models._faults import UnreachableError
from optuna_llm.models._limiter import CHARACTERS_PER_IMAGE
from optuna_llm.models._limiter import RateLimiter
from optuna_llm.models._limiter import Slot
from optuna_llm.models._request import find_max_reply
from optuna_llm.models._request import RequestForm
from optuna_llm.models._request import take_turn
from optuna_llm.models._request import TAKES_TURNS
from optuna_llm.models._window import PromptWindow


_logger = get_logger(__name__)

_OURS = ("model", "messages", "input", "instructions", "n", "timeout")
_FIRST_PAUSE = 0.25
_LONGEST_PAUSE = 60.0
_CHECK = " It has never answered: check that the server runs, and its address."
_FIRST_PATIENCE = 10.0
"""Seconds for which a server that has never answered is waited for, in all calls together."""


class ServedModel(ABC):
    """A model behind a server, asked until it answers or there is no more hope.

    Args:
        name: The model's name.
        form: The form of the first request.
        timeout: Seconds that one request may take in all.
        patience: Seconds that a call may take in all.
        max_tokens_per_minute: Tokens of prompts and replies in any minute; None for no limit but
            the server's.
    """

    def __init__(
        self,
        name: str,
        form: RequestForm,
        *,
        timeout: float,
        patience: float,
        max_tokens_per_minute: int | None,
    ) -> None:
        self.name = name
        self._form = form
        self._timeout = timeout
        self._patience = patience
        self._max_tokens_per_minute = max_tokens_per_minute
        self._lost: list[str] = []
        self._open()

    def _open(self) -> None:
        """Begin with nothing that belongs to another process."""
        self._window = PromptWindow()
        self._has_answered = False
        self._failed_at: float | None = None
        self._turns = itertools.count()
        self._limiter = RateLimiter(self._max_tokens_per_minute, find_max_reply(self._form))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    def __getstate__(self) -> dict[str, Any]:
        headers = self._form.transport.get("extra_headers") or {}
        lost = [name for name in headers if not is_public_header(name)]
        lost += self._form.transport.get("extra_query") or {}
        state = self.__dict__ | {
            "_form": self._form.without_secrets(),
            "_lost": self._lost + lost,
        }
        for name in ("_window", "_has_answered", "_failed_at", "_turns", "_limiter"):
            del state[name]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()

    def __deepcopy__(self, memo: dict[int, Any]) -> ServedModel:
        # What changes in it, many threads may share.
        return self

    @property
    def adaptations(self) -> Mapping[str, str]:
        """What is sent otherwise than it was given, since the server rejected it.

        A parameter's name, ``system``, ``images``, ``api`` or ``base_url`` to what became of it,
        such as ``{"temperature": "left out", "max_tokens": "sent as max_completion_tokens"}``.
        """
        return dict(self._form.adaptations)

    @property
    def takes_images(self) -> bool:
        """Whether images are sent: until the server refuses them."""
        return self._form.max_images != 0

    def complete(
        self, messages: Sequence[Message], *, schema: Mapping[str, Any] | None = None
    ) -> Completion:
        """The server's reply.

        Args:
            messages: The messages.
            schema: A JSON schema that the reply is to fit. A server that takes none in any of
                its known forms is sent none from then on.

        Raises:
            ContextLengthError: If the messages are too long for the model.
            ModelError: If temporary faults outlasted the patience.
            NeverAnsweredError: If there is no server, and never was one.
            ModelSetupError: If the server refuses for good.
            ReplyError: If the model refused to answer, or a filter took the answer away.
        """
        if self._lost:
            raise ModelSetupError(
                f"The model was pickled without its {', '.join(self._lost)}, which may hold "
                f"secrets: {self._way_out}."
            )
        began = time.monotonic()
        pauses = _growing_pauses()
        turn = self._find_turn()
        while True:
            form = self._form
            try:
                with self._limiter.slot(form.limit_images(messages), self._server) as slot:
                    # That it had to wait is no fault of the server's.
                    began += slot.waited
                    completion = self._try_shorter(take_turn(form, turn), messages, schema, slot)
                    slot.completion = completion
            except RejectedError as error:
                self._adapt(form, error)
            except MovedError as error:
                self._move(error)
            except TransientError as error:
                self._wait(error, max(next(pauses), error.retry_after), began)
            else:
                if warning := self._window.check(form.limit_images(messages), completion.usage):
                    _logger.warning("%s %s", self._server, warning)
                is_free = schema is not None and not form.takes_schema
                return replace(completion, is_free=True) if is_free else completion

    @property
    @abstractmethod
    def _server(self) -> str:
        """The server's name, for messages."""

    @property
    def _way_out(self) -> str:
        """What to do about a pickle that lacks secrets."""
        return "make it in this process"

    @abstractmethod
    def _try(
        self,
        form: RequestForm,
        messages: Sequence[Message],
        schema: Mapping[str, Any] | None,
        slot: Slot,
    ) -> Completion:
        """The reply to one request, which no longer runs when this returns or raises."""

    def _try_shorter(
        self,
        form: RequestForm,
        messages: Sequence[Message],
        schema: Mapping[str, Any] | None,
        slot: Slot,
    ) -> Completion:
        """The same; images that make the request too long are what is rejected."""
        try:
            completion = self._try(form, messages, schema, slot)
        except (UnreachableError, CancelledError):
            raise
        except LLMError as error:
            self._has_answered = True
            # Text can be cut. Images cannot: they are left out once they take more room.
            is_long = isinstance(error, ContextLengthError)
            if is_long and _is_mostly_images(form.limit_images(messages)):
                raise RejectedError(str(error), {IMAGES: None}) from None
            raise
        self._has_answered = True
        return completion

    def _adapt(self, form: RequestForm, error: RejectedError) -> None:
        """Send the next request without what the server rejects."""
        self._form, changed = self._form.adapt(error.names, form)
        if not changed and form is self._form:
            raise ModelSetupError(str(error)) from None
        for name, verdict in changed.items():
            _logger.warning("%s The parameter %r is %s from now on.", error, name, verdict)

    def _move(self, error: MovedError) -> None:
        """Send the next request to where the server is now."""
        raise ModelSetupError(str(error)) from None

    def _find_turn(self) -> int:
        """Which of several values of a parameter is due: by the trial, else by the call."""
        turn = find_circumstances().turn
        return next(self._turns) if turn is None else turn

    def _wait(self, error: TransientError, pause: float, began: float) -> None:
        """Wait before the next try, or raise the error if there is to be none."""
        if time.monotonic() + pause > began + self._find_patience(error, began):
            if self._is_missing(error):
                raise NeverAnsweredError(f"{error}{_CHECK}") from None
            raise error
        _logger.warning("%s Asking again in %.1f seconds.", error, pause)
        cancellation = _cancellation.current()
        cancellation.wait(pause)
        if cancellation.is_cancelled:
            raise error

    def _is_missing(self, error: TransientError) -> bool:
        """Whether there is no sign yet that there is a server at all."""
        return isinstance(error, UnreachableError) and not self._has_answered

    def _find_patience(self, error: TransientError, began: float) -> float:
        """Seconds from the call's begin on for which it may be repeated."""
        patience = min(self._patience, find_circumstances().patience)
        if not self._is_missing(error):
            return patience
        if self._failed_at is None:
            self._failed_at = time.monotonic()
            # Shown whatever the verbosity: nothing else would say why the study stands still.
            loud = max(logging.ERROR, _logger.getEffectiveLevel())
            _logger.log(loud, "%s It has not answered yet.", error)
        return min(patience, self._failed_at + _FIRST_PATIENCE - began)


def check_arguments(
    name: object,
    timeout: float,
    patience: float,
    max_tokens_per_minute: float | None,
    parameters: Mapping[str, Any],
) -> None:
    """Refuse arguments of a model that cannot be right.

    Raises:
        ValueError: If one cannot.
    """
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"A model's name must be a string and not empty: {name!r}.")
    if not timeout > 0:
        raise ValueError(f"timeout must be above 0 seconds: {timeout!r}.")
    if not patience >= 0:
        raise ValueError(f"patience must be 0 seconds or more: {patience!r}.")
    if max_tokens_per_minute is not None and not max_tokens_per_minute > 0:
        raise ValueError(
            f"max_tokens_per_minute must be above 0, or None: {max_tokens_per_minute!r}."
        )
    taken = [parameter for parameter in _OURS if parameter in parameters]
    for parameter in TAKES_TURNS:
        if isinstance(parameters.get(parameter), list | tuple) and not parameters[parameter]:
            raise ValueError(f"{parameter} must be a value or a sequence of at least one.")
    if taken:
        raise ValueError(f"{taken[0]!r} is set by optuna_llm and cannot be a parameter.")


def _is_mostly_images(messages: Sequence[Message]) -> bool:
    n_images = sum(len(message.images) for message in messages)
    n_characters = sum(len(message.content) for message in messages)
    return n_images * CHARACTERS_PER_IMAGE > n_characters


def _growing_pauses() -> Iterator[float]:
    """Seconds between tries: twice as long each time, and no two clients in step."""
    pause = _FIRST_PAUSE
    while True:
        yield pause * random.uniform(0.5, 1.5)
        pause = min(2 * pause, _LONGEST_PAUSE)
