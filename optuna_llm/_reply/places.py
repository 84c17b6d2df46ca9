"""Where lines stand in a text; found in linear time, or not at all."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
import difflib
import re
from typing import NamedTuple

from optuna_llm._errors import ReplyError


_MAX_SHOWN = 10
_MAX_COUNTED = 10
_MAX_TRIED = 20
_MAX_COMPARED = 20
_MAX_LINE = 200
_LEAST_ALIKE = 0.5

_FORMS: Sequence[Callable[[str], str]] = (str, str.rstrip, str.strip)
"""What of a line must be there: all of it, all but blanks at its end, all but its indentation."""


class Place(NamedTuple):
    """Where lines were found.

    Attributes:
        start: The index of the first.
        old: The indentation of the lines that were looked for, where it is not that of the text.
        new: The indentation of those in the text then.
    """

    start: int
    old: str = ""
    new: str = ""

    def shift(self, line: str) -> str:
        """A line with the indentation of the text."""
        is_shifted = line.strip() and line.startswith(self.old)
        return self.new + line.removeprefix(self.old) if is_shifted else line


class Page:
    """The lines of a text, ready to be searched several times."""

    def __init__(self, lines: Sequence[str]) -> None:
        self._lines = lines
        self._joined: dict[int, str] = {}
        self._indents: list[str | None] | None = None

    def find(self, wanted: Sequence[str]) -> list[Place]:
        """All places of the lines: as they are, else with other blanks, else indented otherwise.

        The indentation must differ by the same for all of them. At most ten places are told.
        """
        for level in range(len(_FORMS)):
            starts = self._find_starts(wanted, level)
            if _FORMS[level] is not str.strip:
                places = [Place(start) for start in starts[:_MAX_COUNTED]]
            else:
                places = self._find_indented(wanted, starts)
            if places:
                return places
        return []

    def _find_indented(self, wanted: Sequence[str], starts: Sequence[int]) -> list[Place]:
        """Those of the places at which all lines are indented further, or less, by the same."""
        if self._indents is None:
            self._indents = [_indent_of(line) for line in self._lines]
        indents = [_indent_of(line) for line in wanted]
        old = _find_shared(indents)
        rests = [None if indent is None else indent.removeprefix(old) for indent in indents]
        first = next(i for i, rest in enumerate(rests) if rest is not None)
        expected: dict[str, list[str | None]] = {}
        places: list[Place] = []
        for start in starts:
            new = (self._indents[start + first] or "").removesuffix(rests[first] or "")
            if new not in expected:
                expected[new] = [None if rest is None else new + rest for rest in rests]
            if self._indents[start : start + len(wanted)] == expected[new]:
                places.append(Place(start, old, new))
        return places[:_MAX_COUNTED]

    def _find_starts(self, wanted: Sequence[str], level: int) -> list[int]:
        form = _FORMS[level]
        if level not in self._joined:
            self._joined[level] = "\n" + "\n".join(map(form, self._lines)) + "\n"
        text = self._joined[level]
        needle = "\n" + "\n".join(map(form, wanted)) + "\n"
        starts: list[int] = []
        line = position = 0
        while len(starts) < _MAX_TRIED:
            found = text.find(needle, position)
            if found < 0:
                break
            line += text.count("\n", position, found)
            starts.append(line)
            position = found + 1
            line += 1
        return starts

    def show_closest(self, wanted: Sequence[str]) -> str:
        """The lines that are most like those that were looked for; empty if none are."""
        skipped, first = next((i, line.strip()) for i, line in enumerate(wanted) if line.strip())
        best = _find_closest(first, [line.strip() for line in self._lines])
        if best is None:
            return ""
        start = max(0, best - skipped)
        shown = self._lines[start : start + min(len(wanted), _MAX_SHOWN)]
        return " The closest lines there are:\n" + "\n".join(line[:_MAX_LINE] for line in shown)


def _find_closest(wanted: str, lines: Sequence[str]) -> int | None:
    """The index of the line most like another.

    Comparing two lines is slow: it is done for those only that share the most words.
    """
    words = set(_split_words(wanted))
    shared = [len(words.intersection(_split_words(line))) for line in lines]
    likely = sorted(range(len(lines)), key=lambda i: -shared[i])[:_MAX_COMPARED]
    matcher = difflib.SequenceMatcher(b=wanted[:_MAX_LINE])
    ratios = []
    for i in likely:
        matcher.set_seq1(lines[i][:_MAX_LINE])
        ratios.append((matcher.ratio(), -i))
    ratio, index = max(ratios, default=(0.0, 0))
    return -index if ratio >= _LEAST_ALIKE else None


def _split_words(line: str) -> list[str]:
    return re.findall(r"\w+|[^\w\s]", line[:_MAX_LINE])


def _indent_of(line: str) -> str | None:
    """The blanks that a line begins with; None for a blank line, where they do not matter."""
    return line[: len(line) - len(line.lstrip(" \t"))] if line.strip() else None


def _find_shared(indents: Sequence[str | None]) -> str:
    """What all indentations begin with."""
    known = {indent for indent in indents if indent is not None}
    first, last = min(known, default=""), max(known, default="")
    same = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), None)
    return first[: len(first) if same is None else same]


def refuse_many(places: Sequence[Place], name: str) -> None:
    """Refuse lines that stand in more than one place.

    Raises:
        ReplyError: If they do.
    """
    if len(places) > 1:
        times = f"{len(places)} times" if len(places) < _MAX_COUNTED else "ten times or more"
        raise ReplyError(
            f"the lines of {name} stand in the text {times}: give more lines around them."
        )
