"""The words of an error body, whichever of a dozen shapes it comes in."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from dataclasses import dataclass
import json
import re
from typing import Any

from optuna_llm._quoting import shorten


MAX_SAID = 500
"""Characters of a server's words in an error: some answer with a page of HTML."""

_MAX_WORDS = 20_000
_MAX_DEPTH = 12
# What the server repeats of the request or of the model's words says nothing of the fault.
_ECHOES = {
    "body",
    "callstack",
    "failed_generation",
    "flagged_input",
    "input",
    "messages",
    "prompt",
    "request",
    "stack",
    "traceback",
}
_MESSAGE_KEYS = ("error", "message", "detail", "msg", "errors", "error_description", "title")
_CODE_KEYS = ("code", "status", "status_code", "statusCode", "error_code")
# FastAPI's places that are no parameters of their own.
_CONTAINERS = {"body", "query", "json", "request", "extra_body", "__root__"}
_NOTHING = {"", "none", "null"}
_TAG = re.compile(r"<(script|style)\b.*?</\1\s*>|<[^>]*>", re.DOTALL | re.IGNORECASE)
# Kinds of errors by OpenAI's and Anthropic's names, as the status that goes with them.
_KINDS = (
    (re.compile(r"authentication|invalid_api_key|unauthorized"), 401),
    (re.compile(r"permission"), 403),
    (re.compile(r"not_found"), 404),
    (re.compile(r"rate_limit|resource_exhausted|too_many_requests"), 429),
    (re.compile(r"overloaded|unavailable"), 503),
    (re.compile(r"server_error|internal|api_error"), 500),
    (re.compile(r"invalid_request|bad_?request|invalid_argument"), 400),
)
_WRONG_PATH = re.compile(
    r"unexpected endpoint|no such (path|route|endpoint)|unknown (path|route|endpoint|url)|"
    r"invalid (url|path|endpoint)|cannot post|route not found|method not allowed|^not found\.?$",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class ErrorBody:
    """What an error body says.

    Attributes:
        message: The words for people.
        words: All that it says, but for what it repeats of the request.
        fields: The parameters it blames by field: OpenAI's ``param``, FastAPI's ``loc``.
        values: The scalar values of its objects, by their lower-case keys, the outermost first.
    """

    message: str
    words: str
    fields: frozenset[str]
    values: Mapping[str, Any]

    @property
    def status(self) -> int:
        """The HTTP status that the error amounts to; 500 where it does not say."""
        for key in _CODE_KEYS:
            value = self.values.get(key)
            if isinstance(value, str) and value.isdecimal():
                value = int(value)
            if isinstance(value, int) and 400 <= value <= 599:
                return value
        if _WRONG_PATH.search(self.message):
            return 404
        names = " ".join(str(self.values.get(key, "")) for key in ("code", "type", "status"))
        for kind, status in _KINDS:
            if kind.search(names.lower()):
                return status
        return 500


def read_error(body: object, redact: Callable[[str], str] = str) -> ErrorBody:
    """What an error body says, be it JSON, JSON within JSON, a list or a page of HTML.

    Args:
        body: The body.
        redact: Takes the secrets out of a text: before it is shortened, since half a secret
            would not be recognized.
    """
    body = _unwrap(body)
    message = _find_message(body, 0) or _write(body)
    fields: set[str] = set()
    values: dict[str, Any] = {}
    words = [*_walk(body, fields, values, 0)]
    return ErrorBody(
        shorten(redact(message), MAX_SAID),
        "\n".join(words)[:_MAX_WORDS],
        frozenset(fields),
        values,
    )


def _unwrap(body: object) -> object:
    """The object that a string holds as JSON, or the text of a page; else what is given."""
    if isinstance(body, bytes):
        body = body.decode("utf-8", "replace")
    if not isinstance(body, str):
        return body
    text = body.strip()
    if text[:1] in ("{", "[", '"'):
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            return text
    if text[:1] == "<":
        return " ".join(_TAG.sub(" ", text[:_MAX_WORDS]).split())
    return text


def _find_message(body: object, depth: int) -> str:
    body = _unwrap(body)
    if isinstance(body, str):
        return body
    if depth > _MAX_DEPTH:
        return ""
    if isinstance(body, list):
        return "; ".join(filter(None, (_find_message(part, depth + 1) for part in body[:3])))
    if not isinstance(body, Mapping):
        return ""
    found = (_find_message(body[key], depth + 1) for key in _MESSAGE_KEYS if body.get(key))
    message = next(filter(None, found), "")
    place = body.get("loc")
    if message and isinstance(place, list):
        return f"{'.'.join(map(str, place))}: {message}"
    # OpenRouter says "Provider returned error", and here what the provider said.
    metadata = body.get("metadata")
    raw = metadata.get("raw") if isinstance(metadata, Mapping) else None
    return f"{message}: {_find_message(raw, depth + 1)}" if message and raw else message


def _walk(body: object, fields: set[str], values: dict[str, Any], depth: int) -> Iterator[str]:
    """The words in a body, while noting fields that are blamed and scalar values."""
    body = _unwrap(body)
    if depth > _MAX_DEPTH or body is None:
        return
    if isinstance(body, Mapping):
        parts = _note_values(body, fields, values)
    elif isinstance(body, list):
        parts = body
    else:
        yield str(body)
        return
    for part in parts:
        yield from _walk(part, fields, values, depth + 1)


def _note_values(
    body: Mapping[str, Any], fields: set[str], values: dict[str, Any]
) -> list[object]:
    """Note what an object says, and return the values in which there may be words."""
    inner: list[object] = []
    for key, value in body.items():
        name = str(key).lower()
        if name == "param":
            fields |= _name_fields([value])
        elif name == "loc" and isinstance(value, list):
            fields |= _name_fields(value)
            inner.append(".".join(map(str, value)))
        elif name not in _ECHOES:
            if isinstance(value, str | int | float):
                values.setdefault(name, value)
            inner.append(value)
    return inner


def _name_fields(places: Iterable[object]) -> set[str]:
    """The first names in paths such as ``messages[0].role``."""
    names = {re.split(r"[.\[]", place)[0] for place in places if isinstance(place, str)}
    return {name for name in names if name.lower() not in _NOTHING | _CONTAINERS}


def _write(body: object) -> str:
    try:
        return json.dumps(body, default=str) if body else ""
    except (ValueError, RecursionError):
        return ""
