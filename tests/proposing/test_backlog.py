"""What is written of a trial while its objective runs."""

from __future__ import annotations

import itertools
from pathlib import Path
import subprocess
import sys
import threading
from typing import Any

import optuna
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState
import pytest
from waiting import wait_for

from optuna_llm import LLMSampler
from optuna_llm._proposing.backlog import Backlog
from optuna_llm.testing import ScriptedModel
from optuna_llm.testing import write_reply


class FailingStorage(InMemoryStorage):
    """Writes user attributes once it is told to."""

    is_away = True
    attempts = 0

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        self.attempts += 1
        if self.is_away:
            raise ConnectionError("The database is away.")
        super().set_trial_user_attr(trial_id, key, value)


def stored(study: optuna.Study, number: int) -> dict[str, Any]:
    return study.get_trials(deepcopy=False)[number].user_attrs


def test_it_is_seen_at_once_and_written_while_the_trial_runs() -> None:
    study = optuna.create_study()
    trial = study.ask()
    backlog = Backlog()
    backlog.add(study, trial._cached_frozen_trial, {"a": 1})
    backlog.add(study, trial._cached_frozen_trial, {"b": 2})
    assert trial.user_attrs == {"a": 1, "b": 2}
    wait_for(lambda: stored(study, 0) == {"a": 1, "b": 2})


def test_a_trial_that_ends_first_writes_for_itself_and_leaves_no_thread() -> None:
    study = optuna.create_study()
    trials = [study.ask() for _ in range(2)]
    backlog = Backlog()
    before = threading.active_count()
    for trial in trials:
        backlog.add(study, trial._cached_frozen_trial, {"a": trial.number})
    for trial in trials:
        backlog.settle(study.trials[trial.number])
        assert stored(study, trial.number) == {"a": trial.number}
    wait_for(lambda: threading.active_count() == before)


def test_what_the_storage_did_not_take_is_written_or_raised_when_the_trial_ends() -> None:
    storage = FailingStorage()
    study = optuna.create_study(storage=storage)
    trial = study.ask()._cached_frozen_trial
    backlog = Backlog()
    backlog.add(study, trial, {"a": 1, "b": 2})
    wait_for(lambda: storage.attempts)
    with pytest.raises(ConnectionError, match="away"):
        backlog.settle(trial)
    storage.is_away = False
    backlog.settle(trial)
    assert stored(study, 0) == {"a": 1, "b": 2}


def test_a_study_that_asks_ahead_has_all_attributes_of_each_trial_when_it_ends() -> None:
    points = itertools.count(1)
    model = ScriptedModel(lambda _: write_reply({"x": next(points) / 100}, rationale="Onward."))
    study = optuna.create_study(sampler=LLMSampler(model=model, prefetch=2))
    seen: list[dict[str, Any]] = []
    study.optimize(
        lambda trial: trial.suggest_float("x", 0, 1),
        n_trials=6,
        callbacks=[lambda _, trial: seen.append(trial.user_attrs)],
    )
    assert [attributes["llm:source"] for attributes in seen] == ["base"] + 5 * ["model"]
    for attributes in seen[1:]:
        assert {"llm:rationale", "llm:calls", "llm:seconds"} <= attributes.keys()


def test_a_process_that_ends_with_its_trial_running_has_written_all(tmp_path: Path) -> None:
    script = """
import sys
import optuna
from optuna_llm import LLMSampler
from optuna_llm.testing import ScriptedModel, write_reply

model = ScriptedModel(lambda _: write_reply({"x": 0.5}))
study = optuna.create_study(storage=sys.argv[1], sampler=LLMSampler(model=model, prefetch=1))
study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
study.ask().suggest_float("x", 0, 1)
"""
    url = f"sqlite:///{tmp_path}/s.db"
    subprocess.run([sys.executable, "-c", script, url], check=True, capture_output=True)
    trial = optuna.load_study(study_name=None, storage=url).trials[1]
    assert trial.state == TrialState.RUNNING
    assert trial.user_attrs["llm:source"] == "model"
    assert trial.user_attrs["llm:calls"] == 1
