"""A reply's blocks: what stands between its tags, and what between fences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
import re

from optuna_llm._errors import ReplyError
from optuna_llm._records import TextParameter
from optuna_llm._reply.edits import REPLACE


_THOUGHT = re.compile(r"\s*<(think|thinking|thought|reasoning)>", re.IGNORECASE)
_THOUGHT_END = re.compile(r"</(think|thinking|thought|reasoning)>", re.IGNORECASE)
_NAME_IS = r"name\s*=\s*(?:\"([^\">\n]*)\"|'([^'>\n]*)'|([^\s\"'>]+))"
_OF_IS = r"of\s*=\s*[\"']?(?:trial\s*)?(\d{1,9})[\"']?"
_NAME = re.compile(_NAME_IS, re.IGNORECASE)
_OF = re.compile(rf"(?<=\s){_OF_IS}", re.IGNORECASE)
_TEXT_OPEN = re.compile(
    rf"^[ \t]*<(?P<tag>text|edit)(?P<attributes>(?:\s+(?:{_NAME_IS}|{_OF_IS}))*)\s*>",
    re.IGNORECASE | re.MULTILINE,
)
_EDIT_CLOSE = re.compile(
    rf"^{REPLACE}[ \t\r]*\n\s*(?P<tag></edit\s*>)", re.IGNORECASE | re.MULTILINE
)
_TEXT_TAG = re.compile(r"<(/?)text\b[^<>\n]*>", re.IGNORECASE)
_PROPOSAL_OPEN = re.compile(r"^[ \t]*<proposal\b[^<>\n]*>", re.IGNORECASE | re.MULTILINE)
_PROPOSAL_CLOSE = re.compile(r"</proposal\s*>", re.IGNORECASE)
_FENCE_OPEN = re.compile(r"\s*(`{3,}|~{3,})[^`]*")


class EditError(ReplyError):
    """The edits of a reply cannot be made."""


@dataclass(frozen=True)
class EditBlock:
    """What an <edit> block says: the edits as written, and the trial whose text they change."""

    source: str
    of: int | None


def drop_thoughts(reply: str) -> str:
    """The reply without what a reasoning model thinks aloud before it answers.

    Raises:
        ReplyError: If there is nothing else.
    """
    begins = _THOUGHT.match(reply)
    end = _THOUGHT_END.search(reply)
    if begins and not end:
        raise ReplyError("the reply ended within your thoughts, before an answer.")
    text = _TEXT_OPEN.search(reply)
    # Some servers cut off the opening tag; inside of a text the closing one is text.
    if end and (begins or text is None or end.start() < text.start()):
        return reply[end.end() :]
    return reply


def split_proposals(answer: str) -> tuple[list[str], list[str]]:
    """What stands between the <proposal> tags, and what is wrong with the rest.

    A reply without these tags is one proposal. A text may hold such tags of its own.
    """
    parts: list[str] = []
    begin = _PROPOSAL_OPEN.search(answer)
    if begin is None:
        return [answer], []
    while begin:
        try:
            end = _find_proposal_end(answer, begin.end())
        except ReplyError as error:
            return parts, [f"proposal {len(parts) + 1}: {error}"]
        parts.append(answer[begin.end() : end.start()])
        begin = _PROPOSAL_OPEN.search(answer, end.end())
    return parts, []


def _find_proposal_end(answer: str, position: int) -> re.Match[str]:
    while True:
        end = _PROPOSAL_CLOSE.search(answer, position)
        if end is None:
            raise ReplyError("<proposal> is not closed by </proposal>: was the reply cut off?")
        begin = _TEXT_OPEN.search(answer, position)
        if begin is None or end.start() < begin.start():
            return end
        _, position = _find_end(answer, begin)


def take_texts(
    answer: str, wanted: Sequence[TextParameter]
) -> tuple[dict[str, str | EditBlock], str]:
    """The texts of a reply or the edits that make them, and the reply without them.

    Args:
        answer: A reply, or one of its proposals.
        wanted: The text parameters that were asked for.

    Raises:
        EditError: If an <edit> block is not closed.
        ReplyError: If it cannot be told which text is which, or where it ends.
    """
    texts: dict[str, str | EditBlock] = {}
    by_name = {parameter.name: parameter for parameter in wanted}
    rest = ""
    position = 0
    while wanted and (opening := _TEXT_OPEN.search(answer, position)):
        name = _read_name(opening) or (wanted[0].name if len(wanted) == 1 else "")
        if name not in by_name:
            names = ", ".join(f'"{n}"' for n in by_name)
            raise ReplyError(f'there is no text parameter "{name[:60]}"; there is {names}.')
        if name in texts:
            raise ReplyError(f'there are two <text name="{name}"> blocks: send one.')
        rest += answer[position : opening.start()]
        end, position = _find_end(answer, opening)
        inside = answer[opening.end() : end]
        if opening["tag"].lower() == "edit":
            texts[name] = EditBlock(inside.replace("\r\n", "\n"), _read_number(opening))
            continue
        texts[name] = text = _unwrap(inside, by_name[name])
        if any(_read_name(inner) in by_name for inner in _TEXT_OPEN.finditer(text)):
            raise ReplyError(f'<text name="{name}"> holds another such block: send one.')
    rest += answer[position:]
    if texts and _TEXT_TAG.search(rest):
        raise ReplyError("there is a <text> tag too many: where the text ends cannot be told.")
    return texts, rest


def _read_name(opening: re.Match[str]) -> str:
    name = _NAME.search(opening["attributes"])
    return next(filter(None, name.groups()), "") if name else ""


def _read_number(opening: re.Match[str]) -> int | None:
    number = _OF.search(opening["attributes"])
    return int(number[1]) if number else None


def _find_end(answer: str, opening: re.Match[str]) -> tuple[int, int]:
    """Where the block that a tag opens ends, and where its closing tag does.

    Tags inside of a text are counted: a drawing in SVG has text tags of its own.
    """
    start = opening.end()
    if opening["tag"].lower() == "edit":
        if closing := _EDIT_CLOSE.search(answer, start):
            return closing.start("tag"), closing.end()
        raise EditError(f"<edit> is not closed by a line {REPLACE!r} and </edit>: send all of it.")
    depth = 1
    for tag in _TEXT_TAG.finditer(answer, start):
        depth += -1 if tag[1] else 1
        if not depth:
            return tag.start(), tag.end()
    raise ReplyError(
        f'<text name="{_read_name(opening)}"> is not closed by </text>: was the reply cut off? '
        "Send all of it, shorter if need be."
    )


def _unwrap(text: str, parameter: TextParameter) -> str:
    """The text without the line breaks at the tags, and without a fence around all of it."""
    text = text.replace("\r\n", "\n")
    text = (
        text.removeprefix("\n") if text.startswith("\n") else text.lstrip(" \t").removeprefix("\n")
    )
    text = text.rstrip(" \t").removesuffix("\n")
    blocks, outside = split_fences(text)
    is_own = (parameter.initial or "").lstrip().startswith(("```", "~~~"))
    if len(blocks) == 1 and not outside.strip() and not is_own:
        return blocks[0]
    return text


def take_blocks(source: str, tag: str) -> tuple[list[str], str]:
    """What stands between all pairs of a tag, and the source without it.

    Raises:
        ReplyError: If a tag is not closed.
    """
    opening = re.compile(rf"<{tag}\s*>", re.IGNORECASE)
    closing = re.compile(rf"</{tag}\s*>", re.IGNORECASE)
    blocks = []
    rest = ""
    position = 0
    while begin := opening.search(source, position):
        end = closing.search(source, begin.end())
        if end is None:
            raise ReplyError(f"<{tag}> is not closed by </{tag}>: was the reply cut off?")
        blocks.append(source[begin.end() : end.start()])
        rest += source[position : begin.start()]
        position = end.end()
    return blocks, rest + source[position:]


def take_lone_fence(rest: str, parameter: TextParameter) -> dict[str, str]:
    """The one fenced block of a reply that left the tags away, as the text of a parameter.

    Raises:
        ReplyError: If there are several.
    """
    blocks, _ = split_fences(rest)
    if len(blocks) > 1:
        raise ReplyError(
            f"the reply holds {len(blocks)} fenced blocks: put the one that counts between "
            f'<text name="{parameter.name}"> and </text>.'
        )
    return {parameter.name: blocks[0]} if blocks else {}


def split_fences(source: str) -> tuple[list[str], str]:
    """What the closed fenced blocks of a text hold, and the text without them."""
    blocks: list[str] = []
    outside: list[str] = []
    inside: list[str] = []
    bar = ""
    for line in source.split("\n"):
        if bar:
            if line.strip() == bar:
                blocks.append("\n".join(inside[1:]))
                inside, bar = [], ""
            else:
                inside.append(line)
        elif opening := _FENCE_OPEN.fullmatch(line):
            bar, inside = opening[1], [line]
        else:
            outside.append(line)
    return blocks, "\n".join(outside + inside)
