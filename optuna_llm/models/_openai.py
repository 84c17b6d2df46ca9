"""Any endpoint that speaks OpenAI's chat completions: the only module that knows the client."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import hashlib
import ipaddress
import json
import os
import random
import threading
import time
from typing import Any
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from optuna_llm import _cancellation
from optuna_llm._errors import LLMError
from optuna_llm._errors import ReplyError
from optuna_llm._logging import get_logger
from optuna_llm._records import Completion
from optuna_llm._records import Message
from optuna_llm._records import Usage
from optuna_llm.models._chat import WAYS_OUT
from optuna_llm.models._deadline import late
from optuna_llm.models._deadline import within
from optuna_llm.models._faults import explain_status
from optuna_llm.models._faults import MAX_SAID
from optuna_llm.models._faults import read_message
from optuna_llm.models._faults import read_words
from optuna_llm.models._faults import RejectedParameterError
from optuna_llm.models._faults import TransientError
from optuna_llm.models._line import Line


if TYPE_CHECKING:
    import openai

_logger = get_logger(__name__)

_OURS = ("model", "messages", "stream", "n", "timeout")
_NO_KEY = "none"
_FIRST_PAUSE = 0.25
_LONGEST_PAUSE = 60.0


class OpenAIModel:
    """A model behind an OpenAI-compatible server: OpenAI, OpenRouter, Ollama, vLLM and others.

    .. code-block:: python

        OpenAIModel("gpt-…", reasoning_effort="low")
        OpenAIModel("qwen3", base_url="http://localhost:11434/v1")

    One chat completion a call, not streamed; nothing is sent but the model's name, the messages
    and the parameters given here, and to OpenAI itself a ``prompt_cache_key``. What passes (rate
    limits, a server that fails, is silent or cannot be reached, a response that is no completion)
    is waited out. A parameter that the server rejects is left out from then on, or sent by the
    name it knows.

    Args:
        name: The model's name, as the server knows it.
        base_url: The server's address; by default ``OPENAI_BASE_URL``, else OpenAI's own.
        api_key: By default ``OPENAI_API_KEY``. A server on this machine or in a private network
            needs none. It is left out of pickles: a copy reads it from the environment.
        client: An ``openai.OpenAI`` or ``openai.AzureOpenAI`` to use in place of one made of
            the two arguments above.
        timeout: Seconds that one request may take in all.
        patience: Seconds that may pass in all, pauses included, before a fault that passes is an
            error after all. 0 tries once.
        **parameters: Further arguments of ``chat.completions.create``, such as
            ``temperature=1.0``; what only this server knows goes into ``extra_body={…}``.

    Raises:
        ValueError: If no key is known where one is needed, or an argument cannot be right.
    """

    def __init__(
        self,
        name: str,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        client: openai.OpenAI | None = None,
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
        taken = [parameter for parameter in _OURS if parameter in parameters]
        if taken:
            raise ValueError(f"{taken[0]!r} is set by optuna_llm and cannot be a parameter.")
        if client is not None:
            import openai

            if not isinstance(client, openai.OpenAI):
                raise ValueError(f"client must be an openai.OpenAI: {client!r}.")
            if base_url or api_key:
                raise ValueError("Give a client, or base_url and api_key, but not both.")
        self.name = name
        self._base_url = base_url or os.environ.get("OPENAI_BASE_URL") or None
        self._api_key = api_key
        # Without the client's own retries: it waits out less, and says nothing of it.
        self._given_client = client and client.with_options(max_retries=0)
        self._lines: list[Line] = []
        # OpenAI's own server knows by it which requests begin alike; others might refuse it.
        self._has_cache_key = self._address().endswith("openai.com")
        self._timeout = timeout
        self._patience = patience
        self._parameters = parameters
        self._lock = threading.Lock()
        if client is None:
            self._check_address()
            self._find_key()

    def __repr__(self) -> str:
        return f"OpenAIModel({self.name!r})"

    def __getstate__(self) -> dict[str, Any]:
        if self._given_client is not None:
            raise TypeError(
                "An OpenAIModel with a client of its own cannot be pickled or copied: clients "
                "cannot. Give base_url= and api_key= in its place."
            )
        return self.__dict__ | {"_lines": [], "_lock": None, "_api_key": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()

    def __deepcopy__(self, memo: dict[int, Any]) -> OpenAIModel:
        # What changes in it, many threads may share.
        return self

    def complete(self, messages: Sequence[Message]) -> Completion:
        """The server's reply.

        Raises:
            ContextLengthError: If the messages are too long for the model.
            ModelError: If patience came to an end.
            ModelSetupError: If the server refuses for good.
            ReplyError: If the model refused to answer, or a filter took the answer away.
        """
        began = time.monotonic()
        pauses = _growing_pauses()
        cancellation = _cancellation.current()
        while True:
            try:
                return self._try(messages)
            except RejectedParameterError as error:
                self._give_up(error)
            except TransientError as error:
                pause = max(next(pauses), error.retry_after)
                if time.monotonic() - began + pause > self._patience:
                    raise
                _logger.warning("%s Asking again in %.1f seconds.", error, pause)
                cancellation.wait(pause)
                if cancellation.is_cancelled:
                    raise

    def _try(self, messages: Sequence[Message]) -> Completion:
        """The reply to one request, which no longer runs when this returns or raises."""
        if (client := self._given_client) is not None:
            # Its connections are not ours: a request that is given up ends by itself.
            return within(self._timeout, lambda: self._request(client, messages), lambda: None)
        with self._lock:
            line = self._lines.pop() if self._lines else None
        line = line or Line(self._find_key(), self._base_url)
        try:
            return within(
                self._timeout, lambda: self._request(line.client, messages), line.hang_up
            )
        finally:
            if not line.is_down:
                with self._lock:
                    self._lines.append(line)

    def _request(self, client: openai.OpenAI, messages: Sequence[Message]) -> Completion:
        import openai

        parameters = self._parameters
        if self._has_cache_key and "prompt_cache_key" not in parameters:
            key = hashlib.sha256(messages[0].content.encode()).hexdigest()[:32]
            parameters = {
                **parameters,
                "extra_body": {"prompt_cache_key": key, **(parameters.get("extra_body") or {})},
            }
        deadline = time.monotonic() + self._timeout
        body = bytearray()
        try:
            with client.chat.completions.with_streaming_response.create(
                model=self.name,
                messages=[vars(message) for message in messages],  # type: ignore[misc]
                timeout=self._timeout,
                **parameters,
            ) as response:
                for chunk in response.iter_bytes():
                    body += chunk
                    # The client's timeout is for each read: a body that trickles has none.
                    if time.monotonic() > deadline:
                        raise late(self._timeout)
        except openai.APIStatusError as error:
            sent = [*parameters, *(parameters.get("extra_body") or {})]
            who = f"{self._address()} for {self.name!r}"
            headers = error.response.headers
            fault = explain_status(error.status_code, error.body, headers, who, sent)
            raise self._without_secrets(fault, client.api_key) from None
        except openai.APITimeoutError as error:
            raise late(self._timeout) from error
        except openai.OpenAIError as error:
            fault = TransientError(self._describe(error))
            raise self._without_secrets(fault, client.api_key) from None
        except Exception as error:
            # A body that breaks off is not wrapped by the client, and its HTTP library has
            # changed its name between versions.
            if type(error).__module__.partition(".")[0] in _HTTP_LIBRARIES:
                raise TransientError(self._describe(error)) from error
            raise
        return _read_completion(bytes(body), self._address())

    def _give_up(self, error: RejectedParameterError) -> None:
        """Leave parameters out from now on, or call them what the server calls them."""
        with self._lock:
            if "prompt_cache_key" in error.names:
                self._has_cache_key = False
            parameters = dict(self._parameters)
            extra = dict(parameters.get("extra_body") or {})
            for name, other in error.names.items():
                for place in (parameters, extra):
                    if name in place:
                        value = place.pop(name)
                        if other is not None:
                            place[other] = value
                verdict = f"sent as {other!r}" if other else "left out"
                _logger.warning("%s The parameter %r is %s from now on.", error, name, verdict)
            if "extra_body" in parameters:
                parameters["extra_body"] = extra
            self._parameters = parameters

    def _check_address(self) -> None:
        parts = urlsplit(self._base_url or "https://api.openai.com")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(
                f"base_url must begin with http:// or https:// and name a host: {parts.scheme!r}, "
                f"{parts.hostname!r}."
            )

    def _find_key(self) -> str:
        key = self._api_key or os.environ.get("OPENAI_API_KEY")
        if not key:
            if self._base_url is None or not _is_local(self._base_url):
                raise ValueError(f"No API key is known for the model {self.name!r}. {WAYS_OUT}")
            return _NO_KEY  # The client wants one, the server does not.
        if not key.isascii() or not key.isprintable() or " " in key:
            # Checked here, without showing it: as a header it would be shown by the error.
            raise ValueError("The API key holds a space, line break or non-ASCII character.")
        return key

    def _address(self) -> str:
        """The server's host, without what may be secret in its address."""
        url = self._base_url
        if self._given_client is not None:
            url = str(self._given_client.base_url)
        return (urlsplit(url).hostname if url else None) or "api.openai.com"

    def _describe(self, error: Exception) -> str:
        # "Connection error." alone says nothing: what lies under it does.
        under = f" ({error.__cause__})" if error.__cause__ else ""
        return f"{self._address()}: {type(error).__name__}: {error}{under}"

    def _without_secrets(self, error: LLMError, key: str) -> LLMError:
        """The error without key and password, should the server have repeated them."""
        parts = urlsplit(self._base_url or "")
        basic = base64.b64encode(f"{parts.username}:{parts.password}".encode()).decode()
        message = str(error)
        for secret in (parts.password, parts.username, parts.password and basic, key):
            if secret and secret != _NO_KEY:
                message = message.replace(secret, "***")
        error.args = (message,)
        return error


_HTTP_LIBRARIES = ("httpx", "httpx2", "httpcore", "httpcore2")


def _growing_pauses() -> Iterator[float]:
    """Seconds between tries: twice as long each time, and no two clients in step."""
    pause = _FIRST_PAUSE
    while True:
        yield pause * random.uniform(0.5, 1.5)
        pause = min(2 * pause, _LONGEST_PAUSE)


def _is_local(url: str) -> bool:
    """Whether an address is this machine's or a private network's."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return "." not in host or host.endswith((".local", ".localhost", ".internal", ".lan"))


def _read_completion(body: bytes, address: str) -> Completion:
    """The completion in a response's body.

    Raises:
        ReplyError: If the model gave no answer on purpose.
        ModelError: If it is none: not JSON, an error with status 200, or without choices.
    """
    data: Any = None
    try:
        data = json.loads(body)
        text, is_cut = read_message(data)
    except ReplyError:
        raise
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
        said = read_words(data) or body[:MAX_SAID].decode("utf-8", "replace")
        raise TransientError(f"{address} sent no chat completion: {said!r}") from None
    name = data.get("model")
    usage = _read_usage(data)
    return Completion(text, name if isinstance(name, str) else None, usage, is_cut)


def _read_usage(data: Mapping[str, Any]) -> Usage:
    usage = data.get("usage")
    prompt = _part(usage, "prompt_tokens_details")
    completion = _part(usage, "completion_tokens_details")
    return Usage(
        prompt_tokens=_count(usage, "prompt_tokens"),
        # DeepSeek counts its cache's hits under a name of its own.
        cached_tokens=_count(prompt, "cached_tokens") or _count(usage, "prompt_cache_hit_tokens"),
        completion_tokens=_count(usage, "completion_tokens"),
        reasoning_tokens=_count(completion, "reasoning_tokens"),
    )


def _part(usage: object, name: str) -> object:
    return usage.get(name) if isinstance(usage, Mapping) else None


def _count(counts: object, name: str) -> int:
    """A token count; 0 where the server sends none, or something else."""
    value = _part(counts, name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
