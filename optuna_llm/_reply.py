"""A reply in, a proposal out: the only place that distrusts the model.

Read leniently where only one reading is possible, never guessed. Every error says what to
mend, in words that are sent back to the model.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
import json
import re
from typing import Any
from typing import TypeAlias

from optuna.distributions import BaseDistribution

from optuna_llm._attributes import shorten
from optuna_llm._edits import apply_edits
from optuna_llm._edits import parse_edits
from optuna_llm._edits import REPLACE
from optuna_llm._errors import ReplyError
from optuna_llm._numbers import read_number
from optuna_llm._quoting import clean_text
from optuna_llm._records import Number
from optuna_llm._records import Problem
from optuna_llm._records import Proposal
from optuna_llm._records import TextParameter


_MAX_REPLY = 10_000_000
_MAX_NUMBERS = 100_000
_MAX_RATIONALE = 2_000

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
# What no file, no terminal and not every database can hold.
_UNUSABLE = re.compile("[\x00\ud800-\udfff]")
_FENCE_OPEN = re.compile(r"\s*(`{3,}|~{3,})[^`]*")


class EditError(ReplyError):
    """The edits of a reply cannot be made."""


FindText: TypeAlias = Callable[[str, int | None], str | None]
"""The text of a name that a trial of a number has; without a number that to start from."""


def _find_none(name: str, number: int | None) -> str | None:
    return None


def parse_reply(reply: str, problem: Problem, find_text: FindText = _find_none) -> list[Proposal]:
    """The proposals that a reply holds, each value checked; of several those that can be used.

    Args:
        reply: The model's words.
        problem: The parameters that were asked for.
        find_text: Finds the texts that edits may be made to.

    Raises:
        EditError: If edits cannot be made.
        ReplyError: If a value is missing, twice there, unknown or not allowed, or if the reply
            cannot be read in one way only.
    """
    if len(reply) > _MAX_REPLY:
        raise ReplyError(f"the reply is {len(reply):,} characters long: send the values only.")
    answer = _drop_thoughts(reply)
    if not answer.strip():
        raise ReplyError("the reply was empty.")
    if problem.n_proposals == 1:
        return [_parse_answer(answer, problem, find_text)]
    parts, errors = _split_proposals(answer)
    proposals = []
    failures: list[ReplyError] = []
    for i, part in enumerate(parts[: problem.n_proposals], start=1):
        try:
            proposals.append(_parse_answer(part, problem, find_text))
        except ReplyError as error:
            failures.append(error)
            errors.append(f"proposal {i}: {error}" if len(parts) > 1 else str(error))
    if not proposals:
        is_edit = any(isinstance(failure, EditError) for failure in failures)
        raise (EditError if is_edit else ReplyError)(" ".join(errors))
    return proposals


def check_proposal(proposal: Proposal, problem: Problem) -> None:
    """Refuse a proposal that does not fit what is to be decided by now.

    Raises:
        ReplyError: If a value is missing, unknown or not allowed.
    """
    _check_numbers(proposal.numbers, problem.numbers, problem.conditional)
    _check_texts(proposal.texts, problem)
    unknown = proposal.texts.keys() - {text.name for text in problem.texts}
    if unknown:
        raise ReplyError(f'there is no text parameter "{unknown.pop()}".')


def _split_proposals(answer: str) -> tuple[list[str], list[str]]:
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


def _parse_answer(answer: str, problem: Problem, find_text: FindText) -> Proposal:
    raw, rest = _take_texts(answer, problem.texts)
    texts = {name: text for name, text in raw.items() if isinstance(text, str)}
    blocks_of = {name: block for name, block in raw.items() if isinstance(block, _EditBlock)}
    parents = {block.of for block in blocks_of.values()}
    if len(parents) > 1:
        raise EditError("the <edit> blocks name different trials: build on one of them.")
    for name, block in blocks_of.items():
        texts[name] = _edit_text(name, block, problem, find_text)
    rationales, rest = _take_blocks(rest, "rationale")
    blocks, rest = _take_blocks(rest, "numbers")
    if not texts and len(problem.texts) == 1:
        texts = _take_lone_fence(rest, problem.texts[0])
    numbers = _take_numbers(blocks, rest, problem) if problem.numbers else {}
    _check_texts(texts, problem)
    if not numbers and not texts:
        raise ReplyError("the reply holds no values.")
    rationale = rationales[0].strip() if rationales else ""
    parent = next(iter(parents), None)
    return Proposal(numbers, texts, shorten(rationale, _MAX_RATIONALE), parent)


def _edit_text(name: str, block: _EditBlock, problem: Problem, find_text: FindText) -> str:
    """The text that comes of editing the one that is named.

    Raises:
        EditError: If that cannot be done.
    """
    if name not in problem.editable:
        raise EditError(f'"{name}" cannot be edited: send <text name="{name}"> whole.')
    base = find_text(name, block.of)
    if base is None:
        which = "to start from" if block.of is None else f"in trial {block.of}"
        raise EditError(f'there is no "{name}" {which}: name a trial that has one.')
    try:
        return apply_edits(
            base, parse_edits(block.source), lambda line: clean_text(line.removesuffix("\r"))
        )
    except ReplyError as error:
        where = "" if block.of is None else f" (text of trial {block.of})"
        raise EditError(f'<edit name="{name}">{where}: {error}') from None


def _check_texts(texts: Mapping[str, str], problem: Problem) -> None:
    for parameter in problem.texts:
        if parameter.name not in texts and parameter.name not in problem.conditional:
            raise ReplyError(f'there is no <text name="{parameter.name}"> block.')
    for name, text in texts.items():
        if not text.strip():
            raise ReplyError(f'<text name="{name}"> is empty.')
        if odd := _UNUSABLE.search(text):
            raise ReplyError(f'<text name="{name}"> holds the character {odd[0]!r}: leave it out.')


def _drop_thoughts(reply: str) -> str:
    """The reply without what a reasoning model thinks aloud before it answers."""
    begins = _THOUGHT.match(reply)
    end = _THOUGHT_END.search(reply)
    if begins and not end:
        raise ReplyError("the reply ended within your thoughts, before an answer.")
    text = _TEXT_OPEN.search(reply)
    # Some servers cut off the opening tag; inside of a text the closing one is text.
    if end and (begins or text is None or end.start() < text.start()):
        return reply[end.end() :]
    return reply


@dataclass(frozen=True)
class _EditBlock:
    """What an <edit> block says: the edits as written, and the trial whose text they change."""

    source: str
    of: int | None


def _take_texts(
    answer: str, wanted: Sequence[TextParameter]
) -> tuple[dict[str, str | _EditBlock], str]:
    """The texts of a reply or the edits that make them, and the reply without them."""
    texts: dict[str, str | _EditBlock] = {}
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
            texts[name] = _EditBlock(inside.replace("\r\n", "\n"), _read_number(opening))
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


def _take_blocks(source: str, tag: str) -> tuple[list[str], str]:
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


def _split_fences(source: str) -> tuple[list[str], str]:
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


def _take_lone_fence(rest: str, parameter: TextParameter) -> dict[str, str]:
    """The one fenced block of a reply that left the tags away."""
    blocks, _ = _split_fences(rest)
    if len(blocks) > 1:
        raise ReplyError(
            f"the reply holds {len(blocks)} fenced blocks: put the one that counts between "
            f'<text name="{parameter.name}"> and </text>.'
        )
    return {parameter.name: blocks[0]} if blocks else {}


def _unwrap(text: str, parameter: TextParameter) -> str:
    """The text without the line breaks at the tags, and without a fence around all of it."""
    text = text.replace("\r\n", "\n")
    text = (
        text.removeprefix("\n") if text.startswith("\n") else text.lstrip(" \t").removeprefix("\n")
    )
    text = text.rstrip(" \t").removesuffix("\n")
    blocks, outside = _split_fences(text)
    is_own = (parameter.initial or "").lstrip().startswith(("```", "~~~"))
    if len(blocks) == 1 and not outside.strip() and not is_own:
        return blocks[0]
    return text


def _take_numbers(blocks: Sequence[str], rest: str, problem: Problem) -> dict[str, Number]:
    raw: Mapping[Any, Any] = {}
    if len(blocks) > 1:
        raise ReplyError("there are two <numbers> blocks: send one.")
    if blocks:
        raw = _load_object(blocks[0])
    elif not problem.texts and rest.strip():
        raw = _load_bare_object(rest)
    elif not problem.numbers.keys() <= problem.conditional:
        raise ReplyError("there is no <numbers> block.")
    return _check_numbers(raw, problem.numbers, problem.conditional)


def _load_bare_object(rest: str) -> dict[str, Any]:
    """The one object of a reply that left the tags away, as small models do."""
    fenced, _ = _split_fences(rest)
    try:
        return _load_object(fenced[0] if len(fenced) == 1 else rest)
    except ReplyError:
        raise ReplyError("there is no <numbers> block with a JSON object.") from None


def _load_object(source: str) -> dict[str, Any]:
    fenced, outside = _split_fences(source)
    source = (fenced[0] if len(fenced) == 1 and not outside.strip() else source).strip()
    if len(source) > _MAX_NUMBERS:
        raise ReplyError(f"<numbers> holds {len(source):,} characters: send the values only.")
    try:
        value = json.loads(source, object_pairs_hook=_refuse_twins)
    except (ValueError, RecursionError) as error:
        value = _load_literal(source, error)
    if not isinstance(value, dict):
        raise ReplyError('<numbers> must hold one JSON object, {"name": value, …}.')
    return value


def _load_literal(source: str, error: Exception) -> Any:
    """A Python dict in place of a JSON object: single quotes, None, a comma too many."""
    try:
        tree = ast.parse(source, mode="eval")
        if isinstance(tree.body, ast.Dict):
            keys = [k.value for k in tree.body.keys if isinstance(k, ast.Constant)]
            _refuse_twins([(str(key), None) for key in keys])
        return ast.literal_eval(tree)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        raise ReplyError(f"<numbers> does not hold valid JSON: {error}.") from None


def _refuse_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ReplyError("<numbers> gives one name twice.")
    return values


def _check_numbers(
    raw: Mapping[Any, Any], wanted: Mapping[str, BaseDistribution], conditional: frozenset[str]
) -> dict[str, Number]:
    unknown = [name for name in raw if name not in wanted]
    if unknown:
        names = ", ".join(f'"{name}"' for name in wanted)
        raise ReplyError(
            f'there is no number parameter "{str(unknown[0])[:60]}"; the parameters are {names}.'
        )
    missing = [name for name in wanted if name not in raw and name not in conditional]
    if missing:
        raise ReplyError(f'<numbers> lacks "{missing[0]}".')
    # All that is wrong in one go: each round costs a call.
    values: dict[str, Number] = {}
    wrong: list[str] = []
    for name, value in raw.items():
        try:
            values[name] = read_number(name, value, wanted[name])
        except ReplyError as error:
            wrong.append(str(error))
    if wrong:
        raise ReplyError(" ".join(wrong))
    return values
