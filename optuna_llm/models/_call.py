"""One request over one connection, and whatever comes of it."""

from __future__ import annotations

from dataclasses import replace
import time
from typing import Any
from typing import TYPE_CHECKING

from optuna_llm._errors import LLMError
from optuna_llm._quoting import one_line
from optuna_llm._records import Completion
from optuna_llm._secrets import strip_url
from optuna_llm.models._completion import CompletionReader
from optuna_llm.models._connection import BrokenBodyError
from optuna_llm.models._connection import Connection
from optuna_llm.models._deadline import late
from optuna_llm.models._endpoint import Endpoint
from optuna_llm.models._faults import explain_status
from optuna_llm.models._faults import TransientError
from optuna_llm.models._request import Request


if TYPE_CHECKING:
    import openai

_HTTP_LIBRARIES = ("httpx", "httpx2", "httpcore", "httpcore2")


def call(
    connection: Connection, endpoint: Endpoint, request: Request, timeout: float
) -> Completion:
    """The reply to a request; neither it nor any error holds a secret.

    Args:
        connection: What it is sent over.
        endpoint: Where the connection leads.
        request: The request.
        timeout: Seconds that it may take.

    Raises:
        LLMError: What the server's answer, or that there is none, means for the call.
    """
    import openai

    fault: LLMError

    def redact(text: str) -> str:
        return endpoint.redactor(connection.request).redact(text)

    reader = CompletionReader(str(endpoint), request.sent, redact)
    try:
        completion = _read(connection.client, request, timeout, reader)
    except openai.APIStatusError as error:
        fault = _explain_status(error, endpoint, request.sent)
    except openai.APITimeoutError as error:
        fault = late(timeout)
        if type(error.__cause__).__name__ == "ConnectTimeout":
            fault = endpoint.address.explain(error, redact)
    except LLMError as error:
        fault = error
    except BrokenBodyError as error:
        fault = TransientError(f"{endpoint}: {error}")
    except Exception as error:
        # A body that breaks off is not wrapped by the client, and its HTTP library has changed
        # its name between versions.
        library = type(error).__module__.partition(".")[0]
        if library not in _HTTP_LIBRARIES and not isinstance(error, openai.OpenAIError):
            raise
        fault = endpoint.address.explain(error, redact)
    else:
        redact = endpoint.redactor(connection.request).redact_reply
        name = completion.model and one_line(redact(completion.model))
        return replace(completion, text=redact(completion.text), model=name)
    fault.args = (redact(str(fault)),)
    raise fault from None


def _read(
    client: openai.OpenAI, request: Request, timeout: float, reader: CompletionReader
) -> Completion:
    api: Any = client.chat.completions if request.api == "chat" else client.responses
    deadline = time.monotonic() + timeout
    with api.with_streaming_response.create(**request.arguments, timeout=timeout) as response:
        for piece in response.iter_bytes():
            reader.feed(piece)
            # The client's timeout is for each read: a body that trickles has none.
            if time.monotonic() > deadline:
                raise late(timeout)
    return reader.finish()


def _explain_status(error: openai.APIStatusError, endpoint: Endpoint, sent: list[str]) -> LLMError:
    """What a status that is no success means."""
    response, address = error.response, endpoint.address
    status, url = response.status_code, str(response.request.url)
    if 300 <= status < 400 and "location" in response.headers:
        return address.explain_redirect(url, response.headers["location"])
    who = f"{endpoint}{address.route}"
    if status in (404, 405):
        who = f"{who}, asked at {strip_url(url)},"
    text = endpoint.redactor(response.request).redact(response.text)
    return explain_status(status, text, response.headers, who, sent)
