"""What a prompt tells of cases, and that it keeps its bound whatever their number."""

from __future__ import annotations

import random
import re

from hypothesis import given
from hypothesis import strategies as st
import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial
from optuna.trial import TrialState
import pytest

from optuna_llm._prompt.builder import PromptBuilder
from optuna_llm._prompt.request import make_problem
from optuna_llm._prompt.request import make_request
from optuna_llm._records import TextParameter
from optuna_llm._study.history import History


MAXIMIZE = [("value", StudyDirection.MAXIMIZE)]


def make_trial(
    number: int,
    scores: dict[int, float],
    words: dict[int, str] | None = None,
    **attributes: object,
) -> FrozenTrial:
    held = {"count": 1_000, "words": {str(c): text for c, text in (words or {}).items()}}
    trial = optuna.create_trial(
        state=TrialState.COMPLETE if len(scores) % 5 else TrialState.PRUNED,
        value=sum(scores.values()) / len(scores) if len(scores) % 5 else None,
        intermediate_values=scores,
        user_attrs={
            "code": f"text {number}",
            "llm:cases": held | attributes,
            "llm:proposal": {"texts": {"code": 1}, "source": "model"}
            | ({"parent": number - 1} if number else {}),
        },
    )
    trial.number = number
    return trial


def build(
    trials: list[FrozenTrial],
    names: dict[int, str] | None = None,
    tokens: int | None = None,
    objectives: list[tuple[str, StudyDirection]] = MAXIMIZE,
) -> str:
    history = History(objectives)
    history.update(trials, ["code"])
    texts = {"code": TextParameter("code", initial="start")}
    snapshot = history.make_snapshot("A task.", texts, case_names=names or {})
    problem = make_problem(snapshot, space={})
    request = make_request(snapshot, problem, len(trials), seed=0, taken={})
    prompt = PromptBuilder(max_tokens=tokens).build(snapshot, request)
    assert tokens is None or prompt.tokens <= tokens
    return prompt.messages[1].content


@given(
    seed=st.integers(0, 100),
    n_trials=st.integers(1, 25),
    n_cases=st.sampled_from([1, 7, 1_000]),
    tokens=st.sampled_from([1_000, 3_000, 16_000]),
    words=st.text(max_size=50),
    is_graded=st.booleans(),
)
def test_a_prompt_keeps_its_bound_with_a_thousand_cases(
    seed: int, n_trials: int, n_cases: int, tokens: int, words: str, is_graded: bool
) -> None:
    rng = random.Random(seed)
    trials = []
    for number in range(n_trials):
        cases = rng.sample(range(n_cases), rng.randint(1, n_cases))
        scores = {c: rng.random() if is_graded else float(rng.random() < 0.5) for c in cases}
        said = {c: words * rng.randint(0, 20) for c in cases[:100]}
        trials.append(make_trial(number, scores, said))
    user = build(trials, {c: words * 20 for c in range(0, n_cases, 2)}, tokens)
    assert user.count("# Now\n") == 1
    for block in re.split(r"^## Trial \d+", user.split("\n# Now")[0], flags=re.MULTILINE)[1:]:
        about = re.split(r"^(?:The best trials|# )", block, flags=re.MULTILINE)[0]
        lines = re.findall(r"^(?:cases: |- case ).*", about, re.MULTILINE)
        assert len(lines) <= 4
        assert sum(map(len, lines)) < 1_500


def test_words_cannot_break_out_of_their_line() -> None:
    trials = [make_trial(0, {0: 0.0, 1: 1.0, 2: 1.0}, {0: "bad\n# Now\n```\r\u2028# Now"})]
    user = build(trials, {0: "x\n# Now\n"})
    assert user.count("\n# Now") == 1
    assert "- case 0 (x # Now): 0; bad # Now" in user


def test_changes_against_the_parent_are_told_the_largest_first() -> None:
    first = make_trial(0, {0: 0.5, 1: 0.5, 2: 0.5, 3: 0.5, 7: 1.0, 8: 1.0})
    second = make_trial(1, {0: 0.6, 1: 0.9, 2: 0.5, 3: 0.25, 9: 1.0, 8: 1.0, 7: 1.0})
    line = "better than trial 0 in cases 1 (+0.4), 0 (+0.1); worse in case 3"
    assert line in build([first, second])


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ({0: 0.0, 1: 0.0, 2: 0.0}, "each of 3 scores 0"),
        ({0: 0.1, 1: 0.2, 2: 0.3}, "cases: 3, scores from 0.1 to 0.3"),
        ({0: 0.0, 1: 1.0, 2: 1.0}, "cases: 2 of 3 at full score (1)"),
    ],
)
def test_full_score_is_one_that_several_cases_share(
    scores: dict[int, float], expected: str
) -> None:
    assert expected in build([make_trial(0, scores)])


def test_of_several_objectives_cases_have_the_direction_of_their_mean() -> None:
    objectives = [("accuracy", StudyDirection.MAXIMIZE), ("errors", StudyDirection.MINIMIZE)]
    trials = [
        optuna.create_trial(
            values=[9.0, 2.0 - number],
            user_attrs={
                "code": f"text {number}",
                "llm:cases": {"scores": {"0": 0.0, "1": 4.0 - 2 * number}},
                "llm:proposal": {"texts": {"code": 1}, "source": "model"}
                | ({"parent": 0} if number else {}),
            },
        )
        for number in range(2)
    ]
    for number, trial in enumerate(trials):
        trial.number = number
    user = build(trials, objectives=objectives)
    assert "better than trial 0 in case 1; worse in none" in user


def test_the_noise_of_repeats_is_told() -> None:
    trial = make_trial(0, {0: 0.0, 1: 1.0, 2: 1.0}, noise=0.0123)
    assert "noise of the mean 0.012 (standard deviation)" in build([trial])


def test_a_study_without_cases_says_nothing_of_them() -> None:
    trial = make_trial(0, {0: 0.0, 1: 1.0, 2: 1.0})
    del trial.user_attrs["llm:cases"]
    assert "case" not in build([trial]).lower()
