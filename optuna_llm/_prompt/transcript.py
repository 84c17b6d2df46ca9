"""The history as text that only grows: which trials are shown, each block rendered once."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
from typing import TypeAlias

from optuna_llm._records import TrialRecord


IsShown: TypeAlias = Callable[[TrialRecord], bool]
Renderer: TypeAlias = Callable[[TrialRecord, IsShown], str]


_LEAST_SHOWN = 2


class Transcript:
    """The history as text, block after block, each rendered once.

    It only grows, until it is too long: then it is cut in one go to about half of its room, to
    the trials that matter most. A text is told by what it changes in another only
    where that other trial is shown before it.
    """

    def __init__(self) -> None:
        self._blocks: dict[int, str] = {}
        self._n_read = 0

    def __copy__(self) -> Transcript:
        copied = Transcript()
        copied._blocks, copied._n_read = dict(self._blocks), self._n_read
        return copied

    def __str__(self) -> str:
        return "".join(self._blocks.values())

    @property
    def first(self) -> int | None:
        """Number of the first trial that is shown."""
        return next(iter(self._blocks), None)

    def __contains__(self, record: TrialRecord) -> bool:
        return record.number in self._blocks

    def holds(self, record: TrialRecord, text: str) -> bool:
        """Whether the block of a trial is shown and has this text in it, whole."""
        return text in self._blocks.get(record.number, "")

    def update(
        self,
        finished: Sequence[TrialRecord],
        choose: Callable[[], Sequence[TrialRecord]],
        limit: int,
        room: int,
        render: Renderer,
    ) -> None:
        """Show the trials that have finished since, and cut if ``limit`` characters are passed.

        Args:
            finished: All finished trials in the order they finished in.
            choose: Says which trials are to be kept then, the most worth showing first.
            limit: Characters that the text may take.
            room: Characters that the trials beside one whole text may take.
            render: Makes a block of a record, given what says whether a trial is shown.
        """
        sizes = list(map(len, self._blocks.values()))
        # One text at least stands there whole: the changes to it are what there is room for.
        largest = max(sizes, default=0)
        if not sizes and finished:
            largest = len(render(finished[0], self.__contains__))
        left = min(limit, room + largest) - sum(sizes)
        for record in finished[self._n_read :]:
            left -= self._append(record, render)
            if left < 0:
                break
        # Another thread may have shown more than this snapshot holds.
        self._n_read = max(self._n_read, len(finished))
        if left < 0:
            self._cut(finished, choose(), min(limit // 2, room // 2 + largest), limit, render)

    def _append(self, record: TrialRecord, render: Renderer) -> int:
        self._blocks[record.number] = block = render(record, self.__contains__)
        return len(block)

    def _cut(
        self,
        finished: Sequence[TrialRecord],
        chosen: Sequence[TrialRecord],
        target: int,
        limit: int,
        render: Renderer,
    ) -> None:
        """Show anew as many of the chosen trials as the target has room for."""
        left = target
        kept: set[int] = set()
        for record in chosen:
            left -= len(render(record, lambda _: True))
            if left < 0:
                break
            kept.add(record.number)
        # Without the trials that they were told by, some blocks grow: then there is room for
        # fewer of them, though for the best and the latest even beyond the target.
        while True:
            self._blocks = {}
            sizes = [self._append(r, render) for r in finished if r.number in kept]
            if sum(sizes) <= (target if len(kept) > _LEAST_SHOWN else limit):
                return
            kept = {record.number for record in chosen[: len(kept) * 3 // 4]}
