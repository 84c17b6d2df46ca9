"""Which of a reply's blocks are its answer, and whether they are complete.

The answer is the last complete set of blocks, if all that stands before it is thought. Two
answers that differ are refused: which one is meant would be a guess.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
import json
import re
from typing import NamedTuple

from optuna_llm._errors import ReplyError
from optuna_llm._outcomes import Pass
from optuna_llm._quoting import one_line
from optuna_llm._records import Problem
from optuna_llm._records import TextParameter
from optuna_llm._reply.blocks import Part
from optuna_llm._reply.blocks import Scanner
from optuna_llm._reply.edits import holds_edits
from optuna_llm._reply.ends import Block
from optuna_llm._reply.fences import split_fences
from optuna_llm._reply.objects import find_objects
from optuna_llm._reply.objects import is_same
from optuna_llm._reply.objects import read_object
from optuna_llm._reply.tags import Tag
from optuna_llm._reply.thoughts import find_outside
from optuna_llm._reply.thoughts import Mark


_MAX_CUTS = 8
_MAX_REASON = 300
_MAX_DIGITS = 9


class Written(NamedTuple):
    """A text as a reply has it.

    Attributes:
        source: What stands there.
        is_edit: Whether that is edits of another trial's text.
        of: The number of that trial; None where it does not say.
        is_bare: Whether a fence stood where the tags should have.
    """

    source: str
    is_edit: bool = False
    of: int | None = None
    is_bare: bool = False


@dataclass(frozen=True)
class Answer:
    """One proposal as written.

    Attributes:
        texts: Its texts by name.
        numbers: The source of its numbers; None without any.
        rationale: The model's words on why.
        instead: What stands in place of values: the number of a trial to measure again, or a
            pass; None for values.
    """

    texts: Mapping[str, Written]
    numbers: str | None
    rationale: str
    instead: int | Pass | None = None

    def differs(self, other: Answer) -> bool:
        """Whether another answer has other values."""
        if self.instead != other.instead or self.texts != other.texts:
            return True
        return not _is_same(self.numbers, other.numbers)

    def __str__(self) -> str:
        values = [self.numbers or "", *(text.source for text in self.texts.values())]
        if self.instead is not None:
            values = [str(self.instead)]
        return one_line(" ".join(" ".join(values).split()), 80)


def find_answers(reply: str, problem: Problem) -> list[Answer | ReplyError]:
    """The proposals of a reply, or what is wrong with each; one if one was asked for.

    Raises:
        ReplyError: If there are two answers that differ.
    """
    scanner = Scanner(reply, problem.texts)
    found = _read(scanner, 0, len(reply), problem)
    if not _first_error(found):
        return found
    known = {mark.end for mark in scanner.thoughts.marks}
    failed = [found]
    partial = []
    for cut in reversed(_choose_cuts(scanner.thoughts.cuts)):
        later = _read(scanner, cut.end, len(reply), problem)
        if not _first_error(later):
            _check_before(scanner, cut, problem, later)
            return later
        if any(isinstance(item, Answer) for item in later):
            partial.append(later)
        if cut.end in known and any(tag.start > cut.end for tag in scanner.openings):
            failed.append(later)
    if any(isinstance(item, Answer) for item in found):
        partial.append(found)
    if partial:
        return partial[0]
    # What stands behind the last thoughts is what was meant as the answer.
    return failed[1] if len(failed) > 1 else found


def _choose_cuts(cuts: Sequence[Mark]) -> Sequence[Mark]:
    """Where thoughts may end: the first places and the last, since each costs a reading."""
    return cuts if len(cuts) <= 2 * _MAX_CUTS else [*cuts[:_MAX_CUTS], *cuts[-_MAX_CUTS:]]


def _first_error(found: Sequence[Answer | ReplyError]) -> ReplyError | None:
    return next((item for item in found if isinstance(item, ReplyError)), None)


def _read(scanner: Scanner, start: int, stop: int, problem: Problem) -> list[Answer | ReplyError]:
    """The answers in a stretch; tags amid a line count only where it needs them."""
    found = _read_as(scanner, start, stop, problem, strict=True)
    error = _first_error(found)
    if error is None or all(tag.is_strong for tag in scanner.openings):
        return found
    again = _read_as(scanner, start, stop, problem, strict=False)
    return again if _count(again) > _count(found) or not _count(found) else found


def _count(found: Sequence[Answer | ReplyError]) -> int:
    return sum(isinstance(item, Answer) for item in found)


def _read_as(
    scanner: Scanner, start: int, stop: int, problem: Problem, *, strict: bool
) -> list[Answer | ReplyError]:
    several = problem.n_proposals > 1
    reading = scanner.read(start, stop, strict=strict, several=several)
    found: list[Answer | ReplyError] = []
    parts = reading.parts
    if reading.error is not None:
        # Its last part is not read to its end.
        parts = parts[:-1] if several else []
    for part in parts:
        try:
            found.append(_gather(part, problem, [] if several else scanner.openings))
        except ReplyError as error:
            found.append(error)
    return [*found, reading.error] if reading.error is not None else found


def _check_before(
    scanner: Scanner, cut: Mark, problem: Problem, later: Sequence[Answer | ReplyError]
) -> None:
    """Refuse an answer if another one that differs stands before it and is no thought.

    Raises:
        ReplyError: If there is one.
    """
    marks = sorted({*scanner.thoughts.marks, cut})
    for start, stop in find_outside(marks, cut.end):
        for earlier in _read_as(scanner, start, stop, problem, strict=True):
            if isinstance(earlier, Answer) and isinstance(later[0], Answer):
                _refuse_two("answers", earlier, later[0], earlier.differs(later[0]))


def _refuse_two(what: str, first: object, second: object, differ: bool) -> None:
    if differ:
        one, other = (one_line(" ".join(str(x).split()), 80) for x in (first, second))
        raise ReplyError(f"there are two different {what}, {one!r} and {other!r}: send one.")


def _gather(part: Part, problem: Problem, openings: Sequence[Tag]) -> Answer:
    """What a part of a reply says, if it is complete.

    Raises:
        ReplyError: If a block is missing, or there are two that differ.
    """
    answer = _collect(part)
    if answer.instead is not None:
        if answer.texts or answer.numbers is not None:
            raise ReplyError("there are values beside <pass> or <repeat>: send one of them.")
        return answer
    texts, numbers = dict(answer.texts), answer.numbers
    words = "".join(part.words)
    for text in problem.texts:
        if text.name not in texts:
            texts |= _find_bare(words, text, problem)
        if text.name not in texts and text.name not in problem.conditional:
            raise ReplyError(_explain_missing(text.name, openings))
    if numbers is None and problem.space and texts.keys() == answer.texts.keys():
        numbers = _find_object(words, problem)
    if numbers is None and not problem.space.keys() <= problem.conditional:
        is_hidden = any(opening.kind == "numbers" for opening in openings)
        where = "<numbers> stands within your thoughts: send it after them."
        raise ReplyError(where if is_hidden else "there is no <numbers> block.")
    if numbers is None and not texts:
        raise ReplyError("the reply holds no values.")
    return Answer(texts, numbers, answer.rationale)


def _collect(part: Part) -> Answer:
    """What stands in the blocks of a part.

    Raises:
        ReplyError: If there are two for one thing, and they differ.
    """
    texts: dict[str, Written] = {}
    numbers: str | None = None
    rationale = ""
    instead: int | Pass | None = None
    for block in part.blocks:
        if block.tag.kind in ("text", "edit"):
            _add_text(texts, block)
        elif block.tag.kind == "rationale":
            rationale = rationale or block.inside.strip()
        elif block.tag.kind == "numbers":
            differ = numbers is not None and not _is_same(numbers, block.inside)
            _refuse_two("<numbers> blocks", numbers, block.inside, differ)
            numbers = block.inside
        elif block.tag.kind in ("pass", "repeat"):
            found = _read_instead(block)
            _refuse_two("answers", instead, found, instead not in (None, found))
            instead = found
    return Answer(texts, numbers, rationale, instead)


def _read_instead(block: Block) -> int | Pass:
    """What a <pass> or a <repeat> says.

    Raises:
        ReplyError: If a <repeat> names no trial.
    """
    if block.tag.kind == "pass":
        return Pass(one_line(block.inside, _MAX_REASON))
    number = block.tag.attributes.get("trial", "").strip()
    if not number.isdecimal() or len(number) > _MAX_DIGITS:
        raise ReplyError('<repeat> must name a trial: <repeat trial="…"/>.')
    return int(number)


def _add_text(texts: dict[str, Written], block: Block) -> None:
    is_edit = block.tag.kind == "edit"
    written = Written(block.inside, is_edit, block.tag.read_trial() if is_edit else None)
    before = texts.setdefault(block.name, written)
    differ = before._replace(source=before.source.strip()) != written._replace(
        source=written.source.strip()
    )
    _refuse_two(f'blocks for "{block.name}"', before.source, written.source, differ)


def _is_same(first: str | None, second: str | None) -> bool:
    """Whether two sources of numbers say the same, however they are written."""
    if first is None or second is None or first.strip() == second.strip():
        return (first is None) == (second is None)
    try:
        return is_same(read_object(first), read_object(second))
    except ReplyError:
        return False


def _find_bare(words: str, parameter: TextParameter, problem: Problem) -> dict[str, Written]:
    """A text beside the blocks: between tags of its name, or alone in a fence or as edits.

    Raises:
        ReplyError: If there are several.
    """
    name = parameter.name
    opens, closes = (
        list(re.finditer(rf"<{slash}{re.escape(name)}\s*>", words, re.IGNORECASE))
        for slash in ("", "/")
    )
    if len(opens) == len(closes) == 1 and opens[0].end() <= closes[0].start():
        return {name: Written(words[opens[0].end() : closes[0].start()])}
    if len(problem.texts) > 1:
        return {}
    if holds_edits(words):
        return {name: Written(words, is_edit=True)}
    blocks = list(dict.fromkeys(split_fences(words)[0]))
    if len(blocks) > 1:
        raise ReplyError(
            f"the reply holds {len(blocks)} fenced blocks: put the one that counts between "
            f'<text name="{name}"> and </text>.'
        )
    return {name: Written(blocks[0], is_bare=True)} if blocks else {}


def _find_object(words: str, problem: Problem) -> str | None:
    """The source of the numbers beside the blocks, where the tags are left out or misspelled.

    Raises:
        ReplyError: If there are two that differ, or what stands there is no such object.
    """
    objects = find_objects(words)
    # {"numbers": {…}} says the same.
    objects += [v for o in objects if len(o) == 1 for v in o.values() if isinstance(v, dict)]
    fitting = [o for o in objects if o and o.keys() <= problem.space.keys()]
    for other in fitting[1:]:
        one, two = json.dumps(fitting[0]), json.dumps(other)
        _refuse_two("answers", one, two, not is_same(fitting[0], other))
    if fitting:
        return json.dumps(fitting[0])
    if problem.texts or not words.strip():
        return None
    if "{" not in words:
        raise ReplyError("there is no <numbers> block with a JSON object.")
    return words[words.index("{") :]


def _explain_missing(name: str, openings: Sequence[Tag]) -> str:
    tag = f'<text name="{name}">'
    if any(
        opening.kind in ("text", "edit") and opening.name in ("", name) for opening in openings
    ):
        return f"{tag} stands within your thoughts or another block: send it after them."
    return f"there is no {tag} block."
