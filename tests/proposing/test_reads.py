"""What workers read of a shared database, and that they find each other's claims by it."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from pathlib import Path
import random
from typing import Any

import optuna
import pytest
import sqlalchemy
from storage_worker import open_storage
from test_storages import open_proxy

from optuna_llm import LLMSampler
from optuna_llm import suggest_text
from optuna_llm.testing import ScriptedModel
from optuna_llm.testing import write_reply


optuna.logging.set_verbosity(optuna.logging.WARNING)


def objective(trial: optuna.Trial) -> float:
    text = suggest_text(trial, "code", "y = 1")
    return trial.suggest_float("x", 0, 1) + len(text)


def open_study(path: Path, sampler: Any) -> optuna.Study:
    """The study as a process of its own opens it: with a connection and a cache of its own."""
    storage = f"sqlite:///{path}/study.db"
    return optuna.create_study(
        study_name="s", storage=storage, sampler=sampler, load_if_exists=True
    )


def ask_models(turns: object, candidates: Any, rng: object) -> list[str]:
    return [candidate.name for candidate in candidates if candidate.is_model]


def make_sampler(answer: Callable[[], str]) -> LLMSampler:
    model = ScriptedModel(lambda messages: answer())
    return LLMSampler("Go down.", model=model, seed=0, proposers=ask_models)


def count_statements(study: optuna.Study, n_trials: int) -> dict[str, float]:
    """Statements per trial by the table that they read."""
    counts: dict[str, float] = {}

    def note(connection: object, cursor: object, statement: str, *_: object) -> None:
        if statement.startswith("SELECT"):
            table = statement.split("FROM ")[1].split()[0]
            counts[table] = counts.get(table, 0) + 1 / n_trials

    engine = study._storage._backend.engine  # type: ignore[attr-defined]
    sqlalchemy.event.listen(engine, "before_cursor_execute", note)
    study.optimize(objective, n_trials)
    return counts


def test_a_trial_reads_others_as_often_as_under_a_random_sampler(tmp_path: Path) -> None:
    rng = random.Random(0)

    def answer() -> str:
        return write_reply({"x": rng.random()}, {"code": f"y = {rng.random()}"})

    counts = []
    for name, sampler in (
        ("random", optuna.samplers.RandomSampler()),
        ("llm", make_sampler(answer)),
    ):
        (tmp_path / name).mkdir()
        study = open_study(tmp_path / name, sampler)
        study.optimize(objective, 4)
        counts.append(count_statements(study, 8))
    alone, ours = counts
    for table in ("trial_params", "trial_values", "trial_intermediate_values"):
        assert ours[table] == pytest.approx(alone[table])


def work_as_model(study: optuna.Study) -> None:
    """Another worker of the same kind proposes, runs and ends a trial."""
    study.sampler = make_sampler(lambda: write_reply({"x": 0.5}, {"code": "y = 2"}))
    study.optimize(objective, 1)


def work_and_run(study: optuna.Study) -> None:
    """The same, and it runs still."""
    study.sampler = make_sampler(lambda: write_reply({"x": 0.5}, {"code": "y = 2"}))
    trial = study.ask()
    objective(trial)


def work_without_a_model(study: optuna.Study) -> None:
    """A worker that claims nothing takes the same values."""
    study.sampler = optuna.samplers.RandomSampler()
    study.enqueue_trial({"x": 0.5}, user_attrs={"code": "y = 2"})
    study.optimize(objective, 1)


@pytest.mark.parametrize("work", [work_as_model, work_and_run, work_without_a_model])
def test_values_that_another_worker_took_meanwhile_are_refused(
    tmp_path: Path, work: Callable[[optuna.Study], None]
) -> None:
    other = open_study(tmp_path, optuna.samplers.RandomSampler())
    other.optimize(objective, 1)

    def answers() -> Iterator[str]:
        yield write_reply({"x": 0.1}, {"code": "y = 3"})
        work(other)
        yield write_reply({"x": 0.5}, {"code": "y = 2"})
        yield write_reply({"x": 0.7}, {"code": "y = 4"})

    script = answers()
    study = open_study(tmp_path, make_sampler(lambda: next(script)))
    study.optimize(objective, 2)
    taken = [(t.params["x"], t.user_attrs["code"]) for t in study.trials if t.params]
    assert len(taken) == len(set(taken)) == 4
    assert (0.7, "y = 4") in taken


def test_a_claim_of_a_trial_that_ran_before_is_found(tmp_path: Path) -> None:
    other = open_study(tmp_path, optuna.samplers.RandomSampler())
    other.optimize(objective, 1)
    running = other.ask()

    def answers() -> Iterator[str]:
        yield write_reply({"x": 0.1}, {"code": "y = 3"})
        other.sampler = make_sampler(lambda: write_reply({"x": 0.5}, {"code": "y = 2"}))
        objective(running)
        yield write_reply({"x": 0.5}, {"code": "y = 2"})
        yield write_reply({"x": 0.7}, {"code": "y = 4"})

    script = answers()
    study = open_study(tmp_path, make_sampler(lambda: next(script)))
    study.optimize(objective, 2)
    assert [t.params["x"] for t in study.trials if t.number > running.number] == [0.1, 0.7]


@pytest.mark.slow
def test_behind_a_proxy_a_trial_reads_others_once_more_than_under_a_random_sampler(
    tmp_path: Path,
) -> None:
    rng = random.Random(0)

    def answer() -> str:
        return write_reply({"x": rng.random()}, {"code": f"y = {rng.random()}"})

    with open_proxy(f"sqlite:///{tmp_path}/study.db") as url:
        storage: Any = open_storage(url)
        study = optuna.create_study(storage=storage, sampler=make_sampler(answer))
        study.optimize(objective, 4)
        reads = []
        read = storage._cache._read_trials_from_remote_storage

        def note(study_id: int) -> None:
            reads.append(study_id)
            read(study_id)

        storage._cache._read_trials_from_remote_storage = note
        study.optimize(objective, 5)
    assert len(reads) == 2 * 5
