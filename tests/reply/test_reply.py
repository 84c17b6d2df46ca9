from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

from hypothesis import example
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import BaseDistribution
from optuna.distributions import CategoricalDistribution
from optuna.distributions import FloatDistribution
from optuna.distributions import IntDistribution
from optuna.study import StudyDirection
import pytest

from optuna_llm import ReplyError
from optuna_llm._records import Problem
from optuna_llm._records import Proposal
from optuna_llm._records import TextParameter
from optuna_llm._reply.proposals import parse_reply as parse_replies
from optuna_llm.testing import write_reply


NUMBERS: dict[str, BaseDistribution] = {
    "x": FloatDistribution(-1.0, 1.0),
    "lr": FloatDistribution(1e-5, 1e-1, log=True),
    "half": FloatDistribution(0.0, 3.0, step=0.5),
    "n": IntDistribution(-3, 12, step=3),
    "units": IntDistribution(1, 1024, log=True),
    "kind": CategoricalDistribution(("a", "1", 2, 2.5, True, None)),
}
GOOD = {"x": 0.25, "lr": 0.001, "half": 1.5, "n": 6, "units": 7, "kind": "a"}


def parse_reply(reply: str, problem: Problem) -> Proposal:
    (proposal,) = parse_replies(reply, problem)
    return proposal


def pose(
    numbers: dict[str, BaseDistribution] | None = None,
    texts: tuple[str, ...] = (),
    conditional: tuple[str, ...] = (),
    initial: str | None = None,
) -> Problem:
    return Problem(
        task="",
        objectives=[("value", StudyDirection.MINIMIZE)],
        space=numbers or {},
        texts=[TextParameter(name, initial=initial) for name in texts],
        conditional=frozenset(conditional),
    )


MIXED = pose(NUMBERS, ("code", "note"))
CODE = pose(texts=("code",))


def read_one(name: str, raw: str) -> object:
    """The value that a reply's JSON for one parameter is read as."""
    problem = pose({name: NUMBERS[name]})
    return parse_reply(f'<numbers>{{"{name}": {raw}}}</numbers>', problem).params[name]


def read_code(reply: str, initial: str | None = None) -> str:
    return parse_reply(reply, pose(texts=("code",), initial=initial)).texts["code"]


def test_a_reply_in_the_form_asked_for_is_read_to_the_letter() -> None:
    texts = {"code": "a = 1\n\n  b = '<x>'", "note": "Two\nlines"}
    assert parse_reply(write_reply(GOOD, texts, "Why not."), MIXED) == Proposal(
        GOOD, texts, "Why not."
    )


@pytest.mark.parametrize(
    ("name", "raw", "value"),
    [
        ("x", "1", 1.0),
        ("x", '"0.5"', 0.5),
        ("x", "-1.0", -1.0),
        ("half", "2.5", 2.5),
        ("half", "2.5000000000001", 2.5),
        ("n", "3.0", 3),
        ("n", '"-3"', -3),
        ("units", "1024", 1024),
        ("kind", "null", None),
        ("kind", '"None"', None),
        ("kind", "true", True),
        ("kind", '"True"', True),
        ("kind", '"1"', "1"),
        ("kind", "2", 2),
        ("kind", "2.0", 2),
        ("kind", "2.5", 2.5),
    ],
)
def test_a_value_with_one_reading_is_read(name: str, raw: str, value: object) -> None:
    read = read_one(name, raw)
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("name", "raw"),
    [
        ("x", "1.0000001"),
        ("x", "NaN"),
        ("x", '"nan"'),
        ("x", "Infinity"),
        ("x", "1e999"),
        ("x", "true"),
        ("x", "null"),
        ("x", "[0.5]"),
        ("x", '"a half"'),
        ("x", "1" + "0" * 400),
        ("x", "1" + "0" * 5000),
        ("lr", "0"),
        ("lr", "-0.001"),
        ("half", "0.7"),
        ("half", "3.5"),
        ("n", "4"),
        ("n", "3.5"),
        ("n", "true"),
        ("n", "15"),
        ("n", "1" + "0" * 400),
        ("n", "0x" + "f" * 5000),
        ("n", "1e400"),
        ("units", "0"),
        ("kind", "1"),
        ("kind", "false"),
        ("kind", '"A"'),
        ("kind", '["a"]'),
        ("kind", "0x" + "f" * 5000),
    ],
)
def test_a_value_that_is_not_allowed_is_refused_by_name(name: str, raw: str) -> None:
    with pytest.raises(ReplyError, match=f'"{name}"|valid JSON'):
        read_one(name, raw)


def test_a_refusal_names_value_range_and_the_next_steps() -> None:
    with pytest.raises(ReplyError) as caught:
        read_one("n", "4")
    assert str(caught.value) == (
        'parameter "n": 4 is not allowed; it must be int from -3 to 12, in steps of 3; next to '
        "it are 3 and 6."
    )


def test_all_wrong_values_are_told_at_once() -> None:
    with pytest.raises(ReplyError, match=r'"x".*"half"'):
        parse_reply(write_reply(GOOD | {"x": 5, "half": 0.1}, {"code": "a", "note": "b"}), MIXED)


@pytest.mark.parametrize(
    ("numbers", "says"),
    [
        ('{"x": 0.5}', 'lacks "lr"'),
        (json.dumps(GOOD | {"mass": 1}), 'no number parameter "mass"'),
        ('{"x": 0.5, "x": 0.6}', "one name twice"),
        ("{'x': 0.5, 'x': 0.6}", "one name twice"),
        ("[1, 2]", "one JSON object"),
        ('{"x": 0.5', "valid JSON"),
        ("x = 0.5", "valid JSON"),
        ("[" * 100_000, "valid JSON"),
        ("", "valid JSON"),
        ("{" + " " * 200_000 + "}", "200,002 characters"),
    ],
)
def test_numbers_that_cannot_be_used_are_told_why(numbers: str, says: str) -> None:
    with pytest.raises(ReplyError, match=says):
        parse_reply(f"<numbers>{numbers}</numbers>", pose(NUMBERS))


def test_conditional_parameters_may_be_left_out() -> None:
    problem = pose({"x": NUMBERS["x"], "n": NUMBERS["n"]}, ("code", "note"), ("n", "note"))
    reply = write_reply({"x": 0.5}, {"code": "a"})
    assert parse_reply(reply, problem) == Proposal({"x": 0.5}, {"code": "a"})


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        ('<text name="code">\na = 1\n</text>', "a = 1"),
        ('<text name="code">a = 1</text>', "a = 1"),
        ("<TEXT name='code' >\r\na = 1\r\nb\r\n</Text>", "a = 1\nb"),
        ("<text name=code>\n\n  a = 1\n\n</text >", "\n  a = 1\n"),
        ("<text>\na = 1\n</text>", "a = 1"),
        ('<text name="code">\n```python\na = 1\n```\n</text>', "a = 1"),
        (
            '<text name="code">\n```\na\n```\nthen\n```\nb\n```\n</text>',
            "```\na\n```\nthen\n```\nb\n```",
        ),
        ("Sure!\n```python\na = 1\n```\nThat is all.", "a = 1"),
        ("````md\n```\na\n```\n````", "```\na\n```"),
        ('<think>or <text name="code">x</text>?</think>\n<text name="code">a</text>', "a"),
        ('so I said to myself</think><text name="code">a</text>', "a"),
        ('<text name="code">\nprint("</think>")\n</text>', 'print("</think>")'),
        (
            '<text name="code">\n<svg>\n<text x="1">Hi</text>\n</svg>\n</text>',
            '<svg>\n<text x="1">Hi</text>\n</svg>',
        ),
        ("<rationale>r</rationale>\n```\na\n```", "a"),
    ],
)
def test_a_text_with_one_reading_is_read(reply: str, code: str) -> None:
    assert read_code(reply) == code


def test_a_text_that_begins_as_a_fence_of_its_own_keeps_it() -> None:
    fenced = "```\nnew\n```"
    reply = f'<text name="code">\n{fenced}\n</text>'
    assert read_code(reply, initial="```\nold\n```") == fenced


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        ("", "empty"),
        (" \n", "empty"),
        ("<think>hm", "within your thoughts"),
        ("Let me think about it.", 'no <text name="code"> block'),
        ('<text name="code">\na = 1', "not closed"),
        ('<text name="code">\n \n</text>', "empty"),
        ('<text name="cod">\na\n</text>', 'no text parameter "cod"; there is "code"'),
        ('<text name="code">\na\n</text>\n<text name="code">\nb\n</text>', "two"),
        ('<text name="code">\na\n</text>\nOr so.\n</text>', "too many"),
        ("```\na\n```\nor\n```\nb\n```", "2 fenced blocks"),
        ("<rationale>because <numbers>", "<rationale> is not closed"),
        ("<text>a\x00b</text>", "holds the character"),
        ("<text>a\ud800b</text>", "holds the character"),
        ("<texts>a</texts>", "no <text"),
        ('<text name="code"><text name="code">a</text></text>', "holds another such block"),
        ("x" * 10_000_001, "10,000,001 characters"),
    ],
)
def test_a_text_that_could_be_read_in_two_ways_is_refused(reply: str, says: str) -> None:
    with pytest.raises(ReplyError, match=says):
        parse_reply(reply, CODE)


def check(reply: str, problem: Problem) -> None:
    """A proposal whose every value is plain and within its distribution, or a ReplyError."""
    try:
        proposal = parse_reply(reply, problem)
    except ReplyError as error:
        says = str(error)
    else:
        check_proposal(proposal, problem)
        return
    assert 0 < len(says) < 2_000


def check_proposal(proposal: Proposal, problem: Problem) -> None:
    for name, value in proposal.params.items():
        distribution = problem.space[name]
        assert type(value) in (float, int, str, bool, type(None))
        assert not (isinstance(value, float) and not math.isfinite(value))
        if isinstance(distribution, IntDistribution):
            assert type(value) is int
        if isinstance(distribution, FloatDistribution):
            assert type(value) is float
        assert distribution._contains(distribution.to_internal_repr(value))
    assert all(text.strip() for text in proposal.texts.values())


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=10**300)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["0.5", "nan", "inf", "1e999", "-0", "3", "a", "None", "True"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)
any_numbers = st.dictionaries(st.sampled_from(sorted(NUMBERS)) | st.text(max_size=4), json_values)
fragments = st.sampled_from(
    [
        "<rationale>",
        "</rationale>",
        "<numbers>",
        "</numbers>",
        '<text name="code">',
        '<text name="note">',
        "<text>",
        "</text>",
        "<think>",
        "</think>",
        "```",
        "````python",
        "~~~",
        "\n",
        "\r\n",
        "{",
        "}",
        '"x": 0.5',
        json.dumps(GOOD),
        "\n<proposal>\n",
        "\n</proposal>\n",
        '\n<edit name="code" of="0">\n',
        "\n<edit>\n",
        "\n</edit>\n",
        "\n<<<<<<< SEARCH\n",
        "\n=======\n",
        "\n>>>>>>> REPLACE\n",
        "\x00",
        "\ud800",
        "\u202e",
        "a = 1",
    ]
)


@given(st.text())
@example("<text name=code>\ud800</text>")
def test_any_text_is_a_proposal_or_a_reply_error(reply: str) -> None:
    check(reply, MIXED)
    check(reply, CODE)


@given(st.lists(fragments | st.text(max_size=5), max_size=30).map("".join))
def test_any_mix_of_tags_is_a_proposal_or_a_reply_error(reply: str) -> None:
    check(reply, MIXED)
    check(reply, CODE)
    check(reply, pose(NUMBERS, conditional=tuple(NUMBERS)))


@given(st.lists(fragments | st.text(max_size=5), max_size=30).map("".join))
def test_any_mix_of_tags_is_read_or_refused_where_more_is_allowed(reply: str) -> None:
    problem = dataclasses.replace(CODE, n_proposals=2, editable=frozenset({"code"}))
    try:
        proposals = parse_replies(reply, problem, lambda name, number: "a = 1\nb = 2")
    except ReplyError:
        return
    assert 1 <= len(proposals) <= 2
    assert all(proposal.texts["code"].strip() for proposal in proposals)


@given(any_numbers, st.booleans())
def test_any_values_are_valid_or_refused(numbers: dict[str, Any], is_full: bool) -> None:
    values = GOOD | numbers if is_full else numbers
    for source in (json.dumps(values), repr(values)):
        check(f"<numbers>{source}</numbers>", pose(NUMBERS))


@given(
    st.fixed_dictionaries(
        {
            "x": st.floats(-1, 1),
            "lr": st.floats(1e-5, 1e-1),
            "half": st.integers(0, 6).map(lambda k: k / 2),
            "n": st.integers(0, 5).map(lambda k: 3 * k - 3),
            "units": st.integers(1, 1024),
            "kind": st.sampled_from(["a", "1", 2, 2.5, True, None]),
        }
    )
)
def test_every_value_within_its_distribution_is_read_unchanged(numbers: dict[str, Any]) -> None:
    assert parse_reply(write_reply(numbers), pose(NUMBERS)).params == numbers


@given(
    st.text(
        alphabet=st.characters(exclude_characters="\r\x00", exclude_categories=["Cs"]), min_size=1
    )
)
def test_every_text_comes_back_as_it_was_written(text: str) -> None:
    tagged = any(mark in text.lower() for mark in ("<text", "</text", "```", "~~~", "<![cdata["))
    if text.strip() and not tagged:
        assert read_code(f'<text name="code">\n{text}\n</text>') == text
