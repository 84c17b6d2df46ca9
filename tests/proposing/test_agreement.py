"""Workers that do not talk share the trials as one alone does."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
import random
import subprocess
import sys

import optuna
from optuna.storages.journal import JournalFileBackend
import pytest

from optuna_llm import LLMSampler
from optuna_llm._study.attributes import read_provenance
from optuna_llm.testing import ScriptedModel
from optuna_llm.testing import write_reply


N_TRIALS = 400
N_WORKERS = 8


def open_storage(path: Path) -> optuna.storages.BaseStorage:
    return optuna.storages.JournalStorage(JournalFileBackend(str(path)))


def work(path: Path, seed: int, n_trials: int) -> None:
    """Run trials by two models that draw at random, one of them in a better part of the space."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    rng = random.Random(seed)

    def draw(low: float) -> ScriptedModel:
        return ScriptedModel(lambda _: write_reply({n: rng.uniform(low, 1) for n in "xy"}))

    models = {"better": draw(0.4), "worse": draw(0.0)}
    base = optuna.samplers.RandomSampler(seed=seed)
    study = optuna.load_study(
        study_name="s",
        storage=open_storage(path),
        sampler=LLMSampler("Go up.", model=models, base_sampler=base, seed=0),
    )
    study.optimize(lambda t: sum(t.suggest_float(n, 0, 1) for n in "xy"), n_trials=n_trials)


def count(folder: Path, workers: int) -> Counter[str | None]:
    """Who has proposed the trials of a study by so many processes."""
    path = folder / f"{workers}.log"
    study = optuna.create_study(study_name="s", storage=open_storage(path), direction="maximize")
    commands = [
        [sys.executable, __file__, str(path), str(seed), str(N_TRIALS // workers)]
        for seed in range(workers)
    ]
    running = [subprocess.Popen(command) for command in commands]
    assert [process.wait() for process in running] == [0] * workers
    assert len(study.trials) == N_TRIALS
    return Counter(read_provenance(trial).proposer for trial in study.trials)


@pytest.mark.slow
def test_eight_workers_share_the_trials_as_one_does(tmp_path: Path) -> None:
    alone, together = count(tmp_path, 1), count(tmp_path, N_WORKERS)
    for name in ("better", "worse", "base"):
        # What one draws by chance varies by some sixty trials between seeds.
        assert abs(alone[name] - together[name]) < 120, (alone, together)
    for shares in (alone, together):
        assert shares["better"] > shares["worse"]


if __name__ == "__main__":
    work(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
