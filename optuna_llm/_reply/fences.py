"""Fenced blocks, told by the rules of CommonMark, in linear time."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple


class Fence(NamedTuple):
    """A line that opens or closes a fenced block: its bar, its indentation, the words behind."""

    bar: str
    indent: int
    words: str

    def closes(self, opening: Fence) -> bool:
        """Whether a block that ``opening`` begins ends here."""
        return (
            not self.words
            and self.bar.startswith(opening.bar)
            and self.indent <= opening.indent + 3
        )


def read_fence(line: str) -> Fence | None:
    """The fence that a line is; None for any other line."""
    bare = line.lstrip()
    if not bare.startswith(("```", "~~~")):
        return None
    return _read_bare(bare.rstrip(), len(line) - len(bare))


@lru_cache
def _read_bare(bare: str, indent: int) -> Fence | None:
    words = bare.lstrip(bare[0])
    if bare[0] == "`" and "`" in words:
        return None
    return Fence(bare[: len(bare) - len(words)], indent, words.strip())


def split_fences(source: str) -> tuple[list[str], str]:
    """What the closed fenced blocks of a text hold, and the text without them."""
    blocks: list[str] = []
    outside: list[str] = []
    inside: list[str] = []
    opening: Fence | None = None
    for line in source.split("\n"):
        fence = read_fence(line)
        if opening is None:
            opening = fence
            (inside if fence else outside).append(line)
        elif fence and fence.closes(opening):
            blocks.append("\n".join(inside[1:]))
            inside, opening = [], None
        else:
            inside.append(line)
    return blocks, "\n".join(outside + inside)


def strip_fence(text: str) -> str | None:
    """What stands between the first line and the last, if they are one fence around it all."""
    blocks, outside = split_fences(text)
    return blocks[0] if len(blocks) == 1 and not outside.strip() else None
