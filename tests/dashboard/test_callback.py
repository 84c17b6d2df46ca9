"""The callback that keeps notes and plots up to date."""

from __future__ import annotations

from pathlib import Path
import pickle
import subprocess
import sys

import optuna
from optuna_dashboard import get_note
import pytest
from test_notes import stored
from test_notes import trial_note
from waiting import wait_for

from optuna_llm.dashboard import annotate
from optuna_llm.dashboard import DashboardNotes


def test_the_callback_annotates_the_first_trial_at_once() -> None:
    study = optuna.create_study()
    seen = []
    look = lambda study, trial: seen.append(trial_note(study, trial.number))  # noqa: E731
    study.optimize(lambda trial: 1.0, 1, callbacks=[DashboardNotes(), look])
    assert "**1**" in seen[0]


def test_the_callback_catches_up_on_trials_that_it_has_skipped() -> None:
    study = optuna.create_study()
    study.optimize(
        lambda t: t.suggest_float("x", 0, 1), 60, n_jobs=4, callbacks=[DashboardNotes()]
    )
    wait_for(lambda: "60 complete" in get_note(study))


QUICK = """
import sys, optuna
from optuna_llm.dashboard import DashboardNotes
study = optuna.load_study(study_name="s", storage=sys.argv[1])
study.optimize(lambda t: t.suggest_float("x", 0, 1), 30, callbacks=[DashboardNotes()])
"""


@pytest.mark.slow
def test_deferred_notes_are_written_when_the_process_exits(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    optuna.create_study(study_name="s", storage=url)
    subprocess.run([sys.executable, "-c", QUICK, url], check=True, capture_output=True)
    assert "30 complete" in get_note(optuna.load_study(study_name="s", storage=url))


@pytest.mark.slow
def test_concurrent_workers_leave_the_same_notes_as_one(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    study = optuna.create_study(study_name="s", storage=url)
    workers = [subprocess.Popen([sys.executable, "-c", QUICK, url]) for _ in range(3)]
    assert [worker.wait(120) for worker in workers] == [0, 0, 0]
    before = stored(study)
    assert "90 complete" in get_note(study)
    annotate(study)
    assert stored(study) == before


def test_the_callback_can_be_pickled() -> None:
    notes = pickle.loads(pickle.dumps(DashboardNotes(max_rows=10)))
    study = optuna.create_study()
    study.optimize(lambda t: t.suggest_float("x", 0, 1), 1, callbacks=[notes])
    assert "1 complete" in get_note(study)
