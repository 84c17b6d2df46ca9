"""The blocks of a reply: what stands between its tags, and what stands beside them.

What is in a block is opaque: a text may hold tags of its own, thoughts, fences and markers.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from itertools import islice
import re
from typing import NamedTuple
from typing import TypeAlias

from optuna_llm._errors import ReplyError
from optuna_llm._records import TextParameter
from optuna_llm._reply.edits import is_end_of_block
from optuna_llm._reply.edits import REPLACE
from optuna_llm._reply.fences import read_fence
from optuna_llm._reply.languages import makes_sense
from optuna_llm._reply.objects import read_object
from optuna_llm._reply.tags import EditError
from optuna_llm._reply.tags import find_tags
from optuna_llm._reply.tags import name_of
from optuna_llm._reply.tags import Tag
from optuna_llm._reply.thoughts import find_thoughts
from optuna_llm._reply.thoughts import Mark


_MAX_BLOCKS = 200
_MAX_CLOSINGS = 100
_MAX_ENDS = 4
_LINE = 300


class Block(NamedTuple):
    """What stands between a tag and the one that closes it.

    Attributes:
        tag: The opening tag.
        name: The text parameter it is about; empty if it is about none.
        inside: What stands between the tags.
        end: Where what follows it begins in the reply.
    """

    tag: Tag
    name: str
    inside: str
    end: int


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
        self._texts: Mapping[str, TextParameter] = {text.name: text for text in texts}
        tags = find_tags(source, self._texts)
        self.thoughts = find_thoughts(source, tags, self._texts)
        ends = {mark.end for mark in self.thoughts.cuts}
        # What follows the end of thoughts is meant, too.
        self.tags = [tag._replace(is_strong=True) if tag.start in ends else tag for tag in tags]
        self.openings = [tag for tag in self.tags if not tag.is_closing and tag.is_own]
        both: Sequence[Tag | Mark] = (*self.tags, *self.thoughts.marks)
        self._items = sorted(both, key=lambda item: item.start)
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
            items = self._end_thoughts(self._walk(start, stop, strict), begun)
            self._fill(parts, items, several)
        except ReplyError as error:
            return Reading(parts[1:] or parts, error)
        # What stands around proposals belongs to none of them.
        return Reading(parts[1:] or parts)

    def _fill(self, parts: list[Part], items: Iterator[_Item], several: bool) -> None:
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

    def _end_thoughts(self, items: Iterator[_Item], begun: set[str]) -> Iterator[_Item]:
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
                found = item if item.kind == "proposal" else self._find_block(item, stop)
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

    def _find_block(self, tag: Tag, stop: int) -> Block:
        if tag.kind == "text":
            return self._find_text(tag, stop)
        if tag.kind == "edit":
            return self._find_edit(tag, stop)
        if tag.kind == "repeat":
            return Block(tag, "", "", tag.end)
        closing = next(
            (t for t in self._after(tag, stop) if t.is_closing and t.kind == tag.kind), None
        )
        if closing is not None:
            return self._make(tag, "", closing.start, closing.end)
        following = next((t for t in self._after(tag, stop) if t.is_strong and t.is_own), None)
        end = following.start if following else stop
        if (tag.kind == "numbers" and _holds_object(self._source[tag.end : end])) or (
            tag.kind != "numbers" and following and not following.is_closing
        ):
            return self._make(tag, "", end, end)
        raise ReplyError(f"<{tag.kind}> is not closed by </{tag.kind}>: was the reply cut off?")

    def _make(self, tag: Tag, name: str, end: int, position: int) -> Block:
        return Block(tag, name, self._source[tag.end : end], position)

    def _after(self, tag: Tag, stop: int) -> Iterator[Tag]:
        """The tags behind one."""
        index = bisect_left(self.tags, tag) + 1
        while index < len(self.tags) and self.tags[index].start < stop:
            yield self.tags[index]
            index += 1

    def _find_edit(self, tag: Tag, stop: int) -> Block:
        name = name_of(tag, self._texts)
        for closing in self._after(tag, stop):
            if closing.kind == "edit" and closing.is_closing and self._ends_blocks(closing):
                return self._make(tag, name, closing.start, closing.end)
        raise EditError(
            f"<edit> is not closed: its last lines must be {REPLACE!r} and </edit>: send it all."
        )

    def _ends_blocks(self, closing: Tag) -> bool:
        """Whether the end of a block of edits stands before a tag, in a fence or not."""
        line, start = self._line_before(closing.start)
        if read_fence(line):
            line, _ = self._line_before(start)
        return is_end_of_block(line)

    def _line_before(self, position: int) -> tuple[str, int]:
        """The last line before a place that is not blank, and where it begins."""
        while position and self._source[position - 1].isspace():
            position -= 1
        start = self._source.rfind("\n", max(0, position - _LINE), position) + 1
        start = max(start, position - _LINE, 0)
        return self._source[start:position], start

    def _find_text(self, tag: Tag, stop: int) -> Block:
        """A text that is fenced ends with its fence; else where as many tags close as open."""
        name = name_of(tag, self._texts)
        if not name:
            raise ReplyError(
                "<text> does not say which text it is: write " + self._show_openings() + "."
            )
        wrapped = self._find_wrapped_end(tag, stop)
        if wrapped is not None:
            return self._make(tag, name, wrapped.start, wrapped.end)
        depth = 1
        for other in self._after(tag, stop):
            if other.kind not in ("text", "edit"):
                continue
            if not other.is_closing and other.is_strong and other.name in self._texts:
                raise ReplyError(
                    f'<text name="{name}"> holds another such block, <{other.kind} '
                    f'name="{other.name}">: close it before. If the text has such tags of its '
                    "own, put it between <![CDATA[ and ]]>."
                )
            if other.kind == "edit":
                continue
            depth += -1 if other.is_closing else 1
            if not depth:
                following = next(self._after(other, stop), None)
                if following and following.is_closing and following.kind == "text":
                    break
                return self._make(tag, name, other.start, other.end)
        return self._guess_end(tag, name, stop)

    def _find_wrapped_end(self, tag: Tag, stop: int) -> Tag | None:
        """The tag that closes a text in a fence or CDATA; None if the text is in neither."""
        head = self._source[tag.end : tag.end + _LINE].lstrip()
        opening = read_fence(head.partition("\n")[0])
        is_cdata = head.startswith("<![CDATA[")
        if not opening and not is_cdata:
            return None
        closings = (t for t in self._after(tag, stop) if t.is_closing and t.kind == "text")
        for closing in islice(closings, _MAX_CLOSINGS):
            line, _ = self._line_before(closing.start)
            fence = read_fence(line)
            if (opening and fence and fence.closes(opening)) or (
                is_cdata and line.endswith("]]>")
            ):
                return closing
        return None

    def _guess_end(self, tag: Tag, name: str, stop: int) -> Block:
        """The end of a text in which not as many tags close as open, if only one makes sense."""
        closings = [t for t in self._after(tag, stop) if t.is_closing and t.kind == "text"]
        by_name = re.compile(rf"</{re.escape(name)}\s*>", re.IGNORECASE)
        ends = [match.span() for match in by_name.finditer(self._source, tag.end, stop)]
        if not closings and len(ends) == 1:
            return self._make(tag, name, *ends[0])
        if not closings:
            raise ReplyError(
                f'<text name="{name}"> is not closed by </text>: was the reply cut off? Send all '
                "of it, shorter if need be."
            )
        language = self._texts[name].language
        blocks = [self._make(tag, name, t.start, t.end) for t in closings[:_MAX_ENDS]]
        sound = [block for block in blocks if makes_sense(block.inside, language)]
        if len(sound) == 1:
            return sound[0]
        raise ReplyError(
            f'it cannot be told which </text> closes <text name="{name}">: there are too many or '
            "too few. If the text has such tags of its own, put it between <![CDATA[ and ]]>."
        )

    def _show_openings(self) -> str:
        return " or ".join(f'<text name="{name}">' for name in self._texts)


def _holds_object(source: str) -> bool:
    try:
        return bool(read_object(source))
    except ReplyError:
        return False
