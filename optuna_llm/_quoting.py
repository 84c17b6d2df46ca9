"""Text from outside, made fit to stand in a prompt or on a terminal.

It stands in fences that are longer than any run of backticks inside, or on a labelled line of its
own; it can neither end its block nor begin another.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
import difflib
import re
from typing import TypeAlias


# Beside tab and newline nothing that cannot be seen has a business in a prompt: escapes for
# terminals, line separators that only some readers take for one, marks that turn the direction of
# writing, blanks without width, tag characters that spell hidden words, halves of characters.
# Kept is the selector that makes an emoji of a character.
_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f"
    "\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0e\ufeff\uffa0\ufff0-\ufffb\ud800-\udfff"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)

_MAX_COMPARED = 40_000
_MAX_DEPTH = 10


def fence_text(text: str, label: str = "") -> str:
    """A clean text between lines of backticks, more of them than stand together inside."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    bar = "`" * max(3, longest + 1)
    text = text.removesuffix("\n")
    return f"{bar}{label}\n{text}\n{bar}"


def clean_text(text: str) -> str:
    """The text with characters that cannot be seen written as escapes."""
    text = text.replace("\r\n", "\n")
    return _UNPRINTABLE.sub(lambda m: m.group().encode("unicode_escape").decode(), text)


def one_line(text: str, limit: int = 200) -> str:
    return " ".join(shorten(clean_text(text), limit).split())


def diff_texts(old: str, new: str) -> str:
    """What changes from the old text to the new, as a unified diff without its file names.

    Blanks at line ends do not count. The time is bounded: in texts of many like lines a diff may
    be longer than need be.
    """
    before, after = ([line.rstrip() for line in t.splitlines()] for t in (old, new))
    lines: list[str] = []
    for group in _group(_find_changes(before, after, 0, 0)):
        start, stop = max(0, group[0][0] - 1), min(len(before), group[-1][1] + 1)
        shift = group[0][2] - group[0][0]
        stop_new = group[-1][3] + stop - group[-1][1]
        lines.append(f"@@ -{_range(start, stop)} +{_range(start + shift, stop_new)} @@")
        position = start
        for begin, end, begin_new, end_new in group:
            lines += (" " + line for line in before[position:begin])
            lines += ("-" + line for line in before[begin:end])
            lines += ("+" + line for line in after[begin_new:end_new])
            position = end
        lines += (" " + line for line in before[position:stop])
    return "\n".join(lines)


_Change: TypeAlias = tuple[int, int, int, int]
"""Lines of the old text, from and to, and those of the new that stand in their place."""


def _range(start: int, stop: int) -> str:
    size = stop - start
    if size == 1:
        return str(start + 1)
    return f"{start + (size > 0)},{size}"


def _group(changes: Iterable[_Change]) -> Iterator[list[_Change]]:
    """Changes that stand so near each other that they share a line of context, together."""
    group: list[_Change] = []
    for change in changes:
        if group and change[0] - group[-1][1] > 2:
            yield group
            group = []
        group.append(change)
    if group:
        yield group


def _find_changes(
    before: Sequence[str], after: Sequence[str], old: int, new: int, depth: int = 0
) -> Iterator[_Change]:
    """The changes between lines, in order; ``old`` and ``new`` are the numbers of the first.

    Texts too long for difflib, whose time is quadratic, are cut at the lines that stand once in
    both, in the longest order that they share (Bram Cohen's patience diff).
    """
    head = _count_same(before, after)
    before, after, old, new = before[head:], after[head:], old + head, new + head
    tail = _count_same(before[::-1], after[::-1])
    before, after = before[: len(before) - tail], after[: len(after) - tail]
    if not before and not after:
        return
    if len(before) * len(after) <= _MAX_COMPARED:
        matcher = difflib.SequenceMatcher(None, before, after, autojunk=False)
        for kind, i, j, k, m in matcher.get_opcodes():
            if kind != "equal":
                yield old + i, old + j, new + k, new + m
        return
    anchors = _find_anchors(before, after) if depth < _MAX_DEPTH else []
    if not anchors:
        yield old, old + len(before), new, new + len(after)
        return
    i = j = 0
    for i_next, j_next in [*anchors, (len(before), len(after))]:
        yield from _find_changes(before[i:i_next], after[j:j_next], old + i, new + j, depth + 1)
        i, j = i_next + 1, j_next + 1


def _count_same(before: Sequence[str], after: Sequence[str]) -> int:
    """How many lines are the same from the first on."""
    pairs = enumerate(zip(before, after, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(before), len(after)))


def _find_anchors(before: Sequence[str], after: Sequence[str]) -> list[tuple[int, int]]:
    """Where lines that stand once in both texts do, in the longest order that they share."""
    counts, counts_new = Counter(before), Counter(after)
    places = {line: j for j, line in enumerate(after) if counts_new[line] == 1}
    pairs = [(i, places[a]) for i, a in enumerate(before) if counts[a] == 1 and a in places]
    # The longest increasing run of the second numbers: for each length the run that ends lowest.
    lasts: list[int] = []
    ends: list[int] = []
    previous: list[int] = []
    for index, (_, j) in enumerate(pairs):
        length = bisect_left(lasts, j)
        previous.append(ends[length - 1] if length else -1)
        lasts[length : length + 1] = [j]
        ends[length : length + 1] = [index]
    run = []
    index = ends[-1] if ends else -1
    while index >= 0:
        run.append(pairs[index])
        index = previous[index]
    return run[::-1]


def shorten(text: str, limit: int) -> str:
    """The text in at most ``limit`` characters; the middle goes, most of the end stays.

    It is cut at the ends of lines, unless that would lose half of what there is room for.
    """
    if len(text) <= limit:
        return text
    mark = f"\n[… {len(text):,} characters in all, the middle is left out …]\n"
    room = max(0, limit - len(mark))
    head = text[: room // 4]
    tail = text[len(text) - (room - len(head)) :]
    if (end := head.rfind("\n")) > len(head) // 2:
        head = head[:end]
    if 0 <= (begin := tail.find("\n")) < len(tail) // 2:
        tail = tail[begin + 1 :]
    return (head + mark + tail)[:limit]
