"""Changes to a long text in place of the text: lines to find, and lines to put there.

A block is found only where it can be meant in one way. What cannot be told is a
:class:`ReplyError` that says which block it is and what stands there instead.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
from dataclasses import dataclass
import difflib
import itertools
import re

from optuna_llm._errors import ReplyError


SEARCH = "<<<<<<< SEARCH"
MIDDLE = "======="
REPLACE = ">>>>>>> REPLACE"

_MARKERS = (SEARCH, MIDDLE, REPLACE)
_MAX_SHOWN = 10


@dataclass(frozen=True)
class Edit:
    """Whole lines of a text, without the line breaks around them, and what replaces them."""

    search: str
    replace: str


def write_edits(edits: Sequence[Edit]) -> str:
    """The blocks that say it."""
    lines: list[str] = []
    for edit in edits:
        lines += [SEARCH, edit.search, MIDDLE, *([edit.replace] if edit.replace else []), REPLACE]
    return "\n".join(lines)


def parse_edits(source: str) -> list[Edit]:
    """The edits that blocks say; other words between the blocks are ignored.

    Raises:
        ReplyError: If there is none, or one of them can be read in two ways.
    """
    edits: list[Edit] = []
    parts: list[list[str]] | None = None
    for line in source.split("\n"):
        mark = line.rstrip()
        if parts is None:
            if mark == SEARCH:
                parts = [[]]
            elif mark in _MARKERS:
                raise ReplyError(
                    f"<edit> has a line {mark!r} outside of its blocks: send the text whole if it "
                    "holds such a line."
                )
        elif mark == SEARCH:
            raise ReplyError(f"{_name(edits)} holds a second line {SEARCH!r}.")
        elif mark == MIDDLE:
            parts.append([])
        elif mark == REPLACE:
            edits.append(_make_edit(parts, _name(edits)))
            parts = None
        else:
            parts[-1].append(line)
    if parts is not None:
        raise ReplyError(f"{_name(edits)} does not end with a line {REPLACE!r}.")
    if not edits:
        raise ReplyError(f"<edit> holds no block that begins with a line {SEARCH!r}.")
    return edits


def _make_edit(parts: Sequence[Sequence[str]], name: str) -> Edit:
    if len(parts) != 2:
        raise ReplyError(
            f"{name} has {len(parts) - 1} lines {MIDDLE!r} where one is needed: send the text "
            "whole if it holds such a line."
        )
    search, replace = ("\n".join(part) for part in parts)
    return Edit(search, replace)


def apply_edits(text: str, edits: Sequence[Edit], show: Callable[[str], str] = str) -> str:
    """The text with all edits made, each found in the text as it was before.

    Args:
        text: The text.
        edits: What is to be changed.
        show: Makes of a line what the model has seen of it; lines that no edit names stay as
            they are.

    Raises:
        ReplyError: If an edit's lines are not there exactly once, two edits meet, nothing would
            change, or the text holds markers of blocks: one block that quotes them reads like
            two.
    """
    lines = text.split("\n")
    shown = [show(line) for line in lines]
    if marker := next((line for line in shown if line.rstrip() in _MARKERS), None):
        raise ReplyError(f"that text holds a line {marker.rstrip()!r}: send it whole.")
    places: list[tuple[int, int, list[str]]] = []
    for i, edit in enumerate(edits):
        search = edit.search.split("\n")
        if not edit.search.strip():
            raise ReplyError(
                f"{_name(edits[:i])} looks for nothing: to insert lines, repeat one beside them."
            )
        start, indent = _find(shown, search, _name(edits[:i]))
        replacement = edit.replace.split("\n") if edit.replace else []
        places.append((start, start + len(search), [_shift(x, *indent) for x in replacement]))
    places.sort(key=lambda place: place[:2])
    for (_, end, _), (start, _, _) in itertools.pairwise(places):
        if start < end:
            raise ReplyError(f"two blocks of <edit> change line {start + 1}: make them one.")
    for start, end, replacement in reversed(places):
        lines[start:end] = replacement
    edited = "\n".join(lines)
    if edited == text:
        raise ReplyError("the edits change nothing.")
    return edited


def _name(before: Sequence[Edit]) -> str:
    return f"block {len(before) + 1} of <edit>"


def _find(lines: Sequence[str], search: Sequence[str], name: str) -> tuple[int, tuple[str, str]]:
    """Where the lines stand, and by which indentation in place of which.

    To the letter if they stand there so; else without blanks at line ends; else with another
    indentation, the same for all lines.
    """
    readings: list[Callable[[Sequence[str]], Sequence[str]]] = [list, _strip_ends, _strip_indent]
    for read in readings:
        wanted = read(search)
        size = len(search)
        spots = [i for i in range(len(lines) - size + 1) if read(lines[i : i + size]) == wanted]
        if len(spots) > 1:
            raise ReplyError(
                f"the lines of {name} stand in the text {len(spots)} times: give more lines "
                "around them."
            )
        if spots:
            there = lines[spots[0] : spots[0] + size]
            return spots[0], (_indent(search), _indent(there)) if read is _strip_indent else (
                "",
                "",
            )
    raise ReplyError(f"the lines of {name} are not in the text.{_show_closest(lines, search)}")


def _strip_ends(lines: Sequence[str]) -> list[str]:
    return [line.rstrip() for line in lines]


def _strip_indent(lines: Sequence[str]) -> list[str]:
    indent = _indent(lines)
    return [line.rstrip().removeprefix(indent) for line in lines]


def _indent(lines: Sequence[str]) -> str:
    """The blanks that all lines begin with that are not empty."""
    indents = [re.match(r"[ \t]*", line)[0] for line in lines if line.strip()]  # type: ignore[index]
    first, last = min(indents, default=""), max(indents, default="")
    same = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), None)
    return first[: len(first) if same is None else same]


def _shift(line: str, old: str, new: str) -> str:
    return new + line.removeprefix(old) if line.strip() and line.startswith(old) else line


def _show_closest(lines: Sequence[str], search: Sequence[str]) -> str:
    """The lines of the text that are most like those that were looked for."""
    wanted = next(line.strip() for line in search if line.strip())
    close = difflib.get_close_matches(wanted, [line.strip() for line in lines], 1, 0.5)
    if not close:
        return ""
    at = next(i for i, line in enumerate(lines) if line.strip() == close[0])
    skipped = next(i for i, line in enumerate(search) if line.strip())
    start = max(0, at - skipped)
    shown = "\n".join(lines[start : start + min(len(search), _MAX_SHOWN)])
    return f" The closest lines there are:\n{shown}"
