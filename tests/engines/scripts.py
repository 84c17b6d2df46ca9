"""Running the scripts of examples/engines/, and what becomes of their study."""

from __future__ import annotations

import os
from pathlib import Path
import subprocess
import sys

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from optuna_llm import get_texts


ENGINES = Path(__file__).parents[2] / "examples/engines"


def read_trials(path: Path) -> list[optuna.trial.FrozenTrial]:
    storage = JournalStorage(JournalFileBackend(str(path)))
    if "workers" not in optuna.get_all_study_names(storage):
        return []
    return optuna.load_study(study_name="workers", storage=storage).trials


def run(script: str, *arguments: object, **variables: str) -> str:
    """Run a script to its end; returns what it prints."""
    done = subprocess.run(
        [sys.executable, str(ENGINES / script), *map(str, arguments)],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def assert_shared(trials: list[optuna.trial.FrozenTrial], n_trials: int, n_workers: int) -> None:
    assert n_trials <= len(trials) < n_trials + n_workers
    assert {trial.state for trial in trials} == {TrialState.COMPLETE}
    values = {(str(get_texts(trial)), trial.params["scale"]) for trial in trials}
    assert len(values) == len(trials)
