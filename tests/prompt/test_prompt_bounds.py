"""Whatever a study holds and whatever the options are, a prompt keeps its bound and its blocks."""

from __future__ import annotations

import bisect
from collections.abc import Callable
import dataclasses
import re

from hypothesis import given
from hypothesis import strategies as st
import optuna
from optuna.distributions import CategoricalDistribution
from optuna.distributions import FloatDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial
from optuna.trial import TrialState
import pytest

from optuna_llm._prompt.builder import PromptBuilder
from optuna_llm._prompt.request import make_problem
from optuna_llm._prompt.request import make_request
from optuna_llm._prompt.request import Request
from optuna_llm._records import TextParameter
from optuna_llm._study.facts import StudyFacts
from optuna_llm._study.history import History
from optuna_llm._study.snapshot import StudySnapshot


SPACE = {"x": FloatDistribution(0, 1), "kind": CategoricalDistribution(["a", "b"])}
STATES = [TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL]
SOURCES = ["initial", "model", "base", "fallback", "user", None]


@st.composite
def draw_trial(draw: Callable[..., object]) -> FrozenTrial:
    state = draw(st.sampled_from(STATES))
    length = draw(st.integers(0, 300))
    proposal = {
        "source": draw(st.sampled_from(SOURCES)),
        "rationale": "word " * draw(st.integers(0, 60)),  # type: ignore[operator]
        "parent": draw(st.integers(0, 20)),
    }
    return optuna.create_trial(
        state=state,  # type: ignore[arg-type]
        value=draw(st.sampled_from([0.0, -1.5, 3.25, 1e300, float("inf")]))  # type: ignore[arg-type]
        if state == TrialState.COMPLETE
        else None,
        params={"x": draw(st.floats(0, 1)), "kind": draw(st.sampled_from("ab"))},
        distributions=SPACE,
        user_attrs={
            "code": "".join(f"line {i}\n" for i in range(length)) or "one line",  # type: ignore[arg-type]
            "llm:proposal": {name: value for name, value in proposal.items() if value is not None}
            | {"texts": {"code": 1}},
            "feedback": "said " * draw(st.integers(0, 400)),  # type: ignore[operator]
        },
    )


@given(
    trials=st.lists(draw_trial(), max_size=40),
    tokens=st.sampled_from([None, 1_000, 1_500, 4_000]),
    insights=st.booleans(),
    noise=st.sampled_from([None, 0.0, 0.5]),
    step=st.integers(1, 7),
)
def test_a_prompt_keeps_its_bound_and_shows_each_trial_once(
    trials: list[FrozenTrial],
    tokens: int | None,
    insights: bool,
    noise: float | None,
    step: int,
) -> None:
    for number, trial in enumerate(trials):
        trial.number = number
    builder = PromptBuilder(max_tokens=tokens, insights=insights)
    history = History([("value", StudyDirection.MINIMIZE)])
    facts = StudyFacts(n_trials=50, noise=noise, best_possible=-2.0)
    for n in [*range(0, len(trials), step), len(trials)]:
        history.update(trials[:n], ["code"], noise or 0.0)
        texts = {"code": TextParameter("code", initial="start")}
        snapshot = history.make_snapshot("A task.", texts, facts, ["Lesson."])
        problem = make_problem(snapshot, space=snapshot.space)
        request = make_request(snapshot, problem, n, seed=0, taken={})
        try:
            prompt = builder.build(snapshot, request)
        except ValueError:
            assert tokens is not None  # The usual size grows with the texts.
            continue
        longest = max([len(t.user_attrs["code"]) for t in trials[:n]], default=5)
        assert prompt.tokens <= (tokens or 16_000 + longest)
        user = prompt.messages[1].content
        listed = re.split(r"(?:# )?The best trials|# Choices|# Now", user)[0]
        shown = re.findall(r"^(?:## Trial|- trial) (\d+)\b", listed, re.MULTILINE)
        assert len(shown) == len(set(shown))
        assert user.count("# Now\n") == 1


@st.composite
def draw_equal_trial(draw: Callable[..., object]) -> FrozenTrial:
    """A trial of many, all with texts of the same length: what a request needs never grows."""
    proposal = {"source": "model", "rationale": "another way " * 9, "texts": {"code": 1}}
    return optuna.create_trial(
        value=draw(st.sampled_from([1.0, 2.0, 1e-9, -123456.789])),  # type: ignore[arg-type]
        params={"x": draw(st.floats(0, 1)), "kind": draw(st.sampled_from("ab"))},
        distributions=SPACE,
        user_attrs={
            "code": f"x = {draw(st.integers(100, 999))}\n",
            "llm:proposal": proposal,
            "feedback": "said " * draw(st.integers(0, 100)),  # type: ignore[operator]
        },
    )


@given(
    trials=st.lists(draw_equal_trial(), min_size=14, max_size=30),
    insights=st.lists(st.just("lesson " * 40), max_size=6),
    facts=st.builds(
        StudyFacts,
        n_trials=st.sampled_from([None, 50]),
        noise=st.sampled_from([None, 0.0, 1e6]),
        target_value=st.sampled_from([None, -200_000.0]),
    ),
    n_running=st.integers(0, 5),
    n_proposals=st.integers(1, 3),
    rejected=st.sampled_from([None, ("a reply " * 500, "a reason " * 100)]),
)
def test_the_least_prompt_of_the_first_call_is_enough_for_all_later_ones(
    trials: list[FrozenTrial],
    insights: list[str],
    facts: StudyFacts,
    n_running: int,
    n_proposals: int,
    rejected: tuple[str, str] | None,
) -> None:
    for number, trial in enumerate(trials):
        trial.number = number
    history = History([("value", StudyDirection.MINIMIZE)])
    texts = {"code": TextParameter("code", initial="x = 100\n")}

    def look(n: int) -> tuple[StudySnapshot, Request]:
        history.update(trials[:n], ["code"], facts.noise or 0.0)
        snapshot = history.make_snapshot("A task.", texts, facts, insights)
        problem = make_problem(snapshot, space=snapshot.space)
        problem = dataclasses.replace(problem, n_proposals=n_proposals)
        return snapshot, make_request(snapshot, problem, n, seed=0, taken={})

    def fits(tokens: int) -> bool:
        try:
            PromptBuilder(max_tokens=tokens).build(*first)
        except ValueError:
            return False
        return True

    first = look(1)
    least = bisect.bisect_left(range(2_000), True, key=fits)
    builder = PromptBuilder(max_tokens=least)
    builder.build(*first)
    for n in (2, 9, len(trials) - 1):
        snapshot, request = look(n)
        running = [dataclasses.replace(r, number=n + 1) for r in snapshot.finished[:n_running]]
        request = dataclasses.replace(request, running=running, rejected=rejected)
        assert builder.build(snapshot, request).tokens <= least
    # With more room nothing is left out.
    user = PromptBuilder(max_tokens=9_000).build(snapshot, request).messages[1].content
    assert "# Choices" in user
    assert ("Tried in vain" in user) == bool(request.in_vain)


def test_the_middle_of_a_text_to_start_from_is_never_left_out() -> None:
    builder = PromptBuilder(max_tokens=2_000)
    history = History([("value", StudyDirection.MINIMIZE)])
    text = "".join(f"line {i}\n" for i in range(2_000))
    attributes = {"code": text, "llm:proposal": {"texts": {"code": 1}}}
    trial = optuna.create_trial(value=1.0, user_attrs=attributes)
    history.update([trial], ["code"])
    snapshot = history.make_snapshot("", {"code": TextParameter("code", initial="start")})
    request = make_request(snapshot, make_problem(snapshot, space={}), 1, seed=0, taken={})
    with pytest.raises(ValueError, match="with the text to start from"):
        builder.build(snapshot, request)
