"""What the model is shown of a long history, what it starts from and what it is to aim at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
import itertools
import random
import re
from typing import Any

import optuna
from optuna.study import StudyDirection
from optuna.trial import TrialState
from provenance import told
import pytest

from optuna_llm import describe_study
from optuna_llm import LLMSampler
from optuna_llm import Message
from optuna_llm import report_feedback
from optuna_llm import suggest_text
from optuna_llm import TrialRecord
from optuna_llm._prompt.choice import choose_usual
from optuna_llm._prompt.parents import choose_parents
from optuna_llm._study.ranking import rank
from optuna_llm._study.sequences import Finished
from optuna_llm._study.store import StudyStore
from optuna_llm.testing import ScriptedModel
from optuna_llm.testing import write_reply


MINIMIZE = StudyDirection.MINIMIZE


def record(number: int, *values: float, **fields: Any) -> TrialRecord:
    return TrialRecord(number, fields.pop("state", TrialState.COMPLETE), values or None, **fields)


def test_the_best_the_latest_the_failed_and_each_level_take_turns() -> None:
    trials = [record(i, float((i * 37) % 100)) for i in range(90)]
    trials += [record(90, state=TrialState.FAIL, feedback="Boom."), record(91, 50.0)]
    chosen = [t.number for t in choose_usual(trials, [MINIMIZE])]
    assert chosen[:5] == [0, 91, 90, 73, 38]
    assert sorted(chosen) == list(range(92))


@pytest.mark.parametrize("n_trials", [0, 1, 30, 3_000])
def test_of_a_snapshots_trials_the_same_are_chosen_as_of_any_others(n_trials: int) -> None:
    trials = [record(i, float((i * 37) % 101)) for i in range(n_trials)]
    for i in range(0, n_trials, 7):
        trials[i] = record(i, state=TrialState.FAIL, feedback="Boom.")
    complete = [t for t in trials if t.values]
    order = sorted(rank(t, [MINIMIZE]) for t in complete)
    finished = Finished(trials, order, {t.number: t for t in trials})
    chosen = choose_usual(finished, [MINIMIZE])
    assert chosen == choose_usual(trials, [MINIMIZE])
    assert len(chosen) == len(set(chosen)) >= min(n_trials, 1_000)


def test_of_several_objectives_fronts_come_one_after_the_other() -> None:
    points = [(1, 4), (4, 1), (2, 2), (3, 3), (5, 5), (4, 4)]
    trials = [record(i, float(a), float(b)) for i, (a, b) in enumerate(points)]
    # Feasible trials first.
    trials.append(record(6, 0.0, 0.0, constraints={"c": 1.0}))
    order = [t.number for t in choose_usual(trials, [MINIMIZE, MINIMIZE])]
    places = {number: place for place, number in enumerate(order)}
    assert max(places[i] for i in (0, 1, 2)) < places[4]


def test_a_policy_of_the_user_says_what_stays() -> None:
    asked = []

    def choose_odd(
        trials: Sequence[TrialRecord], directions: Sequence[StudyDirection]
    ) -> list[TrialRecord]:
        asked.append(len(trials))
        return [trial for trial in trials if trial.number % 2]

    numbers = itertools.count(1)

    def answer(messages: Sequence[Message]) -> str:
        return write_reply(texts={"code": f"{next(numbers)} {'word ' * 30}"})

    def objective(trial: optuna.Trial) -> float:
        report_feedback(trial, f"Feedback {trial.number} " + "and on " * 30)
        return len(suggest_text(trial, "code", "start"))

    model = ScriptedModel(answer)
    sampler = LLMSampler(model=model, history=choose_odd, max_prompt_tokens=2_000, seed=0)
    study = optuna.create_study(sampler=sampler)
    study.optimize(objective, n_trials=40)
    # Rarely: each cut costs what a provider has cached.
    assert 1 <= len(asked) <= 12
    prompts = [user.content for _, user in model.calls]
    cut = next(prompt for prompt in prompts if "\nIn full:\n" in prompt)
    whole = [int(n) for n in re.findall(r"^## Trial (\d+).*\n(?:rationale.*\n)?code", cut, re.M)]
    assert whole
    assert all(number % 2 for number in whole)


def run(
    values: Sequence[float], n_trials: int, direction: str = "minimize", **facts: Any
) -> ScriptedModel:
    steps = iter(values)
    model = ScriptedModel(lambda _: write_reply({"x": next(steps)}, rationale="An idea."))
    study = optuna.create_study(direction=direction, sampler=LLMSampler(model=model, seed=0))
    describe_study(study, **facts)
    study.enqueue_trial({"x": values[0]})
    next(steps)
    study.optimize(lambda t: t.suggest_float("x", -100, 100), n_trials=n_trials)
    return model


@pytest.mark.parametrize(
    ("values", "direction", "aim"),
    [
        # The next gain is no larger than the last, and shrinks as they did.
        (
            [9, 8, 7, 0],
            "minimize",
            "to beat trial 2: aim at value 6 or less, going by the last gains.",
        ),
        (
            [7, 8, 9, 0],
            "maximize",
            "to beat trial 2: aim at value 10 or more, going by the last gains.",
        ),
        (
            [30, 20, 15, 40],
            "minimize",
            "to beat trial 2: aim at value 12.5 or less, going by the last gains.",
        ),
        # The first leap says nothing of what can still be gained.
        (
            [90, 12, 11, 10, 0],
            "minimize",
            "to beat trial 3: aim at value 9 or less, going by the last gains.",
        ),
        # One gain is no ground, and below zero nothing may be left.
        ([9, 8, 0], "minimize", "to beat trial 1."),
        ([9, 5, 1, 0], "minimize", "to beat trial 2."),
    ],
)
def test_the_aim_is_one_more_gain(values: Sequence[float], direction: str, aim: str) -> None:
    n_trials = len(values)
    assert run(values, n_trials, direction).calls[-1][1].content.rstrip().endswith(aim)


@pytest.mark.parametrize(
    ("facts", "aim"),
    [
        (
            {"best_possible": 0.98},
            "aim at value 0.98 or more, going by the last gains.",
        ),
        ({"best_possible": 0.97}, "none can be better than trial 2."),
        ({"noise": 0.019}, "aim at value 0.99 or more, going by the last gains."),
    ],
)
def test_the_aim_keeps_to_what_is_possible_and_beyond_noise(
    facts: dict[str, float], aim: str
) -> None:
    model = run([0.93, 0.95, 0.97, 0], 4, "maximize", **facts)
    assert aim in model.calls[-1][1].content


def test_after_trials_in_vain_another_direction_is_asked_for() -> None:
    values = [20.0, 10.0, *range(30, 60)]
    prompts = [user.content for _, user in run(values, 14).calls]
    said = ["gained nothing: go another way" in prompt for prompt in prompts]
    assert said == [False] * 9 + [True] * 4
    assert "Tried in vain:\n- trial 13: An idea." not in prompts[-1]
    assert "- trial 12: An idea." in prompts[-1]


def count_up() -> list[str]:
    return [write_reply(texts={"code": f"{i}"}) for i in range(1, 10)]


def draw_parents(n_trials: int, seed: int) -> list[int]:
    rng = random.Random(3)
    model = ScriptedModel(lambda _: write_reply(texts={"code": f"{rng.random()}"}))
    study = optuna.create_study(sampler=LLMSampler(model=model, seed=seed))
    values = iter(range(1000, 0, -1))

    def objective(trial: optuna.Trial) -> float:
        suggest_text(trial, "code", "0")
        return next(values)

    study.optimize(objective, n_trials=n_trials)
    return [told(t, "parent") for t in study.trials[1:]]


def test_most_trials_start_from_the_best_and_some_from_elsewhere() -> None:
    parents = draw_parents(200, seed=0)
    # Here each trial is the best so far.
    back = Counter(
        "best" if i == p else "leader" if i - p < 5 else "any" for i, p in enumerate(parents)
    )
    assert back["best"] > 130
    assert back["leader"] > 15
    assert back["any"] > 5
    assert draw_parents(30, seed=0) == parents[:29]
    assert draw_parents(30, seed=1) != parents[:29]


@pytest.mark.parametrize("sign", [-1, 1])
def test_variety_is_hardly_sought_in_an_initial_text_that_is_not_the_best(sign: int) -> None:
    study = optuna.create_study(sampler=LLMSampler(model=ScriptedModel(count_up()), seed=0))
    study.optimize(lambda trial: sign * float(suggest_text(trial, "code", "0")), n_trials=3)
    snapshot = StudyStore(study).snapshot(study)
    parents = [choose_parents(snapshot, "code", number, 0)[0] for number in range(3, 1_003)]
    drawn = Counter(parent.number for parent in parents if parent)
    if sign < 0:
        assert 0 < drawn[0] < 60 < drawn[1] < drawn[2]
    else:
        assert drawn[0] > 700


def test_the_last_trial_starts_from_the_best() -> None:
    study = optuna.create_study(sampler=LLMSampler(model=ScriptedModel(count_up()), seed=0))
    describe_study(study, n_trials=4)
    study.optimize(lambda trial: -float(suggest_text(trial, "code", "0")), n_trials=3)
    snapshot = StudyStore(study).snapshot(study)
    parents = [choose_parents(snapshot, "code", 3, seed)[0] for seed in range(50)]
    assert {parent.number for parent in parents if parent} == {2}


def test_the_next_prompt_can_be_seen_without_a_call() -> None:
    model = ScriptedModel([write_reply({"x": 0.5}), write_reply({"x": 0.25})])
    sampler = LLMSampler("Go down.", model=model, seed=0)
    study = optuna.create_study(sampler=sampler)
    with pytest.raises(ValueError, match="run a trial first"):
        sampler.preview(study)
    study.optimize(lambda t: t.suggest_float("x", 0, 1), n_trials=2)
    attributes = study.user_attrs
    seen = sampler.preview(study)
    assert study.user_attrs == attributes
    assert len(model.calls) == 1
    study.optimize(lambda t: t.suggest_float("x", 0, 1), n_trials=1)
    assert tuple(seen.messages) == tuple(model.calls[1])
    assert seen.tokens == sum(len(m.content) for m in seen.messages) // 4
    assert "Propose trial 2" in str(seen)
