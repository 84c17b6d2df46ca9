from __future__ import annotations

import dataclasses

from hypothesis import given
from hypothesis import strategies as st
from optuna.study import StudyDirection
import pytest

from optuna_llm import ReplyError
from optuna_llm._records import Problem
from optuna_llm._records import TextParameter
from optuna_llm._reply.proposals import parse_reply
from optuna_llm.testing import write_reply


def several(*replies: str) -> str:
    return "\n".join(f"<proposal>\n{reply}\n</proposal>" for reply in replies)


TWO = Problem(
    task="",
    objectives=[("value", StudyDirection.MINIMIZE)],
    space={},
    texts=[TextParameter("code")],
    n_proposals=2,
)


def test_several_proposals_are_read_one_by_one() -> None:
    texts = ["print('</proposal>')\n<proposal>", "<text>b</text>"]
    reply = several(*(write_reply(texts={"code": text}, rationale=text[:3]) for text in texts))
    assert [p.texts["code"] for p in parse_reply(reply, TWO)] == texts
    assert [p.rationale for p in parse_reply(f"Here:\n{reply}\nDone.", TWO)] == ["pri", "<te"]


def test_of_several_proposals_those_that_are_right_are_kept() -> None:
    good = write_reply(texts={"code": "a"})
    for reply in (
        good,
        several(good),
        several("none", good),
        several(good, "<text name='other'>b</text>"),
        several(good) + "\n<proposal>\n<text name='code'>cut off",
        several(good) + "\n<proposal>\n<rationale>cut off",
    ):
        assert [p.texts["code"] for p in parse_reply(reply, TWO)] == ["a"]
    # More than was asked for are left.
    assert len(parse_reply(several(good, good, good), TWO)) == 2


def test_if_none_of_several_proposals_is_right_each_is_told_why() -> None:
    reply = several("none", write_reply(texts={"code": " "}))
    with pytest.raises(ReplyError, match=r"proposal 1: there is no <.*proposal 2: <.*is empty"):
        parse_reply(reply, TWO)
    with pytest.raises(ReplyError, match=r"^there is no <text"):
        parse_reply("none", TWO)
    with pytest.raises(ReplyError, match=r"proposal 1: .* not closed"):
        parse_reply("<proposal>\n<rationale>cut off", TWO)


@given(st.text(), st.integers(1, 3))
def test_any_reply_to_several_is_read_or_refused(text: str, count: int) -> None:
    for reply in (text, several(text), several(write_reply(texts={"code": text}))):
        try:
            proposals = parse_reply(reply, dataclasses.replace(TWO, n_proposals=count))
        except ReplyError:
            continue
        assert 1 <= len(proposals) <= count
        assert all(p.texts["code"].strip() for p in proposals)
