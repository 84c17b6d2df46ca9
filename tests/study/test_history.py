from __future__ import annotations

from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution
from optuna.distributions import FloatDistribution
from optuna.distributions import IntDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial
from optuna.trial import TrialState
import pytest

from optuna_llm._study.history import History
from optuna_llm._study.identity import make_claim
from optuna_llm._study.ranking import spread
from optuna_llm._study.snapshot import StudySnapshot


MINIMIZE, MAXIMIZE = StudyDirection.MINIMIZE, StudyDirection.MAXIMIZE
SPACE = {
    "x": FloatDistribution(0, 10),
    "kind": CategoricalDistribution(["a", "b"]),
    "n": IntDistribution(0, 5),
}


def trial(number: int, state: TrialState = TrialState.COMPLETE, **fields: Any) -> FrozenTrial:
    params = fields.pop("params", {"x": float(number)})
    if state == TrialState.COMPLETE:
        fields.setdefault("values", [float(number)])
    made = optuna.trial.create_trial(
        state=state, params=params, distributions={name: SPACE[name] for name in params}, **fields
    )
    made.number = number
    return made


def make_history(*directions: StudyDirection) -> History:
    return History([(f"value {i}", direction) for i, direction in enumerate(directions)])


def read(*trials: FrozenTrial, directions: Any = (MINIMIZE,)) -> StudySnapshot:
    history = make_history(*directions)
    history.update(trials)
    return history.make_snapshot("", {})


def numbers(records: Any) -> list[int]:
    return [record.number for record in records]


def test_a_claim_of_another_running_trial_is_found_beside_ones_own() -> None:
    claim = make_claim({"x": 7.0}, {})
    claimed = {"user_attrs": {"llm:proposal": {"claim": claim}}, "params": {}}
    history = make_history(MINIMIZE)
    history.update([trial(n, TrialState.RUNNING, **claimed) for n in (3, 4)])
    snapshot = history.make_snapshot("", {})
    assert snapshot.find_equal({"x": 7.0}, {}, besides=3) == 4
    assert snapshot.find_equal({"x": 7.0}, {}, besides=4) == 3
    assert snapshot.find_equal({"x": 8.0}, {}, besides=3) is None
    # Once they have ended, only their values count.
    history.update([trial(3), trial(4)])
    assert history.make_snapshot("", {}).find_equal({"x": 7.0}, {}) is None


@pytest.mark.parametrize(
    ("direction", "leaders"), [(MINIMIZE, [4, 3, 2, 1, 0]), (MAXIMIZE, [5, 6, 7, 8, 9])]
)
def test_leaders_are_the_best_few_the_best_last(direction: Any, leaders: list[int]) -> None:
    assert numbers(read(*map(trial, range(10)), directions=[direction]).leaders) == leaders


def test_leaders_are_feasible_if_any_is_else_the_least_violated() -> None:
    def constrained(number: int, value: float) -> FrozenTrial:
        return trial(number, system_attrs={"constraints": [value]})

    assert numbers(read(constrained(0, 3.0), constrained(1, 1.0)).leaders) == [0, 1]
    assert numbers(read(constrained(0, 3.0), constrained(1, -1.0)).leaders) == [1]


def test_leaders_of_several_objectives_are_its_front() -> None:
    points = [(0, 9), (5, 5), (9, 0), (6, 6), (5, 5), (1, 8)]
    trials = [trial(i, values=point) for i, point in enumerate(points)]
    front = read(*trials, directions=[MINIMIZE, MINIMIZE]).leaders
    assert sorted(numbers(front)) == [0, 1, 2, 4, 5]


def test_a_large_front_is_shown_from_end_to_end() -> None:
    assert spread(list(range(100)), 5) == [0, 25, 50, 74, 99]  # type: ignore[arg-type, comparison-overlap]


def test_finished_trials_are_read_once_in_the_order_they_ended() -> None:
    history = make_history(MINIMIZE)
    running = trial(0, TrialState.RUNNING)
    history.update([running, trial(1)])
    history.update([trial(0), trial(1), trial(2, TrialState.WAITING)])
    snapshot = history.make_snapshot("", {})
    assert numbers(snapshot.finished) == [1, 0]
    assert snapshot.running == []


def test_a_trial_that_failed_before_it_had_values_says_nothing() -> None:
    history = read(trial(0, TrialState.FAIL, params={}), trial(1, TrialState.FAIL))
    assert numbers(history.finished) == [1]
    assert history.leaders == []


def test_a_trial_still_short_of_values_is_no_repeat_of_one_with_all() -> None:
    whole = trial(0, params={"kind": "a", "n": 1})
    begun = trial(1, TrialState.RUNNING, params={"kind": "b"})
    failed = trial(2, TrialState.FAIL, params={"kind": "b"})
    history = read(whole, begun, failed)
    assert history.find_equal({"kind": "b", "n": 1}, {}, besides=9) is None
    assert history.find_equal({"kind": "a", "n": 1}, {}, besides=9) == 0


def test_what_a_trial_would_not_ask_for_makes_no_new_one() -> None:
    history = read(trial(0, params={"kind": "a"}), trial(1, params={"kind": "b", "n": 1}))
    assert history.find_equal({"kind": "a", "n": 5}, {}, besides=9) == 0
    assert history.find_equal({"kind": "b", "n": 5}, {}, besides=9) is None


def test_conditional_is_what_some_trial_did_without() -> None:
    history = read(
        trial(0, params={"kind": "a"}),
        trial(1, params={"kind": "b", "n": 1}),
        trial(2, TrialState.FAIL, params={}),
    )
    assert history.conditional == {"n"}
    assert history.space.keys() == {"kind", "n"}


def test_a_space_of_steps_is_exhausted_when_each_point_is_tried() -> None:
    space = {"kind": SPACE["kind"]}
    first, second = trial(0, params={"kind": "a"}), trial(1, params={"kind": "b"})
    assert not read(first).is_exhausted(space)
    assert read(first, second).is_exhausted(space)
    assert not read(trial(0)).is_exhausted({"x": SPACE["x"]})


def test_a_difference_of_rounding_is_no_gain() -> None:
    values = [8.3, 8.3 - 2e-15, 7.0]
    model = {"user_attrs": {"llm:proposal": {"source": "model"}}}
    snapshot = read(*(trial(i, values=[value], **model) for i, value in enumerate(values)))
    assert [snapshot.is_step(record) for record in snapshot.finished] == [True, False, True]
    assert snapshot.gains == pytest.approx([1.3])


def test_a_snapshot_keeps_its_running_trials_when_an_older_read_comes_in_later() -> None:
    # Threads read the storage one by one and take what they have read in any order.
    finished = trial(0)
    claim = make_claim({"x": 1.0}, {})
    running = trial(
        1, TrialState.RUNNING, params={}, user_attrs={"llm:proposal": {"claim": claim}}
    )
    history = make_history(MINIMIZE)
    history.update([finished, running])
    snapshot = history.make_snapshot("", {})
    history.update([finished])
    assert snapshot.find_equal({"x": 1.0}, {}) == 1
    assert history.make_snapshot("", {}).find_equal({"x": 1.0}, {}) is None


def test_a_snapshots_finished_trials_are_ranked_and_stay_as_they_were() -> None:
    history = make_history(MINIMIZE)
    values = [5.0, 3.0, 9.0, 3.0, float("inf"), 1.0]
    trials = [trial(i, values=[value], params={"x": 1.0}) for i, value in enumerate(values)]
    trials.append(trial(6, TrialState.FAIL))
    history.update(trials[:5])
    first = history.make_snapshot("", {}).finished
    history.update(trials)
    many = [trial(7 + i, values=[100.0 - i], params={"x": 2.0}) for i in range(40)]
    history.update([*trials, *many])
    later = history.make_snapshot("", {}).finished
    assert numbers(first) == numbers(list(first)) == [0, 1, 2, 3, 4]
    assert numbers(reversed(first)) == [4, 3, 2, 1, 0]
    assert numbers(first.ranked) == [1, 3, 0, 2, 4]
    assert numbers(first.ranked[1:3]) == [3, 0]
    assert numbers(later.ranked) == [5, 1, 3, 0, 2, *range(46, 6, -1), 4]


def test_the_latest_trial_with_a_text_or_with_images_is_known() -> None:
    attributes = {"llm:proposal": {"texts": {"code": 1}}, "code": "a", "llm:images": ["0-a"]}
    snapshot = read(trial(0, user_attrs=attributes), trial(1, user_attrs=attributes), trial(2))
    assert snapshot.latest_with_images is snapshot.finished[1]
    assert snapshot.find_latest_with("code") is snapshot.finished[1]
    assert snapshot.find_latest_with("other") is None
