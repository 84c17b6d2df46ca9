"""The history as text that only grows: which trials are shown, each block rendered once."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
from typing import TypeAlias

from optuna_llm._records import TrialRecord


IsShown: TypeAlias = Callable[[TrialRecord], bool]
Renderer: TypeAlias = Callable[[TrialRecord, IsShown], str]


class Transcript:
    """The history as text, block after block, each rendered once.

    It only grows, until it is too long: then it is cut in one go to about half of its room, to
    the leaders and the trials that came last. A text is told by what it changes in another only
    where that other trial is shown before it.
    """

    def __init__(self) -> None:
        self._blocks: dict[int, str] = {}
        self._n_read = 0

    def __str__(self) -> str:
        return "".join(self._blocks.values())

    def __contains__(self, record: TrialRecord) -> bool:
        return record.number in self._blocks

    def holds(self, record: TrialRecord, text: str) -> bool:
        """Whether the block of a trial is shown and has this text in it, whole."""
        return text in self._blocks.get(record.number, "")

    def update(
        self,
        finished: Sequence[TrialRecord],
        leaders: Sequence[TrialRecord],
        limit: int,
        render: Renderer,
    ) -> None:
        """Show the trials that have finished since, and cut if ``limit`` characters are passed.

        Args:
            finished: All finished trials in the order they finished in.
            leaders: Trials to be kept, best last.
            limit: Characters that the text may take.
            render: Makes a block of a record, given what says whether a trial is shown.
        """
        left = limit - sum(map(len, self._blocks.values()))
        for record in finished[self._n_read :]:
            left -= self._append(record, render)
            if left < 0:
                break
        self._n_read = len(finished)
        if left < 0:
            self._cut(finished, leaders, limit, render)

    def _append(self, record: TrialRecord, render: Renderer) -> int:
        self._blocks[record.number] = block = render(record, self.__contains__)
        return len(block)

    def _cut(
        self,
        finished: Sequence[TrialRecord],
        leaders: Sequence[TrialRecord],
        limit: int,
        render: Renderer,
    ) -> None:
        best = {record.number for record in leaders}
        room = limit // 2
        latest: list[TrialRecord] = []
        for record in reversed(finished):
            room -= len(render(record, lambda _: True))
            if room < 0:
                break
            latest.append(record)
        # Without the trials that they were told by, some blocks grow: then there is room for
        # fewer of them, and of the leaders for the best ones only.
        while True:
            kept = best | {record.number for record in latest}
            self._blocks = {}
            sizes = [self._append(r, render) for r in finished if r.number in kept]
            if sum(sizes) <= limit:
                return
            if latest:
                latest = latest[: len(latest) // 2]
            else:
                best = {record.number for record in leaders[len(leaders) - len(best) + 1 :]}
