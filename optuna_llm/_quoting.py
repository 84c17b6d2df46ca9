"""Text from outside, made fit to stand in a prompt or on a terminal.

It stands in fences that are longer than any run of backticks inside, or on a labelled line of its
own; it can neither end its block nor begin another.
"""

from __future__ import annotations

import difflib
import re


# Beside tab and newline no control character has a business in a prompt: escapes for terminals,
# marks that turn the direction of writing, halves of characters that cannot be encoded.
_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def fence_text(text: str, label: str = "") -> str:
    """A clean text between lines of backticks, more of them than stand together inside."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    bar = "`" * max(3, longest + 1)
    text = text.removesuffix("\n")
    return f"{bar}{label}\n{text}\n{bar}"


def clean_text(text: str) -> str:
    """The text with characters that are not to be seen written as escapes."""
    text = text.replace("\r\n", "\n")
    return _UNPRINTABLE.sub(lambda m: m.group().encode("unicode_escape").decode(), text)


def one_line(text: str, limit: int = 200) -> str:
    return " ".join(shorten(clean_text(text), limit).split())


def diff_texts(old: str, new: str) -> str:
    """What changes from the old text to the new, as a unified diff without its file names.

    Blanks at line ends do not count.
    """
    before, after = ([line.rstrip() for line in t.splitlines()] for t in (old, new))
    lines = difflib.unified_diff(before, after, lineterm="", n=1)
    return "\n".join(list(lines)[2:])


def shorten(text: str, limit: int) -> str:
    """The text in at most ``limit`` characters; the middle goes, most of the end stays."""
    if len(text) <= limit:
        return text
    mark = f"\n[… {len(text):,} characters in all, the middle is left out …]\n"
    room = max(0, limit - len(mark))
    head = room // 4
    return (text[:head] + mark + text[len(text) - (room - head) :])[:limit]
