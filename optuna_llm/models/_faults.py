"""What a server's refusal means: one place that reads status codes and error bodies."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
import json
import math
import re
import time
from typing import Any

from optuna_llm._errors import ContextLengthError
from optuna_llm._errors import ModelError
from optuna_llm._errors import ModelSetupError
from optuna_llm._errors import ReplyError
from optuna_llm._quoting import shorten


MAX_SAID = 500
"""Characters of a server's words in an error: some answer with a page of HTML."""

# 408 is a time-out, 409 a conflict, 425 too early, 429 a rate limit, and 5xx the server's own.
_PASSING = (408, 409, 425, 429)

_TOO_LONG = re.compile(
    r"context[ _-]?(length|window|size)|maximum context|prompt (is )?too long|too many "
    r"(input )?tokens|input (is )?too long|exceeds? the (available )?context|max_model_len|n_ctx",
    re.IGNORECASE,
)
_FILTERED = re.compile(r"content_filter|content_policy|content management policy|moderation")
_PARAMETER_RENAMES = {
    "max_tokens": "max_completion_tokens",
    "max_completion_tokens": "max_tokens",
}


class TransientError(ModelError):
    """A fault that passes.

    Attributes:
        retry_after: Seconds after which the server wants to be asked again; 0 if it did not say.
    """

    def __init__(self, message: str, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class RejectedParameterError(ModelError):
    """The server does not take a parameter of the request.

    Attributes:
        names: The parameters, each with the name to send it by instead; None to leave it out.
    """

    def __init__(self, message: str, names: Mapping[str, str | None]) -> None:
        super().__init__(message)
        self.names = names


def read_words(body: object) -> str:
    """The words of an error body, in whichever of the usual shapes it comes."""
    for key in ("error", "message", "detail"):
        if isinstance(body, Mapping) and body.get(key):
            body = body[key]
    if not body:
        return ""
    return shorten(body if isinstance(body, str) else json.dumps(body, default=str), MAX_SAID)


def explain_status(
    status: int, body: object, headers: Mapping[str, str], who: str, sent: Iterable[str]
) -> ModelError | ReplyError:
    """What a status that is no success means for the call.

    Args:
        status: The HTTP status.
        body: The response's body: what its JSON holds, or its text.
        headers: Its headers.
        who: Server and model, for the message.
        sent: Names of the parameters that the user had sent.
    """
    whole = body if isinstance(body, str) else json.dumps(body, default=str)
    message = f"{who} answered {status}: {read_words(body) or 'nothing more'}"
    if "insufficient_quota" in whole:
        return ModelSetupError(message)
    if status in _PASSING or status >= 500:
        return TransientError(message, _read_retry_after(headers))
    if status in (400, 413, 422):
        if _TOO_LONG.search(whole):
            return ContextLengthError(message)
        if _FILTERED.search(whole):
            return ReplyError(f"the request was refused by a content filter: {read_words(body)}")
        rejected = _find_rejected(body, whole, list(sent))
        if rejected:
            return RejectedParameterError(message, rejected)
    return ModelSetupError(message)


def _find_rejected(body: object, whole: str, sent: list[str]) -> dict[str, str | None]:
    """Which of the parameters sent the server complains of, and what it wants them called."""
    blamed = [name for name in sent if name in _name_places(body)]
    named = [name for name in sent if re.search(rf"\b{re.escape(name)}\b", whole)]
    rejected: dict[str, str | None] = {}
    for name in blamed or named:
        other = _PARAMETER_RENAMES.get(name)
        # Named beside it, the other name is what the server knows; unless it has it already.
        wants_other = other is not None and other not in sent and re.search(rf"\b{other}\b", whole)
        rejected[name] = other if wants_other else None
    return rejected


def _name_places(body: object) -> set[str]:
    """The words that error bodies keep for names: OpenAI's ``param``, FastAPI's ``loc``."""
    if isinstance(body, list):
        return set().union(*map(_name_places, body))
    if not isinstance(body, Mapping):
        return set()
    places: set[str] = set()
    for key, value in body.items():
        if key == "param" and isinstance(value, str):
            places.add(value)
        elif key == "loc" and isinstance(value, list):
            places |= {part for part in value if isinstance(part, str)}
        else:
            places |= _name_places(value)
    return places


def _read_retry_after(headers: Mapping[str, str]) -> float:
    """Seconds that the server asks to wait; 0 where it does not say, or says nonsense."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            seconds = float(headers[name]) * unit
        except (KeyError, ValueError):
            continue
        return seconds if math.isfinite(seconds) and seconds > 0 else 0.0
    try:
        # A date can only be told by the clock on the wall.
        return max(0.0, parsedate_to_datetime(headers["retry-after"]).timestamp() - time.time())
    except (KeyError, ValueError, TypeError, OverflowError):
        return 0.0


def read_message(data: Any) -> tuple[str, bool]:
    """The text of a chat completion's first choice, and whether it was cut off for its length.

    Raises:
        ReplyError: If the model refused, was filtered, or called a tool instead of answering.
        LookupError: If there is none, as TypeError, AttributeError.
    """
    choice = data["choices"][0]
    message = choice["message"]
    text = message.get("content")
    if isinstance(text, list):
        text = "".join(part.get("text") or "" for part in text)
    ended = choice.get("finish_reason")
    if not text:
        if message.get("refusal"):
            raise ReplyError(f"you refused: {shorten(str(message['refusal']), MAX_SAID)}")
        if message.get("tool_calls") or message.get("function_call"):
            raise ReplyError("you called a tool; there is none: answer in text.")
        if ended == "content_filter":
            raise ReplyError("the reply was taken away by a content filter.")
    return str(text or ""), ended == "length"
