"""Nothing that a model sends holds the interpreter up: the time is linear, and short."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
from contextlib import suppress
import dataclasses
import gc
import time

from adversarial import OBJECTS
from adversarial import REPLIES
from adversarial import STRUCTURED
from optuna.distributions import FloatDistribution
from optuna.study import StudyDirection
import pytest

from optuna_llm import ReplyError
from optuna_llm._quoting import diff_texts
from optuna_llm._records import Problem
from optuna_llm._records import TextParameter
from optuna_llm._reply.edits import apply_edits
from optuna_llm._reply.edits import Edit
from optuna_llm._reply.proposals import parse_reply


PROBLEM = Problem(
    task="",
    objectives=[("value", StudyDirection.MINIMIZE)],
    space={},
    texts=[TextParameter("code", language="python", initial="x = 1")],
    editable=frozenset({"code"}),
)
SIZE = 40_000
# Ten times what it takes here; what is quadratic takes far longer.
LIMIT = 0.5


def measure(function: Callable[..., object], *arguments: object) -> float:
    """Seconds of CPU that this thread takes, whether it ends with a value or a ReplyError.

    The least of three, without the garbage of other tests: a busy machine is not what is measured.
    """
    return min(_measure_once(function, arguments) for _ in range(3))


def _measure_once(function: Callable[..., object], arguments: Sequence[object]) -> float:
    gc.disable()
    try:
        began = time.thread_time()
        with suppress(ReplyError):
            function(*arguments)
        return time.thread_time() - began
    finally:
        gc.enable()


@pytest.mark.parametrize("name", REPLIES)
def test_a_reply_of_40_kb_is_read_or_refused_in_no_time(name: str) -> None:
    reply = REPLIES[name](SIZE)
    for problem in (PROBLEM, dataclasses.replace(PROBLEM, n_proposals=2)):
        assert measure(parse_reply, reply, problem) < LIMIT


@pytest.mark.parametrize("name", OBJECTS)
def test_numbers_of_any_form_are_read_or_refused_in_no_time(name: str) -> None:
    problem = dataclasses.replace(PROBLEM, space={"x": FloatDistribution(0, 1)}, texts=[])
    assert measure(parse_reply, f"<numbers>{OBJECTS[name](SIZE)}</numbers>", problem) < LIMIT


@pytest.mark.parametrize("name", STRUCTURED)
def test_a_reply_in_json_is_read_or_refused_in_no_time(name: str) -> None:
    space = {"x": FloatDistribution(0, 1)}
    problem = dataclasses.replace(PROBLEM, space=space, is_json=True)
    for wanted in (problem, dataclasses.replace(problem, texts=[], n_proposals=2)):
        assert measure(parse_reply, STRUCTURED[name](SIZE), wanted) < LIMIT


def test_a_reply_above_a_megabyte_is_refused_unread() -> None:
    with pytest.raises(ReplyError, match="1,000,001 characters"):
        parse_reply("x" * 1_000_001, PROBLEM)


LINES = {
    "like lines": ["    x = 1"] * 8_000,
    "two lines in turn": ["    x = 1", "    y = 2"] * 4_000,
    "unlike lines": [f"    x{i} = {i}" for i in range(8_000)],
    "a long line": ["x" * SIZE],
}


@pytest.mark.parametrize("name", LINES)
def test_an_edit_is_found_or_missed_in_no_time(name: str) -> None:
    lines = LINES[name]
    half = lines[: len(lines) // 2]
    for search in (half, [*half, "    z"], ["    x = 9"], ["  " + line for line in half]):
        edits = [Edit("\n".join(search), "z")] * 3
        assert measure(apply_edits, "\n".join(lines), edits) < 2 * LIMIT


@pytest.mark.parametrize("name", LINES)
def test_texts_of_40_kb_are_compared_in_no_time(name: str) -> None:
    old = LINES[name]
    new = [line if i % 3 else line + "0" for i, line in enumerate(old)]
    for pair in ((old, new), (new, old[::-1]), (old, [*old[::2], *new[1::2]])):
        assert measure(diff_texts, *map("\n".join, pair)) < LIMIT
