"""Text from outside as Markdown that shows it, and does nothing else.

What anybody wrote stands in fences or has its punctuation escaped: no HTML, no image, no link
comes of it, and it ends no block of ours.
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
# What GitHub's Markdown makes a link of without being asked to, escaped or not.
_ADDRESS = re.compile(r"(?:[a-z]+://|www\.|[^\s`|@]+@)[^\s`|]*", re.IGNORECASE)


def escape(text: str, limit: int = 600) -> str:
    """A text as prose on one line; addresses in it as code, which is no link.

    Args:
        text: The text, as it is.
        limit: How many characters of it are shown; the middle of a longer one goes.
    """
    # As data, white space is one blank: a line break could begin a list or a quotation.
    plain = " ".join(map(_shorten_word, clean_text(shorten(text, limit)).split()))
    shown = ""
    end = 0
    for address in _ADDRESS.finditer(plain):
        shown += _escape_punctuation(plain[end : address.start()]) + f"`{address[0]}`"
        end = address.end()
    return shown + _escape_punctuation(plain[end:])


def show_block(text: str, language: str | None, limit: int) -> str:
    """A text in a fence, highlighted as what it is written in.

    Args:
        text: The text, as it is, its long lines broken by :func:`fold`.
        language: The name of the language; one that cannot be a name is left out.
        limit: How many characters of it are shown; the middle of a longer one goes.
    """
    label = language if language and _LANGUAGE.fullmatch(language) else "text"
    return fence_text(shorten(clean_text(text), limit), label.lower())


def fold(text: str, language: str | None) -> str:
    """The text with the lines broken that would make the page too wide; nothing of them is lost.

    A paragraph is often one line: it is broken at the ends of sentences first, so that what
    changes in one leaves the others as they are.
    """
    width = _MAX_LINE if language else _PROSE_WIDTH
    lines = []
    for line in clean_text(text).split("\n"):
        parts = [line] if language or len(line) <= width else _SENTENCE_END.split(line)
        lines += [part[i : i + width] for part in parts for i in range(0, len(part) or 1, width)]
    return "\n".join(lines)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells that are Markdown already.

    Args:
        header: Names of the columns; one that ends in a colon stands to the right, without it.
        rows: The rows, a cell for each column.
    """
    rule = ["---:" if name.endswith(":") else "---" for name in header]
    lines = ([name.removesuffix(":") for name in header], rule, *rows)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _escape_punctuation(text: str) -> str:
    return _PUNCTUATION.sub(r"\\\1", text)


def _shorten_word(word: str) -> str:
    """The word, its end left out where no page could break it."""
    return word if len(word) <= _MAX_WORD else f"{word[:_MAX_WORD]}…"
