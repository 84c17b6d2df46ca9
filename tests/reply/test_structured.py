"""Replies that are to be JSON."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution
from optuna.distributions import FloatDistribution
from optuna.distributions import IntDistribution
from optuna.study import StudyDirection
import pytest

from optuna_llm._errors import ReplyError
from optuna_llm._records import Problem
from optuna_llm._records import Proposal
from optuna_llm._records import TextParameter
from optuna_llm._reply.proposals import parse_reply
from optuna_llm.testing import write_reply


SPACE = {
    "x": FloatDistribution(0, 1),
    "n": IntDistribution(1, 9),
    "kind": CategoricalDistribution(["a", "b", None]),
}
GOOD: dict[str, Any] = {"x": 0.5, "n": 3, "kind": "a"}


def make_problem(**changes: Any) -> Problem:
    arguments: dict[str, Any] = {"space": SPACE, "texts": [], "is_json": True} | changes
    return Problem("", [("value", StudyDirection.MINIMIZE)], **arguments)


NUMBERS = make_problem()
CODE = TextParameter("code", language="python")
MIXED = make_problem(texts=[CODE])


def read(reply: str, problem: Problem = NUMBERS) -> Proposal:
    found = parse_reply(reply, problem)
    assert isinstance(found, list)
    (proposal,) = found
    return proposal


WHOLE = json.dumps({"rationale": "Half.", "numbers": GOOD})


@pytest.mark.parametrize(
    "reply",
    [
        WHOLE,
        f" \n{WHOLE}\n ",
        f"```json\n{WHOLE}\n```",
        f"Here it is:\n{WHOLE}\nI hope that helps.",
        f'<think>{{"numbers": {{}}}} no</think>\n{WHOLE}',
        f"{WHOLE}\n{WHOLE}",
        WHOLE + "<|im_end|>",
        json.dumps({"rationale": "Half.", **GOOD}),
        json.dumps({"numbers": GOOD, "rationale": "Half.", "texts": {}}),
        WHOLE.replace("}}", ",},}").replace("null", "None"),
        write_reply(GOOD, rationale="Half."),
    ],
)
def test_one_object_is_read_however_it_is_wrapped(reply: str) -> None:
    proposal = read(reply)
    assert proposal.params == GOOD
    assert proposal.rationale == "Half."


@pytest.mark.parametrize(
    "text", ["x = 1\ny = 2\t# é\n", 'print("}")\n', "a = '<think>'\n", "def f():\n\treturn {}\n"]
)
@pytest.mark.parametrize("is_raw", [False, True])
def test_a_text_is_read_to_the_letter_with_raw_control_characters_too(
    text: str, is_raw: bool
) -> None:
    reply = json.dumps({"rationale": "", "numbers": GOOD, "texts": {"code": text}})
    if is_raw:
        reply = reply.replace("\\n", "\n").replace("\\t", "\t")
    assert read(reply, MIXED).texts["code"].strip("\n") == text.strip("\n")


@pytest.mark.parametrize("problem", [NUMBERS, MIXED])
def test_json_that_breaks_off_is_refused_wherever_it_does(problem: Problem) -> None:
    reply = json.dumps({"rationale": "Why.", "numbers": GOOD, "texts": {"code": "x = 1"}})
    read(reply, problem)
    for length in range(len(reply)):
        with pytest.raises(ReplyError):
            parse_reply(reply[:length], problem)


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        ("I would go down.", "not a JSON object"),
        ("[1, 2]", "not a JSON object"),
        ("{}", '"numbers" lacks "x"'),
        (json.dumps({"numbers": GOOD | {"x": 2}}), 'parameter "x": 2 is not allowed'),
        (json.dumps({"numbers": GOOD | {"y": 2}}), 'no number parameter "y"'),
        (json.dumps({"numbers": GOOD | {"n": None}}), 'parameter "n": null is not allowed'),
        (WHOLE.replace('"x": 0.5', '"x": 0.5, "x": 0.6'), "twice"),
        (WHOLE + json.dumps({"numbers": GOOD | {"x": 0.6}}), "different answers"),
        ('{"numbers": ' * 2_000, "nested too deeply"),
    ],
)
def test_what_is_wrong_is_said_in_terms_of_the_json(reply: str, says: str) -> None:
    with pytest.raises(ReplyError, match=says) as caught:
        parse_reply(reply, NUMBERS)
    assert "<numbers>" not in str(caught.value)


@pytest.mark.parametrize(
    ("texts", "says"),
    [({}, 'no "code" in "texts"'), ({"code": " "}, '"code" in "texts" is empty')]
    + [({"code": value}, "must be a string") for value in (1, ["x"], {"x": 1})],
)
def test_a_text_that_is_none_is_refused(texts: Any, says: str) -> None:
    with pytest.raises(ReplyError, match=says):
        parse_reply(json.dumps({"numbers": GOOD, "texts": texts}), MIXED)


def test_null_leaves_a_conditional_parameter_out_unless_it_is_a_choice() -> None:
    problem = make_problem(texts=[CODE], conditional=frozenset({"n", "kind", "code"}))
    reply = {"numbers": {"x": 0.5, "n": None, "kind": None}, "texts": {"code": None}}
    proposal = read(json.dumps(reply), problem)
    assert (proposal.params, proposal.texts) == ({"x": 0.5, "kind": None}, {})


def test_several_proposals_are_read_and_bad_ones_are_left_out() -> None:
    problem = make_problem(n_proposals=3)
    items: list[Any] = [{"numbers": GOOD | {"n": n}} for n in (1, 20, 3)]
    found = parse_reply(json.dumps({"proposals": items}), problem)
    assert isinstance(found, list)
    assert [proposal.params["n"] for proposal in found] == [1, 3]
    with pytest.raises(ReplyError, match=r"proposal 1: .*proposal 2: "):
        parse_reply(json.dumps({"proposals": [items[1], "x"]}), problem)
    with pytest.raises(ReplyError, match="is empty"):
        parse_reply('{"proposals": []}', problem)


@pytest.mark.parametrize("name", ["numbers", "texts", "proposals", "rationale"])
def test_a_parameter_may_be_named_like_a_part_of_the_reply(name: str) -> None:
    problem = make_problem(space={name: IntDistribution(1, 9)})
    assert read(json.dumps({"rationale": "", "numbers": {name: 3}}), problem).params == {name: 3}


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*SPACE, "numbers", "texts", "proposals"]), inner)
    ),
    max_leaves=8,
)


@given(JSON_VALUES | st.text())
def test_any_json_and_any_text_is_a_proposal_or_a_reply_error(value: Any) -> None:
    reply = value if isinstance(value, str) else json.dumps(value)
    for problem in (NUMBERS, MIXED, make_problem(n_proposals=2)):
        try:
            found = parse_reply(reply, problem)
        except ReplyError:
            continue
        assert isinstance(found, list)
        for proposal in found:
            assert proposal.params.keys() == SPACE.keys()
