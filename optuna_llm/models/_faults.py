"""What a server's refusal means: one place that judges statuses and error bodies."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
import re

from optuna_llm._errors import ContextLengthError
from optuna_llm._errors import ModelError
from optuna_llm._errors import ModelSetupError
from optuna_llm._errors import ReplyError
from optuna_llm.models import _refusals
from optuna_llm.models._error_body import ErrorBody
from optuna_llm.models._error_body import read_error
from optuna_llm.models._image_refusals import blames_images
from optuna_llm.models._image_refusals import find_image_limit
from optuna_llm.models._retry_after import read_retry_after


SYSTEM = "system"
"""Stands for the system message among the names of what a request holds."""
CHAT = "chat"
"""Stands for the chat completions API there."""
IMAGES = "images"
"""Stands for the images in the messages there."""
SCHEMA = "schema"
"""Stands for a JSON schema there that the reply is to fit."""

_PARTS = (SYSTEM, CHAT, IMAGES, SCHEMA)

# Timeouts, conflicts and rate limits; 424 and 498 come from Azure and Groq when they are full.
_TEMPORARY = (408, 409, 424, 425, 429, 498, 499)
_PERMANENT = (501, 505, 511)
_UNPAID = re.compile(
    r"insufficient[_ ](?:account )?(?:quota|balance|credits?|funds)|billing_(?:hard|not)|"
    r"account_deactivated|credit balance is too low|exceeded_current_quota_error|arrear",
    re.IGNORECASE,
)
_FILTERED = re.compile(
    r"content[_ ]?(?:filter|polic|moderation|exists risk)|content management policy|"
    r"requires moderation|moderation_blocked|responsibleaipolicy|data_inspection_failed|"
    r"inappropriate content|prohibited[_ ]content|safety_check|safety (?:system|filter)|"
    r"usage (?:guidelines|polic)|"
    r"(?:input|prompt|content|message|request|text)s?\b[^.]{0,40}\b"
    r"(?:flagged|inappropriate|sensitive|unsafe|blocked (?:by|due|for)|"
    r"violat\w+ (?:our |the )?(?:usage|content|safety|polic|guide|terms))",
    re.IGNORECASE,
)
_ABOUT_ACCOUNT = re.compile(
    r"\b(?:account|organization|access|api key)\b[^.]{0,40}"
    r"\b(?:flagged|suspended|terminated|deactivated|disabled|blocked)",
    re.IGNORECASE,
)
_TOOL_SLIP = re.compile(
    r"tool_use_failed|called a tool|error parsing tool call|failed to call a function|"
    r"malformed_function_call",
    re.IGNORECASE,
)
_FORM_SLIP = re.compile(
    r"json_validate_failed|output_parse_failed|failed to generate json|"
    r"(?:parsing failed|failed to parse)[^\n]{0,40}(?:model|output|generat)",
    re.IGNORECASE,
)


class TransientError(ModelError):
    """A fault that passes.

    Attributes:
        retry_after: Seconds after which the server wants to be asked again; 0 if it did not say.
    """

    def __init__(self, message: str, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class UnreachableError(TransientError):
    """There is no connection, or what is at the address does not answer as a model would."""


class MovedError(ModelError):
    """The server is at another address now.

    Attributes:
        url: The address.
    """

    def __init__(self, message: str, url: str) -> None:
        super().__init__(message)
        self.url = url


class RejectedError(ModelError):
    """The server does not take a part of the request, and may take it without.

    Attributes:
        names: What it rejects, each with the name to send it by instead; None to leave it out.
            ``SYSTEM``, ``CHAT``, ``IMAGES`` and ``SCHEMA`` stand for the system message, the API,
            the images and the JSON schema; of the images, the name is how many to send at most.
    """

    def __init__(self, message: str, names: Mapping[str, str | None]) -> None:
        super().__init__(message)
        self.names = names


def explain_status(
    status: int, body: object, headers: Mapping[str, str], who: str, sent: Sequence[str]
) -> ModelError | ReplyError:
    """What a status that is no success means for the call.

    Args:
        status: The HTTP status.
        body: The response's body: what its JSON holds, or its text.
        headers: Its headers.
        who: Server and model, for the message.
        sent: What the request held: names of parameters, ``SYSTEM``, ``CHAT``, ``IMAGES`` and
            ``SCHEMA``.
    """
    return explain_error(status, read_error(body), headers, who, sent)


def explain_error(
    status: int, body: ErrorBody, headers: Mapping[str, str], who: str, sent: Sequence[str]
) -> ModelError | ReplyError:
    """What an error means for the call; see :func:`explain_status`."""
    message = f"{who} answered {status}: {body.message or 'nothing more'}"
    if _UNPAID.search(body.words):
        return ModelSetupError(message)
    if status >= 500 or status in (400, 403, 404, 413, 415, 422, 429, 451):
        fault = _explain_refusal(status, body, message, sent)
        if fault is not None:
            return fault
    retry_after = read_retry_after(headers, body)
    is_temporary = status in _TEMPORARY or (status >= 500 and status not in _PERMANENT)
    # Without credits there is nothing to wait for, unless the server says when.
    if is_temporary or (status == 402 and retry_after):
        return TransientError(message, retry_after)
    return ModelSetupError(message)


def _explain_refusal(
    status: int, body: ErrorBody, message: str, sent: Sequence[str]
) -> ModelError | ReplyError | None:
    """What it is in the request or in the model's answer that is refused; None if it is not."""
    has_images = IMAGES in sent and status not in (403, 429, 451)
    if has_images and (blames_images(body) or status == 413):
        return RejectedError(message, {IMAGES: find_image_limit(body)})
    if status not in (403, 404, 451) and (fault := _explain_length(status, body, message, sent)):
        return fault
    if status in (400, 403, 422, 451) and _FILTERED.search(body.words):
        is_account = status == 403 and _ABOUT_ACCOUNT.search(body.words)
        said = f"the request was refused by a content filter: {body.message}"
        return None if is_account else ReplyError(said)
    if _TOOL_SLIP.search(body.words):
        return ReplyError("you called a tool; there is none: answer in text.")
    if _FORM_SLIP.search(body.words):
        return ReplyError(f"the server could not read the reply: {body.message}")
    if status in (403, 429, 451):
        return None
    if CHAT in sent and _refusals.wants_responses_api(body):
        return RejectedError(message, {CHAT: "responses"})
    rejected = _find_rejected(body, sent) if status != 404 else {}
    if not rejected and has_images and status in (400, 415, 422):
        # For want of another reason: of all that is sent, images are what most servers lack.
        rejected = {IMAGES: None}
    return RejectedError(message, rejected) if rejected else None


def _explain_length(
    status: int, body: ErrorBody, message: str, sent: Sequence[str]
) -> ModelError | None:
    """Whether prompt or reply would be too long; None if neither is what is refused."""
    length = _refusals.blames_output(body, sent)
    if length is not None and not _renames(body, sent, length):
        return RejectedError(message, {length: None})
    if _refusals.is_too_long(status, body) and not body.fields & {*sent}:
        return ContextLengthError(message)
    return None


def _find_rejected(body: ErrorBody, sent: Sequence[str]) -> dict[str, str | None]:
    """What the server rejects of what was sent, or of how it was sent."""
    if SYSTEM in sent and _refusals.refuses_system_role(body):
        return {SYSTEM: None}
    if "stream" not in sent and _refusals.wants_stream(body):
        return {"stream": None}
    if SCHEMA in sent and _refusals.refuses_schema(body):
        return {SCHEMA: None}
    return _refusals.find_rejected(body, [name for name in sent if name not in _PARTS])


def _renames(body: ErrorBody, sent: Sequence[str], name: str) -> bool:
    """Whether the server wants a parameter by another name, rather than another value."""
    is_unknown = re.search(r"unsupported|not supported|unknown|unrecognized", body.words, re.I)
    return bool(is_unknown) and _refusals.find_rejected(body, sent).get(name) is not None
