"""A worker of a study over cases: ``case_worker.py ADDRESS STUDY N_TRIALS LOG SECONDS``.

Each evaluation of a case takes so many seconds and appends a line to the log: the trial's number
and the case. After ``heartbeat:`` the address is that of a database in which workers record
heartbeats, and do again the trials of those that have stopped.
"""

from __future__ import annotations

import os
from pathlib import Path
import sys
import time
from typing import Any

import optuna
from optuna.pruners import NopPruner


sys.path.insert(0, str(Path(__file__).parents[1]))
from storage_worker import open_storage

from optuna_llm.callbacks import FirstHeartbeatCallback
from optuna_llm.evaluate import evaluate_cases


N_CASES = 40
HEARTBEAT = "heartbeat:"


def make_retry() -> Any:
    """What adds a failed trial again, with the cases it has."""
    # Named so until Optuna 4.9.
    name = "RetryHeartbeatStaleTrialCallback"
    retry: Any = getattr(optuna.storages, name, None) or optuna.storages.RetryFailedTrialCallback
    return retry(inherit_intermediate_values=True)


def open_any_storage(address: str) -> Any:
    """The storage at an address, with heartbeats if it says so."""
    if not address.startswith(HEARTBEAT):
        return open_storage(address)
    is_new = hasattr(optuna.storages, "RetryHeartbeatStaleTrialCallback")
    name = "heartbeat_stale_trial_callback" if is_new else "failed_trial_callback"
    arguments: dict[str, Any] = {name: make_retry()}
    url = address.removeprefix(HEARTBEAT)
    return optuna.storages.RDBStorage(url, heartbeat_interval=1, grace_period=8, **arguments)


def write_line(log: str, line: str) -> None:
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{line}\n".encode())
    os.close(descriptor)


def run_trial(trial: optuna.Trial, log: str, seconds: float) -> float:
    trial.set_user_attr("worker", os.getpid())

    def evaluate(case: int) -> tuple[float, str]:
        write_line(log, f"{trial.number} {case}")
        time.sleep(seconds)
        return case / N_CASES, f"case {case}"

    return evaluate_cases(trial, range(N_CASES), evaluate, max_workers=2)


def main(address: str, name: str, n_trials: str, log: str, seconds: str) -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = open_any_storage(address)
    study = optuna.load_study(study_name=name, storage=storage, pruner=NopPruner())
    callbacks: list[Any] = [FirstHeartbeatCallback()] if address.startswith(HEARTBEAT) else []
    study.optimize(
        lambda trial: run_trial(trial, log, float(seconds)), int(n_trials), callbacks=callbacks
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
