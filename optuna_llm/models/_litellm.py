"""The hundred providers that litellm knows."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from collections.abc import Mapping
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace
from importlib.util import find_spec
import json
import os
import threading
from typing import Any
from typing import TYPE_CHECKING
from urllib.request import getproxies

from optuna_llm._errors import ContextLengthError
from optuna_llm._errors import LLMError
from optuna_llm._errors import ModelError
from optuna_llm._errors import ModelSetupError
from optuna_llm._errors import ReplyError
from optuna_llm._processes import current_process
from optuna_llm._processes import LAZY_IMPORTS
from optuna_llm._quoting import one_line
from optuna_llm._records import Completion
from optuna_llm._records import Message
from optuna_llm._secrets import find_header_secrets
from optuna_llm._secrets import find_named_secrets
from optuna_llm._secrets import find_url_secrets
from optuna_llm._secrets import is_secret_name
from optuna_llm._secrets import make_redactor
from optuna_llm._secrets import Redactor
from optuna_llm.models._completion import CompletionReader
from optuna_llm.models._deadline import late
from optuna_llm.models._deadline import within
from optuna_llm.models._faults import CHAT
from optuna_llm.models._faults import explain_status
from optuna_llm.models._faults import UnreachableError
from optuna_llm.models._limiter import Slot
from optuna_llm.models._request import make_form
from optuna_llm.models._request import RequestForm
from optuna_llm.models._served import check_arguments
from optuna_llm.models._served import ServedModel


if TYPE_CHECKING:
    import openai

_OURS = ("api_base", "max_retries", "num_retries", "shared_session")
_MAX_SAID = 2_000


class LiteLLMModel(ServedModel):
    """A model of any provider that `litellm <https://docs.litellm.ai>`_ knows.

    .. code-block:: python

        LiteLLMModel("anthropic/claude-…", max_tokens=8_000)  # reads ANTHROPIC_API_KEY

    litellm is installed by ``pip install "optuna-llm[litellm]"`` and imported at the first call,
    which takes it some seconds. Prices are then not downloaded, unless
    ``LITELLM_LOCAL_MODEL_COST_MAP`` is set to ``False``. Retries, limits of time, what is left
    out after a rejection and errors are those of :class:`OpenAIModel`.

    Args:
        name: The provider and its model, as litellm names them.
        base_url: The server's address, where it is not the provider's own.
        api_key: By default what litellm finds in the environment. Pickles hold no key, no
            parameter that is named like a secret and no headers that may be one.
        stream: As for :class:`OpenAIModel`.
        timeout: Likewise.
        patience: Likewise.
        max_tokens_per_minute: Likewise; headers are not read.
        **parameters: Further arguments of ``litellm.completion``.

    Raises:
        ImportError: If litellm is not installed.
        ValueError: If an argument cannot be right.
    """

    def __init__(
        self,
        name: str,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        stream: bool = False,
        timeout: float = 300.0,
        patience: float = 600.0,
        max_tokens_per_minute: int | None = None,
        **parameters: Any,
    ) -> None:
        check_arguments(name, timeout, patience, max_tokens_per_minute, parameters)
        taken = [parameter for parameter in _OURS if parameter in parameters]
        if taken:
            raise ValueError(f"{taken[0]!r} cannot be a parameter: see base_url and patience.")
        if find_spec("litellm") is None:
            raise ImportError('LiteLLMModel needs litellm: pip install "optuna-llm[litellm]".')
        self._connection = {"api_base": base_url, "api_key": api_key}
        form = make_form("chat", parameters, stream=stream, has_cache_key=False)
        super().__init__(
            name,
            form,
            timeout=timeout,
            patience=patience,
            max_tokens_per_minute=max_tokens_per_minute,
        )

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        form: RequestForm = state["_form"]
        secret = [name for name in form.parameters if is_secret_name(name)]
        public = {n: v for n, v in form.parameters.items() if n not in secret}
        return state | {
            "_form": replace(form, parameters=public),
            "_connection": self._connection | {"api_key": None},
            "_lost": state["_lost"] + secret,
        }

    @property
    def _server(self) -> str:
        return f"litellm for {self.name!r}"

    def _try(
        self,
        form: RequestForm,
        messages: Sequence[Message],
        schema: Mapping[str, Any] | None,
        slot: Slot,
    ) -> Completion:
        request = form.render(self.name, messages, schema)
        given = dict(request.arguments)
        body = given.pop("extra_body")
        arguments = given | body | {n: v for n, v in self._connection.items() if v is not None}
        # litellm translates chat completions, and nothing else.
        sent = [name for name in request.sent if name != CHAT]
        redactor = self._make_redactor(arguments)
        try:
            called = _start(_complete(arguments, self._timeout))
            reply = within(self._timeout, called.result, lambda: _cancel(called))
            reader = CompletionReader(self._server, sent, redactor.redact)
            reader.feed(reply)
            completion = reader.finish()
        except LLMError as error:
            error.args = (redactor.redact(str(error)),)
            raise
        except Exception as error:  # noqa: BLE001 - litellm raises anything for a body it cannot read
            fault = _explain(error, self._server, sent, self._timeout, redactor)
            raise fault from None
        model = completion.model and one_line(redactor.redact_reply(completion.model))
        return replace(completion, text=redactor.redact_reply(completion.text), model=model)

    def _make_redactor(self, arguments: Mapping[str, Any]) -> Redactor:
        """Replaces every secret that litellm could have sent."""
        secrets = [*find_named_secrets(os.environ), *find_named_secrets(arguments)]
        secrets += find_header_secrets(arguments.get("extra_headers") or {})
        for url in (self._connection["api_base"], *getproxies().values()):
            secrets += find_url_secrets(url)
        return make_redactor(tuple(secrets))


async def _complete(arguments: Mapping[str, Any], timeout: float) -> bytes:
    """The JSON of a chat completion."""
    import litellm

    response = await litellm.acompletion(
        **arguments, timeout=timeout, num_retries=0, max_retries=0
    )
    if arguments.get("stream"):
        response = litellm.stream_chunk_builder([chunk async for chunk in response])
    return str(response.model_dump_json(warnings=False)).encode()


class _Loop:
    """The event loop that all calls of one process run in.

    litellm keeps its connections by event loop: a loop for each call would leak them.
    """

    def __init__(self) -> None:
        self.process = current_process()
        self.loop = asyncio.new_event_loop()
        threading.Thread(
            target=self.loop.run_forever, name="optuna_llm.litellm", daemon=True
        ).start()


_running: _Loop | None = None


def _start(call: Coroutine[Any, Any, bytes]) -> Future[bytes]:
    """Run a call in this process's loop; it can be cancelled whatever it waits for."""
    global _running
    # A fork waits for this lock: a child never finds it taken, nor half an import.
    with LAZY_IMPORTS:
        _import_litellm()
        if _running is None or _running.process != current_process():
            _running = _Loop()
        return asyncio.run_coroutine_threadsafe(call, _running.loop)


def _cancel(called: Future[bytes]) -> None:
    called.cancel()


def _import_litellm() -> None:
    # Else it downloads a table of prices while it is imported.
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    import litellm

    # Else it prints advice for each error.
    litellm.suppress_debug_info = True


def _explain(
    error: Exception, server: str, sent: Sequence[str], timeout: float, redactor: Redactor
) -> LLMError:
    """What an error that litellm raises means for the call."""
    import litellm
    import openai

    said = redactor.redact(one_line(str(error), _MAX_SAID))
    if isinstance(error, openai.APITimeoutError):
        return late(timeout)
    if not isinstance(error, openai.OpenAIError):
        return ModelError(f"{server} failed: {type(error).__name__}: {said}")
    headers = getattr(error, "litellm_response_headers", None)
    status = getattr(error, "status_code", None) or 500
    if headers is None and status >= 500:
        return UnreachableError(f"{server}: {said}")
    body = redactor.redact(_find_body(error))
    fault = explain_status(status, body, headers or {}, server, sent)
    if isinstance(fault, ModelSetupError):
        # litellm knows the words of some providers that are not known here.
        if isinstance(error, litellm.ContextWindowExceededError):
            return ContextLengthError(str(fault))
        if isinstance(error, litellm.ContentPolicyViolationError):
            return ReplyError(f"the request was refused by a content filter: {said}")
    return fault


def _find_body(error: openai.OpenAIError) -> str:
    """The server's words in an error: its JSON, where that is there."""
    body = getattr(error, "body", None)
    if body:
        return body if isinstance(body, str) else json.dumps(body, default=str)
    said = str(error)
    begin = said.find("{")
    if begin >= 0:
        try:
            found, _ = json.JSONDecoder(strict=False).raw_decode(said, begin)
        except (ValueError, RecursionError):
            return said
        return json.dumps(found)
    return said
