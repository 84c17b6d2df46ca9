"""Keeping keys, tokens and passwords out of whatever is logged, stored or shown."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
import functools
import json
import re
from urllib.parse import parse_qsl
from urllib.parse import quote
from urllib.parse import quote_plus
from urllib.parse import unquote


_MASK = "***"
# A shorter value is no secret, and its letters stand in too many other words.
_LEAST_LENGTH = 4
# What a model's own text may hold by chance ("user", "admin") stays as it is there.
_LEAST_LENGTH_IN_TEXT = 8
# What a variable holds that is named like a secret may as well be a short word.
_LEAST_LENGTH_NAMED = 8
_SECRET_NAME = re.compile(
    r"(?<!cache_)key$|access_key|(?<!max_)token$|secret|passw|credential", re.IGNORECASE
)
_PUBLIC_HEADERS = {
    "accept",
    "accept-encoding",
    "accept-language",
    "anthropic-beta",
    "anthropic-version",
    "connection",
    "content-length",
    "content-type",
    "host",
    "idempotency-key",
    "http-referer",
    "openai-beta",
    "openai-organization",
    "openai-project",
    "referer",
    "user-agent",
    "x-title",
}
_LOGIN = re.compile(r"[^/?#]*//([^/?#]*)@")
_SEPARATORS = re.compile(r"[\s;,=]+")


class Redactor:
    """Replaces secrets in texts.

    Args:
        secrets: The secrets, as they were given. They are also found percent-encoded,
            percent-decoded and as JSON writes them.
    """

    def __init__(self, secrets: Iterable[str | None]) -> None:
        forms = {form for secret in secrets if secret for form in _spell(secret)}
        # The longest first: one secret can be a part of another.
        found = sorted(
            (form for form in forms if len(form) >= _LEAST_LENGTH), key=lambda form: -len(form)
        )
        self._all = _compile(found)
        self._long = _compile([form for form in found if len(form) >= _LEAST_LENGTH_IN_TEXT])

    def redact(self, text: str) -> str:
        """The text of an error or a log line without any secret."""
        return self._all.sub(_MASK, text) if self._all else text

    def redact_reply(self, text: str) -> str:
        """A model's reply without any secret, but for those that are ordinary words."""
        return self._long.sub(_MASK, text) if self._long else text


@functools.lru_cache(maxsize=64)
def make_redactor(secrets: tuple[str | None, ...]) -> Redactor:
    """The redactor of these secrets; made once, since each reply passes it."""
    return Redactor(secrets)


def find_url_secrets(url: str | None) -> Iterator[str]:
    """User, password and the query's values of a URL, also as a Basic login is sent."""
    # Not by urlsplit: what is no URL can hold a password too.
    if login := _LOGIN.match(url or ""):
        user, _, password = login[1].partition(":")
        yield from (user, password)
        basic = f"{unquote(user)}:{unquote(password)}"
        yield base64.b64encode(basic.encode()).decode()
    for _, value in parse_qsl((url or "").partition("?")[2].partition("#")[0]):
        yield value


def find_header_secrets(headers: Mapping[str, object]) -> Iterator[str]:
    """The values of all headers but well-known public ones, whole and in their parts."""
    for name, value in headers.items():
        if isinstance(value, str) and not is_public_header(name):
            yield value
            yield from (part for part in _SEPARATORS.split(value) if len(part) >= 8)


def find_named_secrets(named: Mapping[str, object]) -> Iterator[str]:
    """The values of those arguments or environment variables that are named like secrets."""
    for name, value in named.items():
        if isinstance(value, str) and len(value) >= _LEAST_LENGTH_NAMED and is_secret_name(name):
            yield value


def is_secret_name(name: str) -> bool:
    """Whether an argument or an environment variable of this name holds a secret."""
    return bool(_SECRET_NAME.search(name))


def is_public_header(name: str) -> bool:
    """Whether a header is known to hold no secret."""
    return name.lower() in _PUBLIC_HEADERS or name.lower().startswith("x-stainless-")


def strip_url(url: str) -> str:
    """The URL without login and query."""
    bare = re.split(r"[?#]", url)[0]
    login = _LOGIN.match(bare)
    return bare[: login.start(1)] + bare[login.end() :] if login else bare


def _spell(secret: str) -> set[str]:
    """The forms in which a server may repeat a secret."""
    forms = set()
    for form in (secret, unquote(secret)):
        forms |= {form, quote(form, safe=""), quote(form), quote_plus(form)}
        forms |= {json.dumps(form)[1:-1], json.dumps(form, ensure_ascii=False)[1:-1]}
        forms.add(repr(form)[1:-1])
    return forms


def _compile(forms: list[str]) -> re.Pattern[str] | None:
    return re.compile("|".join(map(re.escape, forms))) if forms else None
