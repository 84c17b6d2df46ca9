"""Cases of several processes, and of those that die: none is counted twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
import subprocess
import sys
from typing import Any

import case_worker
import optuna
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


@pytest.fixture(params=["journal-file", "postgresql"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "postgresql":
        with new_database(POSTGRESQL, '"') as url:
            yield url
    else:
        yield f"journal-file:{tmp_path}/study.log"


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
    # Named so until Optuna 4.9.
    name = "RetryHeartbeatStaleTrialCallback"
    retry: Any = getattr(optuna.storages, name, None) or optuna.storages.RetryFailedTrialCallback
    retry(inherit_intermediate_values=True)(study, killed)

    assert start(address, 1, log, 0.0).wait() == 0
    trial = study.trials[1]
    assert trial.value == pytest.approx(MEAN)
    assert {case for number, case in read_log(log) if number == 1} == set(range(N_CASES)) - kept
    assert {c: r.score for c, r in make_record(trial).cases.items()} == {
        case: case / N_CASES for case in range(N_CASES)
    }
