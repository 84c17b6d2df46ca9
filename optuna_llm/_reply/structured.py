"""Replies that are to be JSON: proposals in one object, as a schema describes it."""

from __future__ import annotations

from collections.abc import Mapping
import json
import re
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.distributions import CategoricalDistribution

from optuna_llm._errors import ReplyError
from optuna_llm._records import Problem
from optuna_llm._reply.answers import Answer
from optuna_llm._reply.answers import Written
from optuna_llm._reply.objects import read_object
from optuna_llm._reply.thoughts import find_outside
from optuna_llm._reply.thoughts import find_thoughts


_MAX_LENGTH = 1_000_000
_TAG = re.compile(r"<(?:numbers|proposal|(?:text|edit)\s+name)\b", re.IGNORECASE)
_NUMBERS_TAG = re.compile(r"</?numbers>")
_TEXT_TAG = re.compile(r'<text name="([^"\n]*)">(?: block)?')


def read_structured(reply: str, problem: Problem) -> list[Answer | ReplyError] | None:
    """The proposals of a reply that is JSON, or what is wrong with each.

    Control characters are allowed in strings, and so are the dialects that models write; an
    object that breaks off is refused.

    Returns:
        The proposals; None if the reply is in the usual form after all.

    Raises:
        ReplyError: If the object cannot be read.
    """
    found = _load(reply)
    if found is None:
        words = _remove_thoughts(reply)
        begin = words.find("{")
        if _TAG.search(words, 0, begin if begin >= 0 else len(words)):
            return None
        if begin < 0:
            raise ReplyError("the reply is not a JSON object: send one, and nothing else.")
        found = read_object(words, "the reply", _MAX_LENGTH)
    listed = found.get("proposals")
    if not isinstance(listed, list):
        return [_read(found, problem)]
    return [_read(item, problem) for item in listed] or [ReplyError('"proposals" is empty.')]


def say_in_json(message: str) -> str:
    """What is wrong with a reply, in the terms of its JSON form."""
    message = _NUMBERS_TAG.sub('"numbers"', message)
    return _TEXT_TAG.sub(lambda match: f'"{match[1]}" in "texts"', message)


def _load(reply: str) -> dict[str, Any] | None:
    """The reply as the one object that it is, to the letter; thoughts may be told within it."""
    if not reply.lstrip().startswith("{"):
        return None
    try:
        json.loads(reply, strict=False)
    except (ValueError, RecursionError):
        return None
    return read_object(reply, "the reply", _MAX_LENGTH)


def _remove_thoughts(reply: str) -> str:
    marks = find_thoughts(reply, [], ()).marks
    outside = find_outside(marks, len(reply))
    return reply[slice(*outside[-1])] if outside else ""


def _read(found: Any, problem: Problem) -> Answer | ReplyError:
    """One proposal; the values may stand beside the rationale, too."""
    if not isinstance(found, Mapping):
        return ReplyError('"proposals" must hold objects only.')
    numbers = _choose(found, "numbers", problem.space)
    given = _choose(found, "texts", [text.name for text in problem.texts])
    for name, value in given.items():
        if not isinstance(value, str | None):
            return ReplyError(f'"{name}" in "texts" must be a string.')
    for name in [name for name, value in numbers.items() if value is None]:
        if name in problem.conditional and not _has_none(problem.space[name]):
            del numbers[name]
    rationale = found.get("rationale")
    return Answer(
        {name: Written(value) for name, value in given.items() if value is not None},
        json.dumps(numbers),
        rationale.strip() if isinstance(rationale, str) else "",
    )


def _choose(found: Mapping[str, Any], part: str, names: Any) -> dict[str, Any]:
    """The values in a part of the object, or those beside it where the part is left out."""
    inner = found.get(part)
    if isinstance(inner, Mapping):
        return dict(inner)
    return {name: found[name] for name in names if name in found}


def _has_none(distribution: BaseDistribution) -> bool:
    return isinstance(distribution, CategoricalDistribution) and None in distribution.choices
