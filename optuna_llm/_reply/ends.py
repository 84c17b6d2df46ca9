"""Where the blocks of a reply end.

What is in a block is opaque: a text may hold tags of its own, thoughts, fences and markers.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from itertools import islice
import re
from typing import NamedTuple

from optuna_llm._errors import ReplyError
from optuna_llm._records import TextParameter
from optuna_llm._reply.edits import is_end_of_block
from optuna_llm._reply.edits import REPLACE
from optuna_llm._reply.fences import read_fence
from optuna_llm._reply.languages import makes_sense
from optuna_llm._reply.objects import read_object
from optuna_llm._reply.tags import EditError
from optuna_llm._reply.tags import name_of
from optuna_llm._reply.tags import Tag


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


class BlockFinder:
    """Finds the end of a block that a tag opens.

    Args:
        source: The reply.
        tags: All of its tags, those in texts and thoughts included.
        texts: The text parameters that were asked for, by name.
    """

    def __init__(
        self, source: str, tags: Sequence[Tag], texts: Mapping[str, TextParameter]
    ) -> None:
        self._source = source
        self._tags = tags
        self._texts = texts

    def find(self, tag: Tag, stop: int) -> Block:
        """The block that a tag opens.

        Args:
            tag: The tag.
            stop: Where the block has to end at the latest.

        Raises:
            ReplyError: If it cannot be told where the block ends.
        """
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
        index = bisect_left(self._tags, tag) + 1
        while index < len(self._tags) and self._tags[index].start < stop:
            yield self._tags[index]
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
