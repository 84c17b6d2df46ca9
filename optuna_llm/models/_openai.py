"""Any endpoint that speaks one of OpenAI's APIs."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import replace
import logging
import random
import time
from typing import Any

from optuna_llm import _cancellation
from optuna_llm._errors import ModelSetupError
from optuna_llm._logging import get_logger
from optuna_llm._records import Completion
from optuna_llm._records import Message
from optuna_llm._secrets import is_public_header
from optuna_llm._secrets import strip_url
from optuna_llm.models._call import call
from optuna_llm.models._connection import ConnectionPool
from optuna_llm.models._deadline import within
from optuna_llm.models._endpoint import Client
from optuna_llm.models._endpoint import Endpoint
from optuna_llm.models._faults import MovedError
from optuna_llm.models._faults import RejectedError
from optuna_llm.models._faults import TransientError
from optuna_llm.models._faults import UnreachableError
from optuna_llm.models._request import Api
from optuna_llm.models._request import make_form
from optuna_llm.models._request import RequestForm
from optuna_llm.models._window import PromptWindow


_logger = get_logger(__name__)

_OURS = ("model", "messages", "input", "instructions", "n", "timeout")
_FIRST_PAUSE = 0.25
_LONGEST_PAUSE = 60.0
_FIRST_PATIENCE = 20.0
"""Seconds for which a server that has never answered is waited for."""
_MAX_MOVES = 3


class OpenAIModel:
    """A model behind an OpenAI-compatible server: OpenAI, OpenRouter, Ollama, vLLM and others.

    .. code-block:: python

        OpenAIModel("gpt-…", reasoning_effort="low")
        OpenAIModel("qwen3", base_url="http://localhost:11434/v1")

    A request holds the model's name, the messages and the parameters given here, and to OpenAI
    itself a ``prompt_cache_key``. Temporary faults (rate limits, timeouts, 5xx, broken
    connections) are retried with backoff. What the server rejects is left out, renamed or sent
    in another form from then on; :attr:`adaptations` says what. A forked process opens
    connections of its own.

    Args:
        name: The model's name, as the server knows it.
        base_url: The server's address; by default ``OPENAI_BASE_URL``, else OpenAI's own.
        api_key: By default ``OPENAI_API_KEY``. A server on this machine or in a private network
            needs none. Pickles hold no key, no login and no headers that may be secret: a copy
            reads the key from the environment.
        client: An ``openai.OpenAI`` or ``openai.AzureOpenAI`` to use in place of one made of
            the two arguments above, or a function that returns one. With a function the model
            can be pickled, and each process has a client of its own.
        api: ``"chat"`` for chat completions or ``"responses"`` for the Responses API, which is
            also used once the server says that the model needs it.
        stream: Whether to have the reply streamed, for servers and proxies that close idle
            connections. The result is the same.
        timeout: Seconds that one request may take in all.
        patience: Seconds that a call may take in all, pauses included, before a temporary fault
            is an error after all. 0 tries once. A server that has never answered is waited for
            20 seconds at most.
        **parameters: Further arguments of ``chat.completions.create``, such as
            ``temperature=1.0``, or any other that the server knows; ``extra_headers`` and
            ``extra_query`` are sent as such.

    Raises:
        ValueError: If no key is known where one is needed, or an argument cannot be right.
    """

    def __init__(
        self,
        name: str,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        client: Client | None = None,
        api: Api = "chat",
        stream: bool = False,
        timeout: float = 300.0,
        patience: float = 600.0,
        **parameters: Any,
    ) -> None:
        if not isinstance(name, str) or not name.strip():
            raise ValueError(f"A model's name must be a string and not empty: {name!r}.")
        if not timeout > 0:
            raise ValueError(f"timeout must be above 0 seconds: {timeout!r}.")
        if not patience >= 0:
            raise ValueError(f"patience must be 0 seconds or more: {patience!r}.")
        if api not in ("chat", "responses"):
            raise ValueError(f"api must be 'chat' or 'responses': {api!r}.")
        taken = [parameter for parameter in _OURS if parameter in parameters]
        if taken:
            raise ValueError(f"{taken[0]!r} is set by optuna_llm and cannot be a parameter.")
        if client is not None:
            _check_client(client)
            if base_url or api_key:
                raise ValueError("Give a client, or base_url and api_key, but not both.")
        self.name = name
        self._endpoint = Endpoint(name, base_url, api_key, client)
        # OpenAI's own server knows by it which requests begin alike; others might refuse it.
        has_cache_key = self._endpoint.address.host.endswith("openai.com")
        self._form = make_form(api, parameters, stream=stream, has_cache_key=has_cache_key)
        self._timeout = timeout
        self._patience = patience
        self._n_moves = 0
        self._lost: list[str] = []
        self._open()

    def _open(self) -> None:
        """Begin with nothing that belongs to another process."""
        self._connections = ConnectionPool(self._endpoint.connect)
        self._window = PromptWindow()
        self._has_answered = False
        self._failed_at: float | None = None

    def __repr__(self) -> str:
        return f"OpenAIModel({self.name!r})"

    def __getstate__(self) -> dict[str, Any]:
        headers = self._form.transport.get("extra_headers") or {}
        lost = [name for name in headers if not is_public_header(name)]
        lost += self._form.transport.get("extra_query") or {}
        state = self.__dict__ | {
            "_form": self._form.without_secrets(),
            "_lost": self._lost + lost,
        }
        for name in ("_connections", "_window", "_has_answered", "_failed_at"):
            del state[name]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()

    def __deepcopy__(self, memo: dict[int, Any]) -> OpenAIModel:
        # What changes in it, many threads may share.
        return self

    @property
    def adaptations(self) -> Mapping[str, str]:
        """What is sent otherwise than it was given, since the server rejected it.

        A parameter's name, ``system``, ``api`` or ``base_url`` to what became of it, such as
        ``{"temperature": "left out", "max_tokens": "sent as max_completion_tokens"}``.
        """
        return dict(self._form.adaptations)

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
            ModelSetupError: If the server refuses for good.
            ReplyError: If the model refused to answer, or a filter took the answer away.
        """
        if self._lost:
            raise ModelSetupError(
                f"The model was pickled without its {', '.join(self._lost)}, which may hold "
                "secrets: make it in this process, or give as client= a function."
            )
        began = time.monotonic()
        pauses = _growing_pauses()
        cancellation = _cancellation.current()
        while True:
            form = self._form
            try:
                completion = self._try(form, messages, schema)
            except RejectedError as error:
                self._adapt(form, error)
            except MovedError as error:
                self._move(error)
            except TransientError as error:
                pause = max(next(pauses), error.retry_after)
                if time.monotonic() + pause > began + self._find_patience(error, began):
                    raise
                _logger.warning("%s Asking again in %.1f seconds.", error, pause)
                cancellation.wait(pause)
                if cancellation.is_cancelled:
                    raise
            else:
                self._has_answered = True
                if warning := self._window.check(messages, completion.usage):
                    _logger.warning("%s %s", self._endpoint, warning)
                is_free = schema is not None and not form.takes_schema
                return replace(completion, is_free=True) if is_free else completion

    def _try(
        self, form: RequestForm, messages: Sequence[Message], schema: Mapping[str, Any] | None
    ) -> Completion:
        """The reply to one request, which no longer runs when this returns or raises."""
        request = form.render(self.name, messages, schema)
        connection = self._connections.take()
        try:
            return within(
                self._timeout,
                lambda: call(connection, self._endpoint, request, self._timeout),
                connection.close,
            )
        finally:
            self._connections.give_back(connection)

    def _adapt(self, form: RequestForm, error: RejectedError) -> None:
        """Send the next request without what the server rejects."""
        self._has_answered = True
        self._form, changed = self._form.adapt(error.names, form)
        if not changed and form is self._form:
            raise ModelSetupError(str(error)) from None
        for name, verdict in changed.items():
            _logger.warning("%s The parameter %r is %s from now on.", error, name, verdict)

    def _move(self, error: MovedError) -> None:
        """Send the next request to where the server is now."""
        self._n_moves += 1
        if self._n_moves > _MAX_MOVES:
            raise ModelSetupError(str(error)) from None
        _logger.warning("%s That address is used from now on.", error)
        self._endpoint = self._endpoint.move(error.url)
        self._connections = ConnectionPool(self._endpoint.connect)
        self._form = self._form.note("base_url", strip_url(error.url))

    def _find_patience(self, error: TransientError, began: float) -> float:
        """Seconds from the call's begin on for which it may be repeated."""
        if self._has_answered or not isinstance(error, UnreachableError):
            return self._patience
        if self._failed_at is None:
            self._failed_at = began
            # Shown whatever the verbosity: nothing else would say why the study stands still.
            loud = max(logging.ERROR, _logger.getEffectiveLevel())
            _logger.log(loud, "%s It has not answered yet.", error)
        return min(self._patience, self._failed_at + _FIRST_PATIENCE - began)


def _check_client(client: object) -> None:
    import openai

    if isinstance(client, openai.OpenAI):
        return
    if not callable(client) or isinstance(client, openai.AsyncOpenAI):
        raise ValueError(f"client must be an openai.OpenAI or a function: {client!r}.")


def _growing_pauses() -> Iterator[float]:
    """Seconds between tries: twice as long each time, and no two clients in step."""
    pause = _FIRST_PAUSE
    while True:
        yield pause * random.uniform(0.5, 1.5)
        pause = min(2 * pause, _LONGEST_PAUSE)
