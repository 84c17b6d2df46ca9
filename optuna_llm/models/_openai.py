"""Any endpoint that speaks one of OpenAI's APIs."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from optuna_llm._errors import ModelSetupError
from optuna_llm._logging import get_logger
from optuna_llm._records import Completion
from optuna_llm._records import Message
from optuna_llm._secrets import strip_url
from optuna_llm.models._call import call
from optuna_llm.models._connection import ConnectionPool
from optuna_llm.models._deadline import within
from optuna_llm.models._endpoint import Client
from optuna_llm.models._endpoint import Endpoint
from optuna_llm.models._faults import MovedError
from optuna_llm.models._limiter import Slot
from optuna_llm.models._request import Api
from optuna_llm.models._request import make_form
from optuna_llm.models._request import RequestForm
from optuna_llm.models._served import check_arguments
from optuna_llm.models._served import ServedModel


_logger = get_logger(__name__)

_MAX_MOVES = 3


class OpenAIModel(ServedModel):
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
            10 seconds in all, and later calls try once, until it does.
        max_tokens_per_minute: Tokens of prompts and replies that may be spent in any minute, by
            all threads of this process together; None for no limit but the server's. Calls wait
            for their turn, in the order in which they came: at first a quarter of a minute's
            tokens may be spent at once, the rest at an even pace. Give each of several processes
            its share. What a call will take is judged by the calls before it. A wait for this is
            no part of ``timeout`` or ``patience``. With or without a limit, calls also wait for
            what the server's headers say is missing (``x-ratelimit-remaining-tokens``,
            ``-requests`` and their ``-limit-`` and ``-reset-``), a minute at the longest.
        **parameters: Further arguments of ``chat.completions.create``, such as
            ``temperature=1.0``, or any other that the server knows; ``extra_headers`` and
            ``extra_query`` are sent as such. ``temperature`` and ``reasoning_effort`` may be
            sequences, such as ``temperature=[0.5, 1.0]``: the proposals for trials take turns in
            them, by the trial's number.

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
        max_tokens_per_minute: int | None = None,
        **parameters: Any,
    ) -> None:
        check_arguments(name, timeout, patience, max_tokens_per_minute, parameters)
        if api not in ("chat", "responses"):
            raise ValueError(f"api must be 'chat' or 'responses': {api!r}.")
        if client is not None:
            _check_client(client)
            if base_url or api_key:
                raise ValueError("Give a client, or base_url and api_key, but not both.")
        self._endpoint = Endpoint(name, base_url, api_key, client)
        self._n_moves = 0
        # OpenAI's own server knows by it which requests begin alike; others might refuse it.
        has_cache_key = self._endpoint.address.host.endswith("openai.com")
        form = make_form(api, parameters, stream=stream, has_cache_key=has_cache_key)
        super().__init__(
            name,
            form,
            timeout=timeout,
            patience=patience,
            max_tokens_per_minute=max_tokens_per_minute,
        )

    def _open(self) -> None:
        super()._open()
        self._connections = ConnectionPool(self._endpoint.connect)

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        del state["_connections"]
        return state

    @property
    def _server(self) -> str:
        return str(self._endpoint)

    @property
    def _way_out(self) -> str:
        return "make it in this process, or give as client= a function"

    def _try(
        self,
        form: RequestForm,
        messages: Sequence[Message],
        schema: Mapping[str, Any] | None,
        slot: Slot,
    ) -> Completion:
        request = form.render(self.name, messages, schema)
        connection = self._connections.take()
        try:
            return within(
                self._timeout,
                lambda: call(connection, self._endpoint, request, self._timeout),
                connection.close,
            )
        finally:
            slot.headers = connection.headers
            self._connections.give_back(connection)

    def _move(self, error: MovedError) -> None:
        """Send the next request to where the server is now."""
        self._n_moves += 1
        if self._n_moves > _MAX_MOVES:
            raise ModelSetupError(str(error)) from None
        _logger.warning("%s That address is used from now on.", error)
        self._endpoint = self._endpoint.move(error.url)
        self._connections = ConnectionPool(self._endpoint.connect)
        self._form = self._form.note("base_url", strip_url(error.url))


def _check_client(client: object) -> None:
    import openai

    if isinstance(client, openai.OpenAI):
        return
    if not callable(client) or isinstance(client, openai.AsyncOpenAI):
        raise ValueError(f"client must be an openai.OpenAI or a function: {client!r}.")
