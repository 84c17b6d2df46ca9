"""Trials in sequences that are views: a snapshot of a long study copies none of them."""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import itertools
from typing import overload
from typing import TypeAlias
from typing import TypeVar

from optuna_llm._records import TrialRecord


_Item = TypeVar("_Item")

Order: TypeAlias = Sequence[tuple[float, ...]]
"""Sort keys of trials in order, as ``rank`` makes them; each ends with its trial's number."""

_FEW = 20


def add_sorted(order: Order, new: Sequence[tuple[float, ...]]) -> Order:
    """The order with more keys; the one given stays as it is."""
    if not new:
        return order
    longer = list(order)
    if len(new) > _FEW:
        longer += new
        longer.sort()
    else:
        for key in new:
            insort(longer, key)
    return longer


class Prefix(Sequence[_Item]):
    """The first items of a list that only grows: a constant view without a copy."""

    def __init__(self, items: list[_Item]) -> None:
        self._items = items
        self._length = len(items)

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[_Item]:
        # Sequence would look up each item by its index, a hundred times as slow.
        return itertools.islice(self._items, self._length)

    def __reversed__(self) -> Iterator[_Item]:
        items = self._items
        return (items[i] for i in range(self._length - 1, -1, -1))

    @overload
    def __getitem__(self, index: int) -> _Item: ...
    @overload
    def __getitem__(self, index: slice) -> list[_Item]: ...
    def __getitem__(self, index: int | slice) -> _Item | list[_Item]:
        if isinstance(index, slice):
            return [self._items[i] for i in range(*index.indices(self._length))]
        return self._items[range(self._length)[index]]


class Finished(Prefix[TrialRecord]):
    """The finished trials in order of completion, which also knows the best of them.

    Args:
        items: All of them.
        order: Sort keys of the complete ones, best first.
        by_number: All of them by number.
    """

    def __init__(
        self,
        items: list[TrialRecord],
        order: Order,
        by_number: Mapping[int, TrialRecord],
    ) -> None:
        super().__init__(items)
        self._order = order
        self._by_number = by_number

    @property
    def ranked(self) -> Sequence[TrialRecord]:
        """The complete ones, best first; looked up when they are asked for."""
        return Ranked(self._order, self._by_number)


class Ranked(Sequence[TrialRecord]):
    """Trials in the order of their sort keys.

    Args:
        order: Sort keys, each of which ends with the number of its trial.
        by_number: The trials by number.
    """

    def __init__(self, order: Order, by_number: Mapping[int, TrialRecord]) -> None:
        self._order = order
        self._by_number = by_number

    def __len__(self) -> int:
        return len(self._order)

    @overload
    def __getitem__(self, index: int) -> TrialRecord: ...
    @overload
    def __getitem__(self, index: slice) -> list[TrialRecord]: ...
    def __getitem__(self, index: int | slice) -> TrialRecord | list[TrialRecord]:
        if isinstance(index, slice):
            return [self._by_number[int(key[-1])] for key in self._order[index]]
        return self._by_number[int(self._order[index][-1])]
