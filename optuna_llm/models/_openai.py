"""Any endpoint that speaks OpenAI's chat completions: the only module that knows the client."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
import ipaddress
import json
import os
import threading
import time
from typing import Any
from typing import TYPE_CHECKING
from typing import TypeVar
from urllib.parse import urlsplit

from optuna_llm._attributes import shorten
from optuna_llm._errors import ModelError
from optuna_llm._errors import ModelSetupError
from optuna_llm._records import Completion
from optuna_llm._records import Message
from optuna_llm._records import Usage


if TYPE_CHECKING:
    import openai

_Result = TypeVar("_Result")

WAYS_OUT = (
    "Three ways out: set OPENAI_API_KEY and name a model of that provider "
    '(model="…" or OPTUNA_LLM_MODEL); set OPENAI_BASE_URL to a local server, such as '
    'http://localhost:11434/v1, and name a model it has; or use model="offline", a rule-based '
    "stand-in that needs neither key nor network."
)

_MAX_SAID = 500
"""Characters of a server's words in an error: some answer with a page of HTML."""

_OURS = ("model", "messages", "stream", "n", "timeout")


class OpenAIModel:
    """A model behind an OpenAI-compatible server: OpenAI, OpenRouter, Ollama, vLLM and others.

    .. code-block:: python

        OpenAIModel("gpt-…", reasoning_effort="low")
        OpenAIModel("qwen3", base_url="http://localhost:11434/v1")

    One chat completion a call, not streamed; nothing is sent but the model's name, the messages
    and the parameters given here.

    Args:
        name: The model's name, as the server knows it.
        base_url: The server's address; by default ``OPENAI_BASE_URL``, else OpenAI's own.
        api_key: By default ``OPENAI_API_KEY``. A server on this machine or in a private network
            needs none. It is left out of pickles: a copy reads it from the environment.
        client: An ``openai.OpenAI`` or ``openai.AzureOpenAI`` to use in place of one made of
            the two arguments above.
        timeout: Seconds that one call may take in all, the client's own retries included.
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
        timeout: float = 600.0,
        **parameters: Any,
    ) -> None:
        if not isinstance(name, str) or not name.strip():
            raise ValueError(f"A model's name must be a string and not empty: {name!r}.")
        if not timeout > 0:
            raise ValueError(f"timeout must be above 0 seconds: {timeout!r}.")
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
        self._given_client = client
        self._client = client
        self._timeout = timeout
        self._parameters = parameters
        self._lock = threading.Lock()
        if client is None:
            self._find_key()

    def __repr__(self) -> str:
        return f"OpenAIModel({self.name!r})"

    def __getstate__(self) -> dict[str, Any]:
        if self._given_client is not None:
            raise TypeError(
                "An OpenAIModel with a client of its own cannot be pickled or copied: clients "
                "cannot. Give base_url= and api_key= in its place."
            )
        return self.__dict__ | {"_client": None, "_lock": None, "_api_key": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()

    def __deepcopy__(self, memo: dict[int, Any]) -> OpenAIModel:
        # Nothing in it changes but the client, which many threads may share.
        return self

    def complete(self, messages: Sequence[Message]) -> Completion:
        """The server's reply.

        Raises:
            ModelError: If there was none in time, or it was no chat completion.
            ModelSetupError: If the server refuses the request as it is.
        """
        return _within(self._timeout, lambda: self._request(messages))

    def _request(self, messages: Sequence[Message]) -> Completion:
        import openai

        client = self._connect()
        deadline = time.monotonic() + self._timeout
        try:
            with client.chat.completions.with_streaming_response.create(
                model=self.name,
                messages=[vars(message) for message in messages],  # type: ignore[misc]
                timeout=self._timeout,
                **self._parameters,
            ) as response:
                body = bytearray()
                for chunk in response.iter_bytes():
                    body += chunk
                    # The client's timeout is for each read: a body that trickles has none.
                    if time.monotonic() > deadline:
                        raise _late(self._timeout)
        except openai.APIStatusError as error:
            raise self._explain(error) from error
        except openai.APITimeoutError as error:
            raise _late(self._timeout) from error
        except openai.OpenAIError as error:
            raise ModelError(f"{self._address()}: {error}{_cause(error)}") from error
        return _read_completion(bytes(body), self._address())

    def _connect(self) -> openai.OpenAI:
        with self._lock:
            if self._client is None:
                import openai

                self._client = openai.OpenAI(api_key=self._find_key(), base_url=self._base_url)
            return self._client

    def _find_key(self) -> str:
        key = self._api_key or os.environ.get("OPENAI_API_KEY")
        if not key:
            if self._base_url is None or not _is_local(self._base_url):
                raise ValueError(f"No API key is known for the model {self.name!r}. {WAYS_OUT}")
            return "none"  # The client wants one, the server does not.
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

    def _explain(self, error: openai.APIStatusError) -> ModelError:
        """What a status says: refused for good, or worth another trial."""
        said = shorten(_message_of(error.body) or str(error), _MAX_SAID)
        message = f"{self._address()} answered {error.status_code} to {self.name!r}: {said}"
        quota = "insufficient_quota" in json.dumps(error.body, default=str)
        # 408 is a time-out, 409 a conflict, 429 a rate limit: they pass.
        if quota or (400 <= error.status_code < 500 and error.status_code not in (408, 409, 429)):
            return ModelSetupError(message)
        return ModelError(message)


def _within(seconds: float, call: Callable[[], _Result]) -> _Result:
    """What ``call`` returns or raises, or a ModelError once the time is over.

    It runs in a thread of its own, since nothing else bounds headers that trickle; the thread
    is left to end when its connection does.
    """
    future: Future[_Result] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:  # noqa: BLE001 - handed over to the caller's thread
            future.set_exception(error)

    threading.Thread(target=run, name="optuna_llm.call", daemon=True).start()
    try:
        return future.result(seconds)
    except FutureTimeoutError as error:
        if future.done():
            raise
        raise _late(seconds) from error


def _late(seconds: float) -> ModelError:
    return ModelError(f"No reply within {seconds:g} seconds.")


def _is_local(url: str) -> bool:
    """Whether an address is this machine's or a private network's."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return "." not in host or host.endswith((".local", ".localhost", ".internal", ".lan"))


def _cause(error: BaseException) -> str:
    """What lies under a connection error, which alone says no more than that."""
    return f" ({error.__cause__})" if error.__cause__ else ""


def _message_of(body: object) -> str:
    """The words of an error body, in whichever of the usual shapes it comes."""
    for key in ("error", "message", "detail"):
        if isinstance(body, Mapping) and body.get(key):
            body = body[key]
    return body if isinstance(body, str) else json.dumps(body, default=str) if body else ""


def _read_completion(body: bytes, address: str) -> Completion:
    """The completion in a response's body.

    Raises:
        ModelError: If it is none: not JSON, an error with status 200, or without choices.
    """
    try:
        data = json.loads(body)
        message = data["choices"][0]["message"]
        text = message.get("content") or message.get("refusal") or ""
        if not isinstance(text, str):
            text = "".join(part.get("text") or "" for part in text)
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError) as error:
        start = _message_of(_maybe_json(body)) or body[:1000].decode("utf-8", "replace")
        raise ModelError(
            f"{address} sent no chat completion: {shorten(start, _MAX_SAID)!r}"
        ) from error
    name = data.get("model")
    return Completion(text, name if isinstance(name, str) else None, _read_usage(data))


def _maybe_json(body: bytes) -> object:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


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
