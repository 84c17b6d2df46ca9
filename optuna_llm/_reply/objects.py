"""JSON objects as models write them: comments, trailing commas, single quotes, ``True``.

A dialect is read where it has one meaning. Nothing is evaluated, and the time is linear.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
import html
import json
import re
from typing import Any
from typing import NamedTuple

from optuna_llm._errors import ReplyError
from optuna_llm._quoting import one_line


_MAX_OBJECT = 100_000
_MAX_DEPTH = 20
_MAX_FOUND = 20
_MAX_DIGITS = 400
_MAX_NAMES = 1_000

_COMMENT = r"//[^\n]*|\#[^\n]*|/\*(?:[^*]|\*(?!/))*\*/"
# No two alternatives can match the same characters: there is nothing to backtrack into.
_TOKEN = re.compile(
    rf"""
    (?P<space>\s+|{_COMMENT})
    | (?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|“(?:[^”\\]|\\.)*”)
    | (?P<word>[\w.+-]+)
    | (?P<mark>[{{}}\[\]:,])
    """,
    re.VERBOSE | re.DOTALL,
)
_NUMBER = re.compile(r"[+-]?([0-9]+(?:_[0-9]+)*\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?", re.IGNORECASE)
_WORDS = {
    "true": True,
    "false": False,
    "null": None,
    "none": None,
    "nan": float("nan"),
    "inf": float("inf"),
    "infinity": float("inf"),
    "-inf": -float("inf"),
    "-infinity": -float("inf"),
}


class _Token(NamedTuple):
    kind: str
    text: str
    end: int


class _NoObjectError(ValueError):
    """What stands there is no object in any dialect that is known here."""


def read_object(
    source: str, where: str = "<numbers>", max_length: int = _MAX_OBJECT
) -> dict[str, Any]:
    """The one object in a source; other words around it are ignored.

    Args:
        source: The source.
        where: What it is, for errors.
        max_length: Characters that it may have.

    Raises:
        ReplyError: If there is none, it cannot be read, or another one differs from it.
    """
    if len(source) > max_length:
        raise ReplyError(f"{where} holds {len(source):,} characters: send the values only.")
    try:
        # Nearly all of them are JSON.
        value = json.loads(source, object_pairs_hook=_join, strict=False)
    except (ValueError, RecursionError):
        value = None
    if isinstance(value, dict):
        return value
    try:
        return _read_only(source.strip())
    except _NoObjectError as error:
        decoded = html.unescape(source)
        if decoded != source:
            return read_object(decoded, where, max_length)
        raise ReplyError(f"{where} does not hold valid JSON: {error}.") from None


def find_objects(words: str) -> list[dict[str, Any]]:
    """The objects among words; what cannot be read as one is words, too."""
    found: list[dict[str, Any]] = []
    begin = words.find("{")
    for _ in range(_MAX_FOUND):
        if begin < 0 or len(words) - begin > _MAX_OBJECT:
            break
        end = begin + 1
        with suppress(_NoObjectError, ReplyError):
            value, end = _read(words, begin)
            found.append(value)
        begin = words.find("{", end)
    return found


def is_same(first: dict[str, Any], second: dict[str, Any]) -> bool:
    """Whether two objects say the same; NaN differs from itself, and True is not 1."""
    return json.dumps(first, sort_keys=True) == json.dumps(second, sort_keys=True)


def _join(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ReplyError("<numbers> gives one name twice.")
    return values


def _read_only(source: str) -> dict[str, Any]:
    begin = source.find("{")
    before = source[:begin].rstrip().removesuffix("<![CDATA[") if begin >= 0 else source[:1]
    if before.endswith("["):
        raise _NoObjectError("it must be one JSON object, not a list")
    if begin < 0:
        # Small models leave the braces out, too.
        value, _ = _read("{" + source + "}", 0)
        if not value:
            raise _NoObjectError("it is empty")
        return value
    value, end = _read(source, begin)
    rest = re.sub(_COMMENT, "", source[end:])
    begin = rest.find("{")
    if rest.count("{") > _MAX_NAMES:
        raise _NoObjectError("there are too many objects")
    while begin >= 0:
        other, end = _read(rest, begin)
        if not is_same(other, value):
            both = " and ".join(one_line(json.dumps(v), 80) for v in (value, other))
            raise ReplyError(f"there are two different answers, {both}: send one.")
        begin = rest.find("{", end)
    return value


def _read(source: str, begin: int) -> tuple[dict[str, Any], int]:
    reader = _Reader(source, begin)
    return reader.read_pairs(), reader.end


def _split(source: str, position: int) -> Iterator[_Token]:
    while position < len(source):
        match = _TOKEN.match(source, position)
        if match is None:
            yield _Token("odd", source[position : position + 20], position + 1)
            return
        position = match.end()
        if match.lastgroup != "space":
            yield _Token(str(match.lastgroup), match[0], position)


class _Reader:
    """Reads one object; ``end`` is the place behind it."""

    def __init__(self, source: str, begin: int) -> None:
        self.end = begin
        self._depth = 0
        self._tokens = _split(source, begin)
        self._token = _Token("end", "", begin)
        self._advance()

    def _advance(self) -> None:
        self.end = self._token.end
        self._token = next(self._tokens, _Token("end", "", self.end))

    def _take(self, mark: str) -> bool:
        """Whether this mark stands there; if so, go on behind it."""
        is_there = self._token.kind == "mark" and self._token.text == mark
        if is_there:
            self._advance()
        return is_there

    def read_pairs(self) -> dict[str, Any]:
        values: dict[str, Any] = {}
        self._take("{")
        while not self._take("}"):
            key = self._token
            if key.kind == "odd":
                raise _NoObjectError(f"{_show(key)} cannot be read")
            if key.kind not in ("string", "word"):
                raise _NoObjectError(f"a name is missing before {_show(key)}")
            self._advance()
            if not self._take(":"):
                raise _NoObjectError(f"a colon is missing after {_show(key)}")
            name = _read_string(key.text) if key.kind == "string" else key.text
            if name in values:
                raise ReplyError("<numbers> gives one name twice.")
            if len(values) == _MAX_NAMES:
                raise _NoObjectError("there are too many names")
            values[name] = self._read_value()
            self._take(",")
        return values

    def _read_items(self) -> list[Any]:
        items = []
        self._take("[")
        while not self._take("]"):
            items.append(self._read_value())
            self._take(",")
        return items

    def _read_value(self) -> Any:
        token = self._token
        if token.kind == "mark" and token.text in "{[":
            self._depth += 1
            if self._depth > _MAX_DEPTH:
                raise _NoObjectError("it is nested too deeply")
            inner = self.read_pairs() if token.text == "{" else self._read_items()
            self._depth -= 1
            return inner
        self._advance()
        if token.kind == "string":
            return _read_string(token.text)
        if token.kind == "word":
            return _read_word(token)
        raise _NoObjectError(f"a value is missing before {_show(token)}")


def _show(token: _Token) -> str:
    if token.kind == "end":
        return "the end"
    return json.dumps(one_line(token.text[:30]) + "…" * (len(token.text) > 30), ensure_ascii=False)


def _read_string(quoted: str) -> str:
    inside = quoted[1:-1]
    if quoted[0] != '"':
        inside = re.sub(r"\\(.)|\"", _requote, inside, flags=re.DOTALL)
    try:
        return str(json.loads(f'"{inside}"', strict=False))
    except ValueError:
        raise _NoObjectError(f"the string {one_line(quoted, 40)} cannot be read") from None


def _requote(match: re.Match[str]) -> str:
    """A piece of a string in single quotes as it stands in one in double quotes."""
    if match[0] == '"':
        return '\\"'
    return match[1] if match[1] == "'" else match[0]


def _read_word(token: _Token) -> Any:
    word = token.text
    if word.lower() in _WORDS:
        return _WORDS[word.lower()]
    number = _NUMBER.fullmatch(word)
    if number is None or len(word) > _MAX_DIGITS:
        raise _NoObjectError(f"{_show(token)} is no value")
    if number[1].replace("_", "").isdigit() and not number[2]:
        return int(word)
    return float(word)
