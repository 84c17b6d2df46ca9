"""Where a reply's thoughts begin and end, under whatever marker they are thought.

Every family of models has markers of its own, and servers leave them in: ``<think>``,
``[THINK]``, ``◁think▷``, ``<|START_THINKING|>``, harmony's channels. They are told by their
shape, a word in brackets and the same word closed, not by a list of models.
"""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Sequence
import re
from typing import Literal
from typing import NamedTuple

from optuna_llm._reply.tags import Tag


_MAX_WORDS = 1_000
_MAX_MARKS = 500

# Brackets of all alphabets: guillemets, lenticular and fullwidth ones, Kimi's triangles.
_OPENING = "<[{\u25c1\u27e8\u300a\u00ab\u27e6\u3010\u3008\u2039\uff1c"
_CLOSING = ">]}\u25b7\u27e9\u300b\u00bb\u27e7\u3011\u3009\u203a\uff1e"
_PAIRS = dict(zip(_OPENING, _CLOSING, strict=True))
_BAR = "[|\uff5c]"
_MARK = re.compile(
    rf"""
    <\|channel\|>(?P<channel>[^<>|]{{1,60}})(?:<\|constrain\|>[^<>|]{{0,40}})?<\|message\|>
    | <\|(?P<end>end|call)\|>
    | (?P<final>assistantfinal)
    | here(?:\ is|['\u2019]s)\ my\ (?P<phrase>thought\ process|response):
    | (?P<left>[{re.escape(_OPENING)}]) (?P<bar>{_BAR}?) (?P<slash>/?)
      (?P<name>\w[\w:.\u2581-]{{1,40}}) (?P<more>\s[^<>\n]{{0,100}})? (?P<tail>{_BAR}?)
      (?P<right>[{re.escape(_CLOSING)}])
    """,
    re.VERBOSE | re.IGNORECASE,
)
_THINKING = re.compile(
    "think|thought|reason|reflect|scratch|ponder|deliberat|mus(e|ing)|monolog|analy[sz]|"
    "brainstorm|inner|channel|cot$",
)
_ANSWER = re.compile("answer|response|reply|final|solution|output")
_BEGIN = re.compile("(begin|start|open|end|stop|close)(?:[_\u2581-]?of)?[_\u2581-]")
_END = re.compile("[_\u2581-](begin|start|on|prefix|end|off|suffix)$")
# What holds one of several answers, or is plain HTML, is no thought.
_NO_THOUGHT = re.compile(
    "result|option|candidate|proposal|alternative|variant|version|trial|choice|code|message|"
    "(p|b|i|u|a|em|g|br|li|ul|ol|td|tr|th|hr|h[1-6]|div|pre|span|body|html|head|svg|table|strong|"
    "section|summary|script|style|title|text|edit|numbers|pass|repeat|rationale)$",
)
# MedGemma thinks between two tokens that have no name.
_NAMELESS = {"unused94": False, "unused95": True}


class Mark(NamedTuple):
    """A marker of thoughts: where it stands, which ones it belongs to, whether they end there."""

    start: int
    end: int
    family: str
    is_closing: bool


class _Word(NamedTuple):
    family: str
    is_closing: bool
    kind: Literal["thought", "answer", "unknown"]


class Thoughts(NamedTuple):
    """What marks thoughts in a reply.

    Attributes:
        marks: The markers of all that are thoughts for certain.
        cuts: The markers that may end thoughts, those of a kind not known included.
    """

    marks: Sequence[Mark]
    cuts: Sequence[Mark]


def find_thoughts(source: str, tags: Sequence[Tag], names: Collection[str]) -> Thoughts:
    """The markers of thoughts in a reply, those that stand in its texts included.

    Args:
        source: A reply.
        tags: Its tags.
        names: Names of the text parameters, which mark no thoughts.
    """
    found = _find_marks(source, names)
    families = {mark.family for mark in found["thought"]}
    marks = [*found["thought"], *(m for m in found["unknown"] if m.family in families)]
    unknown = [mark for mark in found["unknown"] if mark.family not in families]
    marks = [*sorted(marks)[:_MAX_MARKS], *sorted(marks)[_MAX_MARKS:][-_MAX_MARKS:]]
    closed = {mark.family for mark in marks if mark.is_closing}
    begins = len(source) - len(source.lstrip())
    # Without an end they are spoken of, unless the reply begins so: then it ends within them.
    marks = [mark for mark in marks if mark.family in closed or mark.start == begins]
    answers = [mark for mark in found["answer"] if not mark.is_closing]
    if marks and marks[0].family not in closed and len(answers) == 1:
        marks = sorted([*marks, answers[0]._replace(family=marks[0].family, is_closing=True)])
    last = max((tag.start for tag in tags if not tag.is_closing), default=0)
    first = next((mark for mark in unknown if mark.start == begins), None)
    if first is not None and not first.is_closing:
        own = [mark for mark in unknown if mark.family == first.family]
        if own[-1].is_closing and own[-1].end <= last:
            marks = sorted(marks + own)
    opened = {mark.family for mark in unknown if not mark.is_closing}
    cuts = [mark for mark in marks if mark.is_closing]
    cuts += [mark for mark in unknown if mark.is_closing and mark.family not in opened]
    return Thoughts(marks, sorted(cuts))


def _find_marks(source: str, names: Collection[str]) -> dict[str, list[Mark]]:
    """All markers by their kind."""
    found: dict[str, list[Mark]] = {"thought": [], "answer": [], "unknown": []}
    words: dict[str, _Word | None] = {}
    for match in _MARK.finditer(source):
        if match[0] not in words:
            if len(words) == _MAX_WORDS:
                continue
            words[match[0]] = _read_word(match)
        word = words[match[0]]
        if word is not None and word.family not in names:
            found[word.kind].append(Mark(*match.span(), word.family, word.is_closing))
    return found


def _read_word(match: re.Match[str]) -> _Word | None:
    """What a marker says; None if it is none."""
    if match["channel"]:
        is_final = match["channel"].strip().lower().startswith(("final", "response"))
        return _Word("harmony", is_final, "thought")
    if match["end"] or match["final"]:
        return _Word("harmony", True, "thought")
    if match["phrase"]:
        return _Word("process", match["phrase"].lower() == "response", "thought")
    if _PAIRS[match["left"]] != match["right"]:
        return None
    name = match["name"].lower()
    if name in _NAMELESS:
        return _Word("unused", _NAMELESS[name], "thought")
    begin, finish = _BEGIN.match(name), _END.search(name)
    family = name[begin.end() if begin else 0 : finish.start() if finish else None]
    is_closing = bool(
        match["slash"]
        or (begin and begin[1] in ("end", "stop", "close"))
        or (finish and finish[1] in ("end", "off", "suffix"))
        or (match["tail"] and not match["bar"])
    )
    if _THINKING.search(family + (match["more"] or "").lower()):
        return _Word(family, is_closing, "thought")
    if _ANSWER.match(family):
        return _Word(family, is_closing, "answer")
    is_word = match["left"] not in "[{" or match["name"].isupper()
    if not is_word or match["more"] or _NO_THOUGHT.match(family):
        return None
    return _Word(family, is_closing, "unknown")


def find_outside(marks: Sequence[Mark], stop: int) -> list[tuple[int, int]]:
    """The stretches before ``stop`` that stand outside of all thoughts.

    An end of thoughts that none began makes thoughts of all before it: servers cut the
    beginning off, and thoughts may speak of their own end.
    """
    stretches: list[tuple[int, int]] = []
    position = 0
    family: str | None = None
    for mark in marks:
        if mark.end > stop:
            break
        if family is None and not mark.is_closing:
            stretches.append((position, mark.start))
            family = mark.family
        elif mark.is_closing and family in (None, mark.family):
            if family is None:
                stretches.clear()
            position, family = mark.end, None
    if family is None and position < stop:
        stretches.append((position, stop))
    return stretches
