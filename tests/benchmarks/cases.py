"""The cost of keeping what each case of a trial gave: 500 cases of 1 ms.

On SQLite, PostgreSQL, a journal file and in memory, with and without WilcoxonPruner: seconds of a
trial whose objective is a plain loop without any report; one that reports each case by itself, as
Optuna's documentation does; and one with ``evaluate_cases``, each with words on every second case.
The median of ten trials of each. Run it by hand:

    python tests/benchmarks/cases.py
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from contextlib import contextmanager
import random
import statistics
import tempfile
import time
import uuid
import warnings

import optuna
from optuna.pruners import NopPruner
from optuna.pruners import WilcoxonPruner
from optuna.storages.journal import JournalFileBackend

from optuna_llm.evaluate import evaluate_cases


N_CASES = 500
SECONDS = 0.001
N_TRIALS = 3
POSTGRESQL = "postgresql+psycopg2://postgres@127.0.0.1:5432/postgres"


def evaluate(case: int) -> tuple[float, str]:
    time.sleep(SECONDS)
    return random.randrange(7) / 7, "wrong: 12, not 13" if case % 2 else ""


def run_plain(trial: optuna.Trial) -> float:
    return statistics.fmean(evaluate(case)[0] for case in range(N_CASES))


def run_reporting(trial: optuna.Trial) -> float:
    scores = []
    for case in range(N_CASES):
        scores.append(evaluate(case)[0])
        trial.report(scores[-1], case)
        trial.should_prune()
    return statistics.fmean(scores)


def run_cases(trial: optuna.Trial) -> float:
    return evaluate_cases(trial, range(N_CASES), evaluate)


OBJECTIVES: list[Callable[[optuna.Trial], float]] = [run_plain, run_reporting, run_cases]


@contextmanager
def make_study(kind: str, pruner: optuna.pruners.BasePruner) -> Iterator[optuna.Study]:
    name = f"cases-{uuid.uuid4().hex}"
    with tempfile.TemporaryDirectory() as folder:
        storage: optuna.storages.BaseStorage | str
        if kind == "PostgreSQL":
            storage = POSTGRESQL
        elif kind == "SQLite":
            storage = f"sqlite:///{folder}/study.db"
        elif kind == "journal":
            storage = optuna.storages.JournalStorage(JournalFileBackend(f"{folder}/journal"))
        else:
            storage = optuna.storages.InMemoryStorage()
        yield optuna.create_study(study_name=name, storage=storage, pruner=pruner)
        optuna.delete_study(study_name=name, storage=storage)


def measure(kind: str, pruner: optuna.pruners.BasePruner) -> list[float]:
    """Median seconds per trial of each objective, in turn."""
    with make_study(kind, pruner) as study:
        seconds: list[list[float]] = [[] for _ in OBJECTIVES]
        study.optimize(run_cases, 1)
        for _ in range(N_TRIALS):
            for objective, taken in zip(OBJECTIVES, seconds, strict=True):
                began = time.perf_counter()
                study.optimize(objective, 1)
                taken.append(time.perf_counter() - began)
    return [statistics.median(taken) for taken in seconds]


def main() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")
    print("storage      pruner      plain s   reporting s    ratio   evaluate_cases s    ratio")
    for kind in ("in memory", "SQLite", "PostgreSQL", "journal"):
        for pruner in (NopPruner(), WilcoxonPruner()):
            plain, reporting, cases = measure(kind, pruner)
            name = type(pruner).__name__.removesuffix("Pruner")
            print(
                f"{kind:12} {name:9}{plain:9.2f}{reporting:14.2f}{reporting / plain:9.2f}"
                f"{cases:19.2f}{cases / plain:9.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
