"""Dask tasks of many trials against tasks of one: what a sampler that begins anew costs.

Two workers of Dask, a model and an objective that take 0.2 s each, 40 trials. Prints seconds and
calls, and how many of these brought a proposal that no trial has used. Run by hand; it needs
optuna-integration and distributed:

    python tests/benchmarks/tasks.py
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
import random
import sys
import time
from typing import Any

from distributed import Client
from distributed import LocalCluster
import optuna
from optuna_integration import DaskStorage

from optuna_llm import Completion
from optuna_llm import LLMSampler
from optuna_llm import Message
from optuna_llm import Usage
from optuna_llm import usage
from optuna_llm.testing import write_reply


sys.path.insert(0, str(Path(__file__).parents[1]))
from provenance import only_models


SECONDS = 0.2
N_TRIALS = 40
N_WORKERS = 2
SETTLED = 7.0
"""Seconds after which what nobody has used is stored."""


class SlowModel:
    def complete(self, messages: Sequence[Message]) -> Completion:
        time.sleep(SECONDS)
        return Completion(write_reply({"x": random.random()}), "slow", Usage(prompt_tokens=100))


def objective(trial: optuna.Trial) -> float:
    x = trial.suggest_float("x", 0, 1)
    time.sleep(SECONDS)
    return x


def measure(client: Any, n_tasks: int, prefetch: int) -> str:
    sampler = LLMSampler("Down.", model=SlowModel(), prefetch=prefetch, proposers=only_models)
    study = optuna.create_study(storage=DaskStorage(), sampler=sampler)
    began = time.monotonic()
    arguments: dict[str, Any] = {"n_trials": N_TRIALS // n_tasks, "pure": False}
    client.gather([client.submit(study.optimize, objective, **arguments) for _ in range(n_tasks)])
    seconds = time.monotonic() - began
    time.sleep(SETTLED)
    spent = usage(study)
    unused = spent.by_source.get("unclaimed")
    return f"{seconds:9.1f}{spent.calls:8}{0 if unused is None else unused.calls:9}"


def main() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    workers = {"n_workers": N_WORKERS, "threads_per_worker": 1, "dashboard_address": None}
    print("tasks  prefetch  seconds   calls   unused")
    with LocalCluster(**workers) as cluster, Client(cluster) as client:
        for n_tasks in (N_WORKERS, N_TRIALS):
            for prefetch in (0, 1):
                print(f"{n_tasks:5}{prefetch:10}{measure(client, n_tasks, prefetch)}")


if __name__ == "__main__":
    main()
