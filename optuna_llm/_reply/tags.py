"""The tags of a reply, all found in one pass over it."""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Mapping
import re
from typing import NamedTuple

from optuna_llm._errors import ReplyError


_MAX_TAGS = 5_000
_TAG = re.compile(
    r"<(\\?/|)(text|edit|numbers|rationale|proposal|pass|repeat|insights)(?![\w:.-])([^<>]{0,300})>",
    re.IGNORECASE,
)
_ATTRIBUTE = re.compile(
    r"""\s*([\w:.-]+)\s*=\s*(?:\\?"([^"]*)"|'([^']*)'|([^\s"'=]+))""", re.IGNORECASE
)
_NUMBER = re.compile(r"(?:trial)?\s*\#?\s*(\d{1,9})", re.IGNORECASE)
# What a line may begin with before a tag that is meant: bullets, the bars of a quotation.
_LEAD = re.compile(r"[\s>*+-]*(?:\d{1,3}[.)]\s*)?")
_NONE: Mapping[str, str] = {}
_OWN = frozenset({"name", "of", "trial", "language", "lang"})


class EditError(ReplyError):
    """The edits of a reply cannot be made."""


class Tag(NamedTuple):
    """A tag of the reply's form, or one in a text that looks like it.

    Attributes:
        start: Where it begins.
        end: Where what follows it begins.
        kind: Its word in lower case.
        is_closing: Whether it is a closing tag.
        is_strong: Whether it begins a line or follows another tag; others may be mere mention.
        is_own: Whether it can be one of the form; an SVG's text tag has attributes of its own.
        attributes: Its attributes.
    """

    start: int
    end: int
    kind: str
    is_closing: bool
    is_strong: bool
    is_own: bool
    attributes: Mapping[str, str]

    @property
    def name(self) -> str:
        """The name it gives; empty without one."""
        return self.attributes.get("name", "")

    def read_trial(self) -> int | None:
        """The number of the trial whose text an edit changes; None where it does not say.

        Raises:
            EditError: If it says something else.
        """
        words = self.attributes.get("of", "").strip()
        number = _NUMBER.fullmatch(words)
        if words and number is None:
            raise EditError(f'of="{words[:40]}" of <edit> is not the number of a trial.')
        return int(number[1]) if number else None


def find_tags(source: str, names: Collection[str]) -> list[Tag]:
    """All tags of the reply's form, those in texts and thoughts included.

    Args:
        source: A reply.
        names: Names of the text parameters.

    Raises:
        ReplyError: If there are more than any reply needs.
    """
    tags: list[Tag] = []
    for match in _TAG.finditer(source):
        attributes = _read_attributes(match[3], names) if match[3] else _NONE
        if attributes is None or _is_quoted(source, match):
            continue
        if len(tags) == _MAX_TAGS:
            raise ReplyError(
                f"the reply holds more than {_MAX_TAGS:,} tags: send the answer only."
            )
        kind, is_closing = match[2].lower(), bool(match[1])
        if match[3].rstrip().endswith("/") and kind != "repeat":
            continue
        strong = is_closing or _is_strong(source, match.start(), tags[-1].end if tags else 0)
        own = not attributes or attributes.keys() <= _OWN or attributes.get("name") in names
        tags.append(Tag(*match.span(), kind, is_closing, strong, own, attributes))
    return tags


def _read_attributes(words: str, names: Collection[str]) -> dict[str, str] | None:
    """A tag's attributes, names in lower case; None if the words are no attributes."""
    attributes: dict[str, str] = {}
    rest = words.rstrip().removesuffix("/").rstrip()
    if rest.strip(" \t\"'\\") in names:
        return {"name": rest.strip(" \t\"'\\")}
    position = 0
    while position < len(rest):
        match = _ATTRIBUTE.match(rest, position)
        if match is None:
            return None
        value = next((group for group in match.groups()[1:] if group is not None), "")
        attributes[match[1].lower()] = value.removesuffix("\\")
        position = match.end()
    return attributes


def _is_quoted(source: str, match: re.Match[str]) -> bool:
    """Whether a tag stands between backticks: it is spoken of."""
    return (
        source[match.start() - 1 : match.start()] == "`" == source[match.end() : match.end() + 1]
    )


def _is_strong(source: str, start: int, last_end: int) -> bool:
    begin = max(source.rfind("\n", max(0, start - 200), start) + 1, last_end, start - 200)
    before = source[begin:start]
    return bool(_LEAD.fullmatch(before)) or before.rstrip(" \t").endswith(">")


def name_of(tag: Tag, names: Collection[str]) -> str:
    """The text parameter that a tag is about; empty where it cannot be told.

    Raises:
        ReplyError: If there is none of its name.
    """
    if not tag.name:
        return next(iter(names)) if len(names) == 1 else ""
    if tag.name in names:
        return tag.name
    alike = [name for name in names if name.strip().lower() == tag.name.strip().lower()]
    if len(alike) == 1:
        return alike[0]
    known = ", ".join(f'"{name}"' for name in names) or "none"
    raise ReplyError(f'there is no text parameter "{tag.name[:60]}"; there is {known}.')
