"""Where a reply's thoughts begin and end, under whatever marker they are thought.

Every family of models has markers of its own, and servers leave them in: ``<think>``,
``[THINK]``, ``◁think▷``, ``<|START_THINKING|>``, harmony's channels. They are told by their
shape, a word in brackets and the same word closed, not by a list of models.
"""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Sequence
import re
from typing import NamedTuple

from optuna_llm._reply.tags import Tag


_MAX_WORDS = 1_000

_PAIRS = dict(zip("<[{◁⟨《«⟦【〈‹＜", ">]}▷⟩》»⟧】〉›＞", strict=True))
_MARK = re.compile(
    rf"""
    <\|channel\|>(?P<channel>[^<>|]{{1,60}})(?:<\|constrain\|>[^<>|]{{0,40}})?<\|message\|>
    | <\|(?P<end>end|call)\|>
    | (?P<final>assistantfinal)
    | here(?:\ is|['’]s)\ my\ (?P<phrase>thought\ process|response):
    | (?P<left>[{re.escape("".join(_PAIRS))}]) (?P<bar>[|｜]?) (?P<slash>/?)
      (?P<name>\w[\w:.▁-]{{1,40}}) (?P<more>\s[^<>\n]{{0,100}})? (?P<tail>[|｜]?)
      (?P<right>[{re.escape("".join(_PAIRS.values()))}])
    """,
    re.VERBOSE | re.IGNORECASE,
)
_THINKING = re.compile(
    "think|thought|reason|reflect|scratch|ponder|deliberat|mus(e|ing)|monolog|analy[sz]|"
    "brainstorm|inner|channel|cot$",
)
_BEGIN = re.compile(r"^(begin|start|open|end|stop|close)(?:[_▁-]?of)?[_▁-]")
_END = re.compile(r"[_▁-](begin|start|prefix|end|suffix)$")
# What holds an answer, or one of several, or is plain HTML, is no thought.
_NO_THOUGHT = re.compile(
    "answer|response|reply|result|output|final|solution|option|candidate|proposal|alternative|"
    "variant|version|trial|choice|code|message|"
    "(p|b|i|u|a|em|g|br|li|ul|ol|td|tr|th|hr|h[1-6]|div|pre|span|body|html|head|svg|table|strong|"
    "section|details|summary|script|style|title|text|edit|numbers|pass|repeat|rationale)$",
)


class Mark(NamedTuple):
    """A marker of thoughts: where it stands, which ones it belongs to, whether they end there."""

    start: int
    end: int
    family: str
    is_closing: bool


class _Word(NamedTuple):
    family: str
    is_closing: bool
    is_known: bool


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
    marks: list[Mark] = []
    unknown: list[Mark] = []
    words: dict[str, _Word | None] = {}
    for match in _MARK.finditer(source):
        if match[0] not in words:
            if len(words) == _MAX_WORDS:
                continue
            words[match[0]] = _read_word(match)
        word = words[match[0]]
        if word is not None and word.family not in names:
            mark = Mark(*match.span(), word.family, word.is_closing)
            (marks if word.is_known else unknown).append(mark)
    closed = {mark.family for mark in marks if mark.is_closing}
    begins = len(source) - len(source.lstrip())
    # Without an end they are spoken of, unless the reply begins so: then it ends within them.
    marks = [mark for mark in marks if mark.family in closed or mark.start == begins]
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


def _read_word(match: re.Match[str]) -> _Word | None:
    """What a marker says; None if it is none."""
    if match["channel"]:
        is_final = match["channel"].strip().lower().startswith(("final", "response"))
        return _Word("harmony", is_final, True)
    if match["end"] or match["final"]:
        return _Word("harmony", True, True)
    if match["phrase"]:
        return _Word("process", match["phrase"].lower() == "response", True)
    if _PAIRS[match["left"]] != match["right"]:
        return None
    name = match["name"].lower()
    begin, finish = _BEGIN.match(name), _END.search(name)
    family = name[begin.end() if begin else 0 : finish.start() if finish else None]
    is_closing = bool(
        match["slash"]
        or (begin and begin[1] in ("end", "stop", "close"))
        or (finish and finish[1] in ("end", "suffix"))
        or (match["tail"] and not match["bar"])
    )
    is_known = bool(_THINKING.search(family + (match["more"] or "").lower()))
    is_word = match["left"] not in "[{" or match["name"].isupper()
    if not is_known and (not is_word or match["more"] or _NO_THOUGHT.match(family)):
        return None
    return _Word(family, is_closing, is_known)


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
