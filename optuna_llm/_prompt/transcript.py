"""The history as text that only grows, until it is cut: which trials are shown, and how fully."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from enum import IntEnum
import itertools
from typing import TypeAlias

from optuna_llm._records import TrialRecord


class Detail(IntEnum):
    """How fully a trial is shown."""

    SHORT = 0
    """In a short line: result, numbers, a few words of the rationale."""
    LINE = 1
    """In a line, with some words of the feedback too."""
    BRIEF = 2
    """Without its texts, and with the head of its feedback."""
    FULL = 3


IsShown: TypeAlias = Callable[[TrialRecord], bool]
"""Whether a trial is shown in full."""

Renderer: TypeAlias = Callable[[TrialRecord, Detail, IsShown], str]

_N_LATEST = 30
"""How many of the latest trials keep the head of their feedback at each cut."""

_N_BRIEF = 10
"""How many of them keep more than a line, if there is room."""

_N_LINES = 300
"""How many trials keep a line at each cut."""

_MAX_MISSES = 20
"""After how many trials in a row that there is no room for no further one is rendered in full."""

_LINES_TITLE = "In short:\n"
_BLOCKS_TITLE = "\nIn full:\n\n"


class Transcript:
    """The history as text, each trial rendered once.

    It only grows, so that each prompt begins with the one before, until it is too long. Then it
    is cut in one go to about half: trials lose their texts first, then most of their feedback, and
    a line of each stays, until there are hundreds.
    """

    def __init__(self) -> None:
        self._lines: dict[int, str] = {}
        self._blocks: dict[int, str] = {}
        self._full: set[int] = set()
        self._insights: tuple[str, ...] = ()
        self._n_read = 0

    def __copy__(self) -> Transcript:
        copied = Transcript()
        copied._lines, copied._blocks = dict(self._lines), dict(self._blocks)
        copied._full, copied._insights = set(self._full), self._insights
        copied._n_read = self._n_read
        return copied

    def __str__(self) -> str:
        blocks = "".join(self._blocks.values())
        if not self._lines:
            return blocks
        return f"{_LINES_TITLE}{''.join(self._lines.values())}{_BLOCKS_TITLE}{blocks}"

    def __len__(self) -> int:
        return len(self._lines) + len(self._blocks)

    def __contains__(self, record: TrialRecord) -> bool:
        return record.number in self._full

    @property
    def insights(self) -> Sequence[str]:
        """What a model had learned when the history was cut last, a line each."""
        return self._insights

    @property
    def lines_size(self) -> int:
        """Length of the lines in characters: what no cut can spare."""
        return sum(map(len, self._lines.values()))

    @property
    def largest(self) -> int:
        """Length of the largest block in characters."""
        return max(map(len, self._blocks.values()), default=0)

    def is_listed(self, record: TrialRecord) -> bool:
        """Whether a trial is shown at all, if only in a line."""
        return record.number in self._blocks or record.number in self._lines

    def holds(self, record: TrialRecord, text: str) -> bool:
        """Whether the block of a trial is shown and has this text in it, whole."""
        return text in self._blocks.get(record.number, "")

    def append(self, finished: Sequence[TrialRecord], size: int, render: Renderer) -> None:
        """Show in full the trials that have finished since.

        Args:
            finished: All finished trials, in order of completion.
            size: At how many characters it is too long anyway, so that the rest can be left.
            render: Renders a trial, given how fully, and what says which are shown in full.
        """
        left = size - len(str(self))
        for record in finished[self._n_read :]:
            self._blocks[record.number] = render(record, Detail.FULL, self.__contains__)
            self._full.add(record.number)
            left -= len(self._blocks[record.number])
            if left < 0:
                break
        # Another thread may have shown more than this snapshot holds.
        self._n_read = max(self._n_read, len(finished))

    def cut(
        self,
        finished: Sequence[TrialRecord],
        ranked: Sequence[TrialRecord],
        size: int,
        limit: int,
        render: Renderer,
        insights: Sequence[str] = (),
    ) -> None:
        """Show the trials anew, the most useful ones as fully as there is room for.

        Args:
            finished: All finished trials, in order of completion.
            ranked: The trials, the most useful to show first.
            size: How many characters those may take that are shown more fully than in a line.
            limit: How many characters the text may take in all.
            render: As for :meth:`append`.
            insights: What is to stand in for what is left out.
        """
        self._n_read = len(finished)
        self._insights = tuple(insights)
        details = _allot(finished, ranked, size, limit, render)
        chosen = [record for record in finished if record.number in details]
        while True:
            self._show(chosen, details, render)
            if len(str(self)) <= limit or not details:
                return
            # Without the trials that they refer to, some blocks have grown.
            _step_down(details, [record.number for record in reversed(ranked)])

    def _show(
        self, finished: Sequence[TrialRecord], details: Mapping[int, Detail], render: Renderer
    ) -> None:
        self._lines, self._blocks, self._full = {}, {}, set()
        for record in finished:
            detail = details.get(record.number)
            if detail is None:
                continue
            shown = render(record, detail, self.__contains__)
            if detail <= Detail.LINE:
                self._lines[record.number] = shown
                continue
            self._blocks[record.number] = shown
            if detail == Detail.FULL:
                self._full.add(record.number)


def _allot(
    finished: Sequence[TrialRecord],
    ranked: Sequence[TrialRecord],
    size: int,
    limit: int,
    render: Renderer,
) -> dict[int, Detail]:
    """How fully each trial is to be shown, for all of them to fit."""
    details: dict[int, Detail] = {}
    costs: dict[int, int] = {}

    def raise_to(record: TrialRecord, detail: Detail, room: int) -> int:
        """What it costs beyond what is allotted already; 0 if there is no room."""
        if details.get(record.number, -1) >= detail:
            return 0
        cost = len(render(record, detail, lambda _: True))
        # The room for blocks is apart from that for lines: a line that goes is no room for one.
        added = cost - costs.get(record.number, 0) if detail <= Detail.LINE else cost
        if added > room:
            return 0
        details[record.number], costs[record.number] = detail, cost
        return added

    latest = finished[-_N_LATEST:][::-1]
    for record in latest:
        limit -= raise_to(record, Detail.LINE, limit)
    for record in itertools.islice(itertools.chain(ranked, reversed(finished)), 2 * _N_LINES):
        if len(details) == _N_LINES:
            break
        # Not all of it: the best are to be shown in full.
        limit -= raise_to(record, Detail.SHORT, limit // 2)
    left = min(size, limit)
    # The best stands first: its text, whole there, need not be sent anew with each request.
    n_misses = 0
    for record in ranked[:_N_LINES]:
        taken = raise_to(record, Detail.FULL, left)
        left -= taken
        n_misses = 0 if taken else n_misses + 1
        if n_misses == _MAX_MISSES:
            break
    for record in latest[:_N_BRIEF]:
        left -= raise_to(record, Detail.BRIEF, left)
    return details


def _step_down(details: dict[int, Detail], numbers: Sequence[int]) -> None:
    """Show the least useful tenth of what is shown most fully a step less fully."""
    most = max(details.values())
    chosen = [number for number in numbers if details.get(number) == most]
    chosen = chosen or [number for number, detail in details.items() if detail == most]
    for number in chosen[: max(1, len(chosen) // 10)]:
        if most == Detail.SHORT:
            del details[number]
        else:
            details[number] = Detail(most - 1)
