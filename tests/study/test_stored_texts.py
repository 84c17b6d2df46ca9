"""How the texts of a trial are stored, whatever happens between two writes."""

from __future__ import annotations

import tracemalloc
from typing import Any

import optuna
from optuna.trial import TrialState
from provenance import told
import pytest

from optuna_llm import get_texts
from optuna_llm import LLMSampler
from optuna_llm import suggest_text
from optuna_llm._study.history import make_record
from optuna_llm.testing import ScriptedModel
from optuna_llm.testing import write_reply


LONG = "字" * 25_000
"""A text in three pieces."""


class _Writes(optuna.storages.InMemoryStorage):
    """Takes so many more attributes of trials, and then dies."""

    def __init__(self, n_left: int = 10**6) -> None:
        super().__init__()
        self.n_left = n_left
        self.keys: list[str] = []

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        if not self.n_left:
            raise ConnectionError("dead")
        self.n_left -= 1
        self.keys.append(key)
        super().set_trial_user_attr(trial_id, key, value)


def die(trial: optuna.Trial, initial: str) -> float:
    suggest_text(trial, "code", initial)
    raise ConnectionError("dead")


@pytest.mark.parametrize("n_written", range(5))
@pytest.mark.parametrize("is_initial", [True, False])
def test_a_text_that_a_dead_process_has_written_half_is_not_taken_for_a_whole_one(
    n_written: int, is_initial: bool, logs: pytest.LogCaptureFixture
) -> None:
    storage = _Writes()
    replies = iter([write_reply(texts={"code": LONG}), write_reply(texts={"code": "new"})])
    model = ScriptedModel(lambda _: next(replies))
    sampler = optuna.samplers.RandomSampler() if is_initial else LLMSampler(model=model)
    study = optuna.create_study(storage=storage, sampler=sampler)
    if not is_initial:
        study.optimize(lambda t: len(suggest_text(t, "code", "a")), n_trials=1)
    storage.n_left = n_written
    with pytest.raises(ConnectionError):
        study.optimize(lambda t: die(t, LONG), n_trials=1)
    storage.n_left = 10**6
    died = study.trials[-1]
    assert get_texts(died) == ({"code": LONG} if n_written == 4 else {})
    # As the retry callback of a storage with heartbeats does.
    study.add_trial(optuna.create_trial(state=TrialState.WAITING, user_attrs=died.user_attrs))
    study.optimize(lambda t: len(suggest_text(t, "code", "new")), n_trials=1)
    assert get_texts(study.trials[-1]) == {"code": LONG if n_written == 4 else "new"}
    assert "cannot be read" not in logs.text


def test_a_text_costs_a_trial_no_more_rows_than_its_pieces_and_the_proposal() -> None:
    storage = _Writes()
    replies = iter([write_reply(texts={"code": LONG, "word": "b"})])
    sampler = LLMSampler(model=ScriptedModel(lambda _: next(replies)))
    study = optuna.create_study(storage=storage, sampler=sampler)

    def objective(trial: optuna.Trial) -> float:
        word = suggest_text(trial, "word", "a")
        assert suggest_text(trial, "code", "start") == trial.user_attrs["code"][:5] or word == "b"
        assert trial.user_attrs == study.get_trials()[trial.number].user_attrs
        return 0.0

    study.optimize(objective, n_trials=1)
    # The second text was not known when the first had the sampler asked.
    assert storage.keys == ["llm:proposal", "word", "llm:proposal", "code"]
    storage.keys.clear()
    study.optimize(objective, n_trials=1)
    assert storage.keys == ["llm:proposal", "word", "code:2", "code:1", "code"]
    storage.keys.clear()
    study.sampler = optuna.samplers.RandomSampler()
    study.optimize(lambda t: len(suggest_text(t, "word", "a")), n_trials=1)
    assert storage.keys == ["llm:proposal", "word"]
    assert told(study.trials[2], "source") == "initial"


@pytest.mark.parametrize("is_llm", [False, True])
def test_a_text_set_by_hand_stays_as_it_is_and_becomes_the_trials(
    is_llm: bool, logs: pytest.LogCaptureFixture
) -> None:
    storage = _Writes()
    sampler = LLMSampler(model="offline") if is_llm else optuna.samplers.RandomSampler()
    study = optuna.create_study(storage=storage, sampler=sampler)
    study.enqueue_trial({}, user_attrs={"code": LONG})
    study.enqueue_trial({"code": LONG})
    storage.keys.clear()
    study.optimize(lambda t: len(suggest_text(t, "code", "a")), n_trials=2)
    assert storage.keys == ["llm:proposal", "llm:proposal", "code:2", "code:1", "code"]
    assert [told(t, "source") for t in study.trials] == ["user", "user"]
    assert [get_texts(t) for t in study.trials] == [{"code": LONG}] * 2
    assert study.trials[0].user_attrs["code"] == LONG
    assert "cannot be read" not in logs.text


def test_a_text_that_the_objective_did_not_ask_for_is_none_of_the_trials() -> None:
    replies = iter([write_reply(texts={"a": "1", "b": "2"}), write_reply(texts={"a": "3"})])
    study = optuna.create_study(sampler=LLMSampler(model=lambda _: next(replies)))
    study.optimize(lambda t: len(suggest_text(t, "a", "") + suggest_text(t, "b", "")), n_trials=1)
    study.optimize(lambda t: len(suggest_text(t, "a", "")), n_trials=1)
    assert told(study.trials[1], "texts") == {"a": 1, "b": 1}
    assert get_texts(study.trials[1]) == {"a": "1"}


def test_records_hold_no_second_copy_of_long_texts() -> None:
    study = optuna.create_study()
    study.optimize(lambda t: len(suggest_text(t, "code", LONG)), 20)
    trials = study.get_trials(deepcopy=False)
    tracemalloc.start()
    records = [make_record(trial) for trial in trials]
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 20 * len(LONG) / 4
    assert [dict(record.texts) for record in records] == [{"code": LONG}] * 20
    assert repr(records[0].texts) == repr({"code": LONG})
