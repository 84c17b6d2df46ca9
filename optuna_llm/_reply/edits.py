"""Changes to a long text in place of the text: lines to find, and lines to put there.

A block is found only where it can be meant in one way. What cannot be told is a
:class:`ReplyError` that says which block it is and what stands there instead.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass
import itertools
import re

from optuna_llm._errors import ReplyError
from optuna_llm._reply.fences import read_fence
from optuna_llm._reply.fences import strip_fence
from optuna_llm._reply.places import Page
from optuna_llm._reply.places import Place
from optuna_llm._reply.places import refuse_many
from optuna_llm._reply.wrapping import decode_entities


SEARCH = "<<<<<<< SEARCH"
MIDDLE = "======="
REPLACE = ">>>>>>> REPLACE"

_MARKERS = (SEARCH, MIDDLE, REPLACE)
_MAX_EDITS = 100

# As models write them: too long, too short, in lower case, with the words of other tools.
_SEARCH_LIKE = re.compile(
    r"<{5,9}(\s*(search|original|head))?\s*[>:]?|-{5,9}\s*search\s*[>:]?", re.IGNORECASE
)
_MIDDLE_LIKE = re.compile(r"={5,9}")
_REPLACE_LIKE = re.compile(
    r">{5,9}(\s*(replace|updated))?\s*[<:]?|\+{5,9}\s*replace\s*[<:]?", re.IGNORECASE
)
_LINE_NUMBER = re.compile(r":(start|end)_line:\s*\d+")


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


def _read_marker(line: str, is_exact: bool) -> str | None:
    """The marker that a line stands for."""
    if is_exact:
        return line.rstrip() if line.rstrip() in _MARKERS else None
    mark = line.strip()
    if not 5 <= len(mark) <= 30:
        return None
    likes = (_SEARCH_LIKE, _MIDDLE_LIKE, _REPLACE_LIKE)
    return next((m for m, like in zip(_MARKERS, likes, strict=True) if like.fullmatch(mark)), None)


def is_end_of_block(line: str) -> bool:
    """Whether a block of edits ends with this line."""
    return _read_marker(line, is_exact=False) == REPLACE


def holds_edits(words: str) -> bool:
    """Whether there are edits among words: a line that begins one, and later one that ends it."""
    marks = [_read_marker(line, is_exact=False) for line in words.split("\n")]
    return SEARCH in marks and REPLACE in marks[marks.index(SEARCH) :]


def is_only_edits(text: str) -> bool:
    """Whether a text is nothing but edits, in a fence or not."""
    lines = [line for line in text.split("\n") if line.strip() and not read_fence(line)]
    if len(lines) < 3 or _read_marker(lines[0], is_exact=False) != SEARCH:
        return False
    marks = [_read_marker(line, is_exact=False) for line in lines]
    return marks[-1] == REPLACE and MIDDLE in marks


def parse_edits(source: str, base: str = "") -> list[Edit]:
    """The edits that blocks say; other words between the blocks are ignored.

    Args:
        source: The blocks.
        base: The text to be edited. If it has lines that resemble the markers, only the very
            markers count.

    Raises:
        ReplyError: If there is none, or one of them can be read in two ways.
    """
    is_exact = any(_read_marker(line, is_exact=False) for line in base.split("\n"))
    edits: list[Edit] = []
    inside: list[str] | None = None
    for line in source.split("\n"):
        marker = _read_marker(line, is_exact)
        if inside is None:
            if marker == SEARCH:
                inside = []
            elif marker == REPLACE or line.strip() == MIDDLE:
                raise ReplyError(
                    f"<edit> has a line {line.strip()!r} outside of its blocks: send the text "
                    "whole if it holds such a line."
                )
        elif marker == SEARCH:
            raise ReplyError(f"{_name(len(edits))} holds a second line {SEARCH!r}.")
        elif marker == REPLACE:
            edits.append(_make_edit(inside, len(edits), is_exact))
            inside = None
        else:
            inside.append(line)
    if inside is not None:
        raise ReplyError(f"{_name(len(edits))} does not end with a line {REPLACE!r}.")
    if not edits:
        raise ReplyError(f"<edit> holds no block that begins with a line {SEARCH!r}.")
    return edits


def _make_edit(lines: Sequence[str], index: int, is_exact: bool) -> Edit:
    middles = [i for i, line in enumerate(lines) if line.strip() == MIDDLE]
    if not middles and not is_exact:
        middles = [i for i, line in enumerate(lines) if _MIDDLE_LIKE.fullmatch(line.strip())]
    if len(middles) != 1:
        raise ReplyError(
            f"{_name(index)} has {len(middles)} lines {MIDDLE!r} where one is needed: send the "
            "text whole if it holds such a line."
        )
    search = lines[: middles[0]]
    numbered = list(itertools.takewhile(lambda line: _LINE_NUMBER.fullmatch(line.strip()), search))
    if numbered and search[len(numbered) :][:1] == ["-------"]:
        search = search[len(numbered) + 1 :]
    return Edit("\n".join(search), "\n".join(lines[middles[0] + 1 :]))


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
    if len(edits) > _MAX_EDITS:
        raise ReplyError(f"<edit> holds {len(edits):,} blocks: send the text whole.")
    page = Page(shown)
    changes: list[tuple[int, int, list[str]]] = []
    for i, edit in enumerate(edits):
        place, found = _find(page, edit, _name(i))
        stop = place.start + len(found.search.split("\n"))
        new = [place.shift(line) for line in found.replace.split("\n")] if found.replace else []
        changes.append((place.start, stop, _restore(new, lines[place.start : stop], show)))
    changes.sort(key=lambda change: change[:2])
    for (_, stop, _), (start, _, _) in itertools.pairwise(changes):
        if start < stop:
            raise ReplyError(f"two blocks of <edit> change line {start + 1}: make them one.")
    for start, stop, new in reversed(changes):
        lines[start:stop] = new
    edited = "\n".join(lines)
    if edited == text:
        raise ReplyError("the edits change nothing.")
    return edited


def _name(index: int) -> str:
    return f"block {index + 1} of <edit>"


def _find(page: Page, edit: Edit, name: str) -> tuple[Place, Edit]:
    """Where an edit's lines stand, and the edit without what was wrapped around it."""
    if not edit.search.strip():
        raise ReplyError(f"{name} looks for nothing: to insert lines, repeat one beside them.")
    for variant in dict.fromkeys(_unwrap(edit)):
        places = page.find(variant.search.split("\n")) if variant.search.strip() else []
        refuse_many(places, name)
        if places:
            return places[0], variant
    closest = page.show_closest(edit.search.split("\n"))
    raise ReplyError(f"the lines of {name} are not in the text.{closest}")


def _unwrap(edit: Edit) -> Iterator[Edit]:
    """The edit, then without a fence in its parts, without blank lines, without entities."""
    yield edit
    search, replace = strip_fence(edit.search), strip_fence(edit.replace)
    if search is not None:
        edit = Edit(search, edit.replace if replace is None else replace)
        yield edit
    edit = _strip_blank_lines(edit)
    yield edit
    if decode_entities(edit.search) != edit.search:
        yield Edit(decode_entities(edit.search), decode_entities(edit.replace))


def _strip_blank_lines(edit: Edit) -> Edit:
    """The edit without the blank lines around its parts, as many at both as at the search."""
    search, replace = edit.search.split("\n"), edit.replace.split("\n")
    for end in (0, -1):
        while len(search) > 1 and not search[end].strip():
            search.pop(end)
            if len(replace) > 1 and not replace[end].strip():
                replace.pop(end)
    return Edit("\n".join(search), "\n".join(replace))


def _restore(new: Sequence[str], old: Sequence[str], show: Callable[[str], str]) -> list[str]:
    """New lines with the characters that the model saw as escapes in the lines they replace.

    Raises:
        ReplyError: If those lines hold such a character and its escape.
    """
    is_hidden = show("x\r") == show("x")
    ends_in_return = is_hidden and all(line.endswith("\r") for line in old)
    old = [line.removesuffix("\r") if is_hidden else line for line in old]
    for character in {c for line in old if show(line) != line for c in line}:
        escape = show(f"x{character}x")[1:-1]
        if escape == character or not any(escape in line for line in new):
            continue
        if any(escape in line for line in old):
            raise ReplyError(f"{escape} stands for two things in a line to change: leave it.")
        new = [line.replace(escape, character) for line in new]
    return [line + "\r" if ends_in_return else line for line in new]
