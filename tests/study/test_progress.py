"""The course of a study, of which no finished trial is read twice."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from datetime import timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
import optuna
from optuna.trial import create_trial
from optuna.trial import FrozenTrial
from optuna.trial import TrialState

from optuna_llm._study.progress import _Course
from optuna_llm._study.progress import Progress
from optuna_llm._study.progress import read_progress


BEGIN = datetime(2026, 1, 1)
OBJECTIVES = [("value", optuna.study.StudyDirection.MAXIMIZE)]


def make_trial(number: int, value: float | None, ended: int) -> FrozenTrial:
    space: Any = {f"x{number % 3}": optuna.distributions.FloatDistribution(0, 1)}
    trial = create_trial(
        state=TrialState.FAIL if value is None else TrialState.COMPLETE,
        value=value,
        params=dict.fromkeys(space, 0.5),
        distributions=space,
        user_attrs={"llm:proposal": {"source": "model", "parent": max(0, number - 1)}},
    )
    trial.number = number
    trial.datetime_complete = BEGIN + timedelta(seconds=ended)
    return trial


def make_running(number: int) -> FrozenTrial:
    trial = create_trial(state=TrialState.RUNNING)
    trial.number = number
    return trial


def summarize(progress: Progress) -> object:
    return (
        [t.number for t in progress.finished],
        [r.number for r in progress.improvements],
        [r.number for r in progress.best],
        dict(progress.space),
        progress.numbers,
        progress.origins,
        list(progress.trials),
    )


@st.composite
def courses(draw: st.DrawFn) -> list[list[FrozenTrial]]:
    """A study as it is seen again and again: trials end in any order, by clocks that differ."""
    count = draw(st.integers(1, 12))
    values = draw(st.lists(st.none() | st.integers(0, 5), min_size=count, max_size=count))
    times = draw(st.lists(st.integers(0, 20), min_size=count, max_size=count))
    order = draw(st.permutations(range(count)))
    steps = sorted(draw(st.sets(st.integers(1, count))) | {count})
    seen = []
    for step in steps:
        ended = set(order[:step])
        known = max(ended) + 1
        seen.append(
            [
                make_trial(n, values[n], times[n]) if n in ended else make_running(n)
                for n in range(known)
            ]
        )
    return seen


@given(courses())
def test_step_by_step_it_is_the_same_as_read_at_once(seen: Sequence[list[FrozenTrial]]) -> None:
    course = _Course()
    for trials in seen:
        step_by_step = course.read(trials, OBJECTIVES)
        assert summarize(step_by_step) == summarize(_Course().read(trials, OBJECTIVES))


def test_a_finished_trial_is_read_once() -> None:
    study = optuna.create_study()
    for number in range(3):
        study.add_trial(make_trial(number, 1.0, number))
    first = read_progress(study)
    study.add_trial(make_trial(3, 2.0, 3))
    second = read_progress(study)
    assert len(second.origins) == 4
    assert all(second.origins[n] is first.origins[n] for n in range(3))
    assert len(first.finished) == len(first.origins) == 3


def test_another_study_under_the_same_id_begins_anew() -> None:
    storage = optuna.storages.InMemoryStorage()
    for value in (1.0, 2.0):
        study = optuna.create_study(storage=storage, study_name="s")
        study.optimize(lambda trial, value=value: value, 1)
        assert [record.values for record in read_progress(study).best] == [(value,)]
        optuna.delete_study(study_name="s", storage=storage)
