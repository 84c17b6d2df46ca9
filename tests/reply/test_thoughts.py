from __future__ import annotations

import dataclasses

from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import FloatDistribution
from optuna.study import StudyDirection
import pytest

from optuna_llm import ReplyError
from optuna_llm._records import Problem
from optuna_llm._records import TextParameter
from optuna_llm._reply.proposals import parse_reply
from optuna_llm.testing import write_reply


PROBLEM = Problem(
    task="",
    objectives=[("value", StudyDirection.MINIMIZE)],
    space={"x": FloatDistribution(0, 1)},
    texts=[TextParameter("code")],
)


def answer(x: float, code: str = "a") -> str:
    return write_reply({"x": x}, {"code": code}, "why")


DRAFT, ANSWER = answer(0.9, "draft"), answer(0.4, "final")


def read(reply: str) -> tuple[object, str]:
    (proposal,) = parse_reply(reply, PROBLEM)
    return proposal.params["x"], proposal.texts["code"]


PAIRS = [
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ('<think seconds="3">', "</think>"),
    ("[THINK]", "[/THINK]"),
    ("\u25c1think\u25b7", "\u25c1/think\u25b7"),
    ("<seed:think>", "</seed:think>"),
    ("<REASONING_SCRATCHPAD>", "</REASONING_SCRATCHPAD>"),
    ("<my-model_thought>", "</my-model_thought>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|inner_prefix|>", "<|inner_suffix|>"),
    ("<|channel>thought\n", "<channel|>"),
    ("<unused94>thought\n", "<unused95>"),
    ("<\uff5cbegin\u2581of\u2581thinking\uff5c>", "<\uff5cend\u2581of\u2581thinking\uff5c>"),
    ('<details type="reasoning" done="true">', "</details>"),
    ("Here is my thought process:\n", "\nHere is my response:\n"),
    ("<|channel|>analysis<|message|>", "<|channel|>final<|message|>"),
    (
        "<|channel|>analysis<|message|>",
        "<|end|><|start|>assistant<|channel|>final <|constrain|>xml<|message|>",
    ),
    ("analysis", "assistantfinal"),
    # None of these is known to be any model's: their shape is enough.
    ("<mulling>", "</mulling>"),
    ("\u27e6notes\u27e7", "\u27e6/notes\u27e7"),
    ("<|BEGIN_PLAN|>", "<|END_PLAN|>"),
    ("[SKETCH]", "[/SKETCH]"),
    ("<|consider_on|>", "<|consider_off|>"),
]


@pytest.mark.parametrize(("begin", "end"), PAIRS)
def test_drafts_between_markers_of_thoughts_are_no_answer(begin: str, end: str) -> None:
    assert read(f"{begin}Perhaps {DRAFT}. No.{end}\n{ANSWER}") == (0.4, "final")
    assert read(f"\n{begin}Half of one: <numbers>{{{end}{ANSWER}") == (0.4, "final")
    # Servers cut the beginning off.
    assert read(f"Perhaps {DRAFT}. No.{end}{ANSWER}") == (0.4, "final")


@pytest.mark.parametrize(
    "reply",
    [
        f"<think>a</think><think>b {DRAFT}</think>{ANSWER}",
        f"<think>a <think>b {DRAFT}</think> c</think>{ANSWER}",
        f"<think>It ends with </think>. {DRAFT} So.</think>{ANSWER}",
        f"<think>{DRAFT}</think>\n</think>\n{ANSWER}",
        f"<think>{DRAFT}</think>{ANSWER}</think>",
        f"<think>a</think>{ANSWER}<think>Or {DRAFT}? No.</think>",
        f"<think>{DRAFT} hm <answer>{ANSWER}</answer>",
        f"<think>{DRAFT}</think><answer>\n{ANSWER}\n</answer>",
        f"<seed:think>{DRAFT}<seed:cot_budget>9</seed:cot_budget>{DRAFT}</seed:think>{ANSWER}",
        f"I shall send <text name='code'> and </text>, as told.</think>\n{ANSWER}",
        f"{ANSWER}\nor, once more:\n{ANSWER}",
        f"<think>{ANSWER}</think>{ANSWER}",
        f"<|channel|>analysis<|message|>{DRAFT}<|end|><|start|>assistant<|channel|>commentary"
        f"<|message|>{DRAFT}<|end|><|start|>assistant<|channel|>final<|message|>{ANSWER}<|return|>",
        '<numbers>{"x": 0.4}</numbers><think>'
        + DRAFT
        + '</think><text name="code">\nfinal\n</text>',
    ],
)
def test_the_answer_is_the_last_complete_one_after_thoughts(reply: str) -> None:
    assert read(reply) == (0.4, "final")


@pytest.mark.parametrize("code", ['print("</think>")', "<think>\n[/THINK] <|end|>", "</a>"])
def test_markers_of_thoughts_in_a_text_are_text(code: str) -> None:
    assert read(answer(0.4, code)) == (0.4, code)
    assert read(f"<think>{DRAFT}</think>{answer(0.4, code)}") == (0.4, code)
    plain = f'<text name="code">\n{code}\n</text><numbers>{{"x": 0.4}}</numbers>'
    assert read(f"hm</think>{plain}") == (0.4, code)


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (f"{DRAFT}\nor\n{ANSWER}", r"two different <numbers> .*0\.9.*and.*0\.4"),
        (f"Draft: {DRAFT}\nFinal: {ANSWER}", "two different"),
        (f"<option1>{DRAFT}</option1><option2>{ANSWER}</option2>", "two different"),
        (f"<answer>{DRAFT}</answer>{ANSWER}", "two different"),
        (f"<think>a</think>{DRAFT}<think>b</think>{ANSWER}", "two different answers, .*0.9.*0.4"),
        (f"<think>{DRAFT}", "ended within your thoughts"),
        (f"<think>{ANSWER}</think>", "within your thoughts"),
        (f"Perhaps {DRAFT}</think>", "after the answer begins"),
        (
            '<text name="code">\na\n</text></think><numbers>{"x": 0.4}</numbers>',
            "thoughts end after the answer begins",
        ),
        (f"<mulling>{DRAFT}</mulling>" + '<numbers>{"x": 0.4}</numbers>', "within your thoughts"),
    ],
)
def test_what_may_be_a_draft_is_no_answer(reply: str, says: str) -> None:
    with pytest.raises(ReplyError, match=says):
        read(reply)


def test_drafts_of_several_proposals_are_dropped_too() -> None:
    problem = dataclasses.replace(PROBLEM, n_proposals=2)
    drafts, answers = (
        "".join(f"<proposal>\n{answer(x)}\n</proposal>\n" for x in xs)
        for xs in ((0.7, 0.8), (0.1, 0.2))
    )
    for reply in (f"<think>{drafts}</think>{answers}", f"{drafts}</think>{answers}"):
        assert [p.params["x"] for p in parse_reply(reply, problem)] == [0.1, 0.2]


pieces = st.sampled_from(
    [DRAFT, ANSWER, "hm", "\n", *(mark for pair in PAIRS[:8] for mark in pair), "<numbers>"]
)


@given(st.lists(pieces, max_size=8).map("".join))
def test_no_mix_of_thoughts_and_answers_yields_what_none_of_them_says(reply: str) -> None:
    try:
        assert read(reply) in ((0.9, "draft"), (0.4, "final"))
    except ReplyError:
        return
