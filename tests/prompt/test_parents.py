"""Which trials the next one is made of where the objective is a mean over cases."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import random
from typing import Any

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial
from optuna.trial import TrialState
from provenance import told
import pytest

from optuna_llm import LLMSampler
from optuna_llm import Message
from optuna_llm import report_case
from optuna_llm import suggest_text
from optuna_llm import TrialRecord
from optuna_llm._prompt.builder import PromptBuilder
from optuna_llm._prompt.parents import choose_parents
from optuna_llm._prompt.request import make_problem
from optuna_llm._prompt.request import make_request
from optuna_llm._records import TextParameter
from optuna_llm._reply.edits import Edit
from optuna_llm._reply.edits import write_edits
from optuna_llm._study.history import History
from optuna_llm._study.snapshot import StudySnapshot
from optuna_llm.dashboard._notes import describe_origin
from optuna_llm.testing import ScriptedModel
from optuna_llm.testing import write_reply


BEST, RIVAL, LIKE = (1.0, 1.0, 1.0, 0.0), (0.0, 0.0, 0.0, 1.0), (1.0, 1.0, 0.0, 0.0)


def make_trial(
    number: int,
    scores: Sequence[float],
    parents: tuple[int, ...] = (),
    *,
    is_pruned: bool = False,
    text: str = "",
) -> FrozenTrial:
    source = "model" if parents else "initial"
    proposal: dict[str, Any] = {"source": source, "texts": {"code": 1}}
    proposal |= dict(zip(("parent", "second_parent"), parents, strict=False))
    trial = optuna.create_trial(
        state=TrialState.PRUNED if is_pruned else TrialState.COMPLETE,
        value=sum(scores) / len(scores),
        intermediate_values=dict(enumerate(scores)),
        user_attrs={
            "code": text or f"text {number}",
            "llm:cases": {"count": len(scores)},
            "llm:proposal": proposal,
        },
    )
    trial.number = number
    return trial


def take(
    trials: Sequence[FrozenTrial], direction: StudyDirection = StudyDirection.MAXIMIZE
) -> StudySnapshot:
    history = History([("value", direction)])
    history.update(trials, ["code"])
    return history.make_snapshot("A task.", {"code": TextParameter("code", initial="start")})


def draw(snapshot: StudySnapshot, rule: Any = "cases") -> list[tuple[int | None, int | None]]:
    """The numbers of the parents by 60 seeds."""
    chosen = (choose_parents(snapshot, "code", 9, seed, rule) for seed in range(60))
    return [(a and a.number, b and b.number) for a, b in chosen]


@pytest.mark.parametrize("direction", [StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE])
def test_the_second_parent_gains_most_where_the_best_is_weak(direction: StudyDirection) -> None:
    sign = 1 if direction == StudyDirection.MAXIMIZE else -1
    scores = [[sign * score for score in trial] for trial in (LIKE, BEST, RIVAL)]
    drawn = draw(take([make_trial(i, scores[i]) for i in range(3)], direction))
    # Half of the time, since nothing tells yet what it is worth.
    assert 15 < drawn.count((1, 2)) < 45
    assert drawn.count((1, None)) > 15
    assert {second for first, second in drawn if first == 1} == {2, None}


def test_a_pruned_trial_may_be_the_second_parent_but_never_the_first() -> None:
    trials = [make_trial(0, LIKE), make_trial(1, BEST), make_trial(2, RIVAL, is_pruned=True)]
    drawn = draw(take(trials))
    assert (1, 2) in drawn
    assert all(first != 2 for first, _ in drawn)


def test_a_pair_that_was_tried_gives_way_to_another() -> None:
    other = (0.0, 0.0, 0.0, 0.9)
    trials = [make_trial(0, BEST), make_trial(1, RIVAL), make_trial(2, other)]
    assert {second for first, second in draw(take(trials)) if first == 0} == {1, None}
    trials.append(make_trial(3, LIKE, (0, 1)))
    assert {second for first, second in draw(take(trials)) if first == 0} == {2, None}


@pytest.mark.parametrize(("with_second", "least", "most"), [(True, 0.8, 1), (False, 0, 0.2)])
def test_there_is_a_second_parent_as_often_as_it_pays(
    with_second: bool, least: float, most: float
) -> None:
    trials = [make_trial(0, (0.0,) * 4), make_trial(1, (0.0, 0.0, 0.0, 0.01))]
    for number in range(2, 24):
        # Every other trial has two parents, and of one sort each is a step ahead.
        has_second = bool(number % 2)
        gains = has_second == with_second
        score = number / 100 if gains else 0.005
        best = max(range(number), key=lambda i: trials[i].value or 0.0)
        parents = (best, 1 if best != 1 else 0) if has_second else (best,)
        trials.append(make_trial(number, (score, score, score, 0.0), parents))
    seconds = [second for _, second in draw(take(trials))]
    assert least <= sum(second is not None for second in seconds) / len(seconds) <= most


def test_without_cases_parents_are_chosen_by_the_value() -> None:
    trials = [make_trial(i, (i / 10,)) for i in range(9)]
    for trial in trials:
        del trial.user_attrs["llm:cases"]
    assert draw(take(trials)) == draw(take(trials), "best")
    assert all(second is None for _, second in draw(take(trials)))


def test_with_best_there_is_no_second_parent() -> None:
    snapshot = take([make_trial(0, LIKE), make_trial(1, BEST), make_trial(2, RIVAL)])
    assert all(second is None for _, second in draw(snapshot, "best"))


def build(trials: Sequence[FrozenTrial], tokens: int) -> tuple[str, int | None]:
    snapshot = take(trials)
    problem = make_problem(snapshot, space={})
    request = make_request(
        snapshot, problem, 9, seed=0, taken={}, parents=lambda trials, *_: [trials[1], trials[0]]
    )
    assert request.second_parent is not None
    prompt = PromptBuilder(max_tokens=tokens).build(snapshot, request)
    assert prompt.tokens <= tokens
    return prompt.messages[1].content, prompt.second_parent


def test_the_second_text_stands_there_in_full_or_as_changes_to_the_first() -> None:
    lines = [f"line {i} of a rather long text" for i in range(150)]
    texts = ["\n".join([*lines, f"last {i}"]) for i in range(2)]
    prompt, second = build(
        [make_trial(0, RIVAL, text=texts[0]), make_trial(1, BEST, text=texts[1])], 4_000
    )
    assert second == 0
    assert 'Its "code", as changes to that of trial 1:\n```diff\n' in prompt
    prompt, _ = build([make_trial(0, RIVAL), make_trial(1, BEST)], 2_000)
    assert 'Its "code" is in full above.' in prompt
    assert "it is better in 1 and worse in 3. Better in case 3 (1 against 0)." in prompt


def test_the_second_parent_gives_way_where_there_is_no_room() -> None:
    rng = random.Random(0)
    texts = ["\n".join(f"{rng.random()}" for _ in range(200)) for _ in range(2)]
    trials = [make_trial(0, RIVAL, text=texts[0]), make_trial(1, BEST, text=texts[1])]
    for tokens, expected in ((6_000, 0), (2_000, None)):
        prompt, second = build(trials, tokens)
        assert second == expected
        assert ("Take over from trial 0" in prompt) == (second is not None)


def run(
    replies: Callable[[Sequence[Message]], str], n_trials: int, **arguments: Any
) -> optuna.Study:
    """A study over two cases; the number behind each letter in the text is its score."""

    def objective(trial: optuna.Trial) -> float:
        text = suggest_text(trial, "code", "a0\nb0")
        scores = [float(line[1:]) for line in text.splitlines()]
        for case, score in enumerate(scores):
            report_case(trial, case, score)
        return sum(scores) / 2

    sampler = LLMSampler(model=ScriptedModel(replies), **arguments)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.optimize(objective, n_trials)
    return study


def test_a_function_chooses_and_both_parents_are_stored_and_shown() -> None:
    def choose(
        trials: Sequence[TrialRecord], directions: Sequence[StudyDirection], rng: random.Random
    ) -> Sequence[TrialRecord]:
        assert directions == [StudyDirection.MAXIMIZE]
        return trials[-2:]

    texts = iter(["a5\nb0", "a0\nb4", "a5\nb4"])
    study = run(lambda _: write_reply(texts={"code": next(texts)}), 4, parents=choose)
    parents = [(told(t, "parent"), told(t, "second_parent")) for t in study.trials]
    assert parents == [(None, None), (0, None), (0, 1), (1, 2)]
    assert list(describe_origin(study.trials[3]))[-1] == "from trials 1 and 2"


def test_an_edit_of_the_second_text_makes_it_the_parent() -> None:
    edit = write_edits([Edit("b0", "b7")])

    def answer(messages: Sequence[Message]) -> str:
        if "trial 2" in messages[1].content:
            assert 'An edit may be of either text: say which in of="…".' in messages[1].content
            return f'<rationale></rationale><edit name="code" of="1">\n{edit}\n</edit>'
        return write_reply(texts={"code": "a6\nb0"})

    study = run(answer, 3, parents=lambda trials, *_: trials[:2], edits="always")
    assert told(study.trials[2], "parent") == 1
    assert told(study.trials[2], "second_parent") == 0


@pytest.mark.parametrize(
    ("choose", "says"),
    [
        (lambda trials, *_: [trials[0], trials[0]], "at most one other"),
        (lambda *_: ["trial 0"], "must return trials that it was given"),
    ],
)
def test_a_function_that_returns_something_else_is_told_so(choose: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        run(lambda _: write_reply(texts={"code": "a1\nb1"}), 2, parents=choose)


def test_an_unknown_word_is_refused() -> None:
    word: Any = "pareto"
    with pytest.raises(ValueError, match="parents must be one of best, cases, or a function"):
        LLMSampler(model="offline", parents=word)


def test_broken_parents_in_the_storage_are_skipped(caplog: Any) -> None:
    trials = [make_trial(0, LIKE), make_trial(1, BEST)]
    broken: Mapping[str, Any] = {
        "parent": 0,
        "second_parent": 1,
        "source": "model",
        "texts": {"code": 1},
    }
    trials[1].user_attrs["llm:proposal"] = broken
    record = take(trials).find(1)
    assert record is not None
    assert (record.parent, record.second_parent) == (0, None)
