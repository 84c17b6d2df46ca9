"""Cases of several processes, and of those that die: none is counted twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
import signal
import subprocess
import sys

import case_worker
from case_worker import HEARTBEAT
from case_worker import make_retry
from case_worker import open_any_storage
import optuna
from optuna.pruners import NopPruner
from optuna.trial import FrozenTrial
from optuna.trial import TrialState
import pytest
from storage_worker import open_storage
from test_storages import new_database
from test_storages import POSTGRESQL
from waiting import wait_for

from optuna_llm import CaseResult
from optuna_llm._study.history import make_record


pytestmark = pytest.mark.slow

N_CASES = case_worker.N_CASES
MEAN = sum(range(N_CASES)) / N_CASES / N_CASES


@contextmanager
def open_address(kind: str, folder: Path) -> Iterator[str]:
    if kind == "postgresql":
        with new_database(POSTGRESQL, '"') as url:
            yield url
    else:
        files = {"sqlite": "sqlite:///{}/study.db", "journal-file": "journal-file:{}/study.log"}
        yield files[kind].format(folder)


@pytest.fixture(params=["journal-file", "postgresql", "sqlite"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with open_address(request.param, tmp_path) as found:
        yield found


@pytest.fixture(params=["postgresql", "sqlite"])
def heartbeat_address(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with open_address(request.param, tmp_path) as found:
        yield f"{HEARTBEAT}{found}"


def start(address: str, n_trials: int, log: Path, seconds: float) -> subprocess.Popen[bytes]:
    arguments = [address, "s", str(n_trials), str(log), str(seconds)]
    return subprocess.Popen([sys.executable, case_worker.__file__, *arguments])


def read_log(log: Path) -> Counter[tuple[int, int]]:
    pairs = (line.split() for line in log.read_text().splitlines())
    return Counter((int(trial), int(case)) for trial, case in pairs)


def test_eight_processes_evaluate_each_case_of_each_trial_once(
    address: str, tmp_path: Path
) -> None:
    optuna.create_study(study_name="s", storage=open_storage(address))
    log = tmp_path / "log"
    workers = [start(address, 3, log, 0.005) for _ in range(8)]
    assert [worker.wait() for worker in workers] == [0] * 8
    study = optuna.load_study(study_name="s", storage=open_storage(address))
    assert [trial.value for trial in study.trials] == [pytest.approx(MEAN)] * 24
    expected = {c: CaseResult(c / N_CASES, f"case {c}") for c in range(N_CASES)}
    assert all(make_record(trial).cases == expected for trial in study.trials)
    assert read_log(log) == Counter((n, c) for n in range(24) for c in range(N_CASES))


def test_a_retry_of_a_killed_trial_counts_no_case_twice(address: str, tmp_path: Path) -> None:
    optuna.create_study(study_name="s", storage=open_storage(address))
    log = tmp_path / "log"
    study = optuna.load_study(study_name="s", storage=open_storage(address))

    def find_values() -> dict[int, float] | None:
        values = study.trials[0].intermediate_values if study.trials else {}
        return values if len(values) >= 5 else None

    worker = start(address, 1, log, 0.1)
    wait_for(find_values)
    worker.kill()
    worker.wait()
    killed = study.trials[0]
    kept = set(killed.intermediate_values)
    assert killed.state == TrialState.RUNNING
    assert 5 <= len(kept) < N_CASES
    study.tell(0, state=TrialState.FAIL)
    make_retry()(study, killed)

    assert start(address, 1, log, 0.0).wait() == 0
    trial = study.trials[1]
    assert trial.value == pytest.approx(MEAN)
    assert {case for number, case in read_log(log) if number == 1} == set(range(N_CASES)) - kept
    assert {c: r.score for c, r in make_record(trial).cases.items()} == {
        case: case / N_CASES for case in range(N_CASES)
    }


def test_trials_of_killed_workers_are_ended_by_the_others_without_a_case_counted_twice(
    heartbeat_address: str, tmp_path: Path
) -> None:
    storage = open_any_storage(heartbeat_address)
    study = optuna.create_study(study_name="s", storage=storage, pruner=NopPruner())
    log = tmp_path / "log"
    workers = [start(heartbeat_address, 3, log, 0.2) for _ in range(8)]
    by_pid = {worker.pid: worker for worker in workers}
    running = [TrialState.RUNNING]

    def find_victims() -> list[FrozenTrial] | None:
        begun = [t for t in study.get_trials(states=running) if t.intermediate_values]
        return begun[:3] if len(begun) >= 3 else None

    killed = wait_for(find_victims)
    for trial in killed:
        by_pid[trial.user_attrs["worker"]].kill()
    assert sorted(worker.wait() for worker in workers) == [-signal.SIGKILL] * 3 + [0] * 5
    # One more does again what nobody has.
    unfinished = [TrialState.RUNNING, TrialState.WAITING]
    while study.get_trials(states=unfinished):
        assert start(heartbeat_address, 1, log, 0.0).wait() == 0

    trials = study.trials
    evaluated = read_log(log)
    assert set(evaluated.values()) == {1}
    assert {t.number for t in trials if t.state == TrialState.FAIL} == {t.number for t in killed}
    again = {t.system_attrs["failed_trial"]: t for t in trials if "failed_trial" in t.system_attrs}
    assert again.keys() == {trial.number for trial in killed}
    for trial in trials:
        if trial.state == TrialState.FAIL:
            kept = set(trial.intermediate_values)
            assert 0 < len(kept) < N_CASES
            rerun = again[trial.number]
            cases = {case for number, case in evaluated if number == rerun.number}
            assert cases == set(range(N_CASES)) - kept
        else:
            assert trial.value == pytest.approx(MEAN)
            scores = {case: result.score for case, result in make_record(trial).cases.items()}
            assert scores == {case: case / N_CASES for case in range(N_CASES)}
