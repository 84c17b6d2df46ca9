"""A reply taken apart: the blocks of its proposals, the words beside them, and thoughts."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from typing import TypeAlias

from optuna_llm._errors import ReplyError
from optuna_llm._records import TextParameter
from optuna_llm._reply.ends import Block
from optuna_llm._reply.ends import BlockFinder
from optuna_llm._reply.tags import find_tags
from optuna_llm._reply.tags import Tag
from optuna_llm._reply.thoughts import find_thoughts
from optuna_llm._reply.thoughts import Mark


_MAX_BLOCKS = 200
_Item: TypeAlias = "str | Block | Tag | Mark"


@dataclass
class Part:
    """One proposal of a reply: its blocks, and the words beside them."""

    blocks: list[Block] = field(default_factory=list)
    words: list[str] = field(default_factory=list)


@dataclass
class Reading:
    """A stretch of a reply, read.

    Attributes:
        parts: The proposals; a reply without their tags is one.
        error: What ended the reading before the end of the stretch.
    """

    parts: list[Part]
    error: ReplyError | None = None


class Scanner:
    """Finds the blocks of any stretch of one reply.

    Args:
        source: The reply.
        texts: The text parameters that were asked for.

    Attributes:
        tags: All tags, those in texts and thoughts included.
        openings: Those of them that may open a block.
        thoughts: The markers of thoughts.
    """

    def __init__(self, source: str, texts: Sequence[TextParameter]) -> None:
        self._source = source
        named = {text.name: text for text in texts}
        tags = find_tags(source, named)
        self.thoughts = find_thoughts(source, tags, named)
        ends = {mark.end for mark in self.thoughts.cuts}
        # What follows the end of thoughts is meant, too.
        self.tags = [tag._replace(is_strong=True) if tag.start in ends else tag for tag in tags]
        self.openings = [tag for tag in self.tags if not tag.is_closing and tag.is_own]
        both: Sequence[Tag | Mark] = (*self.tags, *self.thoughts.marks)
        self._items = sorted(both, key=lambda item: item.start)
        self._finder = BlockFinder(source, self.tags, named)
        self._starts = [item.start for item in self._items]

    def read(self, start: int, stop: int, *, strict: bool, several: bool) -> Reading:
        """The blocks between two places.

        Args:
            start: Where to begin; not within a block.
            stop: Where to end.
            strict: Whether tags behind other words on a line are mere mention.
            several: Whether <proposal> tags part the blocks.
        """
        parts = [Part()]
        begun = {mark.family for mark in self.thoughts.marks if mark.end <= start}
        try:
            items = _end_thoughts(self._walk(start, stop, strict), begun)
            _fill(parts, items, several)
        except ReplyError as error:
            return Reading(parts[1:] or parts, error)
        # What stands around proposals belongs to none of them.
        return Reading(parts[1:] or parts)

    def _walk(self, start: int, stop: int, strict: bool) -> Iterator[_Item]:
        """Blocks, proposals' tags, ends of thoughts and the words between, in their order."""
        position = start
        inner = 0  # Text tags of an SVG, say, that are open beside the blocks.
        is_first = True
        index = bisect_left(self._starts, start)
        while index < len(self._items) and self._starts[index] < stop:
            item = self._items[index]
            index += 1
            if isinstance(item, Mark):
                yield self._source[position : item.start]
                yield item
                if item.is_closing:
                    position = item.end
                else:
                    position = self._skip_thoughts(item, stop, is_first)
            elif not item.is_own or (strict and not item.is_strong):
                inner += item.kind == "text" and not item.is_closing
                continue
            elif item.is_closing and item.kind == "text" and inner:
                inner -= 1
                continue
            elif item.is_closing and item.kind != "proposal":
                raise ReplyError(
                    f"there is a </{item.kind}> too many, or the tag that opens it is misspelled."
                )
            else:
                yield self._source[position : item.start]
                found = item if item.kind == "proposal" else self._finder.find(item, stop)
                yield found
                position = found.end
                is_first = False
            index = bisect_left(self._starts, position, index)
        yield self._source[position:stop]

    def _skip_thoughts(self, begin: Mark, stop: int, is_first: bool) -> int:
        for mark in self.thoughts.marks[bisect_left(self.thoughts.marks, begin) + 1 :]:
            if mark.is_closing and mark.family == begin.family and mark.end <= stop:
                return mark.end
        if is_first:
            raise ReplyError("the reply ended within your thoughts, before an answer.")
        return stop


def _fill(parts: list[Part], items: Iterator[_Item], several: bool) -> None:
    """Sort what was found into parts: a new one for each proposal, if there may be several."""
    part = loose = parts[0]
    count = 0
    for item in items:
        if isinstance(item, str):
            part.words.append(item)
        elif isinstance(item, Mark):
            part.words.clear()
        elif isinstance(item, Block):
            part.blocks.append(item)
            count += 1
        elif several:
            count += 1
            if not item.is_closing:
                parts.append(Part())
            part = loose if item.is_closing else parts[-1]
        if count > _MAX_BLOCKS:
            raise ReplyError(f"there are more than {_MAX_BLOCKS} blocks: send one answer.")
    if part is not loose:
        raise ReplyError("<proposal> is not closed by </proposal>: was the reply cut off?")


def _end_thoughts(items: Iterator[_Item], begun: set[str]) -> Iterator[_Item]:
    """The items, of the markers those only that end thoughts before the first block.

    Args:
        items: What is found in a stretch.
        begun: The markers of thoughts that have begun before it.

    Raises:
        ReplyError: If blocks stand within thoughts whose beginning was cut off.
    """
    has_block = has_ended = False
    for item in items:
        if isinstance(item, Mark):
            if item.is_closing and has_block:
                if item.family not in begun:
                    raise ReplyError(
                        "thoughts end after the answer begins: send all of it after them."
                    )
                # One end too many does no harm, unless an answer follows.
                has_ended = True
            elif item.is_closing:
                yield item
            begun.add(item.family)
            continue
        if has_ended and isinstance(item, Block):
            raise ReplyError("thoughts end between two blocks: send all blocks after them.")
        has_block |= isinstance(item, Block)
        yield item
