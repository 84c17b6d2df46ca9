"""A reply in, a proposal out: the only place that distrusts the model.

Read leniently where only one reading is possible, never guessed. Every error says what to
mend, in words that are sent back to the model.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from numbers import Integral
from numbers import Real
import re
from typing import Any
from typing import TypeAlias

from optuna.distributions import BaseDistribution

from optuna_llm._errors import ReplyError
from optuna_llm._outcomes import Pass
from optuna_llm._quoting import clean_text
from optuna_llm._quoting import shorten
from optuna_llm._records import ParamValue
from optuna_llm._records import Problem
from optuna_llm._records import Proposal
from optuna_llm._records import TextParameter
from optuna_llm._records import TrialRecord
from optuna_llm._reply.answers import Answer
from optuna_llm._reply.answers import find_answers
from optuna_llm._reply.answers import Written
from optuna_llm._reply.edits import apply_edits
from optuna_llm._reply.edits import is_only_edits
from optuna_llm._reply.edits import parse_edits
from optuna_llm._reply.languages import is_code
from optuna_llm._reply.objects import read_object
from optuna_llm._reply.structured import read_structured
from optuna_llm._reply.structured import say_in_json
from optuna_llm._reply.tags import EditError
from optuna_llm._reply.wrapping import refuse_new_fences
from optuna_llm._reply.wrapping import unescape_reply
from optuna_llm._reply.wrapping import unwrap
from optuna_llm._study.distributions import read_number
from optuna_llm._tunables import find_tunables
from optuna_llm._tunables import TunableError


_MAX_REPLY = 1_000_000
_MAX_RATIONALE = 2_000

# What no file, no terminal and not every database can hold.
_UNUSABLE = re.compile("[\x00\ud800-\udfff]")

FindText: TypeAlias = Callable[[str, int | None], str | None]
"""The text of a name that a trial of a number has; without a number that to start from."""


def _find_none(name: str, number: int | None) -> str | None:
    return None


FindTrial: TypeAlias = Callable[[int], TrialRecord | None]
"""The complete trial of a number."""


def _find_none_of(number: int) -> TrialRecord | None:
    return None


def parse_reply(
    reply: str,
    problem: Problem,
    find_text: FindText = _find_none,
    find_trial: FindTrial = _find_none_of,
) -> list[Proposal] | Pass:
    """The proposals that a reply holds, each value checked; of several those that can be used.

    Args:
        reply: The model's words.
        problem: The parameters that were asked for.
        find_text: Finds the texts that edits may be made to.
        find_trial: Finds the trials that may be measured again.

    Returns:
        The proposals, or that the model passes.

    Raises:
        EditError: If edits cannot be made.
        ReplyError: If a value is missing, twice there, unknown or not allowed, or if the reply
            cannot be read in one way only.
    """
    if len(reply) > _MAX_REPLY:
        raise ReplyError(f"the reply is {len(reply):,} characters long: send the values only.")
    if not reply.strip():
        raise ReplyError("the reply was empty.")
    if not problem.is_json:
        return _parse(reply, problem, find_text, find_trial)
    try:
        found = read_structured(reply, problem)
        if found is None:
            return _parse(reply, problem, find_text, find_trial)
        return _make_proposals(found, problem, find_text, find_trial, is_numbered=len(found) > 1)
    except ReplyError as error:
        raise type(error)(say_in_json(str(error))) from None


def _parse(
    reply: str, problem: Problem, find_text: FindText, find_trial: FindTrial
) -> list[Proposal] | Pass:
    """What a reply in the usual form says; see :func:`parse_reply`."""
    found = find_answers(unescape_reply(reply), problem)
    is_numbered = len(found) > 1 or "<proposal" in reply.lower()
    return _make_proposals(found, problem, find_text, find_trial, is_numbered=is_numbered)


def _make_proposals(
    found: Sequence[Answer | ReplyError],
    problem: Problem,
    find_text: FindText,
    find_trial: FindTrial,
    *,
    is_numbered: bool,
) -> list[Proposal] | Pass:
    """The proposals of those answers that can be used, as many as were asked for; or a pass.

    Args:
        found: The answers.
        problem: The parameters that were asked for.
        find_text: Finds the texts that edits may be made to.
        find_trial: Finds the trials that may be measured again.
        is_numbered: Whether an error says which of several proposals it is about.

    Raises:
        ReplyError: If none can.
    """
    is_numbered = is_numbered and problem.n_proposals > 1
    proposals: list[Proposal] = []
    failures: list[ReplyError] = []
    errors = []
    for i, answer in enumerate(found, start=1):
        if len(proposals) == problem.n_proposals:
            break
        try:
            if isinstance(answer, ReplyError):
                raise answer
            if isinstance(answer.instead, Pass):
                return answer.instead
            if answer.instead is not None:
                proposals.append(_repeat(answer.instead, answer.rationale, find_trial))
            else:
                proposals.append(_make_proposal(answer, problem, find_text))
        except ReplyError as error:
            failures.append(error)
            errors.append(f"proposal {i}: {error}" if is_numbered else str(error))
    if not proposals:
        is_edit = any(isinstance(failure, EditError) for failure in failures)
        raise (EditError if is_edit else ReplyError)(" ".join(errors))
    return proposals


def _repeat(number: int, rationale: str, find_trial: FindTrial) -> Proposal:
    """The values of a trial, to be measured again.

    Raises:
        ReplyError: If there is no such trial.
    """
    record = find_trial(number)
    if record is None:
        raise ReplyError(f"there is no complete trial {number} to repeat.")
    rationale = shorten(rationale, _MAX_RATIONALE)
    return Proposal(record.params, record.texts, rationale, repeats=number)


def read_values(values: Mapping[str, Any], problem: Problem) -> Proposal:
    """The proposal that plain values make, each of them checked.

    Args:
        values: Numbers and texts by name.
        problem: The parameters to be decided.

    Raises:
        ReplyError: If a value is missing, unknown or not allowed.
    """
    names = {text.name for text in problem.texts}
    texts = {name: value for name, value in values.items() if name in names}
    numbers = {name: _to_plain(value) for name, value in values.items() if name not in names}
    for name, text in texts.items():
        if not isinstance(text, str):
            raise ReplyError(f'"{name}" must be a string.')
    try:
        params = _check_numbers(numbers, problem.space, problem.conditional)
        _check_texts(texts, problem)
    except ReplyError as error:
        raise ReplyError(say_in_json(str(error))) from None
    return Proposal(params, texts)


def _to_plain(value: Any) -> Any:
    """The Python number that a number of another library stands for."""
    if isinstance(value, int | float):
        return value
    if isinstance(value, Integral):
        return int(value)
    return float(value) if isinstance(value, Real) else value


def check_proposal(proposal: Proposal, problem: Problem) -> None:
    """Refuse a proposal that does not fit what is to be decided by now.

    Raises:
        ReplyError: If a value is missing, unknown or not allowed.
    """
    _check_numbers(proposal.params, problem.space, problem.conditional)
    _check_texts(proposal.texts, problem)
    unknown = proposal.texts.keys() - {text.name for text in problem.texts}
    if unknown:
        raise ReplyError(f'there is no text parameter "{unknown.pop()}".')


def _make_proposal(answer: Answer, problem: Problem, find_text: FindText) -> Proposal:
    texts: dict[str, str] = {}
    parents = set()
    for parameter in problem.texts:
        written = answer.texts.get(parameter.name)
        if written is None:
            continue
        if written.is_edit or (not written.is_bare and is_only_edits(written.source)):
            parents.add(written.of)
            texts[parameter.name] = _edit_text(parameter, written, problem, find_text)
        elif written.is_bare and not is_code(parameter.language):
            texts[parameter.name] = written.source
        else:
            texts[parameter.name] = unwrap(written.source, parameter)
    if len(parents) > 1:
        raise EditError("the <edit> blocks name different trials: build on one of them.")
    numbers: dict[str, ParamValue] = {}
    if problem.space:
        raw = {} if answer.numbers is None else read_object(answer.numbers)
        numbers = _check_numbers(raw, problem.space, problem.conditional)
    _check_texts(texts, problem)
    parent = next(iter(parents), None)
    return Proposal(numbers, texts, shorten(answer.rationale, _MAX_RATIONALE), parent)


def _edit_text(
    parameter: TextParameter, written: Written, problem: Problem, find_text: FindText
) -> str:
    """The text that comes of editing the one that is named.

    Raises:
        EditError: If that cannot be done.
    """
    name = parameter.name
    if name not in problem.editable:
        raise EditError(f'"{name}" cannot be edited: send <text name="{name}"> whole.')
    base = find_text(name, written.of)
    if base is None:
        which = "to start from" if written.of is None else f"in trial {written.of}"
        raise EditError(f'there is no "{name}" {which}: name a trial that has one.')
    try:
        edits = parse_edits(written.source.replace("\r\n", "\n"), base)
        edited = apply_edits(base, edits, lambda line: clean_text(line.removesuffix("\r")))
        refuse_new_fences(base, edited, parameter.language)
    except ReplyError as error:
        where = "" if written.of is None else f" (text of trial {written.of})"
        raise EditError(f'<edit name="{name}">{where}: {error}') from None
    return edited


def _check_texts(texts: Mapping[str, str], problem: Problem) -> None:
    for parameter in problem.texts:
        if parameter.name not in texts and parameter.name not in problem.conditional:
            raise ReplyError(f'there is no <text name="{parameter.name}"> block.')
    tunable = {parameter.name for parameter in problem.texts if parameter.tunable}
    for name, text in texts.items():
        if name in tunable:
            _check_tunables(name, text)
        if not text.strip():
            raise ReplyError(f'<text name="{name}"> is empty.')
        if odd := _UNUSABLE.search(text):
            raise ReplyError(f'<text name="{name}"> holds the character {odd[0]!r}: leave it out.')


def _check_tunables(name: str, text: str) -> None:
    try:
        find_tunables(text)
    except TunableError as error:
        raise ReplyError(f'<text name="{name}">: {error}') from None


def _check_numbers(
    raw: Mapping[Any, Any], wanted: Mapping[str, BaseDistribution], conditional: frozenset[str]
) -> dict[str, ParamValue]:
    unknown = [name for name in raw if name not in wanted]
    if unknown:
        names = ", ".join(f'"{name}"' for name in wanted)
        those = f"the parameters are {names}" if names else "there are none at all"
        raise ReplyError(f'there is no number parameter "{str(unknown[0])[:60]}"; {those}.')
    missing = [name for name in wanted if name not in raw and name not in conditional]
    if missing:
        raise ReplyError(f'<numbers> lacks "{missing[0]}".')
    # All that is wrong in one go: each round costs a call.
    values: dict[str, ParamValue] = {}
    wrong: list[str] = []
    for name, value in raw.items():
        try:
            values[name] = read_number(name, value, wanted[name])
        except ReplyError as error:
            wrong.append(str(error))
    if wrong:
        raise ReplyError(" ".join(wrong))
    return values
