"""Untrusted text as Markdown that shows it verbatim.

It is fenced, or its punctuation is escaped, so that it cannot turn into HTML, images or links, and
cannot end the block that it is in.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence
import re

from optuna_llm._quoting import clean_text
from optuna_llm._quoting import fence_text
from optuna_llm._quoting import shorten


_MAX_LINE = 300
_PROSE_WIDTH = 110
_MAX_WORD = 80
_LANGUAGE = re.compile(r"\w{1,20}")
_SENTENCE_END = re.compile(r"(?<=[.!?] )(?=\S)")
_PUNCTUATION = re.compile(r"([!-/:-@\[-`{-~])")
# GitHub's Markdown turns these into links, escaped or not.
_ADDRESS = re.compile(r"(?:[a-z]+://|www\.|[^\s`|@]+@)[^\s`|]*", re.IGNORECASE)


def escape(text: str, limit: int = 600) -> str:
    """Prose on one line, with addresses as code, which does not become a link.

    Args:
        text: The text, unescaped.
        limit: Characters to show; a longer text loses its middle.
    """
    # White space is collapsed, since a line break could begin a list or a quotation.
    plain = " ".join(map(_shorten_word, clean_text(shorten(text, limit)).split()))
    shown = ""
    end = 0
    for address in _ADDRESS.finditer(plain):
        shown += _escape_punctuation(plain[end : address.start()]) + f"`{address[0]}`"
        end = address.end()
    return shown + _escape_punctuation(plain[end:])


def show_block(text: str, language: str | None, limit: int) -> str:
    """A fenced code block with syntax highlighting.

    Args:
        text: The text, unescaped, its long lines broken by :func:`fold`.
        language: The name of its language; ignored if it is not a plain word.
        limit: Characters to show; a longer text loses its middle.
    """
    label = language if language and _LANGUAGE.fullmatch(language) else "text"
    return fence_text(shorten(clean_text(text), limit), label.lower())


def fold(text: str, language: str | None) -> str:
    """The text with lines broken that would make the page too wide; nothing is left out.

    Prose, whose paragraphs are often single lines, is broken at the ends of sentences first, so
    that a diff of a changed paragraph shows the changed sentences only.
    """
    width = _MAX_LINE if language else _PROSE_WIDTH
    lines = []
    for line in clean_text(text).split("\n"):
        parts = [line] if language or len(line) <= width else _SENTENCE_END.split(line)
        lines += [part[i : i + width] for part in parts for i in range(0, len(part) or 1, width)]
    return "\n".join(lines)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table.

    Args:
        header: Names of the columns; a column whose name ends in a colon is right-aligned.
        rows: The rows: a cell for each column, as Markdown.
    """
    rule = ["---:" if name.endswith(":") else "---" for name in header]
    lines = ([name.removesuffix(":") for name in header], rule, *rows)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _escape_punctuation(text: str) -> str:
    return _PUNCTUATION.sub(r"\\\1", text)


def _shorten_word(word: str) -> str:
    """The word, truncated if it is too long to fit on a line."""
    return word if len(word) <= _MAX_WORD else f"{word[:_MAX_WORD]}…"
