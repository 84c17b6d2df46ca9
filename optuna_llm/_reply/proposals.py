"""A reply in, a proposal out: the only place that distrusts the model.

Read leniently where only one reading is possible, never guessed. Every error says what to
mend, in words that are sent back to the model.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import json
import re
from typing import Any
from typing import TypeAlias

from optuna.distributions import BaseDistribution

from optuna_llm._errors import ReplyError
from optuna_llm._quoting import clean_text
from optuna_llm._quoting import shorten
from optuna_llm._records import ParamValue
from optuna_llm._records import Pass
from optuna_llm._records import Problem
from optuna_llm._records import Proposal
from optuna_llm._records import TrialRecord
from optuna_llm._reply.alternatives import find_alternative
from optuna_llm._reply.alternatives import take_rationales
from optuna_llm._reply.edits import apply_edits
from optuna_llm._reply.edits import parse_edits
from optuna_llm._reply.tags import drop_thoughts
from optuna_llm._reply.tags import EditBlock
from optuna_llm._reply.tags import EditError
from optuna_llm._reply.tags import split_fences
from optuna_llm._reply.tags import split_proposals
from optuna_llm._reply.tags import take_blocks
from optuna_llm._reply.tags import take_lone_fence
from optuna_llm._reply.tags import take_texts
from optuna_llm._study.distributions import read_number


_MAX_REPLY = 10_000_000
_MAX_NUMBERS = 100_000
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
    alternative = find_alternative(reply)
    if isinstance(alternative, Pass):
        return alternative
    if alternative is not None:
        return [_repeat(alternative, reply, find_trial)]
    answer = drop_thoughts(reply)
    if not answer.strip():
        raise ReplyError("the reply was empty.")
    if problem.n_proposals == 1:
        return [_parse_answer(answer, problem, find_text)]
    parts, errors = split_proposals(answer)
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


def _repeat(number: int, reply: str, find_trial: FindTrial) -> Proposal:
    """The values of a trial, to be measured again.

    Raises:
        ReplyError: If there is no such trial.
    """
    record = find_trial(number)
    if record is None:
        raise ReplyError(f"there is no complete trial {number} to repeat.")
    rationales = take_rationales(reply)
    rationale = shorten(rationales[-1], _MAX_RATIONALE) if rationales else ""
    return Proposal(record.params, record.texts, rationale, repeats=number)


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


def _parse_answer(answer: str, problem: Problem, find_text: FindText) -> Proposal:
    raw, rest = take_texts(answer, problem.texts)
    texts = {name: text for name, text in raw.items() if isinstance(text, str)}
    blocks_of = {name: block for name, block in raw.items() if isinstance(block, EditBlock)}
    parents = {block.of for block in blocks_of.values()}
    if len(parents) > 1:
        raise EditError("the <edit> blocks name different trials: build on one of them.")
    for name, block in blocks_of.items():
        texts[name] = _edit_text(name, block, problem, find_text)
    rationales, rest = take_blocks(rest, "rationale")
    blocks, rest = take_blocks(rest, "numbers")
    if not texts and len(problem.texts) == 1:
        texts = take_lone_fence(rest, problem.texts[0])
    numbers = _take_numbers(blocks, rest, problem) if problem.space else {}
    _check_texts(texts, problem)
    if not numbers and not texts:
        raise ReplyError("the reply holds no values.")
    rationale = rationales[0].strip() if rationales else ""
    parent = next(iter(parents), None)
    return Proposal(numbers, texts, shorten(rationale, _MAX_RATIONALE), parent)


def _edit_text(name: str, block: EditBlock, problem: Problem, find_text: FindText) -> str:
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


def _take_numbers(blocks: Sequence[str], rest: str, problem: Problem) -> dict[str, ParamValue]:
    raw: Mapping[Any, Any] = {}
    if len(blocks) > 1:
        raise ReplyError("there are two <numbers> blocks: send one.")
    if blocks:
        raw = _load_object(blocks[0])
    elif not problem.texts and rest.strip():
        raw = _load_bare_object(rest)
    elif not problem.space.keys() <= problem.conditional:
        raise ReplyError("there is no <numbers> block.")
    return _check_numbers(raw, problem.space, problem.conditional)


def _load_bare_object(rest: str) -> dict[str, Any]:
    """The one object of a reply that left the tags away, as small models do."""
    fenced, _ = split_fences(rest)
    try:
        return _load_object(fenced[0] if len(fenced) == 1 else rest)
    except ReplyError:
        raise ReplyError("there is no <numbers> block with a JSON object.") from None


def _load_object(source: str) -> dict[str, Any]:
    fenced, outside = split_fences(source)
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
) -> dict[str, ParamValue]:
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
