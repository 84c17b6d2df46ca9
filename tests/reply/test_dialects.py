"""Replies that have one reading and are not in the form asked for."""

from __future__ import annotations

from typing import Any

from optuna.distributions import BaseDistribution
from optuna.distributions import CategoricalDistribution
from optuna.distributions import FloatDistribution
from optuna.study import StudyDirection
import pytest

from optuna_llm import ReplyError
from optuna_llm._records import Problem
from optuna_llm._records import TextParameter
from optuna_llm._reply.proposals import parse_reply


SPACE: dict[str, BaseDistribution] = {
    "x": FloatDistribution(0, 1),
    "flag": CategoricalDistribution([True, False, "on"]),
}
TEXT = '<text name="code">\nprint(5)\n</text>'
READ = {"x": 0.4, "flag": True}
NUMBERS = '<numbers>{"x": 0.4, "flag": true}</numbers>'


def pose(space: dict[str, BaseDistribution], *names: str) -> Problem:
    texts = [TextParameter(name, language="python") for name in names]
    return Problem("", [("value", StudyDirection.MINIMIZE)], space, texts)


def read(reply: str) -> tuple[dict[str, Any], str]:
    (proposal,) = parse_reply(reply, pose(SPACE, "code"))
    return dict(proposal.params), proposal.texts["code"]


@pytest.mark.parametrize(
    "reply",
    [
        f"<rationale>r</rationale>{TEXT}{NUMBERS}".replace("\n", ""),
        f"<rationale>r</rationale> {NUMBERS} {TEXT}",
        f"The code: {TEXT} and the numbers: {NUMBERS}",
        f"1. {TEXT}\n2. {NUMBERS}",
        f"- {TEXT}\n- {NUMBERS}",
        f"**Answer:** {TEXT}\n{NUMBERS}",
        f"```xml\n{TEXT}\n{NUMBERS}\n```",
        f'I fill the <text name="code"> tag and <numbers>.\n{TEXT}\n{NUMBERS}',
        f'As told, `<text name="code">` first.\n{TEXT}\n{NUMBERS}',
        f'So <text name="code">…</text> comes first:\n{TEXT}\n{NUMBERS}',
        f"<code>\nprint(5)\n</code>\n{NUMBERS}",
        f'<text name="code">\nprint(5)\n</code>\n{NUMBERS}',
        f'<text name=\\"code\\">\nprint(5)\n</text>\n{NUMBERS}',
        f'<TEXT NAME="Code">\nprint(5)\n</TEXT>\n{NUMBERS}',
        f'<text name="code" language="python" id="1">\nprint(5)\n</text>\n{NUMBERS}',
        f'<text code>\nprint(5)\n</text name="code">\n{NUMBERS}',
        f'<text name="code">\nprint(5)\n<\\/text>\n{NUMBERS}',
        f'<text\n  name="code"\n>\nprint(5)\n</text>\n{NUMBERS}',
        f"{TEXT}\n{NUMBERS.removesuffix('</numbers>')}",
        f"{NUMBERS.removesuffix('</numbers>')}\n{TEXT}",
        f"<rationale>because\n{TEXT}\n{NUMBERS}",
        f"{TEXT}{NUMBERS}".replace("<", "&lt;").replace(">", "&gt;"),
        f"```python\nprint(5)\n```\n{NUMBERS}<|im_end|>",
        f"```python\nprint(5)\n```\nAgain:\n```python\nprint(5)\n```\n{NUMBERS}",
        f"{TEXT}{NUMBERS}\n<numbers>{{'flag': True, 'x': .4}}</numbers>",
        f"<proposal>{TEXT}{NUMBERS}</proposal>",
        f"{TEXT}{NUMBERS}".replace("numbers>", "number>"),
        f"{TEXT}\n```json\n" + '{"x": 0.4, "flag": true}\n```',
    ],
)
def test_a_reply_with_one_reading_is_read(reply: str) -> None:
    assert read(reply) == (READ, "print(5)")


@pytest.mark.parametrize(
    "code",
    [
        'x = "<text>"',
        'x = "</text>"',
        'x = "<text>a</text>"',
        "s = '<text x=\"1\">Hi</text>'",
        "if a <text and b> c: pass",
        "x = 1  # <numbers>{}</numbers> <rationale> </edit>",
    ],
)
def test_tags_in_a_program_are_told_from_those_around_it(code: str) -> None:
    assert read(f'<text name="code">\n{code}\n</text>\n{NUMBERS}')[1] == code


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (f"print(5)\n</text>{NUMBERS}", "a </text> too many, or the tag that opens it is missp"),
        (f'<text name="code"\nprint(5)\n</text>{NUMBERS}', "too many, or the tag that opens it"),
        (f"<rationale>{TEXT}{NUMBERS}</rationale>", '"code"> stands within your .* another block'),
        (f"{NUMBERS}<text>\n<svg><text>a</text>", "cannot be told which </text> closes"),
        (f'<text name="code">\na\n{TEXT}{NUMBERS}', "holds another such block"),
        (f"<text name='note'>\na\n</text>{NUMBERS}", 'no text parameter "note"; there is "code"'),
        (f"{TEXT}{NUMBERS}<rationale>so", "<rationale> is not closed"),
        (f"{TEXT}{NUMBERS}<numbers>{{}}</numbers>", "two different <numbers> blocks"),
        (TEXT, "there is no <numbers> block"),
        ("I would rather not.", 'there is no <text name="code"> block'),
        (f"{TEXT}{NUMBERS}".replace("{", "").replace("}", "<b>"), "not hold valid JSON"),
        ("<b>" * 10 + "<text>" * 6_000, "more than 5,000 tags"),
        (f"{TEXT}\n" * 300 + NUMBERS, "more than 200 blocks"),
    ],
)
def test_an_error_says_what_is_really_wrong(reply: str, says: str) -> None:
    with pytest.raises(ReplyError, match=says):
        read(reply)


def test_without_a_name_a_text_is_told_from_others_only_if_there_is_one() -> None:
    with pytest.raises(ReplyError, match='write <text name="a"> or <text name="b">'):
        parse_reply("<text>\nx = 1\n</text>", pose({}, "a", "b"))


@pytest.mark.parametrize(
    "source",
    [
        '{"x": 0.4, "flag": true,}',
        "{'x': 0.4, 'flag': true}",
        "{'x': 0.4, 'flag': True, }",
        '{"x": 0.4, // a bit lower\n "flag": true}',
        '{"x": 0.4, # a bit lower\n "flag": true}',
        '{/* as {"x": 1} */ "x": 0.4, "flag": true}',
        '{"x": +.4, "flag": true}',
        '{"x": 4e-1, "flag": true}<|im_end|>',
        'json\n{"x": 0.4, "flag": true}',
        '{"x": 0.4, "flag": true}</s>',
        '{"x": 0.4, "flag": true};',
        '{"x": 0.4, "flag": true} // not {"x": 0.5}',
        '{"x": 0.4, "flag": true} or, again, {"x": 0.40, "flag": true}',
        "{x: 0.4, flag: true}",
        '"x": 0.4,\n"flag": true',
        '{"x": 0.4\n "flag": true}',
        "{\u201cx\u201d: 0.4, \u201cflag\u201d: true}",
        "{&quot;x&quot;: 0.4, &quot;flag&quot;: true}",
        '<![CDATA[{"x": 0.4, "flag": true}]]>',
        '```json\n{"x": 0.4, "flag": true}\n```',
        'I choose {"x": 0.4, "flag": true} this time.',
    ],
)
def test_numbers_in_a_dialect_of_json_are_read(source: str) -> None:
    assert parse_reply(f"<numbers>{source}</numbers>", pose(SPACE))[0].params == READ


@pytest.mark.parametrize("after", ["", "<|im_end|>", "<|eot_id|>", "</s>", "\nThat is all."])
@pytest.mark.parametrize("before", ["", "json\n", "So:\n```json\n", "As {x} and {flag}: "])
def test_numbers_may_come_without_tags(before: str, after: str) -> None:
    reply = before + '{"x": 0.4, "flag": true}' + after
    assert parse_reply(reply, pose(SPACE))[0].params == READ
    nested = reply.replace('{"x"', '{"numbers": {"x"').replace("true}", "true}}")
    assert parse_reply(nested, pose(SPACE))[0].params == READ


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ('{"x": 0.4, "flag": true} {"x": 0.5, "flag": true}', "two different answers, .*0.5"),
        ('{"x": 1/3, "flag": true}', "valid JSON"),
        ('{"x": 0.4 5, "flag": true}', "valid JSON"),
        ('{"x": , "flag": true}', "valid JSON"),
        ('{"x": NaN, "flag": true}', 'parameter "x": NaN is not allowed'),
        ('{"x": 0.4, "flag": [true]}', r'parameter "flag": \[true\] is not allowed'),
        ('{"x": 0.4, "flag": true, "x": 0.4}', "one name twice"),
        ('{"x": __import__("os")}', "valid JSON"),
        ('[{"x": 0.4, "flag": true}]', "one JSON object"),
        ("{" * 30, "valid JSON"),
        ('{"x": ' + "[" * 30, "nested too deeply"),
    ],
)
def test_numbers_with_two_readings_or_none_are_refused(source: str, says: str) -> None:
    with pytest.raises(ReplyError, match=says):
        parse_reply(f"<numbers>{source}</numbers>", pose(SPACE))


@pytest.mark.parametrize(
    ("distribution", "raw", "value"),
    [
        (FloatDistribution(1 / 3, 2 / 3), "0.3333333", 1 / 3),
        (FloatDistribution(1 / 3, 2 / 3), '"0.6666667"', 2 / 3),
        (FloatDistribution(-1 / 3, 1e-9 / 7), "-0.3333333", -0.3333333),
        (FloatDistribution(1 / 3, 1e9 / 7), "142857142.9", None),
        (FloatDistribution(1 / 3, 1e9 / 7), "142857100", 142857100.0),
        (FloatDistribution(1 / 7, 1, log=True), "0.1428571", 1 / 7),
        (FloatDistribution(1 / 3, 4 / 3, step=0.1), "0.4333333", 1 / 3 + 0.1),
        (FloatDistribution(1 / 3, 4 / 3, step=0.1), "0.44", None),
        (FloatDistribution(1 / 3, 2 / 3), "0.333333", None),
        (FloatDistribution(1 / 3, 2 / 3), "0.3333332", None),
        (CategoricalDistribution([1 / 3, 0.5]), "0.3333333", 1 / 3),
        (CategoricalDistribution([1 / 3, 0.3333333]), "0.3333333", 0.3333333),
        (CategoricalDistribution([1 / 3, 0.33333333]), "0.3333333", None),
    ],
)
def test_a_value_as_it_is_shown_is_the_value_that_was_meant(
    distribution: BaseDistribution, raw: str, value: float | None
) -> None:
    reply, problem = f'<numbers>{{"x": {raw}}}</numbers>', pose({"x": distribution})
    if value is None:
        with pytest.raises(ReplyError, match="not allowed"):
            parse_reply(reply, problem)
    else:
        assert parse_reply(reply, problem)[0].params == {"x": pytest.approx(value, rel=1e-15)}
