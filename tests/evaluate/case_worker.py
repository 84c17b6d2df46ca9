"""A worker of a study over cases: ``case_worker.py ADDRESS STUDY N_TRIALS LOG SECONDS``.

Each evaluation of a case takes so many seconds and appends a line to the log: the trial's number
and the case.
"""

from __future__ import annotations

import os
from pathlib import Path
import sys
import time

import optuna
from optuna.pruners import NopPruner


sys.path.insert(0, str(Path(__file__).parents[1]))
from storage_worker import open_storage

from optuna_llm.evaluate import evaluate_cases


N_CASES = 40


def write_line(log: str, line: str) -> None:
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{line}\n".encode())
    os.close(descriptor)


def run_trial(trial: optuna.Trial, log: str, seconds: float) -> float:
    def evaluate(case: int) -> tuple[float, str]:
        write_line(log, f"{trial.number} {case}")
        time.sleep(seconds)
        return case / N_CASES, f"case {case}"

    return evaluate_cases(trial, range(N_CASES), evaluate, max_workers=2)


def main(address: str, name: str, n_trials: str, log: str, seconds: str) -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.load_study(study_name=name, storage=open_storage(address), pruner=NopPruner())
    study.optimize(lambda trial: run_trial(trial, log, float(seconds)), int(n_trials))


if __name__ == "__main__":
    main(*sys.argv[1:])
