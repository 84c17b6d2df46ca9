"""Long texts as a storage keeps them: in pieces."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence


class TextsInPieces(Mapping[str, str]):
    """Texts by name, kept as the pieces that the storage keeps too, and joined on demand.

    Args:
        pieces: The pieces of each text, by its name.
    """

    def __init__(self, pieces: Mapping[str, Sequence[str]]) -> None:
        self._pieces = pieces

    def __getitem__(self, name: str) -> str:
        return "".join(self._pieces[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._pieces)

    def __len__(self) -> int:
        return len(self._pieces)

    def __repr__(self) -> str:
        return repr(dict(self))
